"""A silo's stages: check the request by the rules, then say the reply. States only ever follow one another.

    manifest → Greeted, ask-shares → Dealt, ask-check → Examined, ask-vector → Masking, ask-consent → Consented,
    ask-reveal → nothing is kept                           └─ ask-disclosure, where somebody complained

Each function takes the state before it, so no stage can run on what another attempt or a missing stage left behind.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking import attempt, invariant, rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import OpenedShares, Place
from fedcollm_crypto.masking.dealing import Checked, Dealing, Disclosure, Parcel, ShareBox, Shares, box_tree
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.messages import Consent, Hello, Reveal, Upload
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy
from fedcollm_crypto.masking.requests import Delivery, Relay, VectorRequest, sign_message
from fedcollm_crypto.masking.silo_state import Consented, Dealt, Examined, Greeted, Masking, SiloSetup
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed

Body = TypeVar("Body")


def greet(manifest: RoundManifest, setup: SiloSetup, part: Part, memory: Memory) -> Greeted:
    """Answer M0: check the round; act on it only then; draw fresh secrets."""
    check_round(manifest, part.expected(manifest), setup, memory)
    # (4) Model, log and ledger have their say, in this order; the log is cosigned and ε reserved here.
    pledge = part.admit(manifest)
    # (5) Secrets for this attempt alone.
    secrets = attempt.draw_secrets(manifest, setup.party, setup.randomness)
    hello = sign_message(setup.identity, attempt.say_hello(manifest, secrets, pledge))
    return Greeted(manifest=manifest, secrets=secrets, hello=hello)


def check_round(manifest: RoundManifest, expected: Expected, setup: SiloSetup, memory: Memory) -> None:
    """(M0) Hold a manifest against roster, plan, policy and memory. Raises: Refused."""
    # (1) The round is the consortium's, the model and the plan are those this silo knows.
    rules.require_my_roster(manifest, setup.roster)
    rules.require_profile(manifest, setup.roster, setup.policy)
    rules.require_my_plan(manifest, expected)
    rules.require_encryption(manifest, expected)
    # (2) Enough silos, a high enough threshold: by this silo's own policy, not the server's. Enough noise.
    rules.require_cohort(manifest, setup.party, setup.roster, setup.policy)
    rules.require_threshold(manifest, setup.roster, setup.policy)
    invariant.require_noise_shares(manifest, expected, setup.policy)
    # (3) Never the same attempt again, never a second sum for one model version.
    rules.require_new_attempt(manifest, setup.stages.entries())
    invariant.require_overlap(manifest, setup.roster.of_role("silo"), setup.policy, memory)
    invariant.require_unreleased(manifest, memory)


def deal(before: Greeted, request: Relay, setup: SiloSetup) -> tuple[Dealt, Dealing]:
    """Answer the relayed hellos with shares for everyone in U1."""
    me, manifest = setup.party, before.manifest
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
    # (3) T1 is fixed; shares go out, under one signature.
    transcript = hashes.transcript_hash(signed)
    place = Place(me=me, manifest=manifest, roster=setup.roster, transcript=transcript, hellos=hellos)
    channels = attempt.agree_channels(place, before.secrets)
    dealt = attempt.deal_shares(place, before.secrets, channels, setup.randomness)
    root = Shares(manifest_hash=manifest.hash, transcript=transcript, root=box_tree(dealt.boxes).root())
    dealing = Dealing(shares=sign_message(setup.identity, root), boxes=dealt.boxes)
    state = Dealt(place=place, secrets=before.secrets, channels=channels, contents=dealt.contents)
    return state, dealing


def check(before: Dealt, request: Delivery, setup: SiloSetup) -> tuple[Examined, Signed]:
    """Answer the parcels: say whose box does not open."""
    # (1) The dealers are part of U1, this silo among them, enough of them.
    parcels = {parcel.shares.sender: parcel for parcel in request.parcels}
    if len(parcels) != len(request.parcels):
        raise ProtocolError("one parcel from each dealer was expected")
    rules.require_subset(parcels, before.place.hellos, "the dealers")
    rules.require_subset([before.place.me], parcels, "this silo's own parcels")
    rules.require_floor(parcels, before.place.manifest, "the dealers")
    # (2) Every box opens to the shares that were committed to, or its dealer has to disclose them.
    shares: dict[PartyId, OpenedShares] = {}
    disputed: dict[PartyId, ShareBox] = {}
    for party, parcel in parcels.items():
        opened = _open(parcel, before, setup.roster)
        if opened is None:
            disputed[party] = parcel.box
        else:
            shares[party] = opened
    said = Checked(
        manifest_hash=before.place.manifest.hash,
        transcript=before.place.transcript,
        complaints=tuple(sorted(disputed)),
    )
    return Examined(dealt=before, shares=shares, disputed=disputed), sign_message(setup.identity, said)


def disclose(before: Examined, request: Relay, setup: SiloSetup) -> Signed:
    """Answer complaints about this silo's boxes: say what was in them. Who complains could have read it anyway."""
    place = before.dealt.place
    # (1) Each complaint is signed, of this transcript, and about this silo.
    signed = _by_sender(request.messages, Checked.KIND, setup.roster)
    rules.require_subset(signed, place.hellos, "the complaints")
    complaints = _read(signed, Checked.from_body)
    _require_transcript([one.transcript for one in complaints.values()], place.transcript)
    # (2) A box for an honest silo opens: no more than n_c can complain.
    rules.require_few_complaints(complaints, place.me, setup.policy)
    contents = {party: before.dealt.contents[party] for party in sorted(complaints)}
    said = Disclosure(manifest_hash=place.manifest.hash, transcript=place.transcript, contents=contents)
    return sign_message(setup.identity, said)


def mask(before: Examined, request: VectorRequest, setup: SiloSetup) -> Masking:
    """Answer with the vector: take what was disclosed, derive the masks over U2."""
    dealt = before.dealt
    # (1) U2 is part of the dealers, this silo among them, enough of them.
    rules.require_subset(request.members, {*before.shares, *before.disputed}, "U2")
    rules.require_subset([dealt.place.me], request.members, "this silo's own U2")
    rules.require_floor(request.members, dealt.place.manifest, "U2")
    # (2) Whoever of them had dealt a box that does not open has disclosed what was in it.
    disclosed = _by_sender(request.disclosures, Disclosure.KIND, setup.roster)
    rules.require_subset(disclosed, before.disputed, "the disclosures")
    shares = {party: _shares_of(party, before, disclosed) for party in request.members}
    # (3) Masks over exactly this U2.
    members = frozenset(request.members)
    masks = attempt.choose_masks(dealt.place, dealt.secrets, members, shares)
    return Masking(place=dealt.place, members=members, masks=masks, shares=shares)


def upload(state: Masking, vector_hash: bytes) -> Upload:
    """Say which words were sent, and over which U2 they were masked."""
    return Upload(
        manifest_hash=state.place.manifest.hash,
        transcript=state.place.transcript,
        vector_hash=vector_hash,
        cohort_hash=hashes.cohort_hash(state.members),
    )


def consent(
    before: Masking, mine: Signed | None, request: Relay, setup: SiloSetup, memory: Memory
) -> tuple[Consented, Signed]:
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
    # (3) With this sum, too, the invariant over all sums holds.
    check_sum(manifest, signed, setup.policy, memory)
    survivors_hash = hashes.survivors_hash({party: upload.vector_hash for party, upload in uploads.items()})
    reply = Consent(manifest_hash=manifest.hash, transcript=transcript, survivors_hash=survivors_hash)
    state = Consented(masking=before, survivors_hash=survivors_hash, survivors=frozenset(signed))
    return state, sign_message(setup.identity, reply)


def check_sum(manifest: RoundManifest, survivors: Collection[PartyId], policy: SiloPolicy, memory: Memory) -> None:
    """(M4, M5) Hold the sum over U3 against every sum before it. Raises: Refused."""
    rules.require_floor(survivors, manifest, "U3")
    invariant.require_pass_cohort(manifest, survivors)
    invariant.require_one_dimension(manifest, survivors, memory)
    invariant.limit_exposure(manifest, survivors, policy, memory)


def reveal(before: Consented, request: Relay, setup: SiloSetup, memory: Memory) -> Signed:
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
    # (2) The invariant still holds: another session on these records may have opened a sum since the consent.
    check_sum(place.manifest, before.survivors, setup.policy, memory)
    # (3) Who survived and who did not is decided by this silo's own record, not by the request.
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


def _open(parcel: Parcel, before: Dealt, roster: Roster) -> OpenedShares | None:
    """Open one box. Where it does not open, its dealer's signature tells whether the dealer or the server is at fault.

    The box is authenticated by the key that both silos derive from their signed hellos; checking n signatures and paths
    first would tell a silo nothing more. In the post-quantum profile anybody can seal a box that opens, and with it a
    mask secret of his own: there the signature comes first.
    """
    place = before.place
    if place.manifest.post_quantum:
        _require_dealt(parcel, place, roster)
    try:
        if (parcel.box.transcript, parcel.box.sender) != (place.transcript, parcel.shares.sender):
            raise ProtocolError("a box is from another transcript or sender")
        return attempt.open_any_box(place, before.secrets, before.channels, parcel.box)
    except ProtocolError:
        _require_dealt(parcel, place, roster)  # raises when the server forged or changed the box
        return None


def _require_dealt(parcel: Parcel, place: Place, roster: Roster) -> None:
    rules.verify_sender(parcel.shares, roster)
    parcel.require_dealt(place.transcript, place.manifest.hash, list(place.hellos))
    if parcel.box.recipient != place.me:
        raise ProtocolError("a box is for another recipient")


def _shares_of(party: PartyId, before: Examined, disclosed: Mapping[PartyId, Signed]) -> OpenedShares:
    """Return a dealer's shares: from its box, else as it disclosed them. Raises: Refused, accusing the dealer."""
    if party in before.shares:
        return before.shares[party]
    place, message = before.dealt.place, disclosed.get(party)
    if message is None:
        raise Refused("bad_shares", f"the box of {party} does not open, and it disclosed nothing", accused=party)
    said = Disclosure.from_body(message.body)
    _require_transcript([said.transcript], place.transcript)
    try:
        if place.me not in said.contents:
            raise ProtocolError("nothing is disclosed for this silo")
        return attempt.accept_disclosed(before.disputed[party], said.contents[place.me])
    except ProtocolError as error:
        raise Refused("bad_shares", f"{party} dealt bad shares: {error}", accused=party) from None
