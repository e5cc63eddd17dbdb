"""The rules by which a silo says no. Each is one function with one reason; together they are the defence.

Each names the attack that it stops. `tests/crypto/test_sabotage.py` replaces them one at a time by a function that
allows everything, and shows that the attack then works; no other switch exists. What a silo holds to over all attempts
is in `invariant`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking.dealing import Checked
from fedcollm_crypto.masking.manifest import RoundManifest, threshold
from fedcollm_crypto.masking.messages import Hello, Upload
from fedcollm_crypto.masking.policy import Expected, SiloPolicy
from fedcollm_crypto.masking.requests import (
    ASK_CHECK,
    ASK_CONSENT,
    ASK_DISCLOSURE,
    ASK_REVEAL,
    ASK_SHARES,
    ASK_VECTOR,
    MANIFEST,
)
from fedcollm_crypto.masking.stages import Answered, StageEntry
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed

BUILDS_ON = {
    ASK_SHARES: MANIFEST,
    ASK_CHECK: ASK_SHARES,
    ASK_DISCLOSURE: ASK_CHECK,
    ASK_VECTOR: ASK_CHECK,
    ASK_CONSENT: ASK_VECTOR,
    ASK_REVEAL: ASK_CONSENT,
}
"""Which stage must have been answered before each."""


def verify_sender(message: Signed, roster: Roster) -> None:
    """Raise ProtocolError unless the member that the message names signed it. Stops forged and swapped keys."""
    message.verify(roster.key(message.sender))


def require_my_roster(manifest: RoundManifest, roster: Roster) -> None:
    """Stop rounds of another consortium, of a revoked epoch, or with members smuggled in."""
    mine = (roster.consortium_id, roster.epoch, roster.hash, roster.policy_hash)
    if (manifest.consortium_id, manifest.epoch, manifest.roster_hash, manifest.policy_hash) != mine:
        raise Refused("other_roster", f"the round is not of consortium {roster.consortium_id}, epoch {roster.epoch}")


def require_my_plan(manifest: RoundManifest, expected: Expected) -> None:
    """Stop a model, a schema, a training or privacy plan, or an encoding other than the silo's own."""
    for name in ("session_id", "base_model_hash", "adapter_hash", "lora_schema_hash", "train_cfg_hash"):
        _require_equal(name, getattr(manifest, name), getattr(expected, name))
    _require_equal("dp_plan_hash", manifest.dp_plan_hash, expected.dp_plan_hash)
    _require_equal("quantisation", manifest.quantisation, expected.quantisation)


def require_encryption(manifest: RoundManifest, expected: Expected) -> None:
    """Stop a round that leaves the encryption out, weakens it, or hands the key to another decryptor."""
    named = manifest.encryption
    got = ("", "") if named is None else (named.decryptor, named.parameters_hash)
    if got != (expected.decryptor, expected.parameters_hash):
        raise Refused("other_encryption", "the round names another decryptor or other parameters than this silo")


def _require_equal(name: str, got: object, expected: object) -> None:
    if got != expected:
        raise Refused("other_plan", f"{name} of the round is {got}, this silo computed {expected}")


def require_cohort(manifest: RoundManifest, me: PartyId, roster: Roster, policy: SiloPolicy) -> None:
    """Stop sums over too few silos, in which one silo's update is all but visible."""
    silos = roster.of_role("silo")
    if me not in manifest.cohort or not silos.issuperset(manifest.cohort):
        raise Refused("other_cohort", "the cohort must contain this silo, and silos of the roster only")
    if len(manifest.cohort) == 2 and not policy.allow_two_party:
        raise Refused("two_party", "in a cohort of two each party can compute the other's update from the sum")
    least = max(policy.min_cohort, policy.colluding + 2)
    if manifest.k_min < least:
        raise Refused("small_cohort", f"k_min is {manifest.k_min}, this silo insists on {least} or more")


def require_profile(manifest: RoundManifest, roster: Roster, policy: SiloPolicy) -> None:
    """Stop a round whose recorded traffic a later quantum computer would open, where the silo's policy forbids it."""
    if not policy.post_quantum:
        return
    if not manifest.post_quantum:
        raise Refused("classical_profile", "this silo takes part in rounds of the post-quantum profile alone")
    without = [party for party in (*manifest.cohort, manifest.server) if not roster.member(party).mldsa44]
    if without:
        raise Refused("classical_keys", f"the roster lists no ML-DSA-44 key for {', '.join(without)}")


def require_threshold(manifest: RoundManifest, roster: Roster, policy: SiloPolicy) -> None:
    """Stop a threshold so low that the server gets two quorums for two sets, or reads shares by itself.

    t follows from all silos of the roster, which every silo signed before round 1, and never from the cohort, which
    the server names: else it would have a sum opened by seven of ten, and another by the three that are left.
    """
    members = len(roster.of_role("silo"))
    try:
        least = threshold(members, policy.colluding, policy.adversary)
    except ValueError as error:
        raise Refused("small_cohort", str(error)) from None
    least = max(least, policy.min_threshold)
    if manifest.threshold < least:
        raise Refused(
            "low_threshold", f"t is {manifest.threshold}; of {members} silos this one insists on {least} or more"
        )


def require_new_attempt(manifest: RoundManifest, entries: Iterable[StageEntry]) -> None:
    """Stop replays of a round, also after a restart."""
    answered = [entry for entry in entries if isinstance(entry, Answered)]
    seen = [
        (entry.where.round, entry.where.attempt) for entry in answered if entry.where.session_id == manifest.session_id
    ]
    if seen and manifest.order <= max(seen):
        raise Refused("old_attempt", f"round and attempt {manifest.order} must be above {max(seen)}, seen before")


def refuse_second_answer(answered: Answered | None, request_hash: str) -> None:
    """Stop a second request for a stage: two answers over different sets give away masks between them."""
    if answered is not None and answered.request_hash != request_hash:
        raise Refused("second_answer", f"the stage {answered.stage} was answered for another request")


def require_order(stage: str, answered: Collection[str]) -> None:
    """Stop a stage that is asked for before the one it builds on, or, of a dispute, after U2 was fixed."""
    if BUILDS_ON[stage] not in answered or (stage == ASK_DISCLOSURE and ASK_VECTOR in answered):
        raise Refused("out_of_order", f"{stage} was asked for, after {', '.join(answered)}")


def require_few_complaints(complaints: Mapping[PartyId, Checked], me: PartyId, policy: SiloPolicy) -> None:
    """Stop a server that has a silo disclose its shares to more than are in league: t of them are its secrets."""
    if any(me not in complaint.complaints for complaint in complaints.values()):
        raise ProtocolError("a complaint is not about this silo")
    if len(complaints) > policy.colluding:
        raise Refused(
            "many_complaints",
            f"{len(complaints)} silos say that this silo's boxes do not open; for honest ones they do, and at most "
            f"{policy.colluding} are taken to be others",
        )


def require_one_manifest(hellos: Mapping[PartyId, Hello], manifest_hash: bytes) -> None:
    """Stop a server that shows silos different models, so that one silo's update survives the sum."""
    for party, hello in hellos.items():
        if hello.manifest_hash != manifest_hash:
            raise Refused("other_manifest", f"{party} signed another manifest than this silo")


def require_kem_keys(hellos: Mapping[PartyId, Hello], manifest: RoundManifest) -> None:
    """Stop hellos of another profile than the manifest's: a pair's mask would rest on X25519 alone."""
    for party, hello in hellos.items():
        if (hello.mlkem768 is not None) != manifest.post_quantum:
            raise Refused("other_profile", f"the hello of {party} is of another profile", accused=party)


def require_mine(mine: Signed, relayed: Signed | None, what: str) -> None:
    """Stop a server that leaves this silo's own message out or swaps it."""
    if relayed is None or relayed.body_hash != mine.body_hash:
        raise Refused("not_mine", f"this silo's own {what} is missing or another one")


def require_distinct_keys(hellos: Mapping[PartyId, Hello]) -> None:
    """Stop copied keys: with a copied mask key, masks of two pairs would cancel."""
    keys = [key for hello in hellos.values() for key in hello.public_keys]
    nonces = {hello.nonce for hello in hellos.values()}
    commitments = {hello.seed_commitment for hello in hellos.values()}
    if len(set(keys)) != len(keys) or min(len(nonces), len(commitments)) != len(hellos):
        raise Refused("equal_keys", "two hellos have a key, a nonce or a commitment in common")


def require_subset(members: Collection[PartyId], of: Collection[PartyId], what: str) -> None:
    """Stop silos that appear only after the stage they should have come in at."""
    if not set(members) <= set(of):
        raise Refused("new_member", f"{what} names silos that the stage before did not")


def require_floor(members: Collection[PartyId], manifest: RoundManifest, what: str) -> None:
    """Stop sums over fewer than max(t, k_min) silos."""
    if len(members) < manifest.floor:
        raise Refused("too_few", f"{what} has {len(members)} silos, max(t, k_min) = {manifest.floor} are needed")


def require_one_cohort(uploads: Mapping[PartyId, Upload], cohort_hash: bytes) -> None:
    """Stop uploads that were masked over another U2: their masks would not cancel, or reveal who differs."""
    for party, upload in uploads.items():
        if upload.cohort_hash != cohort_hash:
            raise Refused("other_cohort", f"{party} made its masks over another set than this silo")


def require_consents(survivors_hashes: Sequence[bytes], mine: bytes, manifest: RoundManifest) -> None:
    """Stop the opening of two sums: t silos must have signed one set, and each signs once."""
    agreeing = sum(survivors_hash == mine for survivors_hash in survivors_hashes)
    if agreeing < manifest.threshold or agreeing != len(survivors_hashes):
        raise Refused(
            "no_quorum",
            f"{agreeing} of {len(survivors_hashes)} consents are to this silo's set; t is {manifest.threshold}",
        )
