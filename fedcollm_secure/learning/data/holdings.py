"""From `config.data` to everyone's records: the silos' private ones, the server's auxiliary ones, and the test set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedcollm_secure.config.data import (
    ByColumn,
    ByLabel,
    Classification,
    Count,
    Data,
    Dirichlet,
    Files,
    FileSource,
    HubSource,
    Iid,
    Own,
    Part,
    Share,
)
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import partition
from fedcollm_secure.learning.data.held_out import set_apart
from fedcollm_secure.learning.data.sources import own_parts, read_rows
from fedcollm_secure.learning.data.tasks import Record, Row, labels_of, text, to_records, with_subjects


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """Who holds what. Only `test` and `auxiliary` are public; nobody reads another's part.

    `silos` is what each silo trains on; `own` what it keeps out of training and scores for itself.
    """

    silos: Mapping[str, Sequence[Record]] = field(repr=False)
    own: Mapping[str, Sequence[Record]] = field(repr=False)
    auxiliary: Sequence[Record] = field(repr=False)
    test: Sequence[Record] = field(repr=False)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Return the number of records that each silo trains on. Private under DP: never logged."""
        return {silo: len(records) for silo, records in self.silos.items()}

    @property
    def most_silos_of_a_subject(self) -> int:
        """Return in how many silos the most widespread person is: known to a simulation alone."""
        held = [[*records, *self.own[silo]] for silo, records in self.silos.items()]
        people = [{record.subject for record in records} - {None} for records in held]
        return max(Counter(person for silo in people for person in silo).values(), default=0)


def gather(data: Data, *, seed: int, subject: str | None = None, own: float = 0.0) -> Holdings:
    """Read, split and render all records; `subject` is the column that names a silo's persons.

    Each silo keeps the share `own` of its records out of training.

    Raises:
        ConfigError: a source, column, part or silo is missing or empty, or a silo is left without records on one side.
    """
    parts = own_parts(data.source, "data.source")
    pool = list(parts["private"])
    test, pool = _take(data.test, "test", parts, pool, seed)
    auxiliary, pool = _take(data.auxiliary, "auxiliary", parts, pool, seed)
    silos = _files(data.silos) if isinstance(data.silos, Files) else _split(data, pool, seed)
    partition.require_nobody_empty({silo: len(rows) for silo, rows in silos.items()})
    labels = labels_of(data.task, [*test, *auxiliary], "test and auxiliary data")
    rendered = {name: to_records(data.task, rows, labels, f"silo {name}") for name, rows in silos.items()}
    if subject is not None:
        rendered = {
            name: with_subjects(records, silos[name], subject, f"silo {name}") for name, records in rendered.items()
        }
    training, kept = set_apart(rendered, share=own, seed=seed)
    return Holdings(
        silos=training,
        own=kept,
        auxiliary=to_records(data.task, auxiliary, labels, "auxiliary"),
        test=to_records(data.task, test, labels, "test"),
    )


def _take(
    part: Part, name: str, parts: Mapping[str, Sequence[Row]], pool: list[Row], seed: int
) -> tuple[list[Row], list[Row]]:
    """Return the rows of `part` and what is left of the pool.

    A part that the source sets apart but the configuration draws anew goes back into the pool first.
    """
    where = f"data.{name}"
    match part:
        case Own():
            if name not in parts:
                raise ConfigError(where, f"the source sets no {name} data apart; give share, count, path or hub")
            return list(parts[name]), pool
        case FileSource() | HubSource():
            return read_rows(part, where), pool
        case Share() | Count():
            pool = [*pool, *parts.get(name, ())]
            size = part.count if isinstance(part, Count) else round(part.share * len(pool))
            if not 0 < size < len(pool):
                raise ConfigError(where, f"expected 1 to {len(pool) - 1} of {len(pool)} records, got {size}")
            order = partition.shuffled(len(pool), seed=seed, purpose=name)
            return [pool[i] for i in sorted(order[:size])], [pool[i] for i in sorted(order[size:])]


def _files(silos: Files) -> dict[str, Sequence[Row]]:
    return {name: read_rows(FileSource(path=path), f"data.silos.{name}") for name, path in silos.paths.items()}


def _split(data: Data, pool: Sequence[Row], seed: int) -> dict[str, Sequence[Row]]:
    match data.silos:
        case Iid():
            held = partition.split_iid(data.silos, len(pool), seed=seed)
        case ByColumn():
            values = [text(row, data.silos.column, "data.silos") for row in pool]
            held = partition.split_by_value(data.silos, values)
        case ByLabel():
            held = partition.split_by_value(data.silos, _labels(data, pool))
        case Dirichlet():
            held = partition.split_dirichlet(data.silos, _labels(data, pool), seed=seed)
        case Files():
            raise TypeError("files are read, not split")
    return {silo: [pool[i] for i in indices] for silo, indices in held.items()}


def _labels(data: Data, pool: Sequence[Row]) -> list[str]:
    if not isinstance(data.task, Classification):
        raise ConfigError("data.silos", "this split needs a classification task, whose labels it follows; use iid")
    return [text(row, data.task.label, "data.silos") for row in pool]
