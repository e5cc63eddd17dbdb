"""A party's name is one part of a path on every file system, and looks like no other's."""

import ntpath
import posixpath
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.names import MAX_NAME_BYTES, check_distinct, check_name
from fedcollm_crypto.roster import Member


@pytest.mark.parametrize(
    "name", ["silo-1", "Köln Süd", "ward 7", "Ωmega", "北京", "a.b", "St. Mary's", "x" * 64, "console", "com10"]
)
def test_blanks_inside_and_letters_of_any_script_are_fine(name: str) -> None:
    check_name(name)
    assert Member(id=name, role="silo", ed25519=b"\x01" * 32).id == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "1 to 64 bytes"),
        ("x" * 65, "1 to 64 bytes"),
        ("ä" * 33, "1 to 64 bytes"),
        ("..", "begins with a dot"),
        (".", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("-rf", "a dash"),
        (" a", "a blank"),
        ("a ", "ends with"),
        ("a.", "ends with"),
        ("../../x", "parts a path"),
        ("a/b", "parts a path"),
        ("a\\b", "parts a path"),
        ("c:x", "Windows forbids"),
        ("a*", "Windows forbids"),
        ("a\nb", "cannot be printed"),
        ("a\x00b", "cannot be printed"),
        ("a\x1b[31m", "cannot be printed"),
        ("a\u202eb", "cannot be printed"),
        ("a\u200bb", "cannot be printed"),
        ("a\u00a0b", "blank of another kind"),
        ("a\ud800", "cannot be printed"),
        ("CON", "device"),
        ("nul.txt", "device"),
        ("Lpt1", "device"),
        ("com¹", "device"),
        ("Ko\u0308ln", "NFC"),
        ("\u212b", "NFC"),
    ],
)
def test_a_name_that_is_more_than_a_name_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    with pytest.raises(ValueError, match=reason):
        Member(id=name, role="silo", ed25519=b"\x01" * 32)


@settings(max_examples=1000)
@given(st.text(st.characters() | st.sampled_from("./\\: -~"), max_size=12))
def test_whatever_is_allowed_stays_inside_its_folder(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    for path in (posixpath, ntpath):
        whole = path.normpath(path.join("run", "silos", name))
        assert path.dirname(whole) == path.join("run", "silos")
        assert path.basename(whole) == name
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert unicodedata.normalize("NFC", name) == name


def test_names_that_one_folder_would_serve_are_refused() -> None:
    check_distinct(("a", "b"))
    with pytest.raises(ValueError, match="case of their letters"):
        check_distinct(("Ward", "ward"))
