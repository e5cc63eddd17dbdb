"""Each second counts once, whatever runs inside what."""

from itertools import count

from fedcollm_secure.federation.stopwatch import Stopwatch


def test_an_inner_phase_is_taken_out_of_the_outer_one() -> None:
    ticks = count()
    watch = Stopwatch(clock=lambda: float(next(ticks)))
    with watch.measure("aggregate"), watch.measure("protect"), watch.measure("train"):
        pass
    seconds = watch.lap()

    assert (seconds["train"], seconds["protect"], seconds["aggregate"]) == (1.0, 2.0, 2.0)
    assert sum(watch.lap().values()) == 0


def test_a_producers_time_is_counted_while_it_is_read() -> None:
    ticks = count()
    watch = Stopwatch(clock=lambda: float(next(ticks)))

    assert list(watch.measured("protect", iter([b"a", b"b"]))) == [b"a", b"b"]
    assert watch.lap()["protect"] == 3.0
