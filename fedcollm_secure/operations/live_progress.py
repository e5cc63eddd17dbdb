"""Progress on stderr: a live table on a terminal, plain lines elsewhere. Public scores, ε, bytes and seconds only."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self, cast

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fedcollm_secure.presentation.epsilon_text import spent

Json = Mapping[str, object]


class Show(Protocol):
    """Someone who is told how a run goes."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever happened."""
        ...

    def phase(self, round_number: int, what: str) -> None:
        """Say what is happening."""
        ...

    def line(self, line: Json) -> None:
        """Show a round that is complete."""
        ...


class PlainShow:
    """A line of text a round, for logs and pipes."""

    def __init__(self, console: Console, rounds: int, budget: float | None) -> None:
        """Write to `console`; `budget` is ε, None without one."""
        self._console, self._rounds, self._budget = console, rounds, budget

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def phase(self, round_number: int, what: str) -> None:
        """Say nothing: a log is not a spinner."""

    def line(self, line: Json) -> None:
        """Write one line."""
        row = cells(line, self._rounds, self._budget)
        self._console.print(
            "  ".join(f"{name} {value}" for name, value in row.items() if value), highlight=False, soft_wrap=True
        )


class LiveShow:
    """A table that grows by a row a round, with what is happening now below it."""

    def __init__(self, console: Console, rounds: int, budget: float | None) -> None:
        """Draw on `console`; `budget` is ε, None without one."""
        self._rounds, self._budget, self._rows = rounds, budget, list[dict[str, str]]()
        self._spinner = Spinner("dots", text="reading data and models")
        self._live = Live(self._picture(), console=console, refresh_per_second=8)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the table standing, without the spinner."""
        self._live.update(table(self._rows))
        self._live.__exit__(kind, error, trace)

    def phase(self, round_number: int, what: str) -> None:
        """Show what is happening."""
        self._spinner.update(text=f"round {round_number} of {self._rounds}: {what}")
        self._live.update(self._picture())

    def line(self, line: Json) -> None:
        """Add a row."""
        self._rows.append(cells(line, self._rounds, self._budget))
        self._live.update(self._picture())

    def _picture(self) -> Group:
        return Group(table(self._rows), self._spinner)


def make_show(rounds: int, budget: float | None) -> Show:
    """Return what suits stderr."""
    console = Console(stderr=True)
    return LiveShow(console, rounds, budget) if console.is_terminal else PlainShow(console, rounds, budget)


def table(rows: list[dict[str, str]]) -> Table:
    """Return the table of all rounds so far."""
    drawn = Table(title="FedCoLLM", title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    for name in rows[0] if rows else ("round", "SLM", "LLM"):
        drawn.add_column(name, justify="left" if name == "ε spent" else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(value) for value in row.values()))
    return drawn


def score(scores: object) -> str:
    """Return a model's main score for people: a percentage, or a perplexity."""
    values = cast(Mapping[str, float], scores or {})
    if "accuracy" in values:
        return f"{100 * values['accuracy']:.1f} %"
    return f"perplexity {values['perplexity']:.2f}" if "perplexity" in values else "–"


def bar(spent: float, budget: float, width: int = 8) -> str:
    """Return a bar of blocks: how much of a budget is spent."""
    full = min(width, round(width * spent / budget))
    return "█" * full + "░" * (width - full)


def cells(line: Json, rounds: int, budget: float | None) -> dict[str, str]:
    """Return a round's row: column → text."""
    traffic, seconds = cast(Mapping[str, int], line["bytes"]), cast(Mapping[str, float], line["seconds"])
    row = {"round": f"{line['round']}/{rounds}", "SLM": score(line.get("slm")), "LLM": score(line.get("llm"))}
    if budget is not None:
        row["ε spent"] = _spent(cast(Mapping[str, Mapping[str, float]], line["silos"]), budget)
    row["up"], row["down"] = _size(traffic["up"]), _size(traffic["down"])
    row["seconds"] = f"{sum(seconds.values()):.1f}"
    return row


def _spent(silos: Mapping[str, Mapping[str, float]], budget: float) -> str:
    """Return one bar where all silos spent alike, else one a silo."""
    values = {name: each["epsilon"] for name, each in silos.items()}
    if len(set(values.values())) == 1:
        used = next(iter(values.values()))
        return f"{bar(used, budget)} {spent(used)} of {budget:g} in each silo"
    return "  ".join(f"{name} {bar(used, budget, 4)} {spent(used)}" for name, used in values.items())


def _size(count: int) -> str:
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B" if count else "–"
