"""What a person is told while silos encrypt."""

from fedcollm_secure.assemble.narrator import Narrator


def test_a_long_encryption_is_told_in_the_round_it_belongs_to() -> None:
    said: list[tuple[int, str]] = []
    narrator = Narrator(lambda number, text: said.append((number, text)))

    narrator(3, "silos train")
    narrator.encrypting(8, 385)

    assert said == [(3, "silos train"), (3, "a silo encrypts its update: 8 of 385 ciphertexts")]


def test_a_short_one_is_not() -> None:
    said: list[tuple[int, str]] = []

    Narrator(lambda number, text: said.append((number, text))).encrypting(2, 2)

    assert said == []
