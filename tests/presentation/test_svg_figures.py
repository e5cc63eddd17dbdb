"""In a figure no label lies on a line, and two curves that are equal are still seen to be two."""

import itertools

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from fedcollm_secure.presentation import svg_figures
from fedcollm_secure.presentation.rate_interval import rate_interval
from fedcollm_secure.presentation.svg_figures import Line, Trend, draw_budget, draw_scores, draw_trends


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list into which every figure goes that is drawn."""
    figures: list[Figure] = []
    honest = svg_figures._svg

    def kept(figure: Figure, alternative: str, identifier: str) -> str:
        figures.append(figure)
        return honest(figure, alternative, identifier)

    monkeypatch.setattr(svg_figures, "_svg", kept)
    return figures


def boxes(axes: Axes) -> list[Bbox]:
    return [each.get_window_extent().padded(-1) for each in axes.texts if isinstance(each, Annotation)]


def crossed(axes: Axes) -> list[tuple[str, Line2D]]:
    """Return each label with each line, of data or of the grid, that passes through it."""
    lines = [*axes.lines, *(tick.gridline for tick in axes.yaxis.get_major_ticks())]
    labels = [each for each in axes.texts if isinstance(each, Annotation)]
    return [
        (label.get_text(), line)
        for label, box in zip(labels, boxes(axes), strict=True)
        for line in lines
        if line.get_transform().transform_path(line.get_path()).intersects_bbox(box, filled=False)
    ]


CURVES = {
    "apart": ([0.6, 0.66, 0.67], [0.75, 0.76, 0.77]),
    "equal": ([0.6, 0.66, 0.67], [0.6, 0.66, 0.67]),
    "crossing": ([0.6, 0.7, 0.8], [0.8, 0.7, 0.6]),
    "close at the end": ([0.5, 0.6, 0.7], [0.9, 0.8, 0.701]),
    "falling": ([0.9, 0.5, 0.1], [0.9, 0.6, 0.11]),
    "one round": ([0.6, 0.66], [0.7, 0.65]),
    "flat": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}


@pytest.mark.parametrize("name", CURVES)
def test_no_label_of_a_score_lies_on_a_line_or_on_the_other(name: str, drawn: list[Figure]) -> None:
    curves = [list(enumerate(values)) for values in CURVES[name]]
    lines = [Line(label="Small model", points=curves[0]), Line(label="Large model", points=curves[1], second=True)]
    draw_scores(lines, "accuracy", "told", "one")
    (axes,) = drawn[0].axes

    assert crossed(axes) == []
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes(axes), 2))


def test_a_line_through_a_label_would_be_found(drawn: list[Figure]) -> None:
    draw_scores([Line(label="Small model", points=[(0, 0.5), (1, 0.6)])], "accuracy", "told", "one")
    (axes,) = drawn[0].axes
    assert crossed(axes) == []
    (through,) = axes.plot((0, 2), (0.6, 0.6))

    assert through in [line for _, line in crossed(axes)]


@pytest.mark.parametrize("spent", [[0, 4, 8], [0, 8], [0, 1, 2, 3, 4, 5, 6, 7, 7.9], [0, 0.1, 0.2], [0, 6, 12]])
def test_no_label_of_a_budget_lies_on_a_line(spent: list[float], drawn: list[Figure]) -> None:
    draw_budget([Line(label="4 silos", points=list(enumerate(spent)))], 8.0, "told", "one")
    (axes,) = drawn[0].axes

    assert [text for text, line in crossed(axes) if line in axes.lines] == []


def test_equal_curves_are_told_apart(drawn: list[Figure]) -> None:
    points = [(0, 0.5), (1, 0.6)]
    draw_scores([Line(label="a", points=points), Line(label="b", points=points, second=True)], "accuracy", "t", "one")
    first, second, marks = drawn[0].axes[0].lines

    assert (first.get_linestyle(), first.get_marker()) == ("-", "o")
    assert (second.get_linestyle(), marks.get_marker(), marks.get_markerfacecolor()) == ("--", "s", "none")
    assert marks.get_markersize() > first.get_markersize()


def test_equal_ways_of_a_study_have_marks_of_their_own(drawn: list[Figure]) -> None:
    trends = [Trend(label=str(way), points=[(0.0, 0.5, (0.4, 0.6))]) for way in range(4)]
    draw_trends(trends, "accuracy", ("seconds", str), ("told", "one"))

    marks = [line.get_marker() for line in drawn[0].axes[0].lines if line.get_marker() not in ("None", "")]
    assert len(set(marks)) == 4


@pytest.mark.parametrize(("rate", "records"), [(0.0, 10), (1.0, 10), (0.5, 1), (0.661, 2500)])
def test_an_interval_of_a_rate_holds_it_and_stays_on_its_scale(rate: float, records: int) -> None:
    low, high = rate_interval(rate, records)

    assert 0 <= low <= round(rate * records) / records <= high <= 1


def test_the_interval_of_a_rate_is_the_published_one() -> None:
    assert rate_interval(0.3, 10) == pytest.approx((0.1078, 0.6032), abs=1e-4)  # Newcombe 1998, method 3
