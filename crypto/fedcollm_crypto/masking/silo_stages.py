"""A silo's five stages: check the request by the rules, then say the reply. States only ever follow one another.

    manifest → Greeted, ask-shares → Dealt, ask-vector → Masking, ask-consent → Consented, ask-reveal → nothing is kept

Each function takes the state before it, so no stage can run on what another attempt or a missing stage left behind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.keys import Identity, Randomness
from fedcollm_crypto.masking import attempt, rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import OpenedShares, Place, Secrets
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.messages import Consent, Hello, Reveal, ShareBox, Shares, Upload
from fedcollm_crypto.masking.policy import Expected, SiloPolicy, Witness
from fedcollm_crypto.masking.requests import Relay, sign_message
from fedcollm_crypto.masking.stages import StageJournal
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a silo brings along: who it is, whom it knows, what it insists on and expects."""

    identity: Identity
    roster: Roster
    policy: SiloPolicy
    expected: Expected
    stages: StageJournal
    witness: Witness
    randomness: Randomness


@dataclass(frozen=True, kw_only=True)
class Greeted:
    """After M1."""

    manifest: RoundManifest
    secrets: Secrets = field(repr=False)
    hello: Signed


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """After M2: the transcript is fixed."""

    place: Place
    secrets: Secrets = field(repr=False)
    channels: Mapping[PartyId, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Masking:
    """In M3: U2, the masks, and the shares that others dealt to this silo."""

    place: Place
    members: frozenset[PartyId]
    masks: MaskKeys = field(repr=False)
    shares: Mapping[PartyId, OpenedShares] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Consented:
    """After M4: U3, for good."""

    masking: Masking
    survivors_hash: bytes
    survivors: frozenset[PartyId]


Body = TypeVar("Body")


def greet(manifest: RoundManifest, setup: Setup) -> Greeted:
    """Answer M0: check the round against roster, plan and policy, then draw fresh secrets."""
    # (1) The round is the consortium's, the model and the plan are those this silo knows.
    rules.require_my_roster(manifest, setup.roster)
    rules.require_profile(manifest, setup.roster, setup.policy)
    rules.require_my_plan(manifest, setup.expected)
    rules.require_encryption(manifest, setup.expected)
    # (2) Enough silos, a high enough threshold: by this silo's own policy, not the server's.
    rules.require_cohort(manifest, setup.identity.party, setup.roster, setup.policy)
    rules.require_threshold(manifest, setup.policy)
    # (3) Never the same attempt again, never a second sum for one model version.
    rules.require_new_attempt(manifest, setup.stages.entries())
    rules.require_unreleased(manifest, setup.stages.entries())
    # (4) The ledger and the log have their say.
    pledge = setup.witness(manifest)
    # (5) Secrets for this attempt alone.
    secrets = attempt.draw_secrets(manifest, setup.identity.party, setup.randomness)
    hello = sign_message(setup.identity, attempt.say_hello(manifest, secrets, pledge))
    return Greeted(manifest=manifest, secrets=secrets, hello=hello)


def deal(before: Greeted, request: Relay, setup: Setup) -> tuple[Dealt, Signed]:
    """Answer the relayed hellos with shares for everyone in U1."""
    me, manifest = setup.identity.party, before.manifest
    # (1) Every hello is signed by a silo of the cohort; this silo's own is among them.
    signed = _by_sender(request.messages, Hello.KIND, setup.roster)
    rules.require_subset(signed, manifest.cohort, "U1")
    rules.require_mine(before.hello, signed.get(me), "hello")
    # (2) All signed one manifest; no key is used twice; there are enough of them.
    hellos = _read(signed, Hello.from_body)
    rules.require_one_manifest(hellos, manifest.hash)
    rules.require_kem_keys(hellos, manifest)
    rules.require_distinct_keys(hellos)
    rules.require_floor(hellos, manifest, "U1")
    # (3) T1 is fixed; shares go out.
    transcript = hashes.transcript_hash(signed)
    place = Place(me=me, manifest=manifest, roster=setup.roster, transcript=transcript, hellos=hellos)
    channels = attempt.agree_channels(place, before.secrets)
    boxes = attempt.deal_shares(place, before.secrets, channels, setup.randomness)
    signed_boxes = tuple(sign_message(setup.identity, box) for box in boxes)
    reply = Shares(manifest_hash=manifest.hash, transcript=transcript, boxes=signed_boxes)
    return Dealt(place=place, secrets=before.secrets, channels=channels), sign_message(setup.identity, reply)


def mask(before: Dealt, request: Relay, setup: Setup) -> Masking:
    """Answer the relayed boxes: keep the shares, derive the masks over U2."""
    # (1) U2 are the senders of boxes for this silo: part of U1, this silo among them, enough of them.
    boxes = _senders(request.messages, ShareBox.KIND)
    rules.require_subset(boxes, before.place.hellos, "U2")
    rules.require_subset([before.place.me], boxes, "this silo's own U2")
    rules.require_floor(boxes, before.place.manifest, "U2")
    # (2) Every box opens to the shares that were committed to.
    shares = {party: _open(box, before, setup.roster) for party, box in boxes.items()}
    # (3) Masks over exactly this U2.
    members = frozenset(boxes)
    masks = attempt.choose_masks(before.place, before.secrets, members, shares)
    return Masking(place=before.place, members=members, masks=masks, shares=shares)


def upload(state: Masking, vector_hash: bytes) -> Upload:
    """Say which words were sent, and over which U2 they were masked."""
    return Upload(
        manifest_hash=state.place.manifest.hash,
        transcript=state.place.transcript,
        vector_hash=vector_hash,
        cohort_hash=hashes.cohort_hash(state.members),
    )


def consent(before: Masking, mine: Signed | None, request: Relay, setup: Setup) -> tuple[Consented, Signed]:
    """Answer the relayed uploads: agree to U3, once."""
    manifest, transcript = before.place.manifest, before.place.transcript
    # (1) U3 is part of U2; each of its members signed an upload of this transcript over the same U2.
    signed = _by_sender(request.messages, Upload.KIND, setup.roster)
    rules.require_subset(signed, before.members, "U3")
    uploads = _read(signed, Upload.from_body)
    _require_transcript([upload.transcript for upload in uploads.values()], transcript)
    rules.require_one_cohort(uploads, hashes.cohort_hash(before.members))
    # (2) This silo's own upload is among them; there are enough.
    if mine is None:
        raise Refused("not_mine", "this silo has not finished its upload")
    rules.require_mine(mine, signed.get(before.place.me), "upload")
    rules.require_floor(signed, manifest, "U3")
    # (3) The sum over U3 differs enough from earlier ones.
    rules.require_pass_cohort(manifest, signed)
    rules.limit_single_changes(manifest, signed, setup.policy, setup.stages.entries())
    survivors_hash = hashes.survivors_hash({party: upload.vector_hash for party, upload in uploads.items()})
    reply = Consent(manifest_hash=manifest.hash, transcript=transcript, survivors_hash=survivors_hash)
    state = Consented(masking=before, survivors_hash=survivors_hash, survivors=frozenset(signed))
    return state, sign_message(setup.identity, reply)


def reveal(before: Consented, request: Relay, setup: Setup) -> Signed:
    """Answer the relayed consents: b's share of each survivor, s's share of each other silo of U2; never both."""
    place, masking = before.masking.place, before.masking
    # (1) At least t members of U3 signed this very U3.
    signed = _by_sender(request.messages, Consent.KIND, setup.roster)
    rules.require_subset(signed, before.survivors, "the quorum")
    consents = _read(signed, Consent.from_body)
    _require_transcript([consent.transcript for consent in consents.values()], place.transcript)
    rules.require_consents(
        [consent.survivors_hash for consent in consents.values()], before.survivors_hash, place.manifest
    )
    # (2) Who survived and who did not is decided by this silo's own record, not by the request.
    reply = Reveal(
        manifest_hash=place.manifest.hash,
        transcript=place.transcript,
        seed_shares={party: masking.shares[party].seed_share for party in before.survivors},
        key_shares={party: masking.shares[party].key_share for party in masking.members - before.survivors},
    )
    return sign_message(setup.identity, reply)


def _senders(messages: Sequence[Signed], kind: str) -> dict[PartyId, Signed]:
    """Return the messages by sender. Raises: ProtocolError for another kind or a sender that appears twice."""
    by_sender = {message.sender: message for message in messages if message.kind == kind}
    if len(by_sender) != len(messages):
        raise ProtocolError(f"the request must carry one message of kind {kind} for each sender, and no other")
    return by_sender


def _by_sender(messages: Sequence[Signed], kind: str, roster: Roster) -> dict[PartyId, Signed]:
    """Return the messages by sender, after checking every signature."""
    by_sender = _senders(messages, kind)
    for message in by_sender.values():
        rules.verify_sender(message, roster)
    return by_sender


def _read(signed: Mapping[PartyId, Signed], read: Callable[[Json], Body]) -> dict[PartyId, Body]:
    return {party: read(message.body) for party, message in signed.items()}


def _require_transcript(transcripts: Sequence[bytes], mine: bytes) -> None:
    if any(transcript != mine for transcript in transcripts):
        raise ProtocolError("a relayed message belongs to another transcript: it was replayed")


def _open(signed: Signed, before: Dealt, roster: Roster) -> OpenedShares:
    """Open one box. When it does not open, its signature tells whether its sender or the server is at fault.

    The box is authenticated by the key that both silos derive from their signed hellos; checking the signature of
    each of n boxes first would double a silo's work and tell it nothing more. In the post-quantum profile anybody can
    seal a box that opens, and with it a mask secret of his own: there the signature comes first.
    """
    if before.place.manifest.post_quantum:
        rules.verify_sender(signed, roster)
    box = ShareBox.from_body(signed.body)
    try:
        if (box.transcript, box.sender, box.recipient) != (before.place.transcript, signed.sender, before.place.me):
            raise ProtocolError("a box is from another transcript, sender or for another recipient")
        return attempt.open_any_box(before.place, before.secrets, before.channels, box)
    except ProtocolError as error:
        rules.verify_sender(signed, roster)  # raises when the server forged or changed the box
        raise Refused("bad_shares", f"{signed.sender} dealt bad shares: {error}", accused=signed.sender) from None
