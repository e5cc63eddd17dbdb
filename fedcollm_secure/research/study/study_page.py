"""Write the page of a study: utility against ε, bytes and seconds, and the combinations that no other beats.

The page is made from the document that `study --json` prints, so that it can be made again from a saved one:

    points    [{epsilon: number | null, factors, aggregation, seed, slm, llm, seconds, bytes, …}]
    groups    [{epsilon, way, slm: {mean, ci95, seeds}, llm: {…}, seconds, bytes, metric}]    means over seeds
              [, control: {mean, ci95, seeds}, over_control: {…}]     where the study has a control: the paired gain
              [, counts: {mean, ci95, seeds}]     where there are labels: the silos' word counts at the same ε
    frontier  those groups that no other beats
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcollm_secure.errors import RunError
from fedcollm_secure.presentation import number_text
from fedcollm_secure.presentation.html_page import environment, write_page
from fedcollm_secure.presentation.model_names import MODEL_NAMES
from fedcollm_secure.presentation.svg_figures import Trend, draw_trends
from fedcollm_secure.presentation.typed_document import Document


@dataclass(frozen=True, kw_only=True)
class Score:
    """A mean over seeds, its interval where there are two or more, and how many there are."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """One combination: its ε (None without differential privacy), scores and mean costs."""

    epsilon: float | None
    way: str
    scores: Mapping[str, Score]
    seconds: float
    bytes: float
    best: bool
    control: Score | None
    over_control: Score | None
    counts: Score | None

    @property
    def bound(self) -> str:
        """Write ε."""
        return "∞" if self.epsilon is None else f"{self.epsilon:g}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing made here, and what it shows."""

    title: str
    svg: str


def write_study(document: Mapping[str, object], out: Path) -> Path:
    """Write one self-contained page about a study to `out`, and return it.

    Raises: RunError naming the entry of `document` that has the wrong shape.
    """
    study = Document.of("study", dict(document))
    entries, best = study.children("groups"), [entry.items for entry in study.children("frontier")]
    groups = [_group(entry, entry.items in best) for entry in entries]
    metric = next((entry.text("metric") or "accuracy" for entry in entries), "accuracy")
    page = (
        environment("fedcollm_secure.research.study")
        .get_template("study.html.j2")
        .render(
            title=study.text("name") or "Study",
            metric=number_text.metric_name(metric),
            lower_is_better=metric in number_text.LOWER_IS_BETTER,
            utility=_utility(groups, metric) if groups else [],
            costs=_costs(groups, metric) if groups else [],
            rows=[_row(group, metric) for group in groups],
            points=len(study.children("points")),
            seeds=max((group.scores["slm"].seeds for group in groups), default=0),
        )
    )
    return write_page(page, out)


def _group(entry: Document, best: bool) -> Group:
    way, seconds, traffic = entry.text("way"), entry.number("seconds"), entry.number("bytes")
    if way is None or seconds is None or traffic is None:
        raise RunError(f"{entry.place} must hold way, seconds and bytes")
    return Group(
        epsilon=entry.number("epsilon"),
        way=way,
        scores={model: _score(entry.child(model)) for model in MODEL_NAMES},
        seconds=seconds,
        bytes=traffic,
        best=best,
        control=_score_or_none(entry, "control"),
        over_control=_score_or_none(entry, "over_control"),
        counts=_score_or_none(entry, "counts"),
    )


def _score_or_none(entry: Document, key: str) -> Score | None:
    return _score(entry.child(key)) if key in entry.items else None


def _score(entry: Document) -> Score:
    mean = entry.number("mean")
    if mean is None:
        raise RunError(f"{entry.place}.mean must hold a number")
    return Score(mean=mean, interval=entry.interval("ci95"), seeds=entry.whole("seeds") or 1)


def _utility(groups: Sequence[Group], metric: str) -> list[Figure]:
    """Draw what was gained over the control, where there is one, and what each model scores."""
    found = [_against_epsilon(groups, model, metric) for model in MODEL_NAMES]
    return [_gain_against_epsilon(groups, metric), *found] if all(group.over_control for group in groups) else found


def _against_epsilon(groups: Sequence[Group], model: str, metric: str) -> Figure:
    """Draw a model's score against ε, strongest privacy first, evenly spaced, with the word counts' beside it."""
    names = _bounds(groups)
    trends = _trends(groups, lambda group: group.scores[model], _at(names))
    trends += [Trend(label="word counts", points=_points(_one_each(groups), lambda group: group.counts, _at(names)))]
    told = "; ".join(f"{group.way}, ε {group.bound}: {_mean(group, model, metric)}" for group in groups)
    title = MODEL_NAMES[model]
    drawn = [trend for trend in trends if trend.points]
    svg = draw_trends(drawn, metric, ("ε", names), (f"{title} against ε. {told}", f"epsilon-{model}"))
    return Figure(title=title, svg=svg)


def _gain_against_epsilon(groups: Sequence[Group], metric: str) -> Figure:
    """Draw the small model's gain over silos that teach nothing, and by their means what word counts do."""
    names = _bounds(groups)
    trends = _trends(groups, lambda group: group.over_control, _at(names))
    beside = [_counts_over_control(group) for group in _one_each(groups)]
    points = [
        (_at(names)(group), gain, None)
        for group, gain in zip(_one_each(groups), beside, strict=True)
        if gain is not None
    ]
    trends += [Trend(label="word counts", points=points)] if points else []
    told = "; ".join(
        f"{group.way}, ε {group.bound}: {number_text.gain(0, group.over_control.mean, metric)}"
        for group in groups
        if group.over_control
    )
    title = "Small model, gain over the control"
    svg = draw_trends(trends, metric, ("ε", names), (f"{title}. {told}", "epsilon-gain"), gains=True)
    return Figure(title=title, svg=svg)


def _counts_over_control(group: Group) -> float | None:
    return group.counts.mean - group.control.mean if group.counts and group.control else None


def _one_each(groups: Sequence[Group]) -> list[Group]:
    """Return one group for each ε: word counts do not depend on what travels."""
    return list({group.epsilon: group for group in reversed(groups)}.values())


def _bounds(groups: Sequence[Group]) -> list[str]:
    bounds = sorted({group.epsilon for group in groups if group.epsilon is not None})
    return [f"{bound:g}" for bound in bounds] + (["∞"] if any(group.epsilon is None for group in groups) else [])


def _at(names: Sequence[str]) -> Callable[[Group], float]:
    return lambda group: float(names.index(group.bound))


def _costs(groups: Sequence[Group], metric: str) -> list[Figure]:
    """Draw the small model's score against what a run sends and how long it takes."""
    named: list[tuple[str, Callable[[Group], float], Callable[[float], str]]] = [
        ("Bytes", lambda group: group.bytes, number_text.amount),
        ("Seconds", lambda group: group.seconds, number_text.duration),
    ]
    figures: list[Figure] = []
    for name, cost, write in named:
        trends = _trends(groups, lambda group: group.scores["slm"], cost)
        told = "; ".join(
            f"{group.way}, ε {group.bound}: {write(cost(group))}, {_mean(group, 'slm', metric)}" for group in groups
        )
        axis = {"Bytes": "sent, all silos, both ways", "Seconds": "time of a run, scoring apart"}[name]
        svg = draw_trends(trends, metric, (axis, write), (f"Small model against {name.lower()}. {told}", name.lower()))
        figures.append(Figure(title=f"Small model against {name.lower()}", svg=svg))
    return figures


def _trends(
    groups: Sequence[Group], score: Callable[[Group], Score | None], x: Callable[[Group], float]
) -> list[Trend]:
    return [
        Trend(
            label=number_text.shortened(way, 26),
            points=_points([group for group in groups if group.way == way], score, x),
        )
        for way in dict.fromkeys(group.way for group in groups)
    ]


def _points(
    groups: Sequence[Group], score: Callable[[Group], Score | None], x: Callable[[Group], float]
) -> list[tuple[float, float, tuple[float, float] | None]]:
    scored = [(x(group), score(group)) for group in groups]
    return sorted((at, each.mean, each.interval) for at, each in scored if each is not None)


def _mean(group: Group, model: str, metric: str) -> str:
    return number_text.score(group.scores[model].mean, metric)


def _row(group: Group, metric: str) -> dict[str, object]:
    cells = [group.bound]
    for model in MODEL_NAMES:
        cells += [_mean(group, model, metric), _interval(group.scores[model], metric)]
    gain = group.over_control
    cells += ["–", "–"] if gain is None else [number_text.score(gain.mean, metric), _interval(gain, metric)]
    cells += ["–" if group.counts is None else number_text.score(group.counts.mean, "accuracy")]
    cells += [number_text.duration(group.seconds), number_text.amount(group.bytes), str(group.scores["slm"].seeds)]
    return {"label": group.way, "cells": cells, "marked": group.best}


def _interval(score: Score, metric: str) -> str:
    if score.interval is None:
        return "–"
    low, high = (number_text.score(end, metric) for end in score.interval)
    return f"{low.removesuffix(' %')} – {high}"
