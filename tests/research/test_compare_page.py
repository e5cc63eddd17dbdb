"""The comparison page shows each mean, each interval, and says "better" only where the interval does."""

import re
from html import unescape
from pathlib import Path

import pytest

from fedcollm_secure.errors import RunError
from fedcollm_secure.research.compare.compare_page import write_compare

HOSTILE = "<script>alert(1)</script>"


def row(method: str, mean: float, ci95: list[float] | None = None, model: str = "slm") -> dict[str, object]:
    return {"split": "iid", "model": model, "method": method, "mean": mean, "ci95": ci95, "seeds": 3}


def gain(than: str, mean: float, ci95: list[float] | None) -> dict[str, object]:
    return {
        "split": "by_specialty",
        "model": "slm",
        "better": "fedcollm",
        "than": than,
        "mean": mean,
        "ci95": ci95,
        "seeds": 3,
    }


def make_document(**changes: object) -> dict[str, object]:
    return {
        "metric": "accuracy",
        "rows": [
            row("zero_shot", 0.659),
            row("fedavg", 0.721, [0.715, 0.727]),
            row("fedcollm", 0.759, [0.7534, 0.7646]) | {"apart": {"mean": 0.74, "ci95": [0.73, 0.75], "seeds": 3}},
            row("server_only", 0.723, [0.71, 0.736], model="llm"),
        ],
        "gains": [
            gain("control", 0.042, [0.02, 0.064]),
            gain("fedavg", 0.038, [0.03, 0.046]),
            gain("one_way", 0.007, [-0.001, 0.015]),
            gain("centralized", -0.02, [-0.03, -0.01]),
            gain("standalone", 0.3, None),
        ],
        "silo_gains": [{"split": "by_specialty", "silo": "Nordklinik", "mean": 0.4, "ci95": [0.38, 0.42], "seeds": 3}],
        "tests": [{"split": "iid", "records": 2500, "apart": 1350}],
        **changes,
    }


def words(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]*>", " ", body)))


def written(tmp_path: Path, document: dict[str, object]) -> str:
    return write_compare(document, tmp_path / "compare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "expected",
    [
        "Zero-shot 65.9 % – – 3",
        "FedAvg 72.1 % 71.5 – 72.7 % – 3",
        "FedCoLLM 75.9 % 75.3 – 76.5 % 74.0 % 3",
        "Large model, IID split",
        "Server data only 72.3 % 71.0 – 73.6 % – 3",
        "Small model, by specialty split",
        "over FedAvg +3.8 points +3.0 to +4.6 Better",
        "over One-way distillation +0.7 points −0.1 to +1.5 Unclear",
        "over All data in one place −2.0 points −3.0 to −1.0 Worse",
        "over Each silo alone +30.0 points – Unclear",  # one seed has no interval and proves nothing
        "By specialty split",
        "Nordklinik +40.0 points +38.0 to +42.0 Better",
        "3 seeds",
        "Small model, by specialty split: taking part is worth +4.2 points (+2.0 to +6.4).",
        "over Silos that teach nothing +4.2 points +2.0 to +6.4 Better",
        "IID split: 2,500 test records, of which 1,350 are apart",
    ],
)
def test_the_page_says_what_the_document_says(expected: str, tmp_path: Path) -> None:
    assert expected in words(written(tmp_path, make_document()))


def test_a_lower_perplexity_is_better(tmp_path: Path) -> None:
    gains = [gain("fedavg", -1.5, [-2.0, -1.0]), gain("one_way", 1.5, [1.0, 2.0])]

    page = words(written(tmp_path, make_document(metric="perplexity", gains=gains)))

    assert "over FedAvg −1.50 −2.00 to −1.00 Better" in page
    assert "over One-way distillation +1.50 +1.00 to +2.00 Worse" in page
    assert "lower is better" in page


def test_the_page_needs_nothing_but_itself_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    document = make_document(name=HOSTILE, silo_gains=[{"split": HOSTILE, "silo": HOSTILE, "mean": 0.1, "seeds": 1}])

    page = written(tmp_path, document)

    assert "<script" not in page
    assert HOSTILE in words(page)
    assert not re.search(r"https?:|@import|\ssrc=|url\((?!#)", page)


def test_every_figure_has_words_and_names_of_its_own(tmp_path: Path) -> None:
    page = written(tmp_path, make_document())
    names = re.findall(r'\bid="([^"]+)"', page)

    assert page.count("<svg") == page.count('role="img"') == 4
    assert "FedCoLLM 75.9 % (75.3 – 76.5 %)" in page
    assert len(names) == len(set(names))


def test_an_empty_comparison_is_a_page_without_tables(tmp_path: Path) -> None:
    assert "<svg" not in written(tmp_path, {"metric": "accuracy", "rows": []})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [row("fedavg", 0.5) | {"mean": None}]}, r"rows\[0\].mean must hold a number"),
        ({"rows": [row("fedavg", 0.5) | {"ci95": 0.1}]}, r"rows\[0\].ci95 must hold \[low, high\]"),
        ({"rows": [row("fedavg", 0.5) | {"ci95": [0.1, "b"]}]}, r"ci95.high must hold a number"),
        ({"gains": {}}, "gains must hold a list"),
    ],
)
def test_a_wrong_shape_is_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=message):
        written(tmp_path, make_document(**changes))
