"""Settings of the data: where records come from, what is asked of them, and who holds which."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fedcollm_crypto.names import check_distinct, check_name
from fedcollm_secure.config import templates
from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import ONE_OF, Named, Setting, Several, Text, TextOrSeveral
from fedcollm_secure.config.source import FileSource, HubSource, Source


def _check_names(silos: Iterable[str]) -> None:
    """Refuse, as the roster would: what a silo keeps lies in a folder of its name."""
    names = tuple(silos)
    for name in names:
        check_name(name)
    check_distinct(names)


@dataclass(frozen=True, kw_only=True)
class Classification(Setting):
    """`prompt` is a template over the columns; the answer is the text in column `label`, one of those that occur."""

    tag: ClassVar[str] = "classification"

    prompt: Text
    label: Text

    def __post_init__(self) -> None:
        """Refuse a prompt that says nothing, or says the answer."""
        _check_prompt(self.prompt, {self.label})

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that this task reads."""
        return tuple(dict.fromkeys((*templates.columns(self.prompt), self.label)))


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Setting):
    """`choices` is a column with a list of texts, or several columns; `answer` a column with the right one's index.

    A column of {text: [...], label: [...]}, as in ARC, has labels of its own, one of which `answer` then names.
    """

    tag: ClassVar[str] = "multiple_choice"

    prompt: Text
    choices: TextOrSeveral
    answer: Text

    def __post_init__(self) -> None:
        """Refuse a prompt that says nothing, or says the answer."""
        _check_prompt(self.prompt, {self.answer})
        require(
            not isinstance(self.choices, tuple) or len(set(self.choices)) == len(self.choices) > 1,
            f"choices: expected two columns or more, each once, got {self.choices}",
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that this task reads."""
        choices = self.choices if isinstance(self.choices, tuple) else (self.choices,)
        return tuple(dict.fromkeys((*templates.columns(self.prompt), *choices, self.answer)))


@dataclass(frozen=True, kw_only=True)
class FreeText(Setting):
    """`prompt` and `answer` are templates over the columns."""

    tag: ClassVar[str] = "text"

    prompt: Text
    answer: Text

    def __post_init__(self) -> None:
        """Refuse a prompt that says nothing or says the answer, and one answer for all."""
        answers = set(templates.columns(self.answer))
        require(
            bool(answers), f"answer: expected a column, such as {{summary}}, got {self.answer!r}: one answer for all"
        )
        _check_prompt(self.prompt, answers)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that this task reads."""
        return tuple(dict.fromkeys((*templates.columns(self.prompt), *templates.columns(self.answer))))


def _check_prompt(prompt: str, answers: set[str]) -> None:
    read = templates.columns(prompt)
    require(bool(read), f"prompt: expected a column, such as {{term}}, got {prompt!r}: one question for all records")
    if shown := sorted(answers & set(read)):
        raise ValueError(f"prompt: it reads column {shown[0]!r}, which is the answer: take {{{shown[0]}}} out of it")


Task = Classification | MultipleChoice | FreeText


@dataclass(frozen=True, kw_only=True)
class Own(Setting):
    """The part that the source itself sets aside."""

    tag: ClassVar[str] = "own"


@dataclass(frozen=True, kw_only=True)
class Share(Setting):
    """This share of the records, drawn at random with the configuration's seed."""

    tag: ClassVar[str] = "share"

    share: float

    def __post_init__(self) -> None:
        """Refuse an empty or a full part."""
        require(0.0 < self.share < 1.0, f"share: expected a number in (0, 1), got {self.share}")


@dataclass(frozen=True, kw_only=True)
class Count(Setting):
    """This many records, drawn at random with the configuration's seed."""

    tag: ClassVar[str] = "count"

    count: int

    def __post_init__(self) -> None:
        """Refuse an empty part."""
        require(self.count > 0, f"count: expected 1 or more, got {self.count}")


Part = Own | Share | Count | FileSource | HubSource


@dataclass(frozen=True, kw_only=True)
class Iid(Setting):
    """Equal random parts; the silos are called silo-1, silo-2 and so on."""

    tag: ClassVar[str] = "iid"

    count: int

    def __post_init__(self) -> None:
        """Refuse a consortium of nobody."""
        require(self.count > 0, f"count: expected 1 or more silos, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class ByColumn(Setting):
    """Each silo holds the records whose `column` has one of its values; a record of no group is nobody's."""

    tag: ClassVar[str] = "by_column"

    column: Text
    groups: Named[Several[Text]]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.groups)


@dataclass(frozen=True, kw_only=True)
class ByLabel(Setting):
    """As `ByColumn`, over the task's own label."""

    tag: ClassVar[str] = "by_label"

    groups: Named[Several[Text]]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.groups)


@dataclass(frozen=True, kw_only=True)
class Dirichlet(Setting):
    """For each label, shares of the silos drawn from Dirichlet(α): small α, unequal silos (Hsu et al. 2019)."""

    tag: ClassVar[str] = "dirichlet"

    count: int
    alpha: float

    def __post_init__(self) -> None:
        """Refuse an α for which no distribution exists."""
        require(self.count > 0, f"count: expected 1 or more silos, got {self.count}")
        require(self.alpha > 0, f"alpha: expected a positive number, got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class Files(Setting):
    """One file a silo; `data.source` then serves the test and auxiliary parts alone."""

    tag: ClassVar[str] = "files"

    paths: Named[FileSource]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.paths)


@dataclass(frozen=True, kw_only=True)
class Members(Setting):
    """Silos on machines of their own, each with its own records: a consortium's plan names them, and no file of theirs.

    All of `data.source` is then the coordinator's, and public. No simulation has these records (`docs/pilot.md`).
    """

    tag: ClassVar[str] = "members"

    names: Several[Text]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.names)


Silos = Iid | ByColumn | ByLabel | Dirichlet | Files | Members


@dataclass(frozen=True, kw_only=True)
class Labels(Setting):
    """How a classification's labels are compared; known are those of the public data.

    `map`: text in a file → label. `normalise`: what may differ, `blanks` around it, `case`, `unicode` form; the public
    data's usual spelling counts. `unknown`: a record whose label is not known is left out and counted, or refused.
    `alike`: whether public labels may differ in nothing but these.
    """

    map: Named[Text] | None = None
    normalise: Several[Literal["blanks", "case", "unicode"]] | None = None
    unknown: Literal["skip", "refuse"] = "skip"
    alike: Literal["refuse", "allow"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class Data(Setting):
    """The records, what is asked of them, and who holds which.

    `missing`: a record with an empty cell in a column that is read is refused, or left out and counted. `overlap`: test
    records that also lie in a silo are refused, or allowed. `max_tokens`: of a record at most, None: what both models
    take.
    """

    source: Annotated[Source, ONE_OF]
    task: Annotated[Task, ONE_OF]
    silos: Annotated[Silos, ONE_OF]
    test: Annotated[Part, ONE_OF] = Own()
    auxiliary: Annotated[Part, ONE_OF] = Own()
    labels: Labels = Labels()
    missing: Literal["refuse", "skip"] = "refuse"
    overlap: Literal["refuse", "allow"] = "refuse"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse a length in which nothing fits."""
        require(
            self.max_tokens is None or self.max_tokens > 1, f"max_tokens: expected 2 or more, got {self.max_tokens}"
        )


@dataclass(frozen=True, kw_only=True)
class Split(Setting):
    """Another way to hold the data, for `compare`: it takes the place of `data.silos` and `data.auxiliary`."""

    silos: Annotated[Silos, ONE_OF]
    auxiliary: Annotated[Part, ONE_OF] = Own()
