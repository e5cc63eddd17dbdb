"""Which silos a set of open sums gives away: against a search over all subsets, by another rank."""

import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.masking import exposure
from fedcollm_crypto.masking.exposure import Silos, exposes

PRIME = 2_147_483_647
"""A rank modulo this prime is the rank over the rationals here: no minor of four rows of zeros and ones exceeds 3."""


def rank(rows: Iterable[Iterable[int]]) -> int:
    """Gauss, modulo a prime: no fractions."""
    left, found = [[value % PRIME for value in row] for row in rows], 0
    for column in range(len(left[0]) if left else 0):
        pivot = next((i for i in range(found, len(left)) if left[i][column]), None)
        if pivot is None:
            continue
        left[found], left[pivot] = left[pivot], left[found]
        inverse = pow(left[found][column], -1, PRIME)
        for i in range(len(left)):
            if i != found and left[i][column]:
                factor = left[i][column] * inverse % PRIME
                left[i] = [(a - factor * b) % PRIME for a, b in zip(left[i], left[found], strict=True)]
        found += 1
    return found


def told_of(sets: Iterable[Silos], few: Silos) -> int:
    """Return how many independent statements about these few silos alone follow from the sums.

    By the rank-nullity theorem: a combination is about the few alone where its other columns vanish, so their number is
    the rank of all columns less the rank of the other columns.
    """
    rows = list(sets)
    everybody = sorted(frozenset[str]().union(*rows, few))
    others = [party for party in everybody if party not in few]
    return rank([[party in row for party in everybody] for row in rows]) - rank(
        [[party in row for party in others] for row in rows]
    )


def by_search(earlier: Iterable[Silos], new: Silos, fewest: int, in_league: Silos = frozenset()) -> bool:
    """Say it by looking at every set of silos.

    A new sum takes part where it adds a statement about some few; one that adds nothing at all, since it follows from
    the others, where there is any statement.
    """
    before, now = list(earlier), [*earlier, new]
    everybody = frozenset[str]().union(*now)
    repeats = told_of(before, everybody) == told_of(now, everybody)
    for size in range(1, min(fewest, len(everybody) + 1)):
        for few in map(frozenset, itertools.combinations(sorted(everybody), size)):
            known = few & in_league
            if told_of(now, few) > told_of(now, known) and (
                repeats or told_of(now, few) - told_of(now, known) > told_of(before, few) - told_of(before, known)
            ):
                return True
    return False


def sets_over(n: int) -> list[Silos]:
    names = "abcdef"[:n]
    return [frozenset(c) for size in range(1, n + 1) for c in itertools.combinations(names, size)]


def families(n: int, sums: int) -> Iterator[tuple[frozenset[Silos], Silos]]:
    """Yield every family of so many sums over n silos, with each of its members as the new one."""
    for family in itertools.combinations(sets_over(n), sums):
        for new in family:
            yield frozenset(family) - {new}, new


@pytest.mark.parametrize("sums", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_family_of_up_to_three_sums_over_up_to_four_silos(n: int, sums: int):
    for earlier, new in families(n, sums):
        for fewest in range(2, n + 1):
            assert exposes(earlier, new, fewest) == by_search(earlier, new, fewest), (earlier, new, fewest)


def test_every_ninth_family_of_four_sums_over_four_silos():
    for earlier, new in itertools.islice(families(4, 4), 0, None, 9):
        assert exposes(earlier, new, 3) == by_search(earlier, new, 3), (earlier, new)
        assert exposes(earlier, new, 2) == by_search(earlier, new, 2), (earlier, new)


SETS = st.sampled_from(sets_over(6))


@settings(max_examples=1000, deadline=None)
@given(earlier=st.frozensets(SETS, max_size=3), new=SETS, fewest=st.integers(1, 6))
def test_families_of_up_to_four_sums_over_six_silos(earlier: frozenset[Silos], new: Silos, fewest: int):
    assert exposes(earlier, new, fewest) == by_search(earlier, new, fewest)


@settings(max_examples=500, deadline=None)
@given(
    earlier=st.frozensets(SETS, max_size=3),
    new=SETS,
    fewest=st.integers(2, 4),
    in_league=st.frozensets(st.sampled_from("abcdef"), max_size=2),
)
def test_what_is_told_of_silos_in_league_alone_does_not_count(earlier, new, fewest: int, in_league: Silos):
    assert exposes(earlier, new, fewest, in_league) == by_search(earlier, new, fewest, in_league)


def test_the_two_ways_find_both_answers_often():
    """A search that always says one thing would agree with a function that does, too."""
    answers = [by_search(earlier, new, 2) for earlier, new in itertools.islice(families(6, 3), 0, None, 101)]

    assert len(answers) > 500
    assert 0.1 < sum(answers) / len(answers) < 0.9


# --- what the words mean ---


def silos(text: str) -> Silos:
    return frozenset(text)


def family(*texts: str) -> frozenset[Silos]:
    return frozenset(map(frozenset, texts))


@pytest.mark.parametrize(
    ("earlier", "new", "fewest", "exposed"),
    [
        ([], "abcdef", 3, False),
        ([], "ab", 3, True),  # the sum itself is over two
        ([], "ab", 2, False),
        (["abcdef"], "abcde", 3, True),  # f
        (["abcdef"], "abcd", 3, True),  # e + f
        (["abcdef"], "abcd", 2, False),
        (["abcdef"], "abc", 3, False),  # d + e + f
        (["abcdef", "abcd"], "abcdef", 3, True),  # a second look at e + f
        (["abcdef", "abc"], "abcdef", 3, False),
        (["abcdef", "abcd", "abef"], "cdef", 3, True),
        (["abcdef", "ab"], "cdef", 3, True),  # cdef follows from the others, of which one tells of a + b
        (["abcdef", "ab"], "abcdefghi", 3, False),  # a + b is told already, g + h + i is new
        (["abcdef", "abcghi"], "defghi", 4, True),  # half of (abcdef + abcghi − defghi) is a + b + c
        (["abcdef", "abcghi"], "defghi", 3, False),
        (["abcd", "ade", "bde"], "abc", 2, True),  # no two of these differ by one
    ],
)
def test_examples(earlier: list[str], new: str, fewest: int, exposed: bool):
    assert exposes(family(*earlier), silos(new), fewest) is exposed
    assert by_search(family(*earlier), silos(new), fewest) is exposed


def test_pairs_give_one_silo_exactly():
    """A19: from sums without ab, bc and ac follow a, b and c, and no two of those sums differ by one silo."""
    everybody, pairs = "abcdefghij", ("ab", "bc", "ac")
    sums = family(everybody, *("".join(sorted(set(everybody) - set(pair))) for pair in pairs[:2]))

    assert exposes(sums, silos(everybody) - silos("ac"), 2)
    assert not exposes(family(everybody), silos(everybody) - silos("ab"), 2)


def test_a_convicted_silo_is_no_exposure_and_whoever_stands_beside_it_is():
    assert exposes(family("abcdef"), silos("abcde"), 3)
    assert not exposes(family("abcdef"), silos("abcde"), 3, silos("f"))
    assert exposes(family("abcdef"), silos("abcd"), 3, silos("f"))  # e + f, of which f is known


# --- where the search is cut ---


def test_a_search_that_is_cut_gives_the_careful_answer(monkeypatch: pytest.MonkeyPatch):
    earlier, new = family("abcd", "abef"), silos("acef")
    exposes.cache_clear()
    assert not exposes(earlier, new, 2)

    exposes.cache_clear()
    monkeypatch.setattr(exposure, "MAX_STEPS", 3)

    assert exposes(earlier, new, 2)
    exposes.cache_clear()


def test_a_hundred_rounds_of_a_hundred_silos_are_within_the_search():
    """Ten silos come and go; the answer is the exact one: no unit vector, since they always leave in threes."""
    everybody = [f"silo-{i:03}" for i in range(100)]
    rounds = [frozenset(everybody) - frozenset(everybody[3 * i : 3 * i + 3]) for i in range(10)]
    seen: set[Silos] = {frozenset(everybody)}

    for one in rounds * 10:
        assert not exposes(frozenset(seen), one, 3)
        seen.add(one)


def test_more_sets_than_can_be_looked_at_give_the_careful_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [frozenset({f"{name}{number}" for name in "abcd"}) for number in range(6)]  # none has a silo in common

    assert not exposes(frozenset(groups[:4]), groups[4], 3)
    monkeypatch.setattr(exposure, "MAX_SETS", 4)
    assert exposes(frozenset(groups[1:5]), groups[5], 3)
