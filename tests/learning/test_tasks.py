"""What is asked of a row: prompts, choices in each form that people have, and the right one among them."""

import pytest

from fedcollm_secure.config.data import Classification, FreeText, Labels, MultipleChoice, Task
from fedcollm_secure.errors import ConfigError, DataError
from fedcollm_secure.learning.data.labels import Known
from fedcollm_secure.learning.data.row import Row, cell_of
from fedcollm_secure.learning.data.tasks import Record, to_record

KNOWN = Known(names=("a", "b"), settings=Labels())
CANARY = "canaryzwxq"


def row(**values: object) -> Row:
    return Row(cells={name: cell_of(value) for name, value in values.items()}, file="f.csv", number=3, line=5)


def record(task: Task, **values: object) -> Record:
    found = to_record(task, row(**values), KNOWN)
    assert found is not None
    return found


def test_classification_offers_every_label_in_order() -> None:
    found = record(Classification(prompt="Q: {text}", label="topic"), text="t1", topic="b")

    assert (found.prompt, found.answers, found.answer) == ("Q: t1", (" a", " b"), " b")
    assert found.place == "f.csv row 3 (line 5)"


def test_a_label_that_is_not_known_makes_no_record() -> None:
    assert to_record(Classification(prompt="{text}", label="topic"), row(text="t", topic="c"), KNOWN) is None


def test_multiple_choice_takes_a_list_or_columns() -> None:
    values = {"q": "2+2", "c": ["3", "4"], "x": "3", "y": "4", "a": 1}
    listed = record(MultipleChoice(prompt="{q}", choices="c", answer="a"), **values)
    columns = record(MultipleChoice(prompt="{q}", choices=("x", "y"), answer="a"), **values)

    assert listed == columns
    assert listed.answer == " 4"


@pytest.mark.parametrize(
    ("labels", "answer"), [(["A", "B", "C"], "B"), (["1", "2", "3"], "2"), ([1, 2, 3], 2.0), (["0", "1", "2"], 1)]
)
def test_multiple_choice_takes_choices_with_labels_of_their_own(labels: list[object], answer: object) -> None:
    task = MultipleChoice(prompt="{question}", choices="choices", answer="answerKey")
    found = record(task, question="?", choices={"text": ["x", "y", "z"], "label": labels}, answerKey=answer)

    assert (found.answers, found.answer) == ((" x", " y", " z"), " y")


@pytest.mark.parametrize("answer", ["B", "b", 1, "1", 1.0, "1.0", " 1"])
def test_the_right_choice_is_named_by_index_or_letter(answer: object) -> None:
    assert record(MultipleChoice(prompt="{q}", choices="c", answer="a"), q="?", c=["x", "y"], a=answer).answer == " y"


@pytest.mark.parametrize("answer", ["C", "2", "-1", "x", "1.5", "²", CANARY])
def test_a_choice_that_is_not_there_is_refused_and_not_shown(answer: str) -> None:
    task = MultipleChoice(prompt="{q}", choices="c", answer="a")
    with pytest.raises(DataError, match=r"f\.csv row 3 .*index from 0 to 1, or a letter from A to B") as caught:
        record(task, q="?", c=["x", "y"], a=answer)

    assert caught.value.private == (answer,)
    assert CANARY not in str(caught.value)


def test_choices_whose_labels_do_not_name_the_answer_are_refused() -> None:
    task = MultipleChoice(prompt="{q}", choices="c", answer="a")
    with pytest.raises(DataError, match="expected one of its choices' own 2 labels"):
        record(task, q="?", c={"text": ["x", "y"], "label": ["A", "B"]}, a="C")
    for wrong in (
        {"text": ["x", "y"]},
        {"text": ["x", "y"], "label": ["A"]},
        {"text": ["x", "y"], "label": ["A", "A"]},
    ):
        with pytest.raises(ConfigError, match="a map with text and label"):
            record(task, q="?", c=wrong, a="A")


def test_free_text_has_one_answer() -> None:
    found = record(FreeText(prompt="{q}", answer="{a}."), q="hi", a="{q}")

    assert found.answers == (" {q}.",)  # a value is inserted as it is, never as a template


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("x", "expected a list of texts in column 'c', got a text of 1 characters; CSV has no lists"),
        (["x"], "two choices"),
    ],
)
def test_choices_that_are_none_are_told_with_their_row(choices: object, message: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.csv row 3 \(line 5\): .*" + message):
        record(MultipleChoice(prompt="{q}", choices="c", answer="a"), q="?", c=choices, a=0)


@pytest.mark.parametrize(
    "prompt", ["no column", "", "{label}", "{text} is {label}", "{text", "{}", "{text!r}", "{text:>9}"]
)
def test_a_prompt_that_says_nothing_or_the_answer_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"prompt: expected a column|which is the answer|template"):
        Classification(prompt=prompt, label="label")
    with pytest.raises(ValueError, match=r"prompt: expected a column|which is the answer|template"):
        MultipleChoice(prompt=prompt, choices="choices", answer="label")
    with pytest.raises(ValueError, match=r"prompt: expected a column|which is the answer|template"):
        FreeText(prompt=prompt, answer="{label}")


def test_one_answer_for_all_and_one_choice_are_refused() -> None:
    with pytest.raises(ValueError, match="one answer for all"):
        FreeText(prompt="{text}", answer="yes")
    for choices in (("a",), ("a", "a")):
        with pytest.raises(ValueError, match="two columns or more, each once"):
            MultipleChoice(prompt="{text}", choices=choices, answer="label")


def test_choices_may_stand_in_the_prompt() -> None:
    assert MultipleChoice(prompt="{q} {x} {y}", choices=("x", "y"), answer="a").columns == ("q", "x", "y", "a")
