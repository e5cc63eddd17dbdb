"""Piped output gets a line a phase, a terminal a bar with the time left, `--quiet` nothing; nobody waits in silence."""

import io

import pytest
from rich.console import Console

from fedcollm_secure.operations.live_progress import LiveShow, PlainShow, SilentShow, make_show
from fedcollm_secure.operations.time_left import TimeLeft


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def round_line(number: int, seconds: float = 10.0) -> dict[str, object]:
    return {
        "round": number,
        "slm": {"accuracy": 0.5},
        "llm": {"accuracy": 0.75},
        "seconds": {"train": seconds, "evaluate": 0.0},
        "bytes": {"up": 2000, "down": 0},
        "silos": {},
    }


def test_a_pipe_gets_a_line_a_phase_and_a_line_a_round() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainShow(2, None, stream=stream, clock=clock) as show:
        show.phase(0, "loading the models")
        show.line(round_line(0))
        show.phase(1, "north trains (1 of 4)")
        show.share(0.5)  # a moment later: not worth a line

    assert stream.getvalue().splitlines() == [
        "loading the models",
        "round 0/2  SLM 50.0 %  LLM 75.0 %  up 2.0 kB  down –  seconds 10.0",
        "round 1/2: north trains (1 of 4)",
    ]


def test_a_long_phase_gets_a_line_with_its_share_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    show = PlainShow(2, None, stream=stream, clock=clock)
    show.phase(1, "north trains")
    for second in range(25):
        clock.now = float(second)
        show.share(second / 25)

    assert stream.getvalue().splitlines()[1:] == ["round 1/2: north trains: 40 %", "round 1/2: north trains: 80 %"]


def test_once_a_round_is_over_each_line_says_what_is_left() -> None:
    stream, clock = io.StringIO(), Clock()
    show = PlainShow(4, None, stream=stream, clock=clock)
    show.line(round_line(1, seconds=60.0))
    clock.now = 30.0
    show.phase(2, "north trains")

    assert stream.getvalue().splitlines()[-1].endswith("(38 % of the run, about 2 min 30 s left)")


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    show = PlainShow(2, None, stream=Gone())
    show.phase(1, "north trains")
    show.phase(1, "south trains")


def test_a_terminal_gets_a_table_a_bar_and_the_time_left() -> None:
    stream = io.StringIO()
    with LiveShow(Console(file=stream, force_terminal=True, width=120), 2, None) as show:
        show.phase(0, "loading the models")
        show.line(round_line(1, seconds=60.0))
        show.phase(2, "north trains (1 of 4)")
        show.share(0.5)
        show._live.refresh()
        drawn = stream.getvalue()

    assert "round 2 of 2: north trains (1 of 4)" in drawn
    assert "50%" in drawn
    assert "of the run, about" in drawn
    assert "75.0 %" in stream.getvalue().rpartition("FedCoLLM")[2]  # the table stays when the bar goes


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with make_show(2, None, quiet=True) as show:
        show.phase(1, "north trains")
        show.share(0.5)
        show.line(round_line(1))

    assert isinstance(show, SilentShow)
    assert capsys.readouterr() == ("", "")


def test_what_is_left_is_a_mean_round_times_the_rounds_left_and_never_negative() -> None:
    clock = Clock()
    left = TimeLeft(3, clock)
    assert (left.share, left.seconds) == (0.0, None)
    left.ended(0, 100.0)  # scoring alone is no round
    assert left.seconds is None

    left.ended(1, 20.0)
    clock.now = 10.0
    assert left.seconds == pytest.approx(30.0)
    clock.now = 1000.0
    assert left.seconds == pytest.approx(21.0)  # a round that takes long is never over before it says so
    left.ended(3, 20.0)
    assert (left.share, left.seconds) == (1.0, 0.0)
