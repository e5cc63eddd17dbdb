"""The simulated silos of a run, and its decryptor: each with what it would keep on its own disk."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.stages import FileStages
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.ledger.file import Disk
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.assemble.privacy_plans import LARGEST_WEIGHT, ledger_budget
from fedcollm_secure.assemble.silo_side import assemble_decryptor, assemble_silo, record_weight
from fedcollm_secure.assemble.simulated_parties import Parties
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate
from fedcollm_secure.errors import ConfigError, DiskFailed
from fedcollm_secure.federation.decryptor import DecryptingParty
from fedcollm_secure.federation.kept_file import keep_as, restore
from fedcollm_secure.federation.messages import Close, decode
from fedcollm_secure.federation.open_round import PENDING_NAME
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.silo import Silo
from fedcollm_secure.federation.stopwatch import Stopwatch

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
    prepared, run = site.prepared, site.run
    stages, journal = _journals(site, name)
    return assemble_silo(
        common=prepared.common,
        roster=site.parties.roster,
        identity=site.parties.silos[name],
        manifest=site.manifest,
        learner=prepared.learner(name, optimizer_file=run.silo(name) / OPTIMIZER_NAME),
        weight=weight(prepared, name),
        ledger=_ledger(site, name),
        stages=stages,
        journal=journal,
        pending=run.silo(name) / PENDING_NAME,
        worker=site.worker,
        stopwatch=site.stopwatch,
    )


def make_decryptor(site: Site, name: str) -> DecryptingParty:
    """Return the decryptor with its own journals."""
    if site.parties.decryptor is None:
        raise RuntimeError("this run has no decryptor")
    stages, journal = _journals(site, name)
    return assemble_decryptor(
        common=site.prepared.common,
        roster=site.parties.roster,
        identity=site.parties.decryptor,
        manifest=site.manifest,
        stages=stages,
        journal=journal,
        worker=site.worker,
    )


def _journals(site: Site, name: str) -> tuple[FileStages, Journal]:
    """Open what a party remembers: each stage that it answered, and the heads of the log."""
    stages = FileStages(site.run.silo(name) / "stages.jsonl")
    journal = Journal(site.run.silo(name) / JOURNAL_NAME)
    site.resources.callback(stages.close)
    site.resources.callback(journal.close)
    return stages, journal


def check_weights(prepared: Prepared) -> None:
    """Refuse a silo whose records a weight can't count. Raises: ConfigError."""
    if any(weight(prepared, name) > LARGEST_WEIGHT for name in prepared.silos):
        raise ConfigError("silo.weighting", f"examples counts at most {LARGEST_WEIGHT} records a silo; use uniform")


def weight(prepared: Prepared, name: str) -> int:
    """Return w of a silo: 1, or the number of its records."""
    return record_weight(prepared.common, len(prepared.holdings.silos[name]))


def _ledger(site: Site, name: str) -> Ledger | None:
    prepared = site.prepared
    if prepared.plan is None or isinstance(prepared.config.privacy, NonPrivate):
        return None
    ledger = open_ledger(prepared.config, site.run, name)
    site.resources.callback(ledger.close)
    return ledger


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
