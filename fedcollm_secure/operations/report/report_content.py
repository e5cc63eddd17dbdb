"""What the report says, as plain data: numbers become text here, and the template only places them."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcollm_secure.operations.report.run_record import MODELS, Record, Round
from fedcollm_secure.presentation import epsilon_text, number_text
from fedcollm_secure.presentation.model_names import MODEL_NAMES

PHASE_NAMES = {
    "train": "Training in the silos",
    "protect": "Protecting the updates",
    "aggregate": "Adding them up",
    "distill": "Distilling on the server",
    "evaluate": "Measuring the models",
}


@dataclass(frozen=True, kw_only=True)
class KeyFigure:
    """One number that a reader looks for first, and what it means."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A part of a whole; `share` is per cent of the bar, `note` what is written beside it."""

    label: str
    share: float
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """A property: `holds` is yes, no, partly or void (nothing to promise), `word` what the table says."""

    property: str
    holds: str
    word: str
    why: str


class NotApplicable:
    """Stands for a property that cannot be promised here, since what it is about is not there."""


NOT_APPLICABLE = NotApplicable()


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A model's score before any training and at the end."""

    model: str
    metric: str
    before: float
    after: float


def gains(record: Record) -> list[Gain]:
    """What each model gained over its score before any training; empty where nothing was measured."""
    metric = record.metric
    if metric is None:
        return []
    found: list[Gain] = []
    for model in MODELS:
        stated = record.summary.child("gained").child(model) if record.summary else None
        before, after = (stated.number("from"), stated.number("to")) if stated else (None, None)
        series = record.series(model, metric)
        if before is not None and after is not None:
            found.append(Gain(model=model, metric=metric, before=before, after=after))
        elif len(series) >= 2:
            found.append(Gain(model=model, metric=metric, before=series[0][1], after=series[-1][1]))
    return found


def key_figures(record: Record) -> list[KeyFigure]:
    """The numbers at the head of the page."""
    figures = [
        KeyFigure(
            label=f"{MODEL_NAMES[gain.model]}, over zero-shot",
            value=number_text.gain(gain.before, gain.after, gain.metric),
            note=f"{number_text.score(gain.before, gain.metric)} → {number_text.score(gain.after, gain.metric)} "
            f"{number_text.metric_name(gain.metric)}",
        )
        for gain in gains(record)
    ]
    up, down = _traffic(record)
    return [
        *figures,
        _budget_figure(record),
        KeyFigure(
            label="Traffic",
            value=number_text.amount(up + down),
            note=f"{number_text.amount(up)} from the silos, {number_text.amount(down)} back",
        ),
        KeyFigure(
            label="Time", value=number_text.duration(_total_seconds(record)), note="all parties, on this machine"
        ),
    ]


def _budget_figure(record: Record) -> KeyFigure:
    spent = most_spent(record)
    if spent is None:
        return KeyFigure(label="Privacy budget", value="none", note="no differential privacy in this run")
    deltas = {budget.delta for budget in record.budgets.values() if budget.delta is not None}
    delta = f", δ = {number_text.small(max(deltas))}" if deltas else ""
    return KeyFigure(
        label="Privacy budget spent",
        value=f"ε {epsilon_text.spent(spent)}{of_budget(record)}",
        note=f"highest silo{delta}",
    )


def of_budget(record: Record) -> str:
    """` of 8`, where all silos have one budget; empty where they differ or have none."""
    budgets = {budget.epsilon for budget in record.budgets.values() if budget.epsilon is not None}
    return f" of {epsilon_text.allowed(budgets.pop())}" if len(budgets) == 1 else ""


def last_spent(record: Record) -> dict[str, float]:
    """What each silo had spent when it was last heard of; empty without differential privacy."""
    spent: dict[str, float] = {}
    for line in record.rounds:  # a silo that sat out the last rounds still spent what it spent before
        spent.update(line.epsilon)
    return spent


def most_spent(record: Record) -> float | None:
    """The largest ε that a silo spent."""
    return max(last_spent(record).values(), default=None)


def budget_bars(record: Record) -> list[Bar]:
    """One bar a silo: what it spent of what it may spend."""
    bars: list[Bar] = []
    for name, spent in sorted(last_spent(record).items()):
        budget = record.budgets.get(name)
        if budget is None or budget.epsilon is None:
            bars.append(Bar(label=name, share=0, value=epsilon_text.spent(spent), note="no budget stated"))
            continue
        share = min(100.0, 100 * spent / budget.epsilon) if budget.epsilon else 100.0
        delta = f", δ = {number_text.small(budget.delta)}" if budget.delta is not None else ""
        bars.append(
            Bar(
                label=name,
                share=share,
                value=epsilon_text.spent(spent),
                note=f"of {epsilon_text.allowed(budget.epsilon)}{delta}",
            )
        )
    return bars


def guarantees(record: Record) -> list[Guarantee]:
    """The rows of the guarantee table, as the run itself stated them."""
    rows = record.summary.children("guarantees") if record.summary else []
    return [_guarantee(row.text("property") or "unnamed", _stated(row.items), row.text("why") or "") for row in rows]


def _stated(row: Mapping[str, object]) -> object:
    """Return what a row says of its property; None for one that does not apply."""
    return NOT_APPLICABLE if row.get("applies") is False else row.get("holds")


def _guarantee(name: str, holds: object, why: str) -> Guarantee:
    match holds:
        case NotApplicable():
            return Guarantee(property=name, holds="void", word="Not applicable", why=why)
        case True:
            return Guarantee(property=name, holds="yes", word="Holds", why=why)
        case False:
            return Guarantee(property=name, holds="no", word="Does not hold", why=why)
        case str() if holds:
            return Guarantee(property=name, holds="partly", word=holds, why=why)
        case _:
            return Guarantee(property=name, holds="partly", word="Not stated", why=why)


def warnings(record: Record) -> list[str]:
    """What the run itself warned of."""
    stated = record.summary.items.get("warnings") if record.summary else None
    return [warning for warning in stated if isinstance(warning, str)] if isinstance(stated, list) else []


def visible_to(record: Record) -> list[tuple[str, str]]:
    """Who could see what."""
    sight = record.summary.child("visible_to") if record.summary else None
    return [(party, sight.text(party) or "") for party in sight.items] if sight else []


def phases(record: Record) -> list[Bar]:
    """Where the time went, over all rounds."""
    spent: dict[str, float] = {}
    for line in record.rounds:
        for phase, seconds in line.seconds.items():
            spent[phase] = spent.get(phase, 0.0) + seconds
    spent.pop("total", None)
    spent = {phase: spent[phase] for phase in (*PHASE_NAMES, *spent) if phase in spent}
    longest = max(spent.values(), default=0.0)
    return [
        Bar(
            label=PHASE_NAMES.get(phase, phase.capitalize()),
            share=100 * seconds / longest if longest else 0.0,
            value=number_text.duration(seconds),
            note="",
        )
        for phase, seconds in spent.items()
    ]


def round_rows(record: Record) -> list[list[str]]:
    """The table behind the curves: a row a round; columns as the template heads them."""
    return [_round_row(line, record.metric) for line in record.rounds]


def _round_row(line: Round, metric: str | None) -> list[str]:
    scores = [line.scores[model].get(metric or "") for model in MODELS]
    epsilon = max(line.epsilon.values(), default=None)
    return [
        str(line.number),
        *(number_text.score(value, metric) if metric and value is not None else "–" for value in scores),
        epsilon_text.spent(epsilon) if epsilon is not None else "–",
        number_text.amount(line.up_bytes),
        number_text.amount(line.down_bytes),
        number_text.duration(sum(line.seconds.values())),
    ]


def _traffic(record: Record) -> tuple[float, float]:
    return sum(line.up_bytes for line in record.rounds), sum(line.down_bytes for line in record.rounds)


def _total_seconds(record: Record) -> float:
    total = record.summary.child("seconds").number("total") if record.summary else None
    return total if total is not None else sum(sum(line.seconds.values()) for line in record.rounds)
