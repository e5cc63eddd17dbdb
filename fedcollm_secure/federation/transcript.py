"""What the server saw of an attempt: a digest for the log, and, where that is asked for, every byte for an auditor.

    RUN/archive/ROUND-ATTEMPT/   manifest.json   adapter.bin (θ_t, float32)   STAGE/SILO.bin

A silo's digest is SHA-256 over the SHA-256 of each of its replies, in order of stages: the log thereby vouches for the
archive. Masked replies show nothing beyond the sum to anyone within the collusion bound, whom the auditor joins.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import canonical, durable
from fedcollm_crypto.aggregation import Chunks, PartyId
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.names import check_name


class Transcript:
    """The replies of one attempt, digested as they are read, and kept in `folder` unless it is None."""

    def __init__(self, folder: Path | None) -> None:
        """Begin an empty transcript."""
        self._folder = folder
        self._digests: dict[PartyId, dict[int, bytes]] = {}

    def begin(self, manifest: RoundManifest, adapter: NDArray[np.float32]) -> None:
        """Keep what the silos were asked to start from."""
        if self._folder is None:
            return
        durable.make_folder(self._folder)
        with durable.told(self._folder):
            (self._folder / "manifest.json").write_bytes(canonical.encode(manifest.to_body()))
            (self._folder / "adapter.bin").write_bytes(adapter.astype("<f4").tobytes())

    def keep(self, stage: int, party: PartyId, reply: Chunks) -> Iterator[bytes]:
        """Pass the reply on; what is read of it is digested and kept."""
        path, hasher = self._path(stage, party), hashlib.sha256()
        with durable.told(path):
            file = path.open("wb")
        try:
            for chunk in reply:
                hasher.update(chunk)
                with durable.told(path):
                    file.write(chunk)
                yield chunk
        finally:  # a bad reply is read no further than to where it is bad
            self._digests.setdefault(party, {})[stage] = hasher.digest()
            with durable.told(path):
                file.close()

    def digests(self) -> Mapping[PartyId, str]:
        """Return each silo's digest over all that it said."""
        return {
            party: hashlib.sha256(b"".join(stages[stage] for stage in sorted(stages))).hexdigest()
            for party, stages in sorted(self._digests.items())
        }

    def last_stage(self) -> tuple[int, Mapping[PartyId, str]]:
        """Return the last stage that anybody answered, 0 for none, and the digest of each reply to it."""
        last = max((stage for stages in self._digests.values() for stage in stages), default=0)
        found = {party: stages[last].hex() for party, stages in sorted(self._digests.items()) if last in stages}
        return last, found

    def _path(self, stage: int, party: PartyId) -> Path:
        if self._folder is None:
            return Path(os.devnull)
        path = self._folder / str(stage) / file_name(party)
        durable.make_folder(path.parent)
        return path


def file_name(party: PartyId) -> str:
    """Return the name of a party's files in the archive. Raises: ValueError for a name that is no party's."""
    check_name(party)
    return f"{quote(party, safe=' ')}.bin"
