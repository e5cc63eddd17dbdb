"""A buffer for ciphertexts: in memory up to a limit, in an unnamed file beyond it."""

import tempfile

SPOOL_BYTES = 1 << 26


class Spool:
    """A file of ciphertexts, which are nobody's secret; gone when the last reference is."""

    def __init__(self) -> None:
        """Start empty."""
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed with this object

    def __del__(self) -> None:
        """Close the file with its last reader."""
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._file.write(data)

    def rewind(self) -> None:
        """Go back to the beginning."""
        self._file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        return self._file.read(size)
