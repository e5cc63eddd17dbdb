"""A classification's labels: known are those of the public data, and a silo's are compared with them as configured.

    cell ─▶ `map` ─▶ number as number ─▶ known? ─▶ else by what `normalise` lets differ ─▶ label | nothing

A text that fits none is a silo's own, and never shown: it is described, with public labels that are near to it.
"""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fedcollm_secure.config.data import Labels
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.row import Row, name

MOST_SHOWN = 5
_FOLDS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "blanks": ("blanks around it or doubled inside", lambda text: " ".join(text.split())),
    "unicode": ("Unicode's form", lambda text: unicodedata.normalize("NFKC", text)),
    "case": ("the case of its letters", str.casefold),
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """The possible answers, in order, and how a text finds its own."""

    names: tuple[str, ...]
    settings: Labels
    _folded: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def find(self, row: Row, column: str) -> str | None:
        """Return the label of a row, None where it is not known. Raises: ConfigError: the cell is empty or no text."""
        text = self._mapped(row.text(column))
        return text if text in self.names else self._folded.get(_fold(text, self.settings.normalise or ()))

    def _mapped(self, text: str) -> str:
        return name((self.settings.map or {}).get(text, text))

    def describe(self, row: Row, column: str) -> str:
        """Say of a text that is not known what can be said without showing it."""
        text = self._mapped(row.text(column))
        for chosen in (("blanks",), ("case",), ("unicode",), tuple(_FOLDS)):
            same = [known for known in self.names if _fold(known, chosen) == _fold(text, chosen)]
            if same:
                what = " and ".join(_FOLDS[each][0] for each in chosen if _differs(text, same[0], each))
                return f"it differs only in {what}; known: {same[0]!r}"
        near = difflib.get_close_matches(text, self.names, MOST_SHOWN, 0.75)
        return f"a text of {len(text)} characters" + (f"; near: {', '.join(map(repr, near))}" if near else "")

    def is_alike(self, row: Row, column: str) -> bool:
        """Say whether an unknown text differs from a known label only in what `normalise` could mend."""
        text = _fold(self._mapped(row.text(column)), tuple(_FOLDS))
        return any(_fold(known, tuple(_FOLDS)) == text for known in self.names)


def known_labels(settings: Labels, rows: Sequence[Row], column: str, where: str) -> Known:
    """Return the labels of the public rows, each in its most usual spelling.

    Raises:
        ConfigError: fewer than two; or two that differ in blanks, case or Unicode form alone.
    """
    chosen, mapped = settings.normalise or (), settings.map or {}
    found = Counter(name(mapped.get(text, text)) for text in (row.text(column) for row in rows))
    folded: dict[str, str] = {}
    for text, _ in sorted(found.items(), key=lambda each: (-each[1], each[0])):
        folded.setdefault(_fold(text, chosen), text)
    names = tuple(sorted(folded.values()))
    if len(names) < 2:
        raise ConfigError(where, f"expected two labels or more in column {column!r}, got {len(names)}")
    _check_alike(settings, names, column, where)
    _check_map(settings, names)
    return Known(names=names, settings=settings, _folded=folded if chosen else {})


def known_by_name(settings: Labels, names: Sequence[str]) -> Known:
    """Return labels that somebody else found by `known_labels`, as this party finds its own by."""
    chosen = settings.normalise or ()
    folded = {_fold(text, chosen): text for text in names}
    return Known(names=tuple(names), settings=settings, _folded=folded if chosen else {})


def _check_alike(settings: Labels, names: tuple[str, ...], column: str, where: str) -> None:
    if settings.alike == "allow":
        return
    first: dict[str, str] = {}
    for text in names:
        other = first.setdefault(_fold(text, tuple(_FOLDS)), text)
        if other != text:
            what = [key for key in _FOLDS if _differs(other, text, key)]
            raise ConfigError(
                where,
                f"column {column!r}: the labels {other!r} and {text!r} differ only in "
                f"{' and '.join(_FOLDS[key][0] for key in what)}; say data.labels: {{normalise: [{', '.join(what)}]}} "
                "to make them one, or {alike: allow} where they are two",
            )


def _check_map(settings: Labels, names: tuple[str, ...]) -> None:
    for text, label in (settings.map or {}).items():
        if name(label) not in names:
            near = difflib.get_close_matches(label, names, MOST_SHOWN)
            raise ConfigError(
                f"data.labels.map.{text}",
                f"expected a label of the public data, got {label!r}{_near(near)}",
            )


def _near(near: Sequence[str]) -> str:
    return f"; near: {', '.join(map(repr, near))}" if near else ""


def _fold(text: str, chosen: Sequence[str]) -> str:
    for key, (_, fold) in _FOLDS.items():
        if key in chosen:
            text = fold(text)
    return unicodedata.normalize("NFKC", text) if "unicode" in chosen else text


def _differs(one: str, other: str, key: str) -> bool:
    """Say whether two texts that are alike when all is folded differ in this."""
    rest = tuple(each for each in _FOLDS if each != key)
    return _fold(one, rest) != _fold(other, rest)
