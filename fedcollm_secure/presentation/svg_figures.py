"""Figures as SVG that lives inside the page: its letters are text, its colours are the page's.

matplotlib draws with stand-in colours; each is then replaced by a CSS variable, so that one drawing serves the light
page, the dark page and paper. A figure is as wide as a phone (360 px) and is never scaled down below that.
"""

import html
import io
import re
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedcollm_secure.presentation import epsilon_text, number_text

INK, SOFT, LINE, FIRST, SECOND, FAINT = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    FAINT: "var(--faint)",
}
WIDTH_PX, HEIGHT_PX = 360, 230
PX = 1 / 72  # an SVG user unit is a point of matplotlib's
TREND_COLOURS, TREND_STYLES = (FIRST, SECOND, SOFT, INK), ("-", "--")
TREND_MARKERS = "osD^vPX*"
STYLE = Path(__file__).with_name("svg_figures.mplstyle")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: its label stands at its end. `points` are (round, value)."""

    label: str
    points: Sequence[tuple[int, float]]
    second: bool = False


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One row of a comparison: a mean and, with two seeds or more, its interval."""

    label: str
    mean: float
    interval: tuple[float, float] | None
    marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Trend:
    """One way of a study: a mean with its interval at each of its places on the x-axis."""

    label: str
    points: Sequence[tuple[float, float, tuple[float, float] | None]]


def draw_scores(lines: Sequence[Line], metric: str, alternative: str, identifier: str) -> str:
    """Draw the models' scores by round."""
    with _figure(HEIGHT_PX) as (figure, axes):
        for line, lift in zip(lines, _label_lifts(lines), strict=True):
            _draw_line(axes, line, number_text.score(line.points[-1][1], metric), lift)
        if metric in number_text.PERCENT_SCORES:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent_tick))
            axes.set_ylim(*_within_shares(*axes.get_ylim()))
        _finish_rounds(axes)
        return _svg(figure, alternative, identifier)


def draw_budget(lines: Sequence[Line], budget: float | None, alternative: str, identifier: str) -> str:
    """Draw what each silo has spent by round, under the smallest budget."""
    with _figure(HEIGHT_PX) as (figure, axes):
        for line in lines:
            _draw_line(axes, line, epsilon_text.spent(line.points[-1][1]), -9)  # below the dashed line, if it is near
        axes.set_ylim(bottom=0)
        if budget is not None:
            ends = [min(first.points[0][0] for first in lines), max(last.points[-1][0] for last in lines)]
            axes.plot(ends, (budget, budget), color=SOFT, linewidth=1.2, linestyle=(0, (4, 3)))  # not under a label
            axes.set_ylim(top=max(1.12 * budget, axes.get_ylim()[1]))
            axes.annotate(
                f"budget {epsilon_text.allowed(budget)}",
                (0, budget),
                xycoords=("axes fraction", "data"),
                xytext=(4, 4),
                textcoords="offset points",
                color=SOFT,
            )
        _finish_rounds(axes)
        return _svg(figure, alternative, identifier)


def draw_traffic(
    rounds: Sequence[int], up: Sequence[float], down: Sequence[float], alternative: str, identifier: str
) -> str:
    """Draw the bytes of every round: from the silos, and on top of them to the silos."""
    with _figure(HEIGHT_PX) as (figure, axes):
        axes.bar(rounds, up, width=0.62, color=FIRST, label="from the silos")
        axes.bar(rounds, down, width=0.62, bottom=up, color=FAINT, label="to the silos")
        axes.yaxis.set_major_formatter(FuncFormatter(_amount_tick))
        axes.set_ylim(top=1.28 * max(1, *(a + b for a, b in zip(up, down, strict=True))))
        axes.legend(frameon=False, loc="upper left", ncols=2, handlelength=0.9, handleheight=0.9, borderaxespad=0)
        _finish_rounds(axes)
        axes.margins(x=0.04)
        return _svg(figure, alternative, identifier)


def draw_intervals(rows: Sequence[Interval], metric: str, zero: bool, alternative: str, identifier: str) -> str:
    """Draw means with their intervals, one row each, from the top; `zero` marks no difference."""
    with _figure(48 + 30 * len(rows)) as (figure, axes):
        for place, row in enumerate(rows):
            colour = FIRST if row.marked else SOFT
            if row.interval is not None:
                axes.plot(row.interval, (place, place), color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([row.mean], [place], marker="o", markersize=6.5, color=colour)
        if zero:
            axes.axvline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(rows)), [number_text.shortened(row.label, 26) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        axes.margins(x=0.06)
        if metric in number_text.PERCENT_SCORES:
            axes.xaxis.set_major_formatter(FuncFormatter(_points_tick if zero else _percent_tick))
            if not zero:
                axes.set_xlim(*_within_shares(*axes.get_xlim()))
        return _svg(figure, alternative, identifier)


def draw_trends(
    trends: Sequence[Trend],
    metric: str,
    x: tuple[str, Sequence[str] | Callable[[float], str]],
    told: tuple[str, str],
    *,
    gains: bool = False,
) -> str:
    """Draw means with their intervals against `x`: its name, and the names of places 0, 1, … or how to write a value.

    `told` is the alternative and the identifier. Places are joined by lines; values of a cost are not in any order.
    With `gains`, means are differences of scores, and no difference is marked.
    """
    name, ticks = x
    with _figure(HEIGHT_PX + 26) as (figure, axes):
        for place, trend in enumerate(trends):
            colour, style = TREND_COLOURS[place % len(TREND_COLOURS)], TREND_STYLES[place // len(TREND_COLOURS) % 2]
            shift = 0.0 if callable(ticks) else 0.05 * (place - (len(trends) - 1) / 2)  # so that intervals stay apart
            places, means = [at + shift for at, _, _ in trend.points], [mean for _, mean, _ in trend.points]
            for at, (_, _, bounds) in zip(places, trend.points, strict=True):
                if bounds is not None:
                    axes.plot((at, at), bounds, color=colour, linewidth=1.6, solid_capstyle="round")
            joined = "none" if callable(ticks) else style
            marker = TREND_MARKERS[place % len(TREND_MARKERS)]
            axes.plot(places, means, color=colour, linewidth=1.6, linestyle=joined, marker=marker, label=trend.label)
        if callable(ticks):
            axes.xaxis.set_major_formatter(_written(ticks))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        else:
            axes.set_xticks(range(len(ticks)), list(ticks))
        if gains:
            axes.axhline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        _finish_scores(axes, name, metric, gains=gains)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=2)
        return _svg(figure, *told)


def _written(write: Callable[[float], str]) -> FuncFormatter:
    def tick(value: float, _: int | None) -> str:
        return write(value)

    return FuncFormatter(tick)


def _finish_scores(axes: Axes, name: str, metric: str, *, gains: bool) -> None:
    axes.set_xlabel(name)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if metric in number_text.PERCENT_SCORES:
        axes.yaxis.set_major_formatter(FuncFormatter(_points_tick if gains else _percent_tick))
        if not gains:
            axes.set_ylim(*_within_shares(*axes.get_ylim()))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)


def _within_shares(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis, cut a little beyond what a share can be, so that a mark at the end is seen whole."""
    return max(-0.01, low), min(1.01, high)


def _percent_tick(value: float, _: int | None) -> str:
    return f"{_points_tick(value, None)} %"


def _points_tick(value: float, _: int | None) -> str:
    return f"{100 * value:.10g}".replace("-", number_text.MINUS)


def _amount_tick(value: float, _: int | None) -> str:
    return number_text.amount(value)


def _label_lifts(lines: Sequence[Line]) -> list[float]:
    """Return how many pixels each of two labels moves, so that two lines of text never overlap."""
    if len(lines) != 2:
        return [0.0] * len(lines)
    values = [value for line in lines for _, value in line.points]
    first, second = (line.points[-1][1] for line in lines)
    plot_px, label_px = 0.78 * HEIGHT_PX, 34
    distance_px = plot_px * abs(first - second) / (max(values) - min(values) or 1)
    lift = max(0.0, label_px - distance_px) / 2
    return [lift, -lift] if first >= second else [-lift, lift]


def _draw_line(axes: Axes, line: Line, last: str, lift: float) -> None:
    rounds, values = zip(*line.points, strict=True)
    colour = SECOND if line.second else FIRST
    # Equal curves stay two: the second one is dashed, with squares around the dots of the first.
    if line.second:
        axes.plot(rounds, values, color=colour, linewidth=2, linestyle=(0, (3, 3)))
        axes.plot(rounds, values, color=colour, linestyle="none", marker="s", markersize=7, markerfacecolor="none")
    else:
        axes.plot(rounds, values, color=colour, linewidth=2, marker="o", markersize=4.5, solid_capstyle="round")
    if line.label:
        axes.annotate(
            f"{number_text.shortened(line.label, 16)}\n{last}",
            (rounds[-1], values[-1]),
            xytext=(8, lift),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )


def _finish_rounds(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)  # the grid ends where the labels of the curves begin


@contextmanager
def _figure(height_px: int) -> Generator[tuple[Figure, Axes], None, None]:
    # A silo's name may hold letters that matplotlib's own font lacks; the page's font draws them.
    with mpl.rc_context(fname=STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(figsize=(WIDTH_PX * PX, height_px * PX), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def _svg(figure: Figure, alternative: str, identifier: str) -> str:
    """Return the drawing as one element for an HTML page, with `alternative` for those who do not see it."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    drawing = buffer.getvalue()
    drawing = re.sub(r"^.*?<svg[^>]*>", "", drawing, count=1, flags=re.DOTALL)
    drawing = re.sub(r"<(metadata|defs)>.*?</\1>", _keep_shapes, drawing, flags=re.DOTALL)
    drawing = re.sub(r"<[^>]*>", lambda tag: _page_tag(tag[0], identifier), drawing)
    width, height = (round(float(side) / PX) for side in figure.get_size_inches())
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{html.escape(alternative)}">{drawing.strip()}'


def _keep_shapes(block: re.Match[str]) -> str:
    """Drop what names the drawing program and what would style the whole page; keep markers and clips."""
    return "" if block[1] == "metadata" or "<style" in block[0] else block[0]


def _page_tag(tag: str, identifier: str) -> str:
    """Give a tag the page's font and colours, and names of its own: several drawings share one page."""
    tag = re.sub(r'(\bid="|\bhref="#|url\(#)', rf"\g<1>{identifier}-", tag.replace("xlink:href", "href"))
    tag = re.sub(r"font-family: [^;\"]*(; )?", "", tag)
    return re.sub("#[0-9a-f]{6}", lambda colour: VARIABLES.get(colour[0], colour[0]), tag)
