"""Labels of a silo beside those of the public data: mended as configured, else described and not shown."""

import pytest

from fedcollm_secure.config.data import Labels
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.labels import Known, known_labels
from fedcollm_secure.learning.data.row import Row

CANARY = "canaryzwxq"


def rows(*labels: str) -> list[Row]:
    return [Row(cells={"label": text}, file="f.csv", number=n) for n, text in enumerate(labels, 1)]


def known(*labels: str, **settings: object) -> Known:
    return known_labels(Labels(**settings), rows(*labels), "label", "test and auxiliary data")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        (" Zürich ", "blanks", "blanks around it"),
        ("zürich", "case", "the case of its letters"),
        ("Zu\u0308rich", "unicode", "Unicode's form"),
        ("Ｚürich", "unicode", "Unicode's form"),
    ],
)
def test_a_label_that_differs_only_in_form_is_told_and_mended(text: str, key: str, what: str) -> None:
    (row,) = rows(text)
    strict = known("Zürich", "Bern")

    assert strict.find(row, "label") is None
    assert strict.describe(row, "label").startswith(f"it differs only in {what}")
    assert strict.describe(row, "label").endswith("known: 'Zürich'")
    assert strict.is_alike(row, "label")
    assert known("Zürich", "Bern", normalise=(key,)).find(row, "label") == "Zürich"


def test_a_label_that_differs_in_two_ways_is_told_both() -> None:
    (row,) = rows(" CARDIOLOGY")

    assert "blanks around it or doubled inside and the case of its letters" in known("cardiology", "x").describe(
        row, "label"
    )


def test_a_stranger_is_described_by_length_and_public_names_near_it() -> None:
    (near, far) = rows("cardiolgy", CANARY)
    found = known("cardiology", "trauma")

    assert found.describe(near, "label") == "a text of 9 characters; near: 'cardiology'"
    assert found.describe(far, "label") == f"a text of {len(CANARY)} characters"
    assert not found.is_alike(near, "label")


def test_a_map_renames_and_must_lead_to_a_label() -> None:
    (row,) = rows("Kardiologie")
    assert known("cardiology", "trauma", map={"Kardiologie": "cardiology"}).find(row, "label") == "cardiology"

    with pytest.raises(ConfigError, match=r"data\.labels\.map\.Kardiologie: .*got 'cardiolog'; near: 'cardiology'"):
        known("cardiology", "trauma", map={"Kardiologie": "cardiolog"})


def test_whole_numbers_are_one_label_however_they_are_written() -> None:
    (row,) = rows("10.0")

    assert known("10", "20").find(row, "label") == "10"
    assert known("10.0", "20").names == ("10", "20")
    assert known("1.5", "007").names == ("007", "1.5")


def test_public_labels_that_differ_only_in_form_are_refused_unless_mended_or_meant() -> None:
    with pytest.raises(ConfigError, match=r"'Eye' and 'eye' differ only in the case .*normalise: \[case\]"):
        known("eye", "Eye", "skin")

    assert known("eye", "Eye", "eye", "skin", normalise=("case",)).names == ("eye", "skin")  # the usual spelling
    assert known("eye", "Eye", "skin", alike="allow").names == ("Eye", "eye", "skin")


def test_one_label_is_no_classification() -> None:
    with pytest.raises(ConfigError, match="expected two labels or more in column 'label', got 1"):
        known("a", "a")
