"""The report renders any run that left files behind, says what they say, and cannot be made to do anything else."""

import itertools
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedcollm_crypto.checkpoint import Checkpoint, cosign
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Member, Roster, sign_roster
from fedcollm_secure.audit_log.events import RunFinished, RunStarted, RunStopped
from fedcollm_secure.audit_log.file_digests import file_digest, summary_digest
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.errors import ConfigError, RunError
from fedcollm_secure.operations.report import write_report
from fedcollm_secure.presentation import epsilon_text, number_text

DIGEST = "ab" * 32
CONFIG = 'name: trial\nrounds: 3\nprivacy: {record_dp: {epsilon: 8.0, delta: 1.0e-5}}\nprompt: "<b>{term}</b>"\n'
SILOS = ("north", "south")
EPSILON = (0.0, 3.21, 4.8, 6.034)
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\frac{x}$ & ]]>", "病院", 'id="x url(#y)')


def metrics_line(number: int, silos: tuple[str, ...] = SILOS) -> dict[str, object]:
    return {
        "round": number,
        "slm": {"accuracy": 0.659 + 0.02 * number, "accuracy_norm": 0.6},
        "llm": {"accuracy": 0.677 + 0.015 * number, "accuracy_norm": 0.6},
        "seconds": {"train": 11.0, "protect": 0.3, "aggregate": 0.2, "distill": 6.0, "evaluate": 3.0},
        "bytes": {"up": 1_573_400 * min(number, 1), "down": 786_900 * min(number, 1)},
        "silos": {name: {"epsilon": EPSILON[number], "delta": 1e-5} for name in silos},
    }


def make_summary(silos: tuple[str, ...] = SILOS, **changes: object) -> dict[str, object]:
    return {
        "run_id": "trial-7f3a",
        "name": "trial",
        "rounds_planned": 3,
        "rounds_done": 3,
        "stopped_because": None,
        "aggregation": "masked",
        "guarantees": [
            {"property": "Updates hidden", "holds": True, "why": "double masks"},
            {"property": "Poisoning kept out", "holds": False, "why": "only the aggregate can be checked"},
            {"property": "Collusion", "holds": "with one silo", "why": "min_cohort is 3"},
            {
                "property": "Hidden from the decryptor",
                "holds": False,
                "applies": False,
                "why": "there is no decryptor",
            },
        ],
        "seconds": {"train": 44.0, "total": 83.4},
        "bytes": {"up": 4_720_200, "down": 2_360_700},
        "gained": {"slm": {"from": 0.659, "to": 0.719}, "llm": {"from": 0.677, "to": 0.722}},
        "visible_to": {"server": "the sum over 2 silos", "network": "masked words"},
        "warnings": ["engine local: this is a simulation"],
        "budget": {name: {"epsilon": 8.0, "delta": 1e-5} for name in silos},
        "data": {"test_records": 2500, "server_records": 1000},
        "simulated": True,
        **changes,
    }


def make_run(
    run: Path, lines: list[dict[str, object]] | None = None, summary: Mapping[str, object] | None = None
) -> Path:
    run.mkdir()
    (run / "config.yaml").write_text(CONFIG)
    lines = [metrics_line(number) for number in range(4)] if lines is None else lines
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    server, north = Identity.generate("server"), Identity.generate("north")
    members = (
        Member(id=one.party, role=role, ed25519=one.public_key) for one, role in ((server, "server"), (north, "silo"))
    )
    roster = Roster(consortium_id="test", epoch=1, members=tuple(members), policy={})
    log = AuditLog.create(run / "audit", server, "fedcollm-secure/trial-7f3a")
    (run / "audit" / "roster.json").write_bytes(sign_roster(roster, server, [north]))
    log.append(
        RunStarted(
            run_id="trial-7f3a",
            config_digest=file_digest(run / "config.yaml"),
            software={},
            roster_digest=roster.hash,
            aggregation="masked",
            privacy="record_dp",
            models={},
            environment_digest=sha256(b"").hexdigest(),
            simulated=True,
        )
    )
    (run / "audit" / "environments").mkdir()
    (run / "audit" / "environments" / f"{sha256(b'').hexdigest()}.txt").write_bytes(b"")
    if summary is not None:
        log.append(RunStopped(reason="budget_exhausted", rounds_done=0))  # none of its rounds lies in this log
        log.append(RunFinished(summary_digest=summary_digest(summary)))
        log.cosigned(cosign(Checkpoint.of(log.checkpoint().text), "north", north, time_s=1))
        head = {"size": log.head.size, "root": log.head.root}
        (run / "summary.json").write_text(json.dumps({**summary, "log": head}))
    return run


class Page(HTMLParser):
    """What a browser would find: the visible text, the tags with their attributes, and whether they balance."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Page:
    run = make_run(tmp_path_factory.mktemp("complete") / "run", summary=make_summary())
    return Page(write_report(run))


def test_the_report_lies_in_the_run_directory_or_where_it_is_asked_to(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", summary=make_summary())

    assert write_report(run) == run / "report.html"
    assert write_report(run, tmp_path / "else" / "page.html") == tmp_path / "else" / "page.html"
    assert (run / "report.html").read_bytes() == (tmp_path / "else" / "page.html").read_bytes()
    assert not list(run.glob("*.part"))


@pytest.mark.parametrize(
    "expected",
    [
        "Completed 3 of 3 rounds",
        "Run trial-7f3a",
        "+6.0 points 65.9 % → 71.9 % accuracy",
        "+4.5 points 67.7 % → 72.2 % accuracy",
        "ε 6.04 of 8",  # 6.034, rounded up
        "δ = 1e-5",
        "7.1 MB 4.7 MB from the silos, 2.4 MB back",
        "1 min 23 s",
        "2 69.9 % 70.7 % 4.80 1.6 MB 787 kB 20 s",  # the row of round 2
        "Updates hidden Holds double masks",
        "Poisoning kept out Does not hold only the aggregate",
        "Collusion with one silo min_cohort is 3",
        "Hidden from the decryptor Not applicable there is no decryptor",
        "71.9 % accuracy (95 % interval 70.1 to 73.6 % over 2,500 test records)",
        "and the server's own 1,000 labelled records taught them: one run does not tell",
        "server the sum over 2 silos",
        "engine local: this is a simulation",
        "fedcollm-secure verify run",
        "Every entry verified",
        "The silos were simulated",
        "nobody independent has audited",
        'prompt: "<b>{term}</b>"',
    ],
)
def test_the_page_says_what_the_files_say(expected: str, complete: Page) -> None:
    assert expected in complete.text


def test_what_does_not_apply_is_grey_and_no_cross(complete: Page) -> None:
    words = [
        attributes["class"] for attributes in complete.named("span") if str(attributes.get("class")).startswith("word ")
    ]

    assert words == ["word yes", "word no", "word partly", "word void"]
    assert ".word.void { color: var(--soft)" in complete.source


def test_the_head_of_the_log_stands_on_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", summary=make_summary())
    log = json.loads((run / "summary.json").read_text())["log"]

    assert f"--head {log['size']}:{log['root']}" in Page(write_report(run)).text


def test_every_budget_bar_is_as_long_as_its_number(complete: Page) -> None:
    widths = [style for tag in complete.named("span") if (style := tag.get("style"))]

    assert widths.count("width:75.4%") == len(SILOS)  # 6.034 of 8


def test_the_page_needs_nothing_but_itself(complete: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "img", "image", "base", "form"} & {
        tag for tag, _ in complete.tags
    }
    for _, attributes in complete.tags:
        assert not {"src", "srcset", "action", "xlink:href"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?:|@import|url\((?!#)", complete.source)
    assert "default-src 'none'" in str(complete.named("meta"))


def test_the_page_is_well_formed_and_its_names_are_its_own(complete: Page) -> None:
    names = [attributes["id"] for _, attributes in complete.tags if "id" in attributes]
    targets = re.findall(r'(?:href="|url\()#([^")]+)', complete.source)

    assert complete.open == []
    assert len(names) == len(set(names))
    assert set(targets) <= set(names)
    assert targets


def test_the_page_can_be_read_without_seeing_it(complete: Page) -> None:
    drawings = complete.named("svg")
    headings = [int(tag[1]) for tag, _ in complete.tags if re.fullmatch("h[1-6]", tag)]

    assert complete.named("html") == [{"lang": "en"}]
    assert len(drawings) == 3
    assert all(drawing["role"] == "img" and len(drawing["aria-label"] or "") > 40 for drawing in drawings)
    assert all(header.get("scope") for header in complete.named("th"))
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


def test_figures_take_the_colours_of_the_page(complete: Page) -> None:
    drawings = re.findall("<svg.*?</svg>", complete.source, re.DOTALL)

    assert all("var(--first)" in drawing for drawing in drawings)
    assert not any(re.search("#[0-9a-f]{6}", drawing) for drawing in drawings)
    assert "prefers-color-scheme: dark" in complete.source
    assert "@media print" in complete.source


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, relative luminance of sRGB."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_text_stands_out_from_its_ground_in_light_and_dark(complete: Page) -> None:
    palettes = re.findall(r":root \{(.*?)\}", complete.source, re.DOTALL)[:2]

    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", palette))
        for name in ("ink", "soft", "first", "second", "good", "bad", "part"):
            assert contrast(colours[name], colours["paper"]) >= 4.5
        assert contrast(colours["soft"], colours["panel"]) >= 4.5


def test_a_killed_run_gets_a_page_that_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [metrics_line(number) for number in range(3)])
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"round": 3, "slm": {"accu')

    page = Page(write_report(run))

    assert "Interrupted after 2 of 3 rounds" in page.text
    assert "65.9 % → 69.9 % accuracy" in page.text
    assert "ε 4.80 of 8" in page.text  # the budget is the configuration's
    assert "the record is incomplete" in page.text
    assert "ended before it stated its guarantees" in page.text


def test_a_run_killed_before_its_first_round_gets_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [])
    (run / "metrics.jsonl").unlink()

    page = Page(write_report(run))

    assert "Interrupted after 0 of 3 rounds" in page.text
    assert "No round was recorded" in page.text
    assert page.named("svg") == []


def test_a_stopped_run_says_why(tmp_path: Path) -> None:
    why = "round 3 did not start: too few silos\n  north: its budget is exhausted"
    run = make_run(tmp_path / "run", summary=make_summary(rounds_done=2, stopped_because=why))

    text_ = Page(write_report(run)).text

    assert "Stopped after 2 of 3 rounds" in text_
    assert "north: its budget is exhausted" in text_


def test_a_run_without_privacy_says_that_nothing_was_promised(tmp_path: Path) -> None:
    lines = [{**metrics_line(number), "silos": {}} for number in range(4)]
    run = make_run(tmp_path / "run", lines, make_summary(budget={}))

    page = Page(write_report(run))

    assert "nothing was promised" in page.text
    assert "There was no differential privacy" in page.text
    assert len(page.named("svg")) == 2


def test_free_text_is_measured_in_perplexity_and_less_is_better(tmp_path: Path) -> None:
    lines = [
        {**metrics_line(number), "slm": {"perplexity": 21.5 - number}, "llm": {"perplexity": 18.25}}
        for number in range(4)
    ]
    gained = {"slm": {"from": 21.5, "to": 18.5}, "llm": {"from": 18.25, "to": 18.25}}
    run = make_run(tmp_path / "run", lines, make_summary(gained=gained))

    page = Page(write_report(run))

    assert "−3.00 21.50 → 18.50 perplexity" in page.text
    assert "0.00 18.25 → 18.25 perplexity" in page.text
    assert "Lower is better" in page.text


def test_free_text_is_told_in_the_score_that_its_summary_gained(tmp_path: Path) -> None:
    scores = [{"perplexity": 9.5 - number, "exact_match": 0.25 * number} for number in range(4)]
    lines = [metrics_line(number) | {"slm": each, "llm": each} for number, each in enumerate(scores)]
    gained = {"metric": "perplexity", "from": 9.5, "to": 6.5}
    summary = make_summary(gained={"slm": gained, "llm": gained})
    page = Page(write_report(make_run(tmp_path / "run", lines, summary)))

    assert "from 9.50 to 6.50 perplexity (2,500 test records)" in page.text
    assert "exact match" not in page.text


def test_rounds_that_were_not_scored_leave_a_gap_and_no_error(tmp_path: Path) -> None:
    lines = [metrics_line(number) for number in range(4)]
    lines[2] = {**lines[2], "slm": {}, "llm": None}

    page = Page(write_report(make_run(tmp_path / "run", lines, make_summary())))

    assert "2 – – 4.80" in page.text


def test_a_round_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    lines = [metrics_line(number) for number in (0, 1, 2, 2, 3)]

    page = Page(write_report(make_run(tmp_path / "run", lines, make_summary())))

    assert "7.1 MB 4.7 MB from the silos" in page.text


def test_a_changed_log_is_called_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", summary=make_summary())
    log = run / "audit" / "log.jsonl"
    log.write_text(log.read_text().replace("trial-7f3a", "trial-0000"))

    page = Page(write_report(run))

    assert "The log did not verify" in page.text
    assert "entry 0" in page.text
    assert "Every entry verified" not in page.text


def test_a_missing_log_does_not_keep_the_page_from_being_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", summary=make_summary())
    (run / "audit" / "log.jsonl").unlink()

    assert "could not be verified" in Page(write_report(run)).text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    lines = [metrics_line(number, HOSTILE) for number in range(4)]
    rows = [{"property": name, "holds": name, "why": name} for name in HOSTILE]
    summary = make_summary(
        HOSTILE,
        name=HOSTILE[0],
        run_id=HOSTILE[1],
        stopped_because=HOSTILE[0],
        guarantees=rows,
        visible_to=dict(zip(HOSTILE, HOSTILE, strict=True)),
        warnings=list(HOSTILE),
    )
    run = make_run(tmp_path / "run", lines, summary)
    (run / "config.yaml").write_text(f"name: {json.dumps(HOSTILE[0])}\n")

    page = Page(write_report(run))

    assert page.open == []
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert page.source.count(escape(HOSTILE[1], quote=False).replace('"', "&#34;")) > 2


def test_hostile_names_stay_text_in_figures(tmp_path: Path) -> None:
    lines = [metrics_line(number, (name,)) for number, name in zip(range(4), HOSTILE, strict=False)]
    for name in HOSTILE:
        lines[3]["silos"] = {name: {"epsilon": 6.0, "delta": 1e-5}}
        page = Page(write_report(make_run(tmp_path / f"run{HOSTILE.index(name)}", lines, make_summary((name,)))))

        drawings = "".join(re.findall("<svg.*?</svg>", page.source, re.DOTALL))
        assert number_text.shortened(name, 16) in page.text
        assert not re.search("<(script|img)", drawings)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run directory"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", "summary.json is not JSON"),
        ("summary.json", "[]", "summary.json must hold one JSON object"),
        ("summary.json", '{"name": 3}', "summary.json.name must hold text"),
        ("summary.json", '{"rounds_done": "3"}', "summary.json.rounds_done must hold a number"),
        ("summary.json", '{"guarantees": {}}', "summary.json.guarantees must hold a list"),
        ("summary.json", '{"guarantees": [1]}', r"guarantees\[0\] must hold an object"),
        ("config.yaml", "a: [", "config.yaml is not YAML"),
        ("config.yaml", "- a", "config.yaml must hold an object"),
        ("metrics.jsonl", '{"round": 1\n{"round": 2}\n', "metrics.jsonl line 1 is not JSON"),
        ("metrics.jsonl", '{"round": true}\n', "round must hold a number"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", summary=make_summary())
    (run / name).write_text(content)

    with pytest.raises(RunError, match=message):
        write_report(run)

    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (epsilon_text.spent(6.034), "6.04"),
        (epsilon_text.spent(8.0), "8.00"),
        (epsilon_text.spent(1e-9), "1e-09"),
        (epsilon_text.spent(0.000_101), "0.00011"),
        (epsilon_text.spent(0.0), "0.00"),
        (epsilon_text.spent(0.0999), "0.1"),
        (epsilon_text.spent(float("inf")), "∞"),
        (epsilon_text.spent(2.0**100), "1267650600228229400000000000000.00"),
        (epsilon_text.left(0.000_109), "0.0001"),
        (epsilon_text.left(0.9999, 3), "0.999"),
        (epsilon_text.allowed(8.0), "8"),
        (epsilon_text.allowed(0.0001), "0.0001"),
        (epsilon_text.allowed(2.999), "2.99"),
        (epsilon_text.allowed(0.5), "0.50"),
        (number_text.small(1e-5), "1e-5"),
        (number_text.small(2.5e-12), "2.5e-12"),
        (number_text.amount(0), "0 B"),
        (number_text.amount(999), "999 B"),
        (number_text.amount(999.9), "1.0 kB"),
        (number_text.amount(2_400_000), "2.4 MB"),
        (number_text.amount(99_960), "100 kB"),
        (number_text.amount(5e12), "5.0 TB"),
        (number_text.duration(0.04), "0.0 s"),
        (number_text.duration(9.96), "10 s"),
        (number_text.duration(59.7), "1 min 00 s"),
        (number_text.duration(3599.6), "1 h 00 min"),
        (number_text.duration(7500), "2 h 05 min"),
        (number_text.signed(-0.04, 1), "0.0"),
        (number_text.signed(-1.25, 1), "−1.2"),
        (number_text.shortened("a" * 30, 5), "aaaa…"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected
