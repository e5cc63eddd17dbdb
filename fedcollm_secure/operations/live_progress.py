"""Progress on stderr: a live table with a bar on a terminal, plain lines elsewhere. Public scores, ε, bytes, seconds.

phase  what begins (a silo's training, the sum, scoring)    share  how much of that phase is done
line   a round that is complete, with its scores
"""

import io
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from fedcollm_secure.operations.time_left import TimeLeft
from fedcollm_secure.presentation import number_text
from fedcollm_secure.presentation.epsilon_text import spent

Json = Mapping[str, object]
SILENT_S = 10.0
"""A phase that goes on for so long gets another line, with its share."""


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
        """Say what is happening; round 0 is everything before the first one."""
        ...

    def share(self, done: float) -> None:
        """Say how much of the present phase is done, in [0, 1]."""
        ...

    def line(self, line: Json) -> None:
        """Show a round that is complete."""
        ...


class SilentShow:
    """Say nothing."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def phase(self, round_number: int, what: str) -> None:
        """Say nothing."""

    def share(self, done: float) -> None:
        """Say nothing."""

    def line(self, line: Json) -> None:
        """Say nothing."""


class PlainShow:
    """A line a phase and a line a round, for logs and pipes; a long phase gets lines with its share."""

    def __init__(
        self,
        rounds: int,
        budget: float | None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to `stream`, stderr by default; `budget` is ε, None without one."""
        self._rounds, self._budget = rounds, budget
        self._stream, self._clock = stream or sys.stderr, clock
        self._left = TimeLeft(rounds, clock)
        self._phase, self._said_at = "", clock()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def phase(self, round_number: int, what: str) -> None:
        """Write one line."""
        self._phase = what if round_number == 0 else f"round {round_number}/{self._rounds}: {what}"
        self._say(f"{self._phase}{_of_run(self._left)}")

    def share(self, done: float) -> None:
        """Write a line if the last one is long ago."""
        if self._clock() - self._said_at >= SILENT_S:
            self._say(f"{self._phase}: {100 * done:.0f} %{_of_run(self._left)}")

    def line(self, line: Json) -> None:
        """Write one line."""
        self._left.ended(*_number_and_seconds(line))
        row = cells(line, self._rounds, self._budget)
        self._say("  ".join(f"{name} {value}" for name, value in row.items() if value))

    def _say(self, text: str) -> None:
        self._said_at = self._clock()
        try:
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:  # whoever read along has gone; the run goes on without
            self._stream = _Nowhere()


class _Nowhere(io.StringIO):
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


class LiveShow:
    """A table that grows by a row a round; below it a bar for what is happening now, and the time that is left."""

    def __init__(self, console: Console, rounds: int, budget: float | None) -> None:
        """Draw on `console`; `budget` is ε, None without one."""
        self._rounds, self._budget, self._rows = rounds, budget, list[dict[str, str]]()
        self._left = TimeLeft(rounds)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._task = self._bar.add_task("", total=None, left="")
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._picture)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the table standing, without the bar."""
        self._bar.update(self._task, visible=False)
        self._live.__exit__(kind, error, trace)

    def phase(self, round_number: int, what: str) -> None:
        """Show what is happening; how much of it is done nobody knows yet."""
        text = what if round_number == 0 else f"round {round_number} of {self._rounds}: {what}"
        self._bar.reset(self._task, total=None, description=text)

    def share(self, done: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, total=1.0, completed=done)

    def line(self, line: Json) -> None:
        """Add a row."""
        self._left.ended(*_number_and_seconds(line))
        self._rows.append(cells(line, self._rounds, self._budget))

    def _picture(self) -> Group:
        self._bar.update(self._task, left=_of_run(self._left))
        return Group(table(self._rows), self._bar)


def make_show(rounds: int, budget: float | None, *, quiet: bool = False) -> Show:
    """Return what suits stderr."""
    if quiet:
        return SilentShow()
    console = Console(stderr=True)
    return LiveShow(console, rounds, budget) if console.is_terminal else PlainShow(rounds, budget)


def _of_run(left: TimeLeft) -> str:
    """Write how much of the run is done and what is left, where a round has told how long one takes."""
    if left.seconds is None or left.share >= 1:
        return ""
    return f" ({100 * left.share:.0f} % of the run, about {number_text.duration(left.seconds)} left)"


def _number_and_seconds(line: Json) -> tuple[int, float]:
    seconds = cast(Mapping[str, float], line["seconds"])
    return cast(int, line["round"]), sum(seconds.values())


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
