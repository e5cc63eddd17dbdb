"""Names of parties that are safe as one part of a path, on any file system, and that two readers cannot confuse.

A party's name stands in signed messages, and its ledger, keys and journals lie in a folder of that name: `../../x` must
be nobody. Blanks inside and letters of any script are fine.
"""

import unicodedata

MAX_NAME_BYTES = 64
"""Longest name in UTF-8; with %XX for each byte it still fits a file's name and a cosigner's."""

_SEPARATORS = frozenset('/\\:*?"<>|')
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"]
)


def check_name(name: str) -> None:
    """Raise ValueError unless the name may be a party's, and a folder's: see the sentence for each rule."""
    if reason := _fault(name):
        raise ValueError(f"the name {name[:MAX_NAME_BYTES]!a} {reason}; choose another, such as clinic-2 or Köln Süd")


def is_name(name: str) -> bool:
    """Say whether `check_name` passes."""
    return not _fault(name)


def _fault(name: str) -> str:
    if not 0 < len(name.encode(errors="replace")) <= MAX_NAME_BYTES:
        return f"must have 1 to {MAX_NAME_BYTES} bytes in UTF-8"
    if not name.isprintable():  # control and format characters, lone surrogates, blanks other than the plain one
        return "holds a character that cannot be printed, or a blank of another kind"
    if _SEPARATORS & set(name):
        return "holds a character that parts a path or that Windows forbids"
    if name[0] in ".- " or name[-1] in ". ":
        return "begins with a dot, a dash or a blank, or ends with a dot or a blank"
    if name.split(".")[0].rstrip().casefold() in _DEVICES:
        return "is that of a device on Windows"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode's form NFC, so that another name would look the same"
    return ""


def check_distinct(names: tuple[str, ...]) -> None:
    """Raise ValueError where two names differ in nothing but the case of letters: one folder on some systems."""
    if len({name.casefold() for name in names}) != len(names):
        raise ValueError("two names differ in nothing but the case of their letters; choose others")
