"""What the post-quantum profile is worth: each half taken away by itself, and the attack that then works.

A quantum computer is played by handing the attacker what it would compute: private X25519 or Ed25519 keys.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fedcollm_crypto import keys, sealing, shamir
from fedcollm_crypto.aggregation import Ask
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import attempt, hybrid, requests, rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.dealing import Dealing, Parcel
from fedcollm_crypto.masking.masks import MaskKeys, remove_masks
from fedcollm_crypto.masking.messages import Hello, Reveal
from fedcollm_crypto.masking.requests import Refusal
from fedcollm_crypto.signed import sign

VICTIM = "silo-003"


def consortium_of(tools, n: int):
    return tools.Consortium(n, post_quantum=True)


# --- the recorded round, and who can read it later ---


@dataclass(kw_only=True)
class Recording:
    """All that went over the wire, and the private keys that an attacker may be handed."""

    consortium: object
    hellos: dict[str, Hello]
    transcript: bytes
    words: np.ndarray
    reveals: dict[str, Reveal]
    secrets: dict[str, attempt.Secrets]

    def pair(self, one: str, other: str) -> hybrid.Pair:
        low, high = sorted((one, other))
        manifest_hash = self.consortium.manifest.hash
        return hybrid.Pair(transcript=self.transcript, manifest_hash=manifest_hash, low=low, high=high)

    def x25519(self, other: str) -> bytes:
        return sealing.agree(self.secrets[VICTIM].mask, self.hellos[other].mask_key, other)

    def mlkem768(self, other: str) -> bytes:
        pair = self.pair(VICTIM, other)
        return pair.secret(self.secrets[pair.low].hybrid.master)

    def reads(self, pair_key: Callable[[str], bytes]) -> bool:
        """Open b of the victim with the reveals, take off its masks, and look for its vector."""
        consortium = self.consortium
        points = {consortium.roster.point(p): r.seed_shares[VICTIM] for p, r in self.reveals.items()}
        seed = shamir.combine(points, consortium.manifest.threshold)
        plus, minus = [hashes.self_mask_key(seed, self.transcript, consortium.manifest.hash, VICTIM)], []
        for other in set(consortium.names) - {VICTIM}:
            (plus if other > VICTIM else minus).append(pair_key(other))
        words = self.words.copy()
        remove_masks(words, 64, MaskKeys(plus=plus, minus=minus))
        return np.array_equal(words, consortium.vectors[VICTIM])


def record(tools, consortium) -> Recording:
    """Run a round and write down what is on the wire."""
    silos, server = consortium.silos(), consortium.server()
    said: list[dict[str, bytes]] = []
    secrets: dict[str, attempt.Secrets] = {}
    step = server.start(consortium.names)
    while isinstance(step, Ask):
        said.append(tools.answers(step, silos))
        if len(said) == 1:
            secrets = {p: silos[p]._progress.states[requests.MANIFEST].secrets for p in silos}
        for party, reply in said[-1].items():
            server.absorb(party, [reply])
        step = server.step()
    signed_hellos = {p: tools.reply_of(reply) for p, reply in said[0].items()}
    return Recording(
        consortium=consortium,
        hellos={p: Hello.from_body(m.body) for p, m in signed_hellos.items()},
        transcript=hashes.transcript_hash(signed_hellos),
        words=np.frombuffer(said[4][VICTIM][1:41], "<u8"),
        reveals={p: Reveal.from_body(tools.reply_of(reply).body) for p, reply in said[6].items()},
        secrets=secrets,
    )


def read_a_classical_round_later(tools, consortium) -> bool:
    """Break X25519, derive every pair's mask."""
    recording = record(tools, consortium)
    t1, manifest_hash = recording.transcript, consortium.manifest.hash
    return recording.reads(
        lambda other: hashes.pair_mask_key(recording.x25519(other), t1, manifest_hash, VICTIM, other)
    )


def test_a_later_quantum_computer_reads_a_recorded_classical_round(tools):
    assert read_a_classical_round_later(tools, tools.Consortium(5))


def test_it_does_not_read_one_of_this_profile(tools):
    consortium = consortium_of(tools, 5)
    recording = record(tools, consortium)

    assert not read_a_classical_round_later(tools, consortium_of(tools, 5))
    assert not recording.reads(lambda other: recording.pair(VICTIM, other).mask_key(recording.x25519(other), bytes(32)))


def test_broken_mlkem_alone_does_not_read_it_either(tools):
    recording = record(tools, consortium_of(tools, 5))

    assert not recording.reads(
        lambda other: recording.pair(VICTIM, other).mask_key(bytes(32), recording.mlkem768(other))
    )


def test_whoever_breaks_both_reads_it(tools):
    """The harness must be able to read, else the tests above would prove nothing."""
    recording = record(tools, consortium_of(tools, 5))

    assert recording.reads(
        lambda other: recording.pair(VICTIM, other).mask_key(recording.x25519(other), recording.mlkem768(other))
    )


@pytest.mark.parametrize("kept", [slice(0, 32), slice(32, 64)])
def test_a_mask_key_that_leaves_out_a_half_falls_with_the_other(tools, monkeypatch, kept: slice):
    bound = hybrid.derive_key

    def without(secret, **rest):
        return bound(secret[kept] if rest["label"] == hybrid.PAIR_MASK_LABEL else secret, **rest)

    monkeypatch.setattr(hybrid, "derive_key", without)
    recording = record(tools, consortium_of(tools, 5))

    def attack(other: str) -> bytes:
        broken_x25519 = kept.start == 0
        halves = (recording.x25519(other), bytes(32)) if broken_x25519 else (bytes(32), recording.mlkem768(other))
        return recording.pair(VICTIM, other).mask_key(*halves)

    assert recording.reads(attack)


class Blocked(Exception):
    """A silo refused."""


def downgrade(tools) -> bool:
    """Offer a classical round to silos whose policy is post-quantum; record it; read it later."""
    consortium = consortium_of(tools, 5)
    consortium.manifest = replace(consortium.manifest, profile="classical")
    request = consortium.signed("manifest", consortium.manifest.to_body())
    message = tools.reply_of(b"".join(consortium.silo(VICTIM).handle(request)))
    if message.kind == Refusal.KIND:
        raise Blocked(Refusal.from_body(message.body).reason_code)
    consortium.stages = {party: type(stages)() for party, stages in consortium.stages.items()}
    return read_a_classical_round_later(tools, consortium)


def forge_hellos_with_broken_ed25519(tools) -> bool:
    """Sign hellos of one's own for all but the victim, with their Ed25519 keys; get every share of the victim."""
    consortium = consortium_of(tools, 5)
    fakes = [party for party in consortium.names if party != VICTIM]
    silo = consortium.silo(VICTIM)
    mine = tools.reply_of(b"".join(silo.handle(consortium.signed("manifest", consortium.manifest.to_body()))))
    drawn = {p: attempt.draw_secrets(consortium.manifest, p, tools.fixed(f"mallory {p}")) for p in fakes}
    signed = {VICTIM: mine}
    for party in fakes:
        hello = attempt.say_hello(consortium.manifest, drawn[party], attempt.Pledge())
        forger = Identity(
            party=party, key=consortium.identities[party].key, mldsa44=Identity.generate("m", post_quantum=True).mldsa44
        )
        signed[party] = sign(forger, Hello.KIND, hello.to_body())
    body = {
        "manifest_hash": consortium.manifest.hash.hex(),
        "messages": [signed[p].to_json() for p in consortium.names],
    }
    data = b"".join(silo.handle(consortium.signed("ask-shares", body)))
    reply = tools.reply_of(data)
    if reply.kind == Refusal.KIND:
        raise Blocked(Refusal.from_body(reply.body).reason_code)
    masters: dict[int, bytes] = {}
    for box in Dealing.decode(data[1:]).boxes.values():
        if box.recipient in fakes:
            secrets = drawn[box.recipient]
            place = attempt.Place(
                me=box.recipient,
                manifest=consortium.manifest,
                roster=consortium.roster,
                transcript=box.transcript,
                hellos={p: Hello.from_body(m.body) for p, m in signed.items()},
            )
            opened = attempt.open_hybrid_box(place, secrets, secrets.hybrid, box)
            masters[consortium.roster.point(box.recipient)] = opened.key_share
    master = shamir.combine(masters, consortium.manifest.threshold)
    return master == silo._progress.states[requests.MANIFEST].secrets.hybrid.master


def forge_boxes(tools) -> bool:
    """Seal boxes to the victim in others' names, with mask secrets of one's own; broken X25519 gives the rest.

    Base mode lets anybody seal, so this needs no quantum computer until the last step.
    """
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    ask = tools.run_to(3, consortium.server(), silos)
    own = {p: attempt.draw_secrets(consortium.manifest, p, tools.fixed(f"mallory {p}")) for p in consortium.names[:2]}
    place = silos[VICTIM]._progress.states[requests.ASK_SHARES].place
    forged = {}
    for dealer, drawn in own.items():
        boxes = attempt.deal_shares(replace(place, me=dealer), drawn, {}, tools.fixed(dealer)).boxes
        puppet = replace(consortium.identities["server"], party=dealer)
        dealing = tools.sign_dealing(puppet, consortium.manifest.hash, place.transcript, boxes)
        forged[dealer] = dealing.parcels()[VICTIM]

    def swap(parcels: list[Parcel]) -> list[Parcel]:
        return [*forged.values(), parcels[2]]

    checked = b"".join(silos[VICTIM].handle(tools.reshaped(consortium, ask.requests[VICTIM], swap)))
    if tools.reply_of(checked).kind == Refusal.KIND:
        raise Blocked(tools.refusal_code([checked]))
    body = {"manifest_hash": consortium.manifest.hash.hex(), "members": consortium.names, "disclosures": []}
    data = b"".join(silos[VICTIM].handle(consortium.signed(requests.ASK_VECTOR, body)))
    if data[:1] == b"M":
        raise Blocked(tools.refusal_code([data]))
    x25519 = silos[VICTIM]._progress.states[requests.MANIFEST].secrets.mask
    predicted = []
    for dealer, drawn in own.items():
        pair = place.pair(dealer, VICTIM)
        shared = sealing.agree(x25519, place.hellos[dealer].mask_key, dealer)
        predicted.append(pair.mask_key(shared, pair.secret(drawn.hybrid.master)))
    return predicted == silos[VICTIM]._progress.states[requests.ASK_VECTOR].masks.minus


def ed25519_suffices(key, kind, body, signature, who) -> None:
    """Verify the first half alone."""
    key.ed25519.verify(signature[:64], keys.signing_input(kind, body, keys.HYBRID_DOMAIN))


ATTACKS = [
    (downgrade, rules, "require_profile", lambda *_: None, "classical_profile"),
    (forge_boxes, rules, "verify_sender", lambda *_: None, "malformed"),
]


@pytest.mark.parametrize(("attack", "where", "defence", "sabotage", "code"), ATTACKS)
def test_with_the_defence_in_place_the_attack_is_refused(tools, attack, where, defence, sabotage, code):
    with pytest.raises(Blocked, match=f"^{code}$"):
        attack(tools)


@pytest.mark.parametrize(("attack", "where", "defence", "sabotage", "code"), ATTACKS)
def test_without_the_defence_the_attack_works(tools, monkeypatch, attack, where, defence, sabotage, code):
    monkeypatch.setattr(where, defence, sabotage)

    assert attack(tools)


def test_broken_ed25519_does_not_forge_a_hello(tools):
    with pytest.raises(Blocked, match=r"^malformed$"):
        forge_hellos_with_broken_ed25519(tools)


def test_without_the_second_signature_it_would(tools, monkeypatch):
    monkeypatch.setattr("fedcollm_crypto.signed.verify_signature", ed25519_suffices)

    assert forge_hellos_with_broken_ed25519(tools)
