"""The decryptor of a run: it holds no records and no model; bytes come in, bytes go out, and it reads the log.

Show    1. before an attempt, and again once the silos agreed over whom the sum is and cosigned the head that says
           so: it follows the log as a silo does, keeps the head durably, and cosigns nothing
Step    2. … a fresh key for the attempt, when the aggregation asks for one
        3. … the sum, once, and only if the log that it followed names it (`log_reader`)
"""

from collections.abc import Iterator

from fedcollm_crypto.aggregation import Chunks, PartyEnd
from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.federation.log_reader import LogReader
from fedcollm_secure.federation.messages import Show, Step, decode
from fedcollm_secure.federation.replies import Cosigned, Refusal, disk_refusal, note_reply, payload_reply


class DecryptingParty:
    """The decryptor of one run: the aggregation's end, and what it reads of the log."""

    def __init__(self, *, end: PartyEnd, reader: LogReader) -> None:
        """Take the end, which keeps its own journal and keys, and asks `reader` before it opens a sum."""
        self._end = end
        self._reader = reader

    def handle(self, message: bytes) -> Chunks:
        """Answer one message; what goes wrong, a disk that fails too, becomes a refusal that says nothing private.

        Guarantee: no key is used and no head is kept that the journal could not take; what it took is there after a
        restart.
        """
        try:
            return self.answer(message)
        except OSError as error:
            return note_reply(disk_refusal(error))

    def answer(self, message: bytes) -> Chunks:
        """Answer as `handle` does, but for a disk that fails: in a simulation it is everybody's. Raises: OSError."""
        try:
            return self._answer(message)
        except CryptoError as error:
            return note_reply(_refusal(error))

    def _answer(self, message: bytes) -> Iterator[bytes]:
        match request := decode(message):
            case Step():
                return self._step(request.payload)
            case Show():
                return self._show(request.view)
            case _:
                raise ProtocolError("step: a decryptor opens no round and closes none")

    def _step(self, payload: bytes) -> Iterator[bytes]:
        return payload_reply(self._end.handle(payload))  # (2), (3)

    def _show(self, view: View | None) -> Iterator[bytes]:
        if view is not None:
            self._reader.follow(view)  # (1)
        return note_reply(Cosigned(lines="", size=self._reader.size, heard=self._reader.size))


def _refusal(error: CryptoError) -> Refusal:
    """Return what the coordinator is told of an error: a code for the log and a sentence for people."""
    match error:
        case Refused():
            return Refusal(reason_code=error.reason_code, reason=str(error))
        case ProtocolError():
            return Refusal(reason_code="protocol_violation", reason=str(error))
        case _:
            return Refusal(reason_code="decryption_failed", reason=str(error))
