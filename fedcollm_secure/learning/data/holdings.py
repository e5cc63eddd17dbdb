"""From `config.data` to everyone's records: the silos' private ones, the server's auxiliary ones, and the test set.

files ─▶ rows ─▶ complete ones ─▶ test | auxiliary | silos ─▶ known labels ─▶ records ─▶ training | own
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedcollm_secure.config.data import (
    ByColumn,
    ByLabel,
    Classification,
    Count,
    Data,
    Dirichlet,
    Files,
    Iid,
    Members,
    Own,
    Part,
    Share,
)
from fedcollm_secure.config.source import FileSource, HubSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import partition
from fedcollm_secure.learning.data.complete import complete
from fedcollm_secure.learning.data.held_out import set_apart
from fedcollm_secure.learning.data.labels import Known, known_by_name, known_labels
from fedcollm_secure.learning.data.row import Row
from fedcollm_secure.learning.data.sources import own_parts, read_rows
from fedcollm_secure.learning.data.strangers import Strangers, rendered
from fedcollm_secure.learning.data.tasks import Record, to_record
from fedcollm_secure.learning.data.text_files import Table


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the records were read: what a person should be told, and what is nobody else's business."""

    how: Mapping[str, str] = field(default_factory=dict[str, str])  # file → encoding, delimiter
    left_out: Mapping[str, int] = field(default_factory=dict[str, int], repr=False)  # part → records with empty cells
    strangers: Mapping[str, Strangers] = field(
        default_factory=dict[str, Strangers], repr=False
    )  # silo → unknown labels
    unused: int = field(default=0, repr=False)  # records of the source that are in no part
    total: int = field(default=0, repr=False)  # records of the source
    idle_values: tuple[str, ...] = ()  # of the silos' groups, which no record has


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """Who holds what. Only `test` and `auxiliary` are public; nobody reads another's part.

    `silos` is what each silo trains on; `own` what it keeps out of training and scores for itself.
    """

    silos: Mapping[str, Sequence[Record]] = field(repr=False)
    own: Mapping[str, Sequence[Record]] = field(repr=False)
    auxiliary: Sequence[Record] = field(repr=False)
    test: Sequence[Record] = field(repr=False)
    reading: Reading = field(default=Reading(), repr=False, compare=False)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Return the number of records that each silo trains on. Private under DP: never logged."""
        return {silo: len(records) for silo, records in self.silos.items()}

    @property
    def held(self) -> Mapping[str, Sequence[Record]]:
        """Return all that each silo holds, with what it keeps apart."""
        return {name: [*records, *self.own[name]] for name, records in self.silos.items()}

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
        ConfigError: a source, column, part or silo is missing or empty, cells are, a label is not known, or a silo is
            left without records on one side.
    """
    if isinstance(data.silos, Members):
        raise ConfigError(
            "data.silos.members",
            "these silos' records are on their own machines, and no simulation has them: make a plan of it with "
            "fedcollm-secure consortium plan (docs/pilot.md), or give files, iid or another split to simulate",
        )
    reader = _Reader(data=data, subject=subject)
    parts = reader.own_parts()
    pool = list(parts["private"])
    test, pool = reader.take(data.test, "test", parts, pool, seed)
    auxiliary, pool = reader.take(data.auxiliary, "auxiliary", parts, pool, seed)
    public = [*test, *auxiliary, *(pool if isinstance(data.silos, Files) else ())]  # beside files all of it is public
    known = _known(data, public)
    silos = reader.files(data.silos) if isinstance(data.silos, Files) else _split(data, pool, known, seed)
    partition.require_nobody_empty({silo: len(rows) for silo, rows in silos.items()})
    records, strangers = rendered(data, silos, known, subject)
    training, kept = set_apart(records, share=own, seed=seed)
    held = 0 if isinstance(data.silos, Files) else sum(map(len, silos.values()))
    return Holdings(
        silos=training,
        own=kept,
        auxiliary=_public(data, auxiliary, known),
        test=_public(data, test, known),
        reading=replace(
            reader.reading(),
            strangers=strangers,
            unused=len(pool) - held,
            total=sum(map(len, parts.values())),
            idle_values=_idle_values(data, pool, known),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class PublicRecords:
    """What the coordinator of a consortium holds, and the labels that follow from it (none where none are asked)."""

    auxiliary: Sequence[Record] = field(repr=False)
    test: Sequence[Record] = field(repr=False)
    labels: tuple[str, ...]
    reading: Reading = field(repr=False)


def gather_public(data: Data, *, seed: int) -> PublicRecords:
    """Read the coordinator's own records, all of them public: its source, test and auxiliary data.

    Raises:
        ConfigError: as `gather`.
    """
    reader = _Reader(data=data, subject=None)
    parts = reader.own_parts()
    pool = list(parts["private"])
    test, pool = reader.take(data.test, "test", parts, pool, seed)
    auxiliary, pool = reader.take(data.auxiliary, "auxiliary", parts, pool, seed)
    known = _known(data, [*test, *auxiliary, *pool])
    return PublicRecords(
        auxiliary=_public(data, auxiliary, known),
        test=_public(data, test, known),
        labels=known.names if known is not None else (),
        reading=reader.reading(),
    )


@dataclass(frozen=True, kw_only=True)
class OwnRecords:
    """What one silo holds: what it trains on, and what it keeps apart for its own score."""

    training: Sequence[Record] = field(repr=False)
    kept: Sequence[Record] = field(repr=False)
    reading: Reading = field(repr=False)


def gather_own(
    data: Data, source: FileSource, silo: str, *, labels: Sequence[str], seed: int, subject: str | None, own: float
) -> OwnRecords:
    """Read one silo's own file, and nothing else; `labels` are those that the coordinator's public data have.

    Raises:
        ConfigError: as `gather`.
    """
    reader = _Reader(data=data, subject=subject)
    rows = reader.files(Files(paths={silo: source}))
    known = known_by_name(data.labels, labels) if isinstance(data.task, Classification) else None
    records, strangers = rendered(data, rows, known, subject)
    partition.require_nobody_empty({name: len(found) for name, found in records.items()})
    training, kept = set_apart(records, share=own, seed=seed)
    reading = replace(reader.reading(), strangers=strangers)
    return OwnRecords(training=training[silo], kept=kept[silo], reading=reading)


@dataclass(kw_only=True)
class _Reader:
    """Reads tables for one configuration, and remembers how."""

    data: Data
    subject: str | None
    how: dict[str, str] = field(default_factory=dict[str, str])
    left_out: dict[str, int] = field(default_factory=dict[str, int])

    def own_parts(self) -> dict[str, list[Row]]:
        """Return the parts of `data.source`; where silos are cut out of it, with what that needs."""
        further = [self.data.silos.column] if isinstance(self.data.silos, ByColumn) else []
        if not isinstance(self.data.silos, Files | Members) and self.subject is not None:
            further.append(self.subject)
        tables = own_parts(self.data.source, "data.source")
        return {
            name: self._complete(table, further if name == "private" else [], "data.source")
            for name, table in tables.items()
        }

    def take(
        self, part: Part, name: str, parts: Mapping[str, Sequence[Row]], pool: list[Row], seed: int
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
                return self._complete(read_rows(part, where), [], where), pool
            case Share() | Count():
                return _drawn(part, [*pool, *parts.get(name, ())], name, seed)

    def files(self, silos: Files) -> dict[str, list[Row]]:
        """Return the rows of each silo's own file."""
        further = [] if self.subject is None else [self.subject]
        return {
            name: self._complete(read_rows(source, f"data.silos.{name}"), further, f"data.silos.{name}")
            for name, source in silos.paths.items()
        }

    def reading(self) -> Reading:
        """Return what was remembered."""
        return Reading(how=self.how, left_out=self.left_out)

    def _complete(self, table: Table, further: Sequence[str], where: str) -> list[Row]:
        columns = tuple(dict.fromkeys((*self.data.task.columns, *further)))
        found = complete(table, columns, self.data.missing, where)
        if table.how:
            self.how[table.rows[0].file] = table.how
        if found.left_out:
            self.left_out[where] = self.left_out.get(where, 0) + found.left_out
        return found.rows


def _drawn(part: Share | Count, pool: list[Row], name: str, seed: int) -> tuple[list[Row], list[Row]]:
    size = part.count if isinstance(part, Count) else round(part.share * len(pool))
    if not 0 < size < len(pool):
        raise ConfigError(f"data.{name}", f"expected 1 to {len(pool) - 1} of {len(pool)} records, got {size}")
    order = partition.shuffled(len(pool), seed=seed, purpose=name)
    return [pool[i] for i in sorted(order[:size])], [pool[i] for i in sorted(order[size:])]


def _known(data: Data, public: Sequence[Row]) -> Known | None:
    if not isinstance(data.task, Classification):
        return None
    return known_labels(data.labels, public, data.task.label, "test and auxiliary data")


def _public(data: Data, rows: Sequence[Row], known: Known | None) -> list[Record]:
    """Render public rows, whose labels are the known ones."""
    found = [to_record(data.task, row, known) for row in rows]
    return [record for record in found if record is not None]


def _split(data: Data, pool: Sequence[Row], known: Known | None, seed: int) -> dict[str, list[Row]]:
    match data.silos:
        case Iid():
            held = partition.split_iid(data.silos, len(pool), seed=seed)
        case ByColumn():
            held = partition.split_by_value(data.silos, [row.name(data.silos.column) for row in pool])
        case ByLabel():
            held = partition.split_by_value(data.silos, _labels(data, pool, known))
        case Dirichlet():
            held = partition.split_dirichlet(data.silos, _labels(data, pool, known), seed=seed)
        case Files() | Members():
            raise TypeError("files are read, not split")
    return {silo: [pool[i] for i in indices] for silo, indices in held.items()}


def _labels(data: Data, pool: Sequence[Row], known: Known | None) -> list[str]:
    """Return each row's label as it is known, or as it stands there."""
    if not isinstance(data.task, Classification) or known is None:
        raise ConfigError("data.silos", "this split needs a classification task, whose labels it follows; use iid")
    column = data.task.label
    return [known.find(row, column) or row.name(column) for row in pool]


def _idle_values(data: Data, pool: Sequence[Row], known: Known | None) -> tuple[str, ...]:
    """Return the values of groups that no record has: a misspelt one would be nobody's in silence."""
    match data.silos:
        case ByColumn():
            found = {row.name(data.silos.column) for row in pool}
        case ByLabel():
            found = set(_labels(data, pool, known))
        case _:
            return ()
    return tuple(value for group in data.silos.groups.values() for value in group if value not in found)
