"""The three curves of a report, each with a sentence for those who cannot see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedcollm_secure.operations.report.run_record import MODELS, Record
from fedcollm_secure.presentation import epsilon_text, number_text
from fedcollm_secure.presentation.model_names import MODEL_NAMES
from fedcollm_secure.presentation.svg_figures import Line, draw_budget, draw_scores, draw_traffic

NEAR = 0.02  # silos whose ε lies this close together (of the highest) share one label


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A figure: `svg` is markup made here, everything else is text to be escaped."""

    title: str
    svg: str
    caption: str


def curves(record: Record) -> list[Curve]:
    """Return the curves that the run has numbers for."""
    drawn = (_utility(record), _budget(record), _traffic(record))
    return [curve for curve in drawn if curve is not None]


def _utility(record: Record) -> Curve | None:
    metric = record.metric
    if metric is None:
        return None
    series = {model: record.series(model, metric) for model in MODELS}
    lines = [
        Line(label=MODEL_NAMES[model], points=points, second=model == "llm")
        for model, points in series.items()
        if points
    ]
    name = number_text.metric_name(metric).capitalize()
    told = "; ".join(
        f"{line.label}: {', '.join(number_text.score(value, metric) for _, value in line.points)}" for line in lines
    )
    svg = draw_scores(lines, metric, f"{name} by round. {told}", "utility")
    better = "Lower is better. " if metric in number_text.LOWER_IS_BETTER else ""
    return Curve(title=name, svg=svg, caption=f"{better}Public test data; round 0 is before any training.")


def _budget(record: Record) -> Curve | None:
    names = sorted({name for line in record.rounds for name in line.epsilon})
    if not names:
        return None
    points = {
        name: [(line.number, line.epsilon[name]) for line in record.rounds if name in line.epsilon] for name in names
    }
    lines = _labelled(points)
    budgets = [budget.epsilon for budget in record.budgets.values() if budget.epsilon is not None]
    budget = min(budgets, default=None)
    told = "; ".join(f"{name}: {', '.join(epsilon_text.spent(value) for _, value in points[name])}" for name in names)
    svg = draw_budget(lines, budget, f"ε spent by round. {told}", "budget")
    smallest = "smallest " if len(set(budgets)) > 1 else ""
    caption = f"One line per silo; the dashed line is the {smallest}budget." if budgets else "One line per silo."
    return Curve(title="Privacy spent (ε)", svg=svg, caption=caption)


def _labelled(points: dict[str, list[tuple[int, float]]]) -> list[Line]:
    """Label the silo that spent most, or all of them at once where they spent alike; more labels would overlap."""
    highest = max(points, key=lambda name: points[name][-1][1])
    lowest = min(silo[-1][1] for silo in points.values())
    alike = points[highest][-1][1] - lowest <= NEAR * points[highest][-1][1]
    label = f"{len(points)} silos" if alike and len(points) > 1 else highest
    return [Line(label=label if name == highest else "", points=silo) for name, silo in points.items()]


def _traffic(record: Record) -> Curve | None:
    lines = [line for line in record.rounds if line.up_bytes or line.down_bytes]
    if not lines:
        return None
    rounds: Sequence[int] = [line.number for line in lines]
    up, down = [float(line.up_bytes) for line in lines], [float(line.down_bytes) for line in lines]
    told = "; ".join(
        f"round {line.number}: {number_text.amount(line.up_bytes)} from the silos, "
        f"{number_text.amount(line.down_bytes)} to them"
        for line in lines
    )
    svg = draw_traffic(rounds, up, down, f"Traffic by round. {told}", "traffic")
    return Curve(title="Traffic per round", svg=svg, caption="All silos together, messages as they were sent.")
