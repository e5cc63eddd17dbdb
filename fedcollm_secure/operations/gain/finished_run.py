"""What a run left behind, as one of its silos finds it: nothing is scored that the log does not vouch for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedcollm_crypto.names import is_name
from fedcollm_secure import config as configuration
from fedcollm_secure.audit_log.events import Event, RoundClosed, RoundStarted, RunStarted
from fedcollm_secure.audit_log.file_digests import file_digest, folder_digest
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.audit_log.untrusted_files import is_there, require_plain, shown
from fedcollm_secure.config import Config
from fedcollm_secure.errors import ConfigError, LogError
from fedcollm_secure.federation.run_directory import RunDirectory

_Event = TypeVar("_Event", bound=Event)


@dataclass(frozen=True, kw_only=True)
class AfterRun:
    """A run with at least one complete round, seen by `silo`.

    `adapter_digest` is that of RUN/adapters/slm, which round `round` left; `start_digest` that of the vector that round
    1 began from; `base_digest` that of the small model's weights. `ledger_heads`: where the silo's ledger stood
    whenever the log committed to it.
    """

    run: RunDirectory
    config: Config
    session: str
    silo: str
    round: int
    adapter_digest: str
    start_digest: str
    base_digest: str
    ledger_heads: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Return the silo's own folder."""
        return self.run.silo(self.silo)

    @property
    def adapter(self) -> Path:
        """Return the small model's last kept adapter."""
        return self.run.adapters / "slm"


def read_run(folder: Path, silo: str) -> AfterRun:
    """Read what `gain` needs to know before it loads anything heavy.

    Raises:
        ConfigError: no run, no complete round, no such silo, or no record was kept apart.
        LogError: configuration or adapter are not those that the log names.
        RunError: there is no log.
    """
    path = folder / "config.yaml"
    if not is_there(path):
        raise ConfigError("gain", f"{shown(folder)} is no run directory: it has no config.yaml. Give what `run` wrote")
    require_plain(folder)
    events = [entry.event for entry in read_log(folder / "audit" / LOG_NAME).entries]
    started, first = _first(events, RunStarted), _first(events, RoundStarted)
    if started is None or file_digest(path) != started.config_digest:
        raise LogError("config.yaml is not the configuration that the run was started with: who kept what is unknown")
    config = configuration.load(path)
    if config.evaluate.own == 0:
        raise ConfigError(
            "evaluate.own",
            "expected a share above 0, got 0: this run kept no record out of training. Run again with --set "
            "evaluate.own=0.1",
        )
    if first is None:
        raise _no_round(folder)
    if silo not in first.cohort or not is_name(silo):
        raise ConfigError("gain", f"expected one of the silos {', '.join(first.cohort)}, got {silo!r}")
    run = RunDirectory(folder)
    number, adapter_digest = _last_kept(run, events)
    return AfterRun(
        run=run,
        config=config,
        session=started.run_id,
        silo=silo,
        round=number,
        adapter_digest=adapter_digest,
        start_digest=first.adapter_digest,
        base_digest=started.models["slm"],
        ledger_heads=tuple(
            event.ledgers[silo] for event in events if isinstance(event, RoundClosed) and silo in event.ledgers
        ),
    )


def _last_kept(run: RunDirectory, events: Sequence[Event]) -> tuple[int, str]:
    """Return the round that left RUN/adapters/slm, and the folder's digest."""
    closed = [event for event in events if isinstance(event, RoundClosed)]
    if not closed or not (run.adapters / "slm").is_dir():
        raise _no_round(run.path)
    try:
        found = folder_digest(run.adapters / "slm")
    except ValueError as error:
        raise LogError(str(error)) from error
    left_by = [event.round for event in closed if event.adapter_after == found]
    if left_by:
        return left_by[-1], found
    if found == closed[0].adapter_before:  # a crash came between closing round 1 and putting its adapter in place
        raise _no_round(run.path)
    raise LogError("adapters/slm is not the adapter that a closed round left behind: run verify")


def _no_round(folder: Path) -> ConfigError:
    return ConfigError(
        "gain", f"expected a run with at least one complete round, got none in {folder}: go on with run --resume"
    )


def _first(events: Sequence[Event], kind: type[_Event]) -> _Event | None:
    return next((event for event in events if isinstance(event, kind)), None)
