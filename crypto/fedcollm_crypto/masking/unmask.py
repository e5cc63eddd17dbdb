"""R, the server's last step: from shares to secrets, from secrets to masks, from masks to the sum.

Every share was checked against its dealer's commitment when it came, so a secret that doesn't fit what its owner
published in M1 convicts the owner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.hybrid import MaskKeyPairs, Pair, require_committed
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.messages import Hello, Reveal, ShareBox
from fedcollm_crypto.roster import Roster


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What the server has once enough silos revealed: U2, U3 and their shares.

    `boxes`, by dealer and recipient, bring the sealed mask secrets of the post-quantum profile.
    """

    manifest: RoundManifest
    roster: Roster
    transcript: bytes
    hellos: Mapping[PartyId, Hello]
    members: frozenset[PartyId]
    survivors: frozenset[PartyId]
    reveals: Mapping[PartyId, Reveal] = field(repr=False)
    boxes: Mapping[PartyId, Mapping[PartyId, ShareBox]] = field(default_factory=dict[PartyId, dict[PartyId, ShareBox]])


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
        pair_key = _hybrid_pair_keys(opening, lost) if opening.manifest.post_quantum else _pair_keys(opening, lost)
        for party in sorted(opening.survivors):
            key = pair_key(party)
            (plus if lost > party else minus).append(key)
    return MaskKeys(plus=plus, minus=minus)


def _seed(opening: Opening, party: PartyId) -> bytes:
    shares = {who: reveal.seed_shares[party] for who, reveal in opening.reveals.items()}
    seed = _combine(opening, shares, party)
    if hashes.seed_commitment(seed) != opening.hellos[party].seed_commitment:
        raise _convicted(party)
    return seed


def _pair_keys(opening: Opening, lost: PartyId) -> Callable[[PartyId], bytes]:
    """Return how s_j of the lost gives the key of its mask with each other silo."""
    private = X25519PrivateKey.from_private_bytes(_key_secret(opening, lost))
    if private.public_key().public_bytes_raw() != opening.hellos[lost].mask_key:
        raise _convicted(lost)

    def key(party: PartyId) -> bytes:
        shared = sealing.agree(private, opening.hellos[party].mask_key, party)
        return hashes.pair_mask_key(shared, opening.transcript, opening.manifest.hash, party, lost)

    return key


def _hybrid_pair_keys(opening: Opening, lost: PartyId) -> Callable[[PartyId], bytes]:
    """Return how m_j of the lost gives both halves of the secret under its mask with each other silo."""
    master, hello = _key_secret(opening, lost), opening.hellos[lost]
    private = MaskKeyPairs.derive(master, opening.manifest.hash, lost)
    if private.public_keys != (hello.mask_key, hello.kem_keys.mask):
        raise _convicted(lost)

    def key(party: PartyId) -> bytes:
        low, high = sorted((party, lost))
        pair = Pair(transcript=opening.transcript, manifest_hash=opening.manifest.hash, low=low, high=high)
        shared = sealing.agree(private.x25519, opening.hellos[party].mask_key, party)
        return pair.mask_key(shared, _pair_secret(opening, pair, lost, (master, private)))

    return key


def _pair_secret(opening: Opening, pair: Pair, lost: PartyId, of_lost: tuple[bytes, MaskKeyPairs]) -> bytes:
    """Return r_{low→high}: derived where the lost silo chose it, opened where it was sealed to the lost silo.

    Raises: ProtocolError naming the silo that chose it, when it sealed or committed to another.
    """
    master, private = of_lost
    sealed = opening.boxes[pair.low][pair.high].mask_secret
    try:
        if sealed is None:
            raise ProtocolError("the box lacks its mask secret")
        if pair.low != lost:
            return pair.open(private.mlkem768, sealed)
        secret = pair.secret(master)
        require_committed(secret, sealed)
        return secret
    except ProtocolError:
        raise _convicted(pair.low) from None


def _key_secret(opening: Opening, party: PartyId) -> bytes:
    return _combine(opening, {who: reveal.key_shares[party] for who, reveal in opening.reveals.items()}, party)


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
