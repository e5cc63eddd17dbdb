"""The command line as a script sees it: exit codes, one JSON document on stdout, nothing left behind by a refusal."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from fedcollm_secure.cli import main, make_parser
from fedcollm_secure.config import parse
from fedcollm_secure.federation.guarantees import visible_to

Make = Callable[..., dict[str, object]]
MASKED = {"masked": {}}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command and returns (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


Cli = Callable[..., tuple[int, str, str]]


def _write(path: Path, tree: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture
def finished(private: Make, tmp_path: Path, cli: Cli) -> Path:
    """Return the directory of a finished private, masked run."""
    config = _write(tmp_path / "config.yaml", private(rounds=1, aggregation=MASKED))
    assert cli("run", config, "--out", tmp_path / "run")[0] == 0
    return tmp_path / "run"


def test_run_prints_its_summary_as_json(private: Make, tmp_path: Path, cli: Cli) -> None:
    config = _write(tmp_path / "config.yaml", private(aggregation=MASKED))
    code, out, err = cli("run", config, "--out", tmp_path / "run", "--json")
    summary = json.loads(out)

    assert code == 0
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["rounds_done"], summary["aggregation"], summary["stopped_because"]) == (2, "masked", None)
    assert "round 2/2" in err


def test_run_tells_a_person_what_it_gained_and_cost(private: Make, tmp_path: Path, cli: Cli) -> None:
    config = _write(tmp_path / "config.yaml", private(rounds=1, aggregation=MASKED))
    _, out, _ = cli("run", config, "--out", tmp_path / "run")

    for part in ("SLM:", "LLM:", "ε spent, of budget: silo-1", "Who could see what", "report.html"):
        assert part in out


def test_check_says_the_plan_and_trains_nothing(private: Make, tmp_path: Path, cli: Cli) -> None:
    config = _write(tmp_path / "config.yaml", private(rounds=3, aggregation=MASKED))
    code, out, _ = cli("check", config, "--json")
    found = json.loads(out)
    plan = found["plan"]["silo-1"]

    assert code == 0
    assert (found["ok"], found["aggregation"], found["bytes_per_parameter"]) == (True, "masked", 4)
    assert len(plan["epsilon_per_round"]) == 3
    assert plan["epsilon_per_round"][-1] == plan["epsilon_total"] <= 8.0
    assert "server" in found["visible_to"]
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("data", "config.yaml")] == []


def test_check_for_a_person_names_warnings(tree: Make, tmp_path: Path, cli: Cli) -> None:
    code, out, _ = cli("check", _write(tmp_path / "config.yaml", tree()))

    assert code == 0
    assert "warning: unsafe_plain: the server sees each silo's update" in out
    assert "warning: non_private" in out
    assert "splits" not in out


def test_check_for_a_person_names_the_unit_of_privacy(private: Make, tmp_path: Path, cli: Cli) -> None:
    _, out, _ = cli("check", _write(tmp_path / "config.yaml", private(aggregation=MASKED)))

    assert "silo-1: ε of one record after each round " in out


@pytest.mark.parametrize(("colluding", "word"), [(0, "0 silos"), (1, "1 silo"), (2, "2 silos")])
def test_one_silo_is_not_written_as_several(tree: Make, colluding: int, word: str) -> None:
    security = {"colluding": colluding, "min_cohort": 4}
    config = parse(tree(aggregation=MASKED, security=security))

    assert {f"server with up to {word}", f"server with more than {word}"} < set(visible_to(config, 4))


def test_a_decryptor_in_league_adds_nothing_to_what_the_server_sees(tree: Make) -> None:
    seen = visible_to(parse(tree(aggregation={"bfv": {"decryptor": "auditor"}})), 4)

    assert seen["server with auditor and up to 1 silo"] == "no more than without auditor: the masks hold"


def test_check_says_that_it_leaves_splits_to_compare(tree: Make, tmp_path: Path, cli: Cli) -> None:
    splits = {"other": {"silos": {"iid": 3}}}
    _, out, _ = cli("check", _write(tmp_path / "config.yaml", tree(splits=splits)))

    assert "warning: splits are for compare" in out


def _data(tree: dict[str, object], **changes: object) -> dict[str, object]:
    data = tree["data"]
    assert isinstance(data, dict)
    return {**tree, "data": {**data, **changes}}


BAD = [
    (lambda tree: {**tree, "epochs": 3}, "epochs: unknown key"),
    (lambda tree: {**tree, "rounds": "two"}, "rounds: expected a whole number"),
    (lambda tree: {**tree, "privacy": {"record_dp": {"epsilon": -1}}}, "epsilon|delta"),
    (
        lambda tree: {
            **tree,
            "privacy": {"record_dp": {"epsilon": 1e-9, "delta": 1e-9, "clip_norm": 1.0, "sampling_rate": 1.0}},
        },
        "privacy.record_dp",
    ),
    (lambda tree: _data(tree, silos={"iid": 2}), "expected at least 3 silos, got 2"),
    (lambda tree: _data(tree, source={"path": "absent.jsonl"}), "no file at"),
    (lambda tree: _data(tree, silos={"by_column": {"column": "site", "groups": {"x": ["s0"], "y": ["?"]}}}), "for y"),
    (lambda tree: {**tree, "silo": {"steps": 1, "weighting": "examples"}}, "a weight that depends on the data"),
    (lambda tree: {**tree, "models": {"llm": {"from": "no/model"}, "slm": {"from": "no/model"}}}, "no tokenizer"),
    (
        lambda tree: {**tree, "lora": {"targets": ["nowhere"]}},
        "no linear module .* some of down_proj",
    ),
    (lambda tree: {**tree, "device": "cuda"}, "device: expected a CUDA device"),
    (lambda tree: _data(tree, silos={"iid": 3}) | {"security": {"colluding": 5, "min_cohort": 7}}, "got 3"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_configuration_is_exit_2_and_leaves_no_run(
    private: Make,
    tmp_path: Path,
    cli: Cli,
    change: Callable[[dict[str, object]], dict[str, object]],
    message: str,
) -> None:
    import re

    config = _write(tmp_path / "config.yaml", change(private(aggregation=MASKED)))
    code, out, err = cli("run", config, "--out", tmp_path / "run")

    assert (code, out) == (2, "")
    assert re.search(message, err), err
    assert not (tmp_path / "run").exists()


def test_an_encoding_that_could_overflow_is_exit_2(tree: Make, tmp_path: Path, cli: Cli) -> None:
    rows = [{"text": f"rash {i}", "topic": "skin" if i % 2 else "eye"} for i in range(9000)]
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad = _data(tree(aggregation={"masked": {"bits": 32}}), source={"path": str(path)}, silos={"iid": 4100})
    bad["silo"] = {"steps": 1, "weighting": "examples"}
    code, _, err = cli("check", _write(tmp_path / "config.yaml", bad))

    assert code == 2
    assert "a sum could overflow: n·W_max·Q < 2^(m-1) must hold" in err


def test_a_loss_that_is_not_finite_is_a_named_error(tree: Make, tmp_path: Path, cli: Cli) -> None:
    silo = {"steps": 4, "batch_size": 8, "learning_rate": 1e38, "optimizer": "sgd"}
    code, _, err = cli("run", _write(tmp_path / "config.yaml", tree(silo=silo)), "--out", tmp_path / "run")

    assert code == 3
    assert "silo-1: silo silo-1: " in err
    assert "not finite" in err or "diverged" in err
    assert cli("verify", tmp_path / "run")[0] == 3
    assert cli("report", tmp_path / "run")[0] == 0


def test_verify_accepts_a_finished_run_and_finds_a_changed_byte(finished: Path, cli: Cli) -> None:
    code, out, _ = cli("verify", finished, "--json")
    found = json.loads(out)
    log = finished / "audit" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"round":1', b'"round":2', 1)
    log.write_bytes(b"".join(lines))
    bad_code, bad_out, _ = cli("verify", finished, "--json")

    assert (code, found["verified"], found["first_bad"]) == (0, True, None)
    assert bad_code == 1
    assert (json.loads(bad_out)["verified"], json.loads(bad_out)["first_bad"]) == (False, 1)


def test_verify_log_sees_a_cut_tail_only_against_a_head(finished: Path, cli: Cli) -> None:
    log = finished / "audit" / "log.jsonl"
    head = json.loads((finished / "summary.json").read_text())["log"]
    *_, earlier, last = sorted((finished / "audit/checkpoints").iterdir(), key=lambda path: int(path.stem))
    last.unlink()
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[: int(earlier.stem)]))

    assert cli("verify", "log", log)[0] == 3  # the manifest of the attempt that was cut off is still there
    max((finished / "audit/manifests").iterdir()).unlink()
    assert cli("verify", "log", log)[0] == 0
    assert cli("verify", "log", log, "--head", f"{head['size']}:{head['root']}")[0] == 1


def test_verify_refuses_another_keepers_log(finished: Path, cli: Cli) -> None:
    key = (finished / "audit" / "log.pub").read_text().strip()

    assert cli("verify", finished, "--key", key)[0] == 0
    assert cli("verify", finished, "--key", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [("verify", "nowhere"), ("verify", "log", "nowhere"), ("verify", "budget", "nowhere"), ("budget", "nowhere")],
)
def test_a_path_that_is_not_there_is_exit_2(cli: Cli, arguments: Sequence[str]) -> None:
    assert cli(*arguments)[0] == 2


@pytest.mark.parametrize(("option", "value"), [("--head", "x"), ("--key", "xyz")])
def test_a_malformed_option_is_exit_2(finished: Path, cli: Cli, option: str, value: str) -> None:
    code, _, err = cli("verify", finished, option, value)

    assert code == 2
    assert option in err


def test_budget_shows_what_is_spent_and_left(finished: Path, cli: Cli) -> None:
    ledger = finished / "silos" / "silo-1" / "ledger.jsonl"
    _, out, _ = cli("budget", ledger, "--json")
    found = json.loads(out)
    _, words, _ = cli("budget", ledger)

    assert (found["epsilon"], found["simulated"], len(found["rounds"])) == (8.0, True, 1)
    assert 0 < found["spent"] <= 8.0
    assert found["rounds"][0]["state"] == "done"
    assert "left" in words
    assert cli("verify", "budget", ledger)[0] == 0


def test_a_ledger_with_a_changed_byte_fails(finished: Path, cli: Cli) -> None:
    ledger = finished / "silos" / "silo-1" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"tiny", b"tinY", 1))

    assert cli("verify", "budget", ledger)[0] == 1
    assert cli("budget", ledger)[0] == 1


def test_report_writes_where_it_is_told(finished: Path, tmp_path: Path, cli: Cli) -> None:
    code, out, _ = cli("report", finished, "--out", tmp_path / "page.html")

    assert code == 0
    assert "page.html" in out
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_resume_needs_a_folder(tree: Make, tmp_path: Path, cli: Cli) -> None:
    code, _, err = cli("run", _write(tmp_path / "config.yaml", tree()), "--resume")

    assert code == 2
    assert "name the run directory with --out" in err


def test_compare_is_complete_and_goes_on(tree: Make, tmp_path: Path, cli: Cli) -> None:
    splits = {"iid": {"silos": {"iid": 4}, "auxiliary": {"share": 0.2}}}
    config = _write(tmp_path / "config.yaml", tree(rounds=1, splits=splits))
    code, out, _ = cli("compare", config, "--seeds", "1", "--out", tmp_path / "out", "--json")
    found = json.loads(out)
    kept = tmp_path / "out" / "results" / "iid" / "seed-3" / "fedcollm.json"
    before = kept.stat().st_mtime_ns
    _, again, _ = cli("compare", config, "--seeds", "1", "--out", tmp_path / "out", "--json")

    assert code == 0
    assert {row["method"] for row in found["rows"] if row["model"] == "slm"} == {
        "zero_shot",
        "standalone",
        "fedavg",
        "fedavg_ce",
        "one_way",
        "fedcollm",
        "control",
        "counts",
        "with_counts",
    }
    assert {row["method"] for row in found["rows"] if row["model"] == "llm"} == {
        "zero_shot",
        "server_only",
        "fedcollm",
        "centralized",
        "control",
        "with_counts",
    }
    assert json.loads(again) == found
    assert kept.stat().st_mtime_ns == before
    assert (tmp_path / "out" / "compare.html").is_file()


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom fedcollm_secure.cli import make_parser\nmake_parser().format_help()\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "absent.yaml"],
        ["check", "examples/frontier.yaml"],
        ["compare", "examples/dp_config.yaml", "--set", "epochs=1"],
        ["audit", "examples/rules.yaml", "--claimed", "2"],
        ["study", "examples/dp_config.yaml"],
        ["study", "examples/frontier.yaml", "--set", "rounds=0"],
    ],
)
def test_a_bad_file_is_told_before_anything_heavy_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom fedcollm_secure.cli import main\ncode = main(sys.argv[1:])\n"
        "print(code, [name for name in ('torch', 'transformers', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "2 []\n"


def test_the_version_is_one_line_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom fedcollm_secure.cli import main\ntry:\n    main(['--version'])\nexcept SystemExit as left:\n"
        "    print(left.code, [name for name in ('torch', 'numpy', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == f"fedcollm-secure {version('fedcollm-secure')}\n0 []\n"


def test_every_command_has_help_with_an_example() -> None:
    parser = make_parser()
    commands = next(action for action in parser._actions if action.choices).choices
    assert isinstance(commands, dict)

    assert set(commands) >= {"run", "check", "compare", "report", "verify", "budget"}
    assert all("Example: fedcollm-secure" in command.format_help() for command in commands.values())


def test_every_usage_is_short_and_verify_explains_each_of_its_forms() -> None:
    commands = next(action for action in make_parser()._actions if action.choices).choices
    assert isinstance(commands, dict)

    assert all(len(command.format_usage()) < 250 for command in commands.values())
    help_text = commands["verify"].format_help()
    for form in ("RUN", "PACK", "log FILE", "budget FILE", "round N", "equivocation A B", "inclusion PROOF", "gain"):
        assert f"\n  {form} " in help_text
