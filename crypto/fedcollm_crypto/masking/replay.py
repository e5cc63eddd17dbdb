"""Add up a masked round once more from what its silos sent: anybody who has the replies can, without any secret.

The same checks as the server's (`gathered`) decide what is let in, so the result is the sum that an honest server
must have reached, or an error that names the silo at fault.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np

from fedcollm_crypto.aggregation import Chunks, PartyId, Sum
from fedcollm_crypto.errors import CryptoError, ProtocolError
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.dealing import Dealing, Shares
from fedcollm_crypto.masking.gathered import Gathered
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import remove_masks
from fedcollm_crypto.masking.messages import Upload
from fedcollm_crypto.masking.replies import REPLIES, split_frame
from fedcollm_crypto.masking.requests import DEALING_FRAME, MESSAGE_FRAME, STAGES, VECTOR_FRAME
from fedcollm_crypto.masking.unmask import leftover_masks
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed
from fedcollm_crypto.wire import Words, fill, join, words

Replies = Mapping[PartyId, Callable[[], Chunks]]
"""What came in at one stage: party → a function that opens its reply, so that one vector is in memory at a time."""


def replay(manifest: RoundManifest, roster: Roster, stages: Sequence[Replies]) -> Sum:
    """Return the sum of an attempt from the replies of its stages; `stages[k]` answers `STAGES[k]`.

    Guarantee: every signature, commitment and share behind the sum was verified against the roster.
    Raises: ProtocolError for a missing stage, too few silos, or a silo whose shares don't give what it committed to.
    """
    if len(stages) != len(STAGES):
        raise ProtocolError(f"replay: expected {len(STAGES)} stages, got {len(stages)}")
    seen = Gathered(manifest=manifest, roster=roster)
    ring_bits = manifest.quantisation.ring_bits
    total, scratch = words(manifest.quantisation.length, ring_bits), words(manifest.quantisation.length, ring_bits)

    def take(kind: str, let_in: Callable[[Signed], None], replies: Replies) -> None:
        for party in sorted(replies):
            with suppress(CryptoError, OSError):  # the server dropped its sender, and so does the replay
                message = _read(party, replies[party](), kind, roster, scratch)
                if message.body.get("manifest_hash") == manifest.hash.hex():
                    let_in(message)

    def add(message: Signed) -> None:
        seen.check_upload(message, scratch.view(np.uint8))
        seen.take_upload(message)
        np.add(total, scratch, out=total)

    take(REPLIES[0], seen.take_hello, stages[0])
    seen.transcript = hashes.transcript_hash(seen.signed_hellos)
    for party in sorted(stages[1]):
        with suppress(CryptoError, OSError):
            dealing = _read_dealing(party, stages[1][party](), roster)
            if Shares.from_body(dealing.shares.body).manifest_hash == manifest.hash:
                seen.take_dealing(dealing)
    take(REPLIES[2], seen.take_checked, stages[2])
    take(REPLIES[3], seen.take_disclosure, stages[3])
    seen.fix_members()
    take(REPLIES[4], add, stages[4])
    seen.survivors_hash = hashes.survivors_hash(seen.vector_hashes)
    take(REPLIES[5], seen.take_consent, stages[5])
    take(REPLIES[6], seen.take_reveal, stages[6])
    if len(seen.vector_hashes) < manifest.floor or min(len(seen.consents), len(seen.reveals)) < manifest.threshold:
        raise ProtocolError("replay: too few of the archived replies are genuine to open a sum")
    remove_masks(total, ring_bits, leftover_masks(seen.opening()))
    return Sum(total=total.astype(np.uint64, copy=False), contributors=frozenset(seen.vector_hashes))


def _read(party: PartyId, reply: Chunks, kind: str, roster: Roster, scratch: Words) -> Signed:
    frame, rest = split_frame(reply)
    with_vector = kind == Upload.KIND
    if frame != (VECTOR_FRAME if with_vector else MESSAGE_FRAME):
        raise ProtocolError("replay: a refusal, or a reply of another stage")
    message = Signed.decode(fill(scratch, rest) if with_vector else join(rest))
    if message.sender != party or message.kind != kind:
        raise ProtocolError("replay: a reply of another sender or kind")
    message.verify(roster.key(party))
    return message


def _read_dealing(party: PartyId, reply: Chunks, roster: Roster) -> Dealing:
    frame, rest = split_frame(reply)
    if frame != DEALING_FRAME:
        raise ProtocolError("replay: a refusal, or a reply of another stage")
    dealing = Dealing.decode(join(rest))
    if dealing.shares.sender != party:
        raise ProtocolError("replay: a dealing of another sender")
    dealing.shares.verify(roster.key(party))
    return dealing
