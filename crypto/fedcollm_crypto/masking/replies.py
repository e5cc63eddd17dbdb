"""What a reply looks like: one byte that says what is in it, then a vector's words, a dealer's boxes or a message."""

import itertools
from collections.abc import Iterator

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.dealing import Checked, Disclosure, Shares
from fedcollm_crypto.masking.messages import Consent, Hello, Reveal, Upload
from fedcollm_crypto.masking.requests import DEALING_FRAME, MESSAGE_FRAME, VECTOR_FRAME

REPLIES = (
    Hello.KIND,
    Shares.KIND,
    Checked.KIND,
    Disclosure.KIND,
    Upload.KIND,
    Consent.KIND,
    Reveal.KIND,
)
"""What each stage is answered with, in the order of `STAGES`."""


def split_frame(reply: Chunks) -> tuple[bytes, Iterator[bytes]]:
    """Return the first byte of the reply and an iterator over the others."""
    chunks = iter(reply)
    first = next((chunk for chunk in chunks if chunk), b"")
    if first[:1] not in (VECTOR_FRAME, DEALING_FRAME, MESSAGE_FRAME):
        raise ProtocolError("a reply starts with one of three known bytes")
    return first[:1], itertools.chain([first[1:]], chunks)
