"""What a silo keeps of an open round, so that a repeated attempt sends the very same integers.

The file is written whole and durably before any of it is sent. So a file that is damaged was damaged afterwards, when
its vector may have left already: training again would send another one for the same model version, and the difference
of two sums shows it. `read` therefore never takes damage for absence.
"""

import hmac
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from fedcollm_crypto import durable
from fedcollm_crypto.aggregation import Vector
from fedcollm_crypto.errors import Refused
from fedcollm_secure.learning.vectors import Float32

PENDING_NAME = "pending.npz"
_DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The result of a round's training, and what was made of it for each linear pass so far."""

    change: Float32 = field(repr=False)
    vectors: Mapping[int, Vector] = field(repr=False)


class KeptDamaged(Refused):
    """What was kept cannot be read, and may have been sent: the silo sits this model version out.

    Its journal says what was answered. The server counts the silo as dropped; the next model version is another.
    """

    def __init__(self, path: Path) -> None:
        """Name the file, and nothing of what is in it."""
        super().__init__(
            "kept_damaged",
            f"{path} is damaged. Its vector may have been sent, so nothing is trained again for this model version; "
            "delete the file once the round is closed",
        )


class Pending:
    """One file on the silo's own disk: its update in the clear, as long as the round is open."""

    def __init__(self, path: Path) -> None:
        """Take the file's place; nothing is written yet."""
        self._path = path

    def read(self, version: str) -> Kept | None:
        """Return what was kept for this version of the model, None when there is nothing or something else.

        Raises: KeptDamaged for a file that is not, to the last byte, what `write` left.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeptDamaged(self._path) from error
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if not hmac.compare_digest(sha256(body).digest(), digest):
            raise KeptDamaged(self._path)
        try:
            return _kept(body, version)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise KeptDamaged(self._path) from error

    def write(self, version: str, kept: Kept) -> None:
        """Replace what is kept, whole or not at all; it is on the disk when this returns."""
        durable.make_folder(self._path.parent)
        vectors = {f"vector_{number}": vector for number, vector in kept.vectors.items()}
        body = io.BytesIO()
        np.savez(body, version=np.array(version), change=kept.change, **vectors)  # type: ignore[arg-type]  # numpy takes the names for allow_pickle
        data = body.getvalue()
        durable.replace(self._path, data + sha256(data).digest(), private=True)

    def forget(self) -> None:
        """Delete the file: the round is closed."""
        self._path.unlink(missing_ok=True)


def _kept(data: bytes, version: str) -> Kept | None:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        if str(file["version"]) != version:
            return None
        vectors = {int(name[7:]): np.asarray(file[name], dtype=np.uint64) for name in file if name[:7] == "vector_"}
        return Kept(change=np.asarray(file["change"], dtype=np.float32), vectors=vectors)
