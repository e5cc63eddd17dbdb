"""R, the server's last step: from shares to secrets, from secrets to masks, from masks to the sum.

Every share was checked against its dealer's commitment when it came, so a secret that doesn't fit what its owner
published in M1 convicts the owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.messages import Hello, Reveal
from fedcollm_crypto.roster import Roster


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What the server has once enough silos revealed: U2, U3 and their shares."""

    manifest: RoundManifest
    roster: Roster
    transcript: bytes
    hellos: Mapping[PartyId, Hello]
    members: frozenset[PartyId]
    survivors: frozenset[PartyId]
    reveals: Mapping[PartyId, Reveal] = field(repr=False)


def leftover_masks(opening: Opening) -> MaskKeys:
    """Return the keys of all masks that are still in Σ y_i over U3, as the survivors added and subtracted them.

    Raises: ProtocolError naming the silo whose shares don't give the secret it committed to.
    """
    plus: list[bytes] = []
    minus: list[bytes] = []
    # (1) Every survivor's own mask.
    for party in sorted(opening.survivors):
        seed = _seed(opening, party)
        plus.append(hashes.self_mask_key(seed, opening.transcript, opening.manifest.hash, party))
    # (2) For every silo that dropped out after M2: the masks that the survivors share with it.
    for lost in sorted(opening.members - opening.survivors):
        private = _mask_private_key(opening, lost)
        for party in sorted(opening.survivors):
            shared = sealing.agree(private, opening.hellos[party].mask_key, party)
            key = hashes.pair_mask_key(shared, opening.transcript, opening.manifest.hash, party, lost)
            (plus if lost > party else minus).append(key)
    return MaskKeys(plus=plus, minus=minus)


def _seed(opening: Opening, party: PartyId) -> bytes:
    shares = {who: reveal.seed_shares[party] for who, reveal in opening.reveals.items()}
    seed = _combine(opening, shares, party)
    if hashes.seed_commitment(seed) != opening.hellos[party].seed_commitment:
        raise _convicted(party)
    return seed


def _mask_private_key(opening: Opening, party: PartyId) -> X25519PrivateKey:
    shares = {who: reveal.key_shares[party] for who, reveal in opening.reveals.items()}
    private = X25519PrivateKey.from_private_bytes(_combine(opening, shares, party))
    if private.public_key().public_bytes_raw() != opening.hellos[party].mask_key:
        raise _convicted(party)
    return private


def _combine(opening: Opening, shares: Mapping[PartyId, bytes], owner: PartyId) -> bytes:
    by_point = {opening.roster.point(who): share for who, share in shares.items()}
    try:
        return shamir.combine(by_point, opening.manifest.threshold)
    except ProtocolError:
        raise _convicted(owner) from None


def _convicted(party: PartyId) -> ProtocolError:
    return ProtocolError(
        f"{party} dealt shares that do not give the secret it committed to. Leave it out of the next round and keep "
        "its signed messages as evidence"
    )
