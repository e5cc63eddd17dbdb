"""A job's test records: a digest to know them by, and which of them a silo's record nearly gives away.

A record is near another where their words differ by one word at most.
Word order, case and punctuation do not count. One word may be left out of either text, so that `renal cyst, acquired`
is near `acquired cyst` and near `acquired liver cyst`. Each text's words make one number that does not hang on their
order, and one more for each word left out; two texts are near where they have a number in common.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fedcollm_secure.assemble import Prepared
from fedcollm_secure.learning.data.tasks import Record

_MODULUS = 1 << 64


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The digest of the test records, and for each whether it is apart: no silo has a record that is near it."""

    digest: str
    apart: tuple[bool, ...] = field(repr=False)

    @classmethod
    def of(cls, prepared: Prepared) -> "EvaluationSet":
        """Read the test set of a job."""
        holdings = prepared.holdings
        own = (record.prompt for name in prepared.silos for record in holdings.silos[name])
        near = near_duplicates([record.prompt for record in holdings.test], own)
        return cls(digest=records_digest(holdings.test), apart=tuple(not each for each in near))


def records_digest(records: Sequence[Record]) -> str:
    """Return what test records are known by: a digest of what they ask, and of the answers."""
    told = [(record.prompt, record.answers, record.gold) for record in records]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def near_duplicates(texts: Sequence[str], of: Iterable[str]) -> tuple[bool, ...]:
    """Return for each text whether its words are those of one of the others, but for one word of each at most."""
    there = {number for other in of for number in _numbers(other)}
    return tuple(any(number in there for number in _numbers(text)) for text in texts)


def _numbers(text: str) -> Iterator[int]:
    words = Counter(re.findall(r"\w+", text.casefold()))
    whole = sum(_number(word) * count for word, count in words.items()) % _MODULUS
    yield whole
    if words.total() > 1:  # two single words have nothing in common
        yield from ((whole - _number(word)) % _MODULUS for word in words)


def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
