"""The decryptor of a run: it holds no records and no model; bytes come in, bytes go out."""

from collections.abc import Iterator

from fedcollm_crypto.aggregation import Chunks, PartyEnd
from fedcollm_crypto.errors import CryptoError, ProtocolError
from fedcollm_secure.federation.messages import Step, decode
from fedcollm_secure.federation.replies import Refusal, note_reply, payload_reply


class DecryptingParty:
    """Carry the aggregation's questions to the decryptor's end, and its answers back."""

    def __init__(self, end: PartyEnd) -> None:
        """Take the end, which keeps its own journal and keys."""
        self._end = end

    def handle(self, message: bytes) -> Chunks:
        """Answer one message; what goes wrong becomes a refusal that says why and nothing private."""
        try:
            return self._answer(message)
        except ProtocolError as error:
            return note_reply(Refusal(reason_code="protocol_violation", reason=str(error)))
        except CryptoError as error:
            return note_reply(Refusal(reason_code="decryption_failed", reason=str(error)))

    def _answer(self, message: bytes) -> Iterator[bytes]:
        request = decode(message)
        if not isinstance(request, Step):
            raise ProtocolError("step: a decryptor opens no round and closes none")
        return payload_reply(self._end.handle(request.payload))
