"""From files to holdings: what is empty, unknown, double or nobody's is refused or counted, never guessed."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedcollm_secure.config.data import (
    ByColumn,
    ByLabel,
    Classification,
    Count,
    Data,
    Files,
    Iid,
    Labels,
    MultipleChoice,
    Share,
)
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.errors import ConfigError, DataError
from fedcollm_secure.learning.data import gather
from fedcollm_secure.learning.data.overlap import duplicates, require_test_apart

TASK = Classification(prompt="{text}", label="topic")
CANARY = "canaryzwxq"
Rows = Sequence[dict[str, object]]


def written(path: Path, rows: Rows) -> FileSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileSource(path=str(path))


def rows(name: str, count: int, **changes: object) -> list[dict[str, object]]:
    return [{"text": f"{name} {n}", "topic": "ab"[n % 2], "site": n % 3, **changes} for n in range(count)]


def data(tmp_path: Path, files: dict[str, Rows], **settings: object) -> Data:
    """Return public rows and a file for each silo."""
    made: dict[str, object] = {
        "source": written(tmp_path / "public.jsonl", rows("public", 20)),
        "task": TASK,
        "silos": Files(paths={name: written(tmp_path / f"{name}.jsonl", each) for name, each in files.items()}),
        "test": Count(count=5),
        "auxiliary": Share(share=0.4),
        **settings,
    }
    return Data(**made)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["text", "topic"])
@pytest.mark.parametrize("empty", [None, "", " ", float("nan"), "NaN"])
def test_an_empty_cell_is_refused_with_its_row_or_left_out_and_counted(
    tmp_path: Path, column: str, empty: object
) -> None:
    north = rows("north", 6)
    north[3] = {**north[3], column: empty}
    with pytest.raises(
        ConfigError, match=rf"data\.silos\.north: .*north\.jsonl: column '{column}' is empty in row 4\. Fill"
    ):
        gather(data(tmp_path, {"north": north}), seed=1)

    holdings = gather(data(tmp_path, {"north": north}, missing="skip"), seed=1)
    assert [record.prompt for record in holdings.silos["north"]] == [f"north {n}" for n in (0, 1, 2, 4, 5)]
    assert holdings.reading.left_out == {"data.silos.north": 1}


def test_many_empty_cells_are_told_by_their_first_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"column 'topic' is empty in 9 rows: 1, 2, 3, 4, 5, …"):
        gather(data(tmp_path, {"north": rows("north", 9, topic=None)}), seed=1)
    with pytest.raises(ConfigError, match="no record has all of text, topic"):
        gather(data(tmp_path, {"north": rows("north", 9, topic=None)}, missing="skip"), seed=1)


def test_an_empty_cell_of_a_column_that_nobody_reads_is_no_fault(tmp_path: Path) -> None:
    assert len(gather(data(tmp_path, {"north": rows("north", 4, site=None)}), seed=1).silos["north"]) == 4


def test_a_blank_choice_is_refused_with_its_column_and_row(tmp_path: Path) -> None:
    asked = [{"q": f"{n}?", "a": "x", "b": "y", "right": 0} for n in range(12)]
    asked[7]["b"] = " "
    task = MultipleChoice(prompt="{q}", choices=("a", "b"), answer="right")
    with pytest.raises(ConfigError, match=r"data\.source: .*column 'b' is empty in row 8"):
        gather(data(tmp_path, {}, source=written(tmp_path / "q.jsonl", asked), task=task, silos=Iid(count=2)), seed=1)


def test_a_column_that_is_not_there_is_told_with_near_names_alone(tmp_path: Path) -> None:
    near = [{"Text ": "x", "topic": "a", CANARY: 1}]
    with pytest.raises(DataError, match=r"no column 'text' among its 3; near: 'Text '") as caught:
        gather(data(tmp_path, {"north": near}), seed=1)
    assert CANARY not in str(caught.value)
    with pytest.raises(DataError, match=r"no column 'text' among its 2; has the file a header"):
        gather(data(tmp_path, {"north": [{CANARY: 1, "topic": "a"}]}), seed=1)


def test_a_few_unknown_labels_are_left_out_and_counted_or_refused(tmp_path: Path) -> None:
    north = [*rows("north", 6), {"text": "odd", "topic": CANARY}]
    holdings = gather(data(tmp_path, {"north": north}), seed=1)

    assert len(holdings.silos["north"]) == 6
    assert (holdings.reading.strangers["north"].count, holdings.reading.strangers["north"].rows) == (1, "row 7")
    with pytest.raises(
        DataError, match=r"row 7: column 'topic': not a label of the public data: a text of 10"
    ) as caught:
        gather(data(tmp_path, {"north": north}, labels=Labels(unknown="refuse")), seed=1)
    assert CANARY not in str(caught.value)
    assert caught.value.private == (CANARY,)


def test_labels_of_which_most_are_unknown_are_refused_whatever_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"So in 6 rows: 1, 2, 3, 4, 5, …, of 6"):
        gather(data(tmp_path, {"north": rows("north", 6, topic="c")}), seed=1)


def test_a_label_that_differs_in_form_alone_is_refused_until_it_is_mended(tmp_path: Path) -> None:
    north = [*rows("north", 6), {"text": "loud", "topic": "A "}]
    with pytest.raises(DataError, match=r"it differs only in blanks .* and the case .*known: 'a'.*normalise"):
        gather(data(tmp_path, {"north": north}), seed=1)

    holdings = gather(data(tmp_path, {"north": north}, labels=Labels(normalise=("blanks", "case"))), seed=1)
    assert holdings.silos["north"][-1].answer == " a"


def test_labels_of_the_whole_public_file_are_known(tmp_path: Path) -> None:
    public = [*rows("public", 20), {"text": "rare", "topic": "rare", "site": 0}]
    north = [*rows("north", 4), {"text": "rare too", "topic": "rare"}]
    for seed in range(5):  # wherever the one public record of that label falls
        source = written(tmp_path / "p.jsonl", public)
        assert len(gather(data(tmp_path, {"north": north}, source=source), seed=seed).silos["north"]) == 5


def test_what_nobody_uses_is_counted(tmp_path: Path) -> None:
    reading = gather(data(tmp_path, {"north": rows("north", 4)}), seed=1).reading

    assert (reading.unused, reading.total) == (9, 20)  # 20 less 5 for the test, less 40 % of the 15 that are left


def test_values_of_groups_are_names_and_idle_ones_are_told(tmp_path: Path) -> None:
    groups = {"x": ("0", "1"), "y": ("2", "7")}
    by_site = gather(data(tmp_path, {}, silos=ByColumn(column="site", groups=groups)), seed=1)
    by_label = gather(data(tmp_path, {}, silos=ByLabel(groups={"x": ("a",), "y": ("b", "c")})), seed=1)

    assert by_site.reading.idle_values == ("7",)
    assert by_label.reading.idle_values == ("c",)


def test_a_person_may_be_a_number_written_in_two_ways(tmp_path: Path) -> None:
    north = [{"text": "x", "topic": "a", "pid": 7}, {"text": "y", "topic": "b", "pid": 7.0}]
    silo = gather(data(tmp_path, {"north": north}), seed=1, subject="pid").silos["north"]

    assert [record.subject for record in silo] == ["7", "7"]


def test_test_records_in_a_silo_are_refused_with_their_places(tmp_path: Path) -> None:
    holdings = gather(data(tmp_path, {"north": rows("public", 20), "south": rows("south", 3)}), seed=1)
    with pytest.raises(
        ConfigError, match=r"lie in silos too \(north 5\), the first: .*public\.jsonl row \d+, .*overlap"
    ):
        require_test_apart(holdings)
    require_test_apart(gather(data(tmp_path, {"north": rows("north", 9)}), seed=1))


def test_doubles_are_counted_inside_a_silo_and_across(tmp_path: Path) -> None:
    silos = {"north": [*rows("same", 2), *rows("same", 3)], "south": rows("same", 2), "west": rows("west", 2)}
    found = duplicates(gather(data(tmp_path, silos), seed=1))

    assert (found.inside, found.across) == ({"north": 2, "south": 0, "west": 0}, 2)
    assert (found.test_in_silos, found.test_in_auxiliary) == ({"north": 0, "south": 0, "west": 0}, 0)
