"""Settings of the data: where records come from, what is asked of them, and who holds which."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from fedcollm_crypto.names import check_distinct, check_name
from fedcollm_secure.config.require import require


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """Text that comes with an installed package; `icd10cm` has its own test and auxiliary parts."""

    name: Literal["icd10cm"]


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A .jsonl, .csv or .parquet file; relative paths start at the configuration's folder."""

    path: str


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A data set of the Hugging Face hub (needs the `hub` extra)."""

    name: str
    split: str = "train"
    subset: str | None = None
    revision: str | None = None


def _check_names(silos: Iterable[str]) -> None:
    """Refuse, as the roster would: what a silo keeps lies in a folder of its name."""
    names = tuple(silos)
    for name in names:
        check_name(name)
    check_distinct(names)


Source = PackageSource | FileSource | HubSource


@dataclass(frozen=True, kw_only=True)
class Classification:
    """`prompt` is a template over the columns; the answer is the text in column `label`, one of those that occur."""

    prompt: str
    label: str


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """`choices` is a column with a list of texts, or several columns; `answer` a column with the right one's index."""

    prompt: str
    choices: str | tuple[str, ...]
    answer: str


@dataclass(frozen=True, kw_only=True)
class FreeText:
    """`prompt` and `answer` are templates over the columns."""

    prompt: str
    answer: str


Task = Classification | MultipleChoice | FreeText


@dataclass(frozen=True, kw_only=True)
class Own:
    """The part that the source itself sets aside."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """This share of the records, drawn at random with the configuration's seed."""

    share: float

    def __post_init__(self) -> None:
        """Refuse an empty or a full part."""
        require(0.0 < self.share < 1.0, f"share: expected a number in (0, 1), got {self.share}")


@dataclass(frozen=True, kw_only=True)
class Count:
    """This many records, drawn at random with the configuration's seed."""

    count: int

    def __post_init__(self) -> None:
        """Refuse an empty part."""
        require(self.count > 0, f"count: expected 1 or more, got {self.count}")


Part = Own | Share | Count | FileSource | HubSource


@dataclass(frozen=True, kw_only=True)
class Iid:
    """Equal random parts."""

    count: int

    def __post_init__(self) -> None:
        """Refuse a consortium of nobody."""
        require(self.count > 0, f"count: expected 1 or more silos, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class ByColumn:
    """Each silo holds the records whose `column` has one of its values; a record of no group is nobody's."""

    column: str
    groups: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.groups)


@dataclass(frozen=True, kw_only=True)
class ByLabel:
    """As `ByColumn`, over the task's own label."""

    groups: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.groups)


@dataclass(frozen=True, kw_only=True)
class Dirichlet:
    """For each label, shares of the silos drawn from Dirichlet(α): small α, unequal silos (Hsu et al. 2019)."""

    count: int
    alpha: float

    def __post_init__(self) -> None:
        """Refuse an α for which no distribution exists."""
        require(self.count > 0, f"count: expected 1 or more silos, got {self.count}")
        require(self.alpha > 0, f"alpha: expected a positive number, got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """One file a silo; `data.source` then serves the test and auxiliary parts alone."""

    paths: Mapping[str, str]

    def __post_init__(self) -> None:
        """Refuse silos whose names cannot be folders."""
        _check_names(self.paths)


Silos = Iid | ByColumn | ByLabel | Dirichlet | Files


@dataclass(frozen=True, kw_only=True)
class Data:
    """The records, what is asked of them, and who holds which."""

    source: Source
    task: Task
    silos: Silos
    test: Part = Own()
    auxiliary: Part = Own()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Another way to hold the data, for `compare`: it takes the place of `data.silos` and `data.auxiliary`."""

    silos: Silos
    auxiliary: Part = Own()
