"""What a person is told while a round goes on: who is at work, and how much of it is done."""

from collections.abc import Callable

import pytest

from fedcollm_secure.assemble.narrator import Narrator

Said = list[tuple[int, str]]


@pytest.fixture
def told() -> tuple[Narrator, Said, list[float]]:
    """Return a narrator of two silos, what it says, and the shares that it tells."""
    said, shares = Said(), list[float]()
    narrator = Narrator(lambda number, text: said.append((number, text)), shares.append, silos=2)
    narrator.expects({"train": 4, "distill": 10, "evaluate": 100})
    return narrator, said, shares


Told = tuple[Narrator, Said, list[float]]
NOTHING: Callable[[bytes], tuple[bytes, ...]] = lambda _: ()  # noqa: E731 - a handler that answers nothing


def test_a_long_encryption_is_told_once_in_the_round_it_belongs_to_with_its_share(told: Told) -> None:
    narrator, said, shares = told
    narrator(3, "silos train")
    narrator.serves("north", NOTHING)(b"")
    for done in (8, 77, 385):
        narrator.encrypting(done, 385)

    assert said == [(3, "silos train"), (3, "north encrypts its update, 385 ciphertexts")]
    assert shares == [8 / 385, 0.2, 1.0]


def test_a_short_one_is_not(told: Told) -> None:
    narrator, said, shares = told
    narrator.encrypting(2, 2)

    assert (said, shares) == ([], [])


def test_each_silo_is_named_as_it_trains_with_the_share_of_its_steps(told: Told) -> None:
    narrator, said, shares = told
    narrator(1, "silos train and protect their updates")
    for name in ("north", "south"):
        narrator.serves(name, NOTHING)(b"")
        narrator.enters("train")
        for _ in range(4):
            narrator.stepped()
        narrator.leaves("train")
    for name in ("north", "south"):
        narrator.serves(name, NOTHING)(b"")

    assert [text for _, text in said[1:]] == [
        "north trains (1 of 2)",
        "north protects its update",
        "south trains (2 of 2)",
        "south protects its update",
        "adding up: the silos help to open the sum, and it alone",
    ]
    assert shares == [0.25, 0.5, 0.75, 1.0] * 2


def test_a_step_outside_of_training_and_a_pass_outside_of_scoring_count_for_nothing(told: Told) -> None:
    narrator, _, shares = told
    narrator.stepped()
    narrator.enters("aggregate")
    narrator.stepped()
    narrator.enters("distill")
    narrator.passed(8)
    narrator.leaves("distill")
    narrator.enters("evaluate")
    narrator.stepped()

    assert shares == []


def test_the_second_scoring_knows_how_much_the_first_one_read(told: Told) -> None:
    narrator, _, shares = told
    for _ in range(2):
        narrator.enters("evaluate")
        narrator.passed(20)
        narrator.passed(20)
        narrator.leaves("evaluate")

    assert shares == [0.2, 0.4, 0.5, 1.0]
