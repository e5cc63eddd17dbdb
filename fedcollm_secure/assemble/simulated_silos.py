"""The simulated silos of a run, and its decryptor: each with what it would keep on its own disk."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.stages import FileStages
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.ledger.file import Disk
from fedcollm_secure.assemble.cohort_size import SERVER
from fedcollm_secure.assemble.parties import Parties, decryptor_end, expected_of, silo_end
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.assemble.privacy_plans import LARGEST_WEIGHT, ledger_budget
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.audit_log.log import origin
from fedcollm_secure.audit_log.witness import Witness
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate
from fedcollm_secure.errors import ConfigError, DiskFailed
from fedcollm_secure.federation.decryptor import DecryptingParty
from fedcollm_secure.federation.gates import TrustRegion
from fedcollm_secure.federation.kept_file import keep_as, restore
from fedcollm_secure.federation.log_reader import LogReader
from fedcollm_secure.federation.messages import Close, decode
from fedcollm_secure.federation.open_round import PENDING_NAME, Pending
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.silo import Silo
from fedcollm_secure.federation.silo_setup import Budget, Learning, SiloMemory, SiloTerms
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.vectors import digest

OPTIMIZER_NAME = "optimizer.safetensors"
SHORT_BYTES = 4096
"""More than a `Close` ever has."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where simulated parties live: one process, one run's folder, one child for what is encrypted."""

    prepared: Prepared
    parties: Parties
    run: RunDirectory
    manifest: RoundManifest
    resources: ExitStack = field(repr=False)
    stopwatch: Stopwatch
    worker: Worker = field(repr=False)


class _Failed(Exception):
    """A simulated party's disk failed. Neither the party nor the server takes this for an answer of its own."""


class _OneDisk(Disk):
    """The disk of a simulated silo's ledger, which is the run's own."""

    def write(self, descriptor: int, line: bytes) -> None:
        """Append all of `line`. Raises: _Failed."""
        with _as_failed():
            super().write(descriptor, line)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes. Raises: _Failed."""
        with _as_failed():
            super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Return when the file's contents are on the device. Raises: _Failed."""
        with _as_failed():
            super().sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Return when the folder's entry of a new file is on the device. Raises: _Failed."""
        with _as_failed():
            super().sync_folder(folder)


@contextmanager
def _as_failed() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _Failed from error


@contextmanager
def _stopping(whose: str) -> Generator[None]:
    try:
        yield
    except _Failed as failed:
        raise DiskFailed("", f"the ledger of {whose} could not be written: {failed.__cause__}") from failed.__cause__
    except OSError as error:
        raise DiskFailed("", f"{whose}: {error}") from error


def on_one_disk(whose: str, handle: Callable[[bytes], Chunks]) -> Callable[[bytes], Chunks]:
    """Return the handler of a simulated party, ending the run where its disk fails: it is everybody's.

    A silo with a disk of its own drops out instead, and the others go on.
    """

    def handled(message: bytes) -> Chunks:
        with _stopping(whose):
            chunks = iter(handle(message))
        return _read(whose, chunks)

    return handled


def _read(whose: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        with _stopping(whose):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def keeping_optimizer(run: RunDirectory, name: str, handle: Callable[[bytes], Chunks]) -> Callable[[bytes], Chunks]:
    """Return the handler of a silo, keeping its optimiser's state as of each round that is closed.

    A silo that died after it trained and before it kept its update trains again, from the state that it began with.
    """
    present, closed = run.silo(name) / OPTIMIZER_NAME, run.silo(name) / f"closed-{OPTIMIZER_NAME}"
    if not (run.silo(name) / PENDING_NAME).is_file():  # else the round's update is kept, and so is what it left
        restore(present, closed)

    def handled(message: bytes) -> Chunks:
        with suppress(ProtocolError):  # which the silo itself answers
            if len(message) < SHORT_BYTES and isinstance(decode(message), Close):
                keep_as(present, closed)
        return handle(message)

    return handled


def make_silo(site: Site, name: str) -> Silo:
    """Return one silo with its own ledger, journals and policy."""
    prepared, parties, run, manifest = site.prepared, site.parties, site.run, site.manifest
    stages, journal = _journals(site, name)
    return Silo(
        name=name,
        terms=SiloTerms(
            expected=expected_of(prepared, manifest),
            silos=parties.roster.of_role("silo"),
            trust_region=_trust_region(prepared),
            budget=_budget(site, name),
        ),
        learning=Learning(
            learner=prepared.learner(name, optimizer_file=run.silo(name) / OPTIMIZER_NAME),
            parameters=prepared.parameters,
            rule=prepared.rule,
            encoding=prepared.encoding,
            weight=weight(prepared, name),
        ),
        memory=SiloMemory(
            stages=stages,
            journal=journal,
            witness=_witness(site, parties.silos[name], journal),
            pending=Pending(run.silo(name) / PENDING_NAME),
        ),
        make_end=silo_end(prepared, parties, name, stages, site.worker),
        stopwatch=site.stopwatch,
    )


def make_decryptor(site: Site, name: str) -> DecryptingParty:
    """Return the decryptor with its own journals."""
    if site.parties.decryptor is None:
        raise RuntimeError("this run has no decryptor")
    stages, journal = _journals(site, name)
    reader = LogReader(_witness(site, site.parties.decryptor, journal), Witnesses.of(site.parties.roster))
    end = decryptor_end(site.prepared, site.parties, stages, site.worker, reader.require_logged)
    return DecryptingParty(end=end, reader=reader)


def _journals(site: Site, name: str) -> tuple[FileStages, Journal]:
    """Open what a party remembers: each stage that it answered, and the heads of the log."""
    stages = FileStages(site.run.silo(name) / "stages.jsonl")
    journal = Journal(site.run.silo(name) / JOURNAL_NAME)
    site.resources.callback(stages.close)
    site.resources.callback(journal.close)
    return stages, journal


def _witness(site: Site, identity: Identity, journal: Journal) -> Witness:
    server = site.parties.server
    keeper = NoteKey(name=SERVER, ed25519=server.public_key, mldsa44=server.mldsa44_key)
    return Witness(identity, keeper=keeper, origin=origin(site.manifest.session_id), journal=journal)


def check_weights(prepared: Prepared) -> None:
    """Refuse a silo whose records a weight can't count. Raises: ConfigError."""
    if any(weight(prepared, name) > LARGEST_WEIGHT for name in prepared.silos):
        raise ConfigError("silo.weighting", f"examples counts at most {LARGEST_WEIGHT} records a silo; use uniform")


def weight(prepared: Prepared, name: str) -> int:
    """Return w of a silo: 1, or the number of its records."""
    return 1 if prepared.config.silo.weighting == "uniform" else len(prepared.holdings.silos[name])


def _trust_region(prepared: Prepared) -> TrustRegion | None:
    limit, adapter = prepared.config.gates.trust_region, prepared.silo_slm
    if limit is None:
        return None
    return TrustRegion(limit=limit, drift=adapter.drift, initial_digest=digest(adapter.read()))


def _budget(site: Site, name: str) -> Budget | None:
    prepared = site.prepared
    if prepared.plan is None or isinstance(prepared.config.privacy, NonPrivate):
        return None
    ledger = open_ledger(prepared.config, site.run, name)
    site.resources.callback(ledger.close)
    return Budget(plan=prepared.plan, ledger=ledger)


def open_ledger(config: Config, run: RunDirectory, name: str) -> Ledger:
    """Open a silo's ledger. Its budget is what training may cost, and on top what the silo may spend on its own score.

    Raises:
        LedgerError: it is in use, was changed, or belongs to another configuration.
    """
    epsilon, delta = ledger_budget(config)
    with _stopping(name):
        return Ledger.open(
            run.silo(name) / "ledger.jsonl",
            population=f"simulated:{config.name}/{name}",
            epsilon=epsilon,
            delta=delta,
            simulated=True,
            disk=_OneDisk(),
        )
