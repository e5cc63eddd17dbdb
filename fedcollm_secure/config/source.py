"""Settings of where records come from: a file, an installed package, or a hub."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import Setting, Text


@dataclass(frozen=True, kw_only=True)
class PackageSource(Setting):
    """Text that comes with an installed package; `icd10cm` has its own test and auxiliary parts."""

    tag: ClassVar[str] = "package"

    name: Literal["icd10cm"]


@dataclass(frozen=True, kw_only=True)
class FileSource(Setting):
    """A .csv, .tsv, .jsonl or .parquet file, possibly compressed; relative paths start at the configuration's folder.

    `delimiter` parts the fields of a CSV (found out from its first lines by default), `encoding` is what a text file is
    written in (UTF-8, or what its byte order mark says, by default).
    """

    tag: ClassVar[str] = "path"
    flat: ClassVar[bool] = True

    path: Text
    delimiter: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no text file could be written with."""
        require(self.path.strip() != "", "path: expected a file's path, got an empty text")
        require(
            self.delimiter is None or (len(self.delimiter) == 1 and self.delimiter not in '"\r\n'),
            f"delimiter: expected one character, such as ; or a tab, got {self.delimiter!r}",
        )
        require(
            self.encoding is None or _is_text_encoding(self.encoding),
            f"encoding: expected a text encoding such as latin-1, cp1252 or utf-16, got {self.encoding!r}",
        )


def _is_text_encoding(name: str) -> bool:
    try:
        "".encode(name)
    except (LookupError, ValueError):  # unknown, or one that turns bytes into bytes
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class HubSource(Setting):
    """A data set of the Hugging Face hub (needs the `hub` extra)."""

    tag: ClassVar[str] = "hub"

    name: Text
    split: Text = "train"
    subset: Text | None = None
    revision: Text | None = None


Source = PackageSource | FileSource | HubSource
