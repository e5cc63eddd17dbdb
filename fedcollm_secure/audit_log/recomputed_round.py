"""Add up an archived round again, and hold the result against the log.

RUN/archive/ROUND-ATTEMPT/   manifest.json   adapter.bin (θ_t)   STAGE/SILO.bin
  1. the manifest and θ_t are those of RoundStarted      3. every signature, commitment and share verifies
  2. each silo's replies are those of RoundSummed        4. the sums, and θ_t + mean, are those of the log
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Sum
from fedcollm_crypto.errors import CryptoError
from fedcollm_crypto.fixedpoint import EXTRA_COORDINATES, signed_words
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.replay import Replies, replay
from fedcollm_crypto.masking.requests import STAGES
from fedcollm_crypto.roster import Roster
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RoundClosed, RoundStarted, RoundSummed
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.roster_and_manifests import read_manifest
from fedcollm_secure.errors import LogError, RunError

ARCHIVE = "archive"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """What came out, all of it as the log says: over which silos, the digest of the sums of all linear passes.

    `adapter_compared`: θ_t + mean was compared as well; another merging rule than the mean is not repeated here.
    """

    round: int
    passes: int
    contributors: tuple[str, ...]
    sum_digest: str
    adapter_compared: bool


def recompute(folder: Path, entries: Sequence[Entry], roster: Roster, number: int) -> Recomputed:
    """Repeat the aggregation of round `number` and compare.

    Raises: LogError for anything that differs from the log; RunError where the log or the archive lacks the round.
    """
    passes, closed = _told(entries, number)
    found = [_pass(folder, entries, roster, summed) for summed in passes]
    return _compare(found, passes[-1], closed)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A linear pass that was added up again, and what it began from."""

    total: Sum
    start: NDArray[np.float32]
    manifest: RoundManifest


def _pass(folder: Path, entries: Sequence[Entry], roster: Roster, summed: RoundSummed) -> _Pass:
    name = f"{summed.round}-{summed.attempt}"
    archive = folder / ARCHIVE / name
    if not untrusted_files.is_there(archive):
        raise RunError(
            f"{archive} is missing: the run kept no transcript; say audit: {{archive: true}} before the next one"
        )
    manifest = read_manifest(archive / "manifest.json")
    started = _started(entries, summed)
    if manifest.hash.hex() != started.manifest_digest:
        raise LogError(f"{ARCHIVE}/{name}: the manifest is not the one that the log names")
    start = _adapter(archive / "adapter.bin", manifest)
    _check_replies(archive, summed.replies)
    try:
        total = replay(manifest, roster, [_stage(archive / str(stage + 1)) for stage in range(len(STAGES))])
    except CryptoError as error:
        raise LogError(f"{ARCHIVE}/{name}: {error}") from error
    return _Pass(total=total, start=start, manifest=manifest)


def _compare(found: Sequence[_Pass], summed: RoundSummed, closed: RoundClosed) -> Recomputed:
    words = hashlib.sha256()
    for each in found:
        words.update(each.total.total.tobytes())
    again: dict[str, object] = {
        "contributors": tuple(sorted(found[0].total.contributors)),
        "sum_digest": words.hexdigest(),
    }
    told = {"contributors": tuple(sorted(closed.contributors)), "sum_digest": closed.sum_digest}
    if summed.is_mean:
        mean = _mean(found[0])
        again["averaged_digest"] = hashlib.sha256((found[0].start + mean).astype("<f4").tobytes()).hexdigest()
        told["averaged_digest"] = summed.averaged_digest
    for what, value in again.items():
        if value != told[what]:
            raise LogError(f"round {summed.round}: {what} is {value} when added up again, the log says {told[what]}")
    return Recomputed(
        round=summed.round,
        passes=len(found),
        contributors=tuple(sorted(found[0].total.contributors)),
        sum_digest=closed.sum_digest,
        adapter_compared=summed.is_mean,
    )


def _told(entries: Sequence[Entry], number: int) -> tuple[list[RoundSummed], RoundClosed]:
    """Return what the log says of each pass, the first one first; a crash may have had it said twice."""
    events = [entry.event for entry in entries]
    summed = {event.attempt: event for event in events if isinstance(event, RoundSummed) and event.round == number}
    closed = [event for event in events if isinstance(event, RoundClosed) and event.round == number]
    if not summed or not closed:
        raise RunError(f"the log holds no sum of round {number}: it was not closed, or gave none")
    return [summed[attempt] for attempt in sorted(summed)], closed[-1]


def _started(entries: Sequence[Entry], summed: RoundSummed) -> RoundStarted:
    for entry in entries:
        event = entry.event
        if isinstance(event, RoundStarted) and (event.round, event.attempt) == (summed.round, summed.attempt):
            return event
    raise LogError(f"the log sums round {summed.round}, attempt {summed.attempt}, and never started it")


def _adapter(path: Path, manifest: RoundManifest) -> NDArray[np.float32]:
    data = untrusted_files.read_regular(path, untrusted_files.VECTOR_BYTES)
    if hashlib.sha256(data).hexdigest() != manifest.adapter_hash:
        raise LogError(f"{path.name} is not the adapter that the manifest names")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _check_replies(archive: Path, replies: Mapping[str, str]) -> None:
    found: dict[str, list[bytes]] = {}
    for stage in sorted(
        (name for name in untrusted_files.names_in(archive) if name.isascii() and name.isdigit()), key=int
    ):
        for party, path in _files(archive / stage).items():
            with untrusted_files.open_regular(path, untrusted_files.VECTOR_BYTES) as file:
                found.setdefault(party, []).append(hashlib.file_digest(file, "sha256").digest())
    for party in sorted(found.keys() | replies.keys()):
        if hashlib.sha256(b"".join(found.get(party, []))).hexdigest() != replies.get(party):
            raise LogError(f"{ARCHIVE}/{archive.name}: the replies of {party} are not those that the log vouches for")


def _stage(folder: Path) -> Replies:
    return {party: partial(_chunks, path) for party, path in _files(folder).items()}


def _files(stage: Path) -> dict[str, Path]:
    return {unquote(path.stem): path for path in untrusted_files.files_in(stage, ".bin")}


def _chunks(path: Path) -> Iterator[bytes]:
    with untrusted_files.open_regular(path, untrusted_files.VECTOR_BYTES) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _mean(each: _Pass) -> NDArray[np.float64]:
    """Return the weighted mean, float64[d], by the encoding's own arithmetic; its bounds were the server's to check."""
    grid = each.manifest.quantisation
    signed = signed_words(each.total.total, grid.ring_bits)
    total_weight = int(signed[-2])
    mean = signed[:-EXTRA_COORDINATES].astype(np.float64)
    mean *= grid.clip
    mean /= total_weight * ((1 << (grid.bits - 1)) - 1)
    return mean
