"""Each defence taken away by itself, and the attack that then works.

`Mallory` is a server that signs whatever it likes. Every attack below ends with what it learned; while all rules are in
place it ends in a refusal instead. Rules are taken away by replacing one function of `rules`, here and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.masking import attempt, rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.masks import MaskKeys, remove_masks
from fedcollm_crypto.masking.messages import Hello, Reveal, Shares, Upload
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import Refusal
from fedcollm_crypto.masking.unmask import Opening, leftover_masks
from fedcollm_crypto.signed import Signed, sign


class Blocked(Exception):
    """A silo refused."""


class Mallory:
    """The server's key in the wrong hands."""

    def __init__(self, tools, n: int, policy: SiloPolicy | None = None, **changes) -> None:
        self.tools, self.consortium = tools, tools.Consortium(n, **changes)
        self.consortium.policy = policy or self.consortium.policy
        self.manifest, self.names = self.consortium.manifest, self.consortium.names
        self.silos = self.consortium.silos()

    def ask(
        self, party: str, kind: str, messages: Sequence[Signed], skip: int = 0, manifest=None
    ) -> tuple[bytes, Signed]:
        body = {"manifest_hash": (manifest or self.manifest).hash.hex(), "messages": [m.to_json() for m in messages]}
        data = b"".join(self.silos[party].handle(self.consortium.signed(kind, body)))
        return self.read(data, skip)

    def read(self, data: bytes, skip: int) -> tuple[bytes, Signed]:
        if data[:1] == b"M":
            skip = 0
        message = self.tools.reply_of(data, skip)
        if message.kind == Refusal.KIND:
            raise Blocked(Refusal.from_body(message.body).reason_code)
        return data[1 : 1 + skip], message

    def greet(self, party: str, manifest=None) -> Signed:
        body = (manifest or self.manifest).to_body()
        return self.read(b"".join(self.silos[party].handle(self.consortium.signed("manifest", body))), 0)[1]

    def meet(self) -> dict[str, Signed]:
        """Run M1 honestly."""
        self.hellos = {party: self.greet(party) for party in self.names}
        self.transcript = hashes.transcript_hash(self.hellos)
        return self.hellos

    def deal(self) -> dict[str, dict[str, Signed]]:
        """Run M2 honestly; boxes by recipient, then dealer."""
        self.boxes: dict[str, dict[str, Signed]] = {party: {} for party in self.names}
        for dealer in self.names:
            _, message = self.ask(dealer, "ask-shares", list(self.hellos.values()))
            for box in Shares.from_body(message.body).boxes:
                self.boxes[str(box.body["recipient"])][dealer] = box
        return self.boxes

    def vector(self, party: str, dealers: Sequence[str]) -> tuple[np.ndarray, Signed]:
        """Ask for the masked words over any U2."""
        boxes = [self.boxes[party][dealer] for dealer in dealers]
        words, message = self.ask(party, "ask-vector", boxes, 8 * self.manifest.quantisation.length)
        return np.frombuffer(words, "<u8").copy(), message

    def collect(self) -> None:
        """Run M1 to M3 honestly."""
        self.meet()
        self.deal()
        self.words, self.uploads = {}, {}
        for party in self.names:
            self.words[party], self.uploads[party] = self.vector(party, self.names)

    def consent(self, party: str, survivors: Sequence[str]) -> Signed:
        return self.ask(party, "ask-consent", [self.uploads[p] for p in survivors])[1]

    def reveal(self, party: str, consents: Sequence[Signed]) -> Reveal:
        return Reveal.from_body(self.ask(party, "ask-reveal", consents)[1].body)

    def open_sum(self, survivors: Sequence[str], reveals: Mapping[str, Reveal]) -> np.ndarray:
        """Unmask Σ y over the survivors with what was revealed."""
        opening = Opening(
            manifest=self.manifest,
            roster=self.consortium.roster,
            transcript=self.transcript,
            hellos={party: Hello.from_body(hello.body) for party, hello in self.hellos.items()},
            members=frozenset(self.names),
            survivors=frozenset(survivors),
            reveals=reveals,
        )
        total = np.sum([self.words[p] for p in survivors], axis=0, dtype=np.uint64)
        remove_masks(total, 64, leftover_masks(opening))
        return total

    def combine(self, shares: Mapping[str, bytes]) -> bytes:
        points = {self.consortium.roster.point(party): share for party, share in shares.items()}
        return shamir.combine(points, self.manifest.threshold)

    def unmask_one(
        self, victim: str, words: np.ndarray, seed: bytes, private: bytes | None, others: Sequence[str]
    ) -> np.ndarray:
        """Take all masks off one upload, with both secrets of its owner."""
        plus, minus = [hashes.self_mask_key(seed, self.transcript, self.manifest.hash, victim)], []
        for other in others if private else ():
            mask_key = Hello.from_body(self.hellos[other].body).mask_key
            shared = sealing.agree(X25519PrivateKey.from_private_bytes(private), mask_key, other)
            key = hashes.pair_mask_key(shared, self.transcript, self.manifest.hash, victim, other)
            (plus if other > victim else minus).append(key)
        opened = words.copy()
        remove_masks(opened, 64, MaskKeys(plus=plus, minus=minus))
        return opened


def run_honestly(mallory: Mallory, survivors: Sequence[str]) -> np.ndarray:
    """Complete an attempt over the survivors."""
    mallory.collect()
    consents = [mallory.consent(party, survivors) for party in survivors]
    return mallory.open_sum(survivors, {party: mallory.reveal(party, consents) for party in survivors})


# --- the attacks: each returns whether Mallory learned what she must not ---


def pretend_to_be_everybody_else(tools) -> bool:
    """Put keys of one's own into everybody else's hello; then open all boxes of the victim, and its upload."""
    mallory = Mallory(tools, 5)
    victim, fakes = mallory.names[0], mallory.names[1:]
    secrets = {party: attempt.Secrets.draw(tools.fixed(f"mallory {party}")) for party in fakes}
    pledge = attempt.Pledge()
    server = mallory.consortium.identities["server"]

    def forged(party: str, message) -> Signed:
        return sign(replace(server, party=party), message.KIND, message.to_body())

    hellos = {p: forged(p, attempt.say_hello(mallory.manifest, secrets[p], pledge)) for p in fakes}
    mallory.hellos = {victim: mallory.greet(victim), **hellos}
    mallory.transcript = hashes.transcript_hash(mallory.hellos)
    places = {
        p: attempt.Place(
            me=p,
            manifest=mallory.manifest,
            roster=mallory.consortium.roster,
            transcript=mallory.transcript,
            hellos={q: Hello.from_body(h.body) for q, h in mallory.hellos.items()},
        )
        for p in fakes
    }
    _, dealt = mallory.ask(victim, "ask-shares", list(mallory.hellos.values()))
    mallory.boxes = {victim: {}}
    opened = {}
    for signed in Shares.from_body(dealt.body).boxes:
        box = attempt.ShareBox.from_body(signed.body)
        if box.recipient == victim:
            mallory.boxes[victim][victim] = signed
        else:
            channel = attempt.agree_channels(places[box.recipient], secrets[box.recipient])[victim]
            opened[box.recipient] = attempt.open_box(places[box.recipient], channel, box)
    for fake in fakes:
        channels = attempt.agree_channels(places[fake], secrets[fake])
        for box in attempt.deal_shares(places[fake], secrets[fake], channels, tools.fixed(fake)):
            if box.recipient == victim:
                mallory.boxes[victim][fake] = forged(fake, box)
    words, _ = mallory.vector(victim, mallory.names)
    seed = mallory.combine({p: o.seed_share for p, o in opened.items()})
    private = mallory.combine({p: o.key_share for p, o in opened.items()})
    return np.array_equal(mallory.unmask_one(victim, words, seed, private, fakes), mallory.consortium.vectors[victim])


def ask_for_the_vector_again_without_one_silo(tools) -> bool:
    """Subtract y over U2∖{j} from y over U2: that is the mask with j. Once for each j; then b is opened as usual."""
    mallory = Mallory(tools, 7)
    mallory.collect()
    victim = mallory.names[3]
    full = mallory.words[victim]
    pair_masks = np.zeros_like(full)
    for other in set(mallory.names) - {victim}:
        pair_masks += full - mallory.vector(victim, [p for p in mallory.names if p != other])[0]
    mallory.vector(victim, mallory.names)
    consents = [mallory.consent(party, mallory.names) for party in mallory.names]
    reveals = {party: mallory.reveal(party, consents) for party in mallory.names}
    seed = mallory.combine({party: reveal.seed_shares[victim] for party, reveal in reveals.items()})
    opened = mallory.unmask_one(victim, full - pair_masks, seed, None, ())
    return np.array_equal(opened, mallory.consortium.vectors[victim])


def ask_two_halves_about_two_sets(tools) -> bool:
    """With t = 4 of 7 and one silo in league: one half opens the victim's b, the other its s."""
    mallory = Mallory(tools, 7, adversary="semi_honest", threshold=4)
    mallory.collect()
    victim, friend = mallory.names[0], mallory.names[6]
    halves = {True: mallory.names[:3], False: mallory.names[3:6]}
    sets = {True: mallory.names, False: mallory.names[1:]}
    shares: dict[bool, dict[str, bytes]] = {}
    for with_victim, half in halves.items():
        uploads = {p: Upload.from_body(mallory.uploads[p].body).vector_hash for p in sets[with_victim]}
        consents = [mallory.consent(party, sets[with_victim]) for party in half]
        forged = replace_consent(mallory, friend, consents[0], hashes.survivors_hash(uploads))
        revealed = {party: mallory.reveal(party, [*consents, forged]) for party in half}
        shares[with_victim] = {
            p: r.seed_shares[victim] if with_victim else r.key_shares[victim] for p, r in revealed.items()
        }
    own = opened_by(mallory, friend, victim)
    seed = mallory.combine(shares[True] | {friend: own.seed_share})
    private = mallory.combine(shares[False] | {friend: own.key_share})
    opened = mallory.unmask_one(victim, mallory.words[victim], seed, private, mallory.names[1:])
    return np.array_equal(opened, mallory.consortium.vectors[victim])


def replace_consent(mallory: Mallory, friend: str, model: Signed, survivors_hash: bytes) -> Signed:
    """Let the silo in league sign a consent to any set."""
    body = {**model.body, "survivors_hash": survivors_hash.hex()}
    return sign(mallory.consortium.identities[friend], "consent", body)


def opened_by(mallory: Mallory, friend: str, dealer: str) -> attempt.OpenedShares:
    """Return the shares that a silo in league holds: it hands its memory to the server."""
    states = mallory.silos[friend]._progress.states
    return states[2].shares[dealer]


def show_everybody_another_set(tools) -> bool:
    """Of ten silos each leaves out three, but not the same: seven leave out each of four. The sum of six comes out."""
    mallory = Mallory(tools, 10)
    mallory.collect()
    inside, outside = mallory.names[:6], mallory.names[6:]
    left_out = {p: [q for q in outside if q != outside[i % 4]] for i, p in enumerate(inside)}
    left_out |= {p: [q for q in outside if q != p] for p in outside}
    consents = {p: mallory.consent(p, [q for q in mallory.names if q not in left_out[p]]) for p in mallory.names}
    reveals = {p: mallory.reveal(p, [consents[p]]) for p in mallory.names}
    plus, minus = [], []
    for party in inside:
        seed = mallory.combine({p: r.seed_shares[party] for p, r in reveals.items()})
        plus.append(hashes.self_mask_key(seed, mallory.transcript, mallory.manifest.hash, party))
    for lost in outside:
        private = mallory.combine({p: r.key_shares[lost] for p, r in reveals.items() if lost in r.key_shares})
        for party in inside:
            mask_key = Hello.from_body(mallory.hellos[party].body).mask_key
            shared = sealing.agree(X25519PrivateKey.from_private_bytes(private), mask_key, party)
            key = hashes.pair_mask_key(shared, mallory.transcript, mallory.manifest.hash, party, lost)
            (plus if lost > party else minus).append(key)
    total = np.sum([mallory.words[p] for p in inside], axis=0, dtype=np.uint64)
    remove_masks(total, 64, MaskKeys(plus=plus, minus=minus))
    return len(inside) < mallory.manifest.floor and np.array_equal(total, mallory.consortium.total(inside))


def open_a_sum_over_fewer_than_kmin(tools) -> bool:
    """k_min is 7; leave two silos out of U3."""
    mallory = Mallory(tools, 7, k_min=7)
    return np.array_equal(run_honestly(mallory, mallory.names[:5]), mallory.consortium.total(mallory.names[:5]))


def pair_the_victim_with_a_silo_in_league(tools) -> bool:
    """The sum over two, less the friend's own vector, is the victim's."""
    mallory = Mallory(tools, 2, policy=SiloPolicy(colluding=0))
    victim, friend = mallory.names
    total = run_honestly(mallory, mallory.names)
    return np.array_equal(total - mallory.consortium.vectors[friend], mallory.consortium.vectors[victim])


def open_two_sums_for_one_model(tools) -> bool:
    """Σ(U) − Σ(U∖{d}) is x_d, to the last bit."""
    mallory = Mallory(tools, 7)
    first = run_honestly(mallory, mallory.names)
    mallory.manifest = replace(mallory.manifest, round=2)
    second = run_honestly(mallory, mallory.names[:6])
    return np.array_equal(first - second, mallory.consortium.vectors[mallory.names[6]])


def open_two_passes_over_two_sets(tools) -> bool:
    """The second pass of one model leaves a silo out: the difference is its update again."""
    mallory = Mallory(tools, 7)
    first = run_honestly(mallory, mallory.names)
    mallory.manifest = replace(mallory.manifest, attempt=1, linear_pass=1)
    second = run_honestly(mallory, mallory.names[:6])
    return np.array_equal(first - second, mallory.consortium.vectors[mallory.names[6]])


def drop_one_silo_in_every_other_round(tools) -> bool:
    """Where updates hardly change between rounds, two sums that differ by one silo give its update away."""
    mallory, sums = Mallory(tools, 7, policy=SiloPolicy(max_single_changes=0)), []
    for number, survivors in enumerate([mallory.names, mallory.names[:6]], start=1):
        mallory.manifest = replace(mallory.manifest, round=number, adapter_hash=f"{number:064x}")
        mallory.silos = mallory.consortium.silos(mallory.manifest)
        sums.append(run_honestly(mallory, survivors))
    return np.array_equal(sums[0] - sums[1], mallory.consortium.vectors[mallory.names[6]])


def replay_a_round_to_a_restarted_silo(tools) -> bool:
    """A silo that forgot the round would take part again."""
    mallory = Mallory(tools, 3)
    mallory.collect()
    mallory.silos = mallory.consortium.silos()
    return mallory.greet(mallory.names[0]).kind == Hello.KIND


def send_a_crafted_model(tools) -> bool:
    """A model of the server's making makes updates that give records away, whatever hides them singly."""
    mallory = Mallory(tools, 3)
    crafted = replace(mallory.manifest, adapter_hash="66" * 32)
    return mallory.greet(mallory.names[0], crafted).kind == Hello.KIND


def smuggle_in_members(tools) -> bool:
    """A roster of the server's making would count its own puppets as silos."""
    mallory = Mallory(tools, 3)
    other = replace(mallory.manifest, roster_hash="66" * 32)
    return mallory.greet(mallory.names[0], other).kind == Hello.KIND


ATTACKS: list[tuple[Callable[..., bool], str, str]] = [
    (pretend_to_be_everybody_else, "verify_sender", "malformed"),
    (ask_for_the_vector_again_without_one_silo, "refuse_second_answer", "second_answer"),
    (ask_two_halves_about_two_sets, "require_threshold", "low_threshold"),
    (show_everybody_another_set, "require_consents", "no_quorum"),
    (open_a_sum_over_fewer_than_kmin, "require_floor", "too_few"),
    (pair_the_victim_with_a_silo_in_league, "require_cohort", "two_party"),
    (open_two_sums_for_one_model, "require_unreleased", "released"),
    (open_two_passes_over_two_sets, "require_pass_cohort", "other_pass"),
    (drop_one_silo_in_every_other_round, "limit_single_changes", "cohort_changes"),
    (replay_a_round_to_a_restarted_silo, "require_new_attempt", "old_attempt"),
    (send_a_crafted_model, "require_my_plan", "other_plan"),
    (smuggle_in_members, "require_my_roster", "other_roster"),
]


@pytest.mark.parametrize(("attack", "rule", "code"), ATTACKS, ids=lambda value: getattr(value, "__name__", value))
def test_with_all_rules_in_place_the_attack_is_refused(tools, attack, rule, code):
    with pytest.raises(Blocked, match=f"^{code}$"):
        attack(tools)


@pytest.mark.parametrize(("attack", "rule", "code"), ATTACKS, ids=lambda value: getattr(value, "__name__", value))
def test_without_its_rule_the_attack_works(tools, attack, rule, code, monkeypatch):
    monkeypatch.setattr(rules, rule, lambda *_: None)

    assert attack(tools)


# --- models that differ: two barriers, taken away one after the other ---


def show_the_victim_another_model(tools) -> bool:
    """Run a round in which the victim's manifest differs from everybody else's; does the sum come out?"""
    mallory = Mallory(tools, 5)
    victim = mallory.names[0]
    special = replace(mallory.manifest, adapter_hash="66" * 32)
    mallory.silos[victim] = mallory.consortium.silo(victim, special)
    manifests = {party: special if party == victim else mallory.manifest for party in mallory.names}
    mallory.hellos = {party: mallory.greet(party, manifests[party]) for party in mallory.names}
    mallory.transcript = hashes.transcript_hash(mallory.hellos)
    mallory.boxes = {party: {} for party in mallory.names}
    for dealer in mallory.names:
        _, message = mallory.ask(dealer, "ask-shares", list(mallory.hellos.values()), manifest=manifests[dealer])
        for box in Shares.from_body(message.body).boxes:
            mallory.boxes[str(box.body["recipient"])][dealer] = box
    words = {}
    for party in mallory.names:
        boxes = list(mallory.boxes[party].values())
        raw, mallory.uploads = mallory.ask(party, "ask-vector", boxes, 40, manifests[party])
        words[party] = np.frombuffer(raw, "<u8")
    total = np.sum(list(words.values()), axis=0, dtype=np.uint64)
    for party in mallory.names:  # the best case for the server: it has every seed
        state = mallory.silos[party]._progress.states[2]
        remove_masks(total, 64, MaskKeys(plus=state.masks.plus[:1], minus=[]))
    return np.array_equal(total, mallory.consortium.total(mallory.names))


def test_a_model_shown_to_one_silo_only_is_refused(tools):
    with pytest.raises(Blocked, match="other_manifest"):
        show_the_victim_another_model(tools)


def test_without_that_rule_the_masks_still_do_not_cancel(tools, monkeypatch):
    monkeypatch.setattr(rules, "require_one_manifest", lambda *_: None)

    assert not show_the_victim_another_model(tools)


def test_without_both_barriers_the_sum_comes_out(tools, monkeypatch):
    monkeypatch.setattr(rules, "require_one_manifest", lambda *_: None)
    bound = hashes.pair_mask_key
    monkeypatch.setattr(hashes, "pair_mask_key", lambda shared, t, _, a, b: bound(shared, t, b"", a, b))

    assert show_the_victim_another_model(tools)


def test_mallory_herself_plays_correctly(tools):
    """The harness must be able to finish a round, else a refusal would prove nothing."""
    mallory = Mallory(tools, 7)

    assert np.array_equal(run_honestly(mallory, mallory.names[:6]), mallory.consortium.total(mallory.names[:6]))
