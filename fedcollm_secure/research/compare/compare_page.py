"""Write the page of a comparison: methods side by side, what is better than what, and what each silo gained.

The page is made from the document that `compare --json` prints, so that it can be made again from a saved one:

    metric    the score's name, e.g. accuracy
    tests     [{split, records, apart}]    test records, and those that no silo's record is near
    rows      [{split, model, method, mean, ci95: [low, high] | null, seeds[, apart: {mean, ci95, seeds}]}]
    gains     [{split, model, better, than, mean, ci95, seeds}]    paired by seed: better − than
    silo_gains [{split, silo, mean, ci95, seeds}]    FedCoLLM's small model − the one that the silo trained alone
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcollm_secure.errors import RunError
from fedcollm_secure.presentation import number_text
from fedcollm_secure.presentation.html_page import environment, write_page
from fedcollm_secure.presentation.model_names import MODEL_NAMES
from fedcollm_secure.presentation.svg_figures import Interval, draw_intervals
from fedcollm_secure.presentation.typed_document import Document

METHOD_NAMES = {
    "zero_shot": "Zero-shot",
    "standalone": "Each silo alone",
    "fedavg": "FedAvg",
    "fedavg_ce": "FedAvg + server data",
    "one_way": "One-way distillation",
    "fedcollm": "FedCoLLM",
    "server_only": "Server data only",
    "centralized": "All data in one place",
    "control": "Silos that teach nothing",
    "counts": "Word counts, no model",
    "with_counts": "Zero-shot + word counts",
}
OURS = "fedcollm"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table; `verdict` (yes, no or partly) colours its last `word` where there is one."""

    label: str
    cells: list[str]
    marked: bool = False
    verdict: str = ""
    word: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure, where there is one, and the rows behind it."""

    title: str
    svg: str
    rows: list[Row]


def write_compare(document: Mapping[str, object], out: Path) -> Path:
    """Write one self-contained page about a comparison to `out`, and return it.

    Raises: RunError naming the entry of `document` that has the wrong shape.
    """
    comparison = Document.of("comparison", dict(document))
    metric = comparison.text("metric") or "accuracy"
    rows = comparison.children("rows")
    page = (
        environment("fedcollm_secure.research.compare")
        .get_template("compare.html.j2")
        .render(
            title=comparison.text("name") or "Comparison",
            metric=number_text.metric_name(metric),
            lower_is_better=metric in number_text.LOWER_IS_BETTER,
            methods=[_methods(*group, metric) for group in _groups(rows)],
            gains=[_gains(*group, metric) for group in _groups(comparison.children("gains"))],
            silo_gains=[_silo_gains(*group, metric) for group in _groups(comparison.children("silo_gains"))],
            seeds=max((row.whole("seeds") or 1 for row in rows), default=0),
            headline=_headline(comparison.children("gains"), metric),
            tests=[_test(test) for test in comparison.children("tests")],
        )
    )
    return write_page(page, out)


def _headline(gains: list[Document], metric: str) -> list[str]:
    """Say, split by split, what taking part is worth: the gain over silos that teach nothing."""
    return [
        f"{_title(row)}: taking part is worth {number_text.gain(0, drawn.mean, metric)} "
        f"({_signed_interval(drawn.interval, metric)})."
        for row in gains
        if (row.text("better"), row.text("than")) == (OURS, "control")
        for drawn in [_drawn(row, "", False)]
    ]


def _test(test: Document) -> str:
    records, apart = test.whole("records") or 0, test.whole("apart") or 0
    return (
        f"{_title(test)}: {records:,} test records, of which {apart:,} are apart: no silo has a record of the same "
        "words but for one"
    )


def _groups(rows: list[Document]) -> list[tuple[str, str, list[Document]]]:
    """Return the rows by model and split, each group with a title and a name for its drawing."""
    grouped: dict[str, list[Document]] = {}
    for row in rows:
        grouped.setdefault(_title(row), []).append(row)
    return [(title, f"panel{place}", members) for place, (title, members) in enumerate(grouped.items())]


def _title(row: Document) -> str:
    split, model = row.text("split"), row.text("model")
    parts = [MODEL_NAMES.get(model, model)] if model else []
    parts += [{"iid": "IID split"}.get(split, f"{split.replace('_', ' ')} split")] if split else []
    title = ", ".join(parts)
    return title[:1].upper() + title[1:]


def _methods(title: str, identifier: str, rows: list[Document], metric: str) -> Panel:
    intervals = [_drawn(row, _method(row, "method"), row.text("method") == OURS) for row in rows]
    table = [
        Row(
            label=drawn.label,
            cells=[number_text.score(drawn.mean, metric), _interval(drawn, metric), _apart(row, metric), _seeds(row)],
            marked=drawn.marked,
        )
        for drawn, row in zip(intervals, rows, strict=True)
    ]
    told = "; ".join(f"{row.label} {row.cells[0]} ({row.cells[1]})" for row in table)
    svg = draw_intervals(intervals, metric, False, f"{title}. {told}", f"methods-{identifier}")
    return Panel(title=title, svg=svg, rows=table)


def _gains(title: str, identifier: str, rows: list[Document], metric: str) -> Panel:
    intervals = [_drawn(row, _versus(row), row.text("better") == OURS) for row in rows]
    table = [_gain_row(drawn, metric) for drawn in intervals]
    told = "; ".join(f"{row.label} {row.cells[0]} ({row.cells[1]})" for row in table)
    svg = draw_intervals(intervals, metric, True, f"{title}. {told}", f"gains-{identifier}")
    return Panel(title=title, svg=svg, rows=table)


def _silo_gains(title: str, identifier: str, rows: list[Document], metric: str) -> Panel:
    intervals = [_drawn(row, row.text("silo") or "unnamed", True) for row in rows]
    table = [_gain_row(drawn, metric) for drawn in intervals]
    told = "; ".join(f"{row.label} {row.cells[0]} ({row.cells[1]})" for row in table)
    svg = draw_intervals(intervals, metric, True, f"{title}. {told}", f"silos-{identifier}")
    return Panel(title=title, svg=svg, rows=table)


def _versus(row: Document) -> str:
    over = f"over {_method(row, 'than')}"
    return over if row.text("better") == OURS else f"{_method(row, 'better')} {over}"


def _gain_row(drawn: Interval, metric: str) -> Row:
    verdict, word = _verdict(drawn.interval, metric)
    cells = [number_text.gain(0, drawn.mean, metric), _signed_interval(drawn.interval, metric)]
    return Row(label=drawn.label, cells=cells, verdict=verdict, word=word)


def _verdict(interval: tuple[float, float] | None, metric: str) -> tuple[str, str]:
    low, high = interval or (0.0, 0.0)
    if metric in number_text.LOWER_IS_BETTER:
        low, high = -high, -low
    if low > 0:
        return "yes", "Better"
    return ("no", "Worse") if high < 0 else ("partly", "Unclear")


def _drawn(row: Document, label: str, marked: bool) -> Interval:
    mean = row.number("mean")
    if mean is None:
        raise RunError(f"{row.place}.mean must hold a number")
    return Interval(label=label, mean=mean, interval=row.interval("ci95"), marked=marked)


def _apart(row: Document, metric: str) -> str:
    """Return the score on the test records that are apart."""
    if "apart" not in row.items:
        return "–"
    mean = row.child("apart").number("mean")
    return "–" if mean is None else number_text.score(mean, metric)


def _seeds(row: Document) -> str:
    return str(row.whole("seeds") or 1)


def _method(row: Document, key: str) -> str:
    method = row.text(key) or ""
    return METHOD_NAMES.get(method, method.replace("_", " "))


def _interval(drawn: Interval, metric: str) -> str:
    if drawn.interval is None:
        return "–"
    low, high = (number_text.score(end, metric) for end in drawn.interval)
    return f"{low.removesuffix(' %')} – {high}"


def _signed_interval(interval: tuple[float, float] | None, metric: str) -> str:
    if interval is None:
        return "–"
    scale, digits = (100, 1) if metric in number_text.PERCENT_SCORES else (1, 2)
    return f"{number_text.signed(scale * interval[0], digits)} to {number_text.signed(scale * interval[1], digits)}"
