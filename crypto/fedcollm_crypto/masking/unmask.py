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
from fedcollm_crypto.masking.conviction import Fault, Guilty, owns_keys, sealed_well
from fedcollm_crypto.masking.dealing import ShareBox
from fedcollm_crypto.masking.hybrid import MaskKeyPairs, Pair
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.messages import Hello, Reveal
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

    Raises: Guilty, with the silo whose shares don't give the secret it committed to.
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
    seed = _combine(opening, shares, Fault(accused=party, kind="seed", owner=party))
    if hashes.seed_commitment(seed) != opening.hellos[party].seed_commitment:
        raise Guilty(Fault(accused=party, kind="seed", owner=party))
    return seed


def _pair_keys(opening: Opening, lost: PartyId) -> Callable[[PartyId], bytes]:
    """Return how s_j of the lost gives the key of its mask with each other silo."""
    private = X25519PrivateKey.from_private_bytes(_key_secret(opening, lost))

    def key(party: PartyId) -> bytes:
        shared = sealing.agree(private, opening.hellos[party].mask_key, party)
        return hashes.pair_mask_key(shared, opening.transcript, opening.manifest.hash, party, lost)

    return key


def _hybrid_pair_keys(opening: Opening, lost: PartyId) -> Callable[[PartyId], bytes]:
    """Return how m_j of the lost gives both halves of the secret under its mask with each other silo."""
    master = _key_secret(opening, lost)
    private = MaskKeyPairs.derive(master, opening.manifest.hash, lost)

    def key(party: PartyId) -> bytes:
        low, high = sorted((party, lost))
        pair = Pair(transcript=opening.transcript, manifest_hash=opening.manifest.hash, low=low, high=high)
        shared = sealing.agree(private.x25519, opening.hellos[party].mask_key, party)
        return pair.mask_key(shared, _pair_secret(opening, pair, lost, (master, private)))

    return key


def _pair_secret(opening: Opening, pair: Pair, lost: PartyId, of_lost: tuple[bytes, MaskKeyPairs]) -> bytes:
    """Return r_{low→high}: derived where the lost silo chose it, opened where it was sealed to the lost silo.

    Raises: Guilty, with the silo that chose it, when it sealed or committed to another.
    """
    master, private = of_lost
    box = opening.boxes[pair.low][pair.high]
    if box.mask_secret is None or not sealed_well(box, pair, lost, master, opening.manifest):
        other = pair.high if pair.low == lost else pair.low
        raise Guilty(Fault(accused=pair.low, kind="mask_secret", owner=lost, other=other))
    return pair.secret(master) if pair.low == lost else pair.open(private.mlkem768, box.mask_secret)


def _key_secret(opening: Opening, party: PartyId) -> bytes:
    fault = Fault(accused=party, kind="key", owner=party)
    secret = _combine(opening, {who: reveal.key_shares[party] for who, reveal in opening.reveals.items()}, fault)
    if not owns_keys(secret, opening.hellos[party], opening.manifest, party):
        raise Guilty(fault)
    return secret


def _combine(opening: Opening, shares: Mapping[PartyId, bytes], fault: Fault) -> bytes:
    by_point = {opening.roster.point(who): share for who, share in shares.items()}
    try:
        return shamir.combine(by_point, opening.manifest.threshold)
    except ProtocolError:
        raise Guilty(fault) from None
