"""Each defence taken away by itself, and the attack that then works.

`Mallory` is a server that signs whatever it likes. Every attack below ends with what it learned; while all rules are in
place it ends in a refusal instead. Rules are taken away by replacing one function of `rules` or `invariant`, here and
nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.masking import attempt, invariant, requests, rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.dealing import Checked, Dealing, Disclosure, Parcel
from fedcollm_crypto.masking.manifest import threshold
from fedcollm_crypto.masking.masks import MaskKeys, remove_masks
from fedcollm_crypto.masking.messages import Hello, Reveal, Upload
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import Delivery, Refusal, VectorRequest
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
        return self.send(party, kind, body, skip)

    def send(self, party: str, kind: str, body: Mapping[str, object], skip: int = 0) -> tuple[bytes, Signed]:
        return self.read(b"".join(self.silos[party].handle(self.consortium.signed(kind, body))), skip)

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

    def dealing(self, dealer: str, manifest=None) -> Dealing:
        """Ask one silo for its shares."""
        hellos = [m.to_json() for m in self.hellos.values()]
        body = {"manifest_hash": (manifest or self.manifest).hash.hex(), "messages": hellos}
        data = b"".join(self.silos[dealer].handle(self.consortium.signed(requests.ASK_SHARES, body)))
        self.read(data, 0)
        return Dealing.decode(data[1:])

    def deal(self, manifests: Mapping[str, object] | None = None) -> None:
        """Run M2 honestly; parcels by recipient, then dealer."""
        self.parcels: dict[str, dict[str, Parcel]] = {party: {} for party in self.names}
        for dealer in self.names:
            for recipient, parcel in self.dealing(dealer, (manifests or {}).get(dealer)).parcels().items():
                self.parcels[recipient][dealer] = parcel

    def check(self, party: str, manifest=None) -> None:
        """Run M2a honestly."""
        parcels = tuple(self.parcels[party].values())
        delivery = Delivery(manifest_hash=(manifest or self.manifest).hash, parcels=parcels)
        self.send(party, requests.ASK_CHECK, delivery.to_body())

    def vector(self, party: str, members: Sequence[str], manifest=None) -> tuple[np.ndarray, Signed]:
        """Ask for the masked words over any U2."""
        wanted = VectorRequest(
            manifest_hash=(manifest or self.manifest).hash, members=tuple(sorted(members)), disclosures=()
        )
        skip = 8 * self.manifest.quantisation.length
        words, message = self.send(party, requests.ASK_VECTOR, wanted.to_body(), skip)
        return np.frombuffer(words, "<u8").copy(), message

    def collect(self) -> None:
        """Run M1 to M3 honestly."""
        self.meet()
        self.deal()
        for party in self.names:
            self.check(party)
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
    dealt = mallory.dealing(victim)
    mallory.parcels = {victim: {victim: dealt.parcels()[victim]}}
    opened = {}
    for fake in fakes:
        channel = attempt.agree_channels(places[fake], secrets[fake])[victim]
        opened[fake] = attempt.open_box(places[fake], channel, dealt.boxes[fake])
    for fake in fakes:
        channels = attempt.agree_channels(places[fake], secrets[fake])
        boxes = attempt.deal_shares(places[fake], secrets[fake], channels, tools.fixed(fake)).boxes
        signer = replace(server, party=fake)
        dealing = tools.sign_dealing(signer, mallory.manifest.hash, mallory.transcript, boxes)
        mallory.parcels[victim][fake] = dealing.parcels()[victim]
    mallory.check(victim)
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
    return states[requests.ASK_VECTOR].shares[dealer]


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


def ask_two_cohorts_of_one_roster(tools) -> bool:
    """Of ten silos seven open one sum and the three that are left another, each with a t of its own cohort."""
    mallory = Mallory(tools, 10)
    whole, names, totals = mallory.manifest, mallory.names, []
    for number, cohort in enumerate([names[:7], names[7:]]):
        low = threshold(len(cohort), whole.colluding, whole.adversary)
        mallory.names = cohort
        mallory.manifest = replace(whole, attempt=number, cohort=tuple(cohort), threshold=low)
        totals.append(run_honestly(mallory, cohort))
    return all(
        np.array_equal(total, mallory.consortium.total(part))
        for total, part in zip(totals, [names[:7], names[7:]], strict=True)
    )


def have_the_victim_disclose_its_secret(tools) -> bool:
    """Complaints of t silos' own making: what the victim discloses is its secrets, both of them."""
    mallory = Mallory(tools, 5)
    mallory.meet()
    mallory.deal()
    victim, liars = mallory.names[0], mallory.names[1:]
    mallory.check(victim)
    said = Checked(manifest_hash=mallory.manifest.hash, transcript=mallory.transcript, complaints=(victim,))
    complaints = [requests.sign_message(mallory.consortium.identities[liar], said) for liar in liars]
    _, message = mallory.ask(victim, requests.ASK_DISCLOSURE, complaints)
    contents = Disclosure.from_body(message.body).contents
    words, _ = mallory.vector(victim, mallory.names)
    seed = mallory.combine({p: each.seed_share for p, each in contents.items()})
    private = mallory.combine({p: each.key_share for p, each in contents.items()})
    return np.array_equal(mallory.unmask_one(victim, words, seed, private, liars), mallory.consortium.vectors[victim])


def open_two_sums_for_one_model(tools) -> bool:
    """Σ(U) − Σ(U∖{d}) is x_d, to the last bit."""
    mallory = Mallory(tools, 7, policy=SiloPolicy(max_single_changes=0))
    first = run_honestly(mallory, mallory.names)
    mallory.manifest = replace(mallory.manifest, round=2)
    second = run_honestly(mallory, mallory.names[:6])
    return np.array_equal(first - second, mallory.consortium.vectors[mallory.names[6]])


BEHIND = ("require_one_dimension", "limit_exposure")
"""What stands behind `require_unreleased`: one rule is enough to stop a second sum."""


def open_two_passes_over_two_sets(tools) -> bool:
    """The second pass of one model leaves a silo out: the difference is its update again."""
    mallory = Mallory(tools, 7)
    first = run_honestly(mallory, mallory.names)
    mallory.manifest = replace(mallory.manifest, attempt=1, linear_pass=1)
    second = run_honestly(mallory, mallory.names[:6])
    return np.array_equal(first - second, mallory.consortium.vectors[mallory.names[6]])


def run_the_job_again_without_one_silo(tools) -> bool:
    """Another session from the same adapter over one silo fewer: where training is deterministic, x_d comes out."""
    mallory = Mallory(tools, 7, policy=SiloPolicy(max_single_changes=0))
    first = run_honestly(mallory, mallory.names)
    mallory.manifest = replace(mallory.manifest, session_id="again")
    mallory.silos = mallory.consortium.silos(mallory.manifest)
    second = run_honestly(mallory, mallory.names[:6])
    return np.array_equal(first - second, mallory.consortium.vectors[mallory.names[6]])


def sums_of_rounds(tools, n: int, cohorts: Sequence[Sequence[int]]) -> tuple[Mallory, list[np.ndarray]]:
    """Open a sum over each cohort in turn, a new model each time."""
    mallory, sums = Mallory(tools, n, policy=SiloPolicy(max_single_changes=0)), []
    for number, cohort in enumerate(cohorts, start=1):
        mallory.manifest = replace(mallory.manifest, round=number, adapter_hash=f"{number:064x}")
        mallory.silos = mallory.consortium.silos(mallory.manifest)
        sums.append(run_honestly(mallory, [mallory.names[i] for i in cohort]))
    return mallory, sums


def drop_one_silo_in_every_other_round(tools) -> bool:
    """Where updates hardly change between rounds, two sums that differ by one silo give its update away."""
    mallory, sums = sums_of_rounds(tools, 7, [range(7), range(6)])
    return np.array_equal(sums[0] - sums[1], mallory.consortium.vectors[mallory.names[6]])


def drop_pairs_of_silos(tools) -> bool:
    """No two sums differ by one silo; a + b, b + c and a + c give 2a."""
    pairs = [{7, 8}, {8, 9}, {7, 9}]
    mallory, sums = sums_of_rounds(tools, 10, [range(10), *[[i for i in range(10) if i not in pair] for pair in pairs]])
    ab, bc, ac = (sums[0] - other for other in sums[1:])
    return np.array_equal(ab + ac - bc, np.uint64(2) * mallory.consortium.vectors[mallory.names[7]])


def name_fewer_silos_than_the_plan_counts_on(tools) -> bool:
    """The plan counts on the noise of five honest silos; a cohort's floor of five holds that of four."""
    mallory = Mallory(tools, 7, dp_plan_hash="99" * 32)
    expected = replace(mallory.consortium.expected(), noise_shares=5)
    mallory.silos = mallory.consortium.silos(expected=lambda _: expected)
    survivors = mallory.names[:5]
    return np.array_equal(run_honestly(mallory, survivors), mallory.consortium.total(survivors))


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


ATTACKS: list[tuple[Callable[..., bool], ModuleType, tuple[str, ...], str]] = [
    (pretend_to_be_everybody_else, rules, ("verify_sender",), "malformed"),
    (ask_for_the_vector_again_without_one_silo, rules, ("refuse_second_answer",), "second_answer"),
    (ask_two_halves_about_two_sets, rules, ("require_threshold",), "low_threshold"),
    (ask_two_cohorts_of_one_roster, rules, ("require_threshold",), "low_threshold"),
    (show_everybody_another_set, rules, ("require_consents",), "no_quorum"),
    (open_a_sum_over_fewer_than_kmin, rules, ("require_floor",), "too_few"),
    (pair_the_victim_with_a_silo_in_league, rules, ("require_cohort",), "two_party"),
    (have_the_victim_disclose_its_secret, rules, ("require_few_complaints",), "many_complaints"),
    (open_two_sums_for_one_model, invariant, ("require_unreleased", *BEHIND), "released"),
    (open_two_passes_over_two_sets, invariant, ("require_pass_cohort",), "other_pass"),
    (run_the_job_again_without_one_silo, invariant, ("require_one_dimension", "limit_exposure"), "other_set"),
    (drop_one_silo_in_every_other_round, invariant, ("limit_exposure",), "cohort_changes"),
    (drop_pairs_of_silos, invariant, ("limit_exposure",), "cohort_changes"),
    (name_fewer_silos_than_the_plan_counts_on, invariant, ("require_noise_shares",), "too_little_noise"),
    (replay_a_round_to_a_restarted_silo, rules, ("require_new_attempt",), "old_attempt"),
    (send_a_crafted_model, rules, ("require_my_plan",), "other_plan"),
    (smuggle_in_members, rules, ("require_my_roster",), "other_roster"),
]
PARAMETERS = pytest.mark.parametrize(
    ("attack", "module", "taken", "code"), ATTACKS, ids=lambda value: getattr(value, "__name__", str(value))
)


@PARAMETERS
def test_with_all_rules_in_place_the_attack_is_refused(tools, attack, module, taken, code):
    with pytest.raises(Blocked, match=f"^{code}$"):
        attack(tools)


@PARAMETERS
def test_without_its_rule_the_attack_works(tools, attack, module, taken, code, monkeypatch):
    for rule in taken:
        monkeypatch.setattr(module, rule, lambda *_: None)

    assert attack(tools)


@pytest.mark.parametrize("rule", [("require_unreleased"), *BEHIND])
def test_a_second_sum_of_one_model_is_refused_by_a_second_rule_too(tools, monkeypatch, rule):
    """The survivors tell as well as the manifest; and without differential privacy the span of all sums does."""
    monkeypatch.setattr(invariant, rule, lambda *_: None)

    with pytest.raises(Blocked):
        open_two_sums_for_one_model(tools)


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
    mallory.deal(manifests)
    words = {}
    for party in mallory.names:
        mallory.check(party, manifests[party])
        words[party], _ = mallory.vector(party, mallory.names, manifests[party])
    total = np.sum(list(words.values()), axis=0, dtype=np.uint64)
    for party in mallory.names:  # the best case for the server: it has every seed
        state = mallory.silos[party]._progress.states[requests.ASK_VECTOR]
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
