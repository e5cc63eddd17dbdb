"""A12: one silo sends its update times −1000.

Nobody sees single updates, so nobody can filter them. What stands is a bound: the encoding clips every entry to ±c, a
sum outside what clipping allows is rejected, and so is a mean beyond the norm gate or one that worsens the auxiliary
loss beyond its gate; the last good model stays. Inside these bounds a silo biases the model as it likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import PartyId, Sum, Vector, aggregate
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER, Consortium, silo_names
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.twins.unbounded_mean import unbounded_mean
from fedcollm_secure.config.protection import Gates
from fedcollm_secure.federation.gates import GateClosed, check_aggregate

SILOS, FEATURES, RECORDS, CLIP, FACTOR = 5, 50, 200, 1.0, -1000.0
HEADROOM, LOSS_INCREASE = 2.0, 0.1
Update = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class World:
    """A two-class problem that a linear model solves: what each silo learned of it, and records to test on."""

    updates: Mapping[PartyId, Update]
    inputs: NDArray[np.float64]
    labels: NDArray[np.bool_]

    def loss(self, model: Update) -> float:
        """Return the mean cross-entropy on the test records, in nats."""
        margins = np.where(self.labels, 1.0, -1.0) * (self.inputs @ model.astype(np.float64))
        return float(np.logaddexp(0.0, -margins).mean())

    def accuracy(self, model: NDArray[np.float64]) -> float:
        """Return the share of test records that the model gets right."""
        return float(((self.inputs @ model > 0) == self.labels).mean())


def make_world() -> World:
    """Draw records and let each silo take twenty steps of logistic regression."""
    generator = np.random.default_rng(12)
    truth = generator.normal(size=FEATURES)
    updates: dict[PartyId, Update] = {}
    for name in silo_names(SILOS):
        inputs = generator.normal(size=(RECORDS, FEATURES))
        updates[name] = _fit(inputs, inputs @ truth > 0)
    inputs = generator.normal(size=(1000, FEATURES))
    return World(updates=updates, inputs=inputs, labels=inputs @ truth > 0)


def _fit(inputs: NDArray[np.float64], labels: NDArray[np.bool_]) -> Update:
    model = np.zeros(FEATURES)
    for _ in range(20):
        model -= 0.5 * inputs.T @ (1 / (1 + np.exp(-inputs @ model)) - labels) / len(labels)
    return model.astype(np.float32)


def against_twin() -> Outcome:
    """Average floats."""
    world = make_world()
    poisoner, *honest = world.updates
    clean = unbounded_mean(list(world.updates.values()))
    poisoned = unbounded_mean([world.updates[poisoner] * np.float32(FACTOR), *(world.updates[n] for n in honest)])
    before, after, shift = world.accuracy(clean), world.accuracy(poisoned), _shift(poisoned, clean)
    return Outcome(
        succeeded=shift > CLIP and after < 0.5,
        told=f"one of {SILOS} silos moves the mean by {shift:.0f}; test accuracy {before:.1%} → {after:.1%}",
        figures={"shift_of_mean": shift, "accuracy_before": before, "accuracy_after": after},
    )


def against_us() -> Outcome:
    """Poison through the encoder, then around it: far outside its bound, and just inside."""
    world = make_world()
    clean = masked_mean(world, {})
    poisoner = next(iter(world.updates))
    clipped = masked_mean(world, {poisoner: _encoded(world, poisoner)})
    shift, bound = _shift(clipped, clean), 2 * CLIP / SILOS
    refused = _is_refused(world, {poisoner: past_the_encoder(world, poisoner, FACTOR)})
    inside = masked_mean(world, {poisoner: _largest_unseen(world, poisoner)})
    left, after = _shift(inside, clean), world.accuracy(inside)
    boosted = masked_mean(world, {poisoner: _largest_unseen(world, poisoner, direction=1.0)})
    closed = [*_closed_gate(world, clean, boosted), *_closed_gate(world, clean, inside)]
    return Outcome(
        succeeded=shift > bound or not refused or float(np.abs(inside).max()) > CLIP or len(closed) < 2,
        reason=", ".join(["clipped", *["out_of_range"] * refused, *(f"{gate}_gate" for gate in closed)]),
        told=(
            f"through the encoder ×{FACTOR:g} moves the mean by {shift:.2f} (at most 2c/n = {bound:.2f}), accuracy "
            f"{world.accuracy(clean):.1%} → {world.accuracy(clipped):.1%}; around the encoder the sum is "
            f"{'rejected as out of range' if refused else 'ACCEPTED'}. A silo that fills the sum's range by hand moves "
            f"the mean by {left:.2f}, never beyond ±c = {CLIP:g}; accuracy {after:.1%} without gates. With gates at "
            f"{HEADROOM:g} times the honest norm and {LOSS_INCREASE:g} nats of auxiliary loss, pushing forwards and "
            f"backwards closes: {', '.join(closed) or 'NONE'}. What remains is a bias within the gates"
        ),
        figures={
            "shift_of_mean": shift,
            "bound_on_shift": bound,
            "accuracy_before": world.accuracy(clean),
            "accuracy_after": world.accuracy(clipped),
            "shift_that_remains": left,
            "accuracy_that_remains": after,
        },
    )


def masked_mean(world: World, sent: Mapping[PartyId, Vector]) -> NDArray[np.float64]:
    """Return the mean that a masked round yields; `sent` replaces what some silos encoded. Raises: ProtocolError."""
    consortium = _Poisoned(world, sent)
    manifest, silos = consortium.manifest(), consortium.silos(consortium.manifest())
    end = MaskedServer(manifest=manifest, roster=consortium.roster, signer=consortium.identities[SERVER])
    summed: Sum = aggregate(
        end, lambda requests: ((p, silos[p].handle(request)) for p, request in requests.items()), manifest.cohort
    )
    return consortium.encoding.decode(summed).mean


class _Poisoned(Consortium):
    """A consortium in which some silos send other words than the encoder made."""

    def __init__(self, world: World, sent: Mapping[PartyId, Vector]) -> None:
        super().__init__(world.updates, clip=CLIP)
        self._sent = dict(sent)

    def vector(self, party: PartyId) -> Vector:
        """Return what a silo sends."""
        return self._sent.get(party, super().vector(party)).copy()


def _encoded(world: World, poisoner: PartyId) -> Vector:
    """Return the poisoned update as the encoder makes it."""
    return Consortium(world.updates, clip=CLIP).encoding.encode(world.updates[poisoner] * np.float32(FACTOR), 1)


def past_the_encoder(world: World, poisoner: PartyId, factor: float) -> Vector:
    """Return the poisoned update as ring words, past the encoder."""
    encoding = Consortium(world.updates, clip=CLIP).encoding
    entries = np.rint(world.updates[poisoner].astype(np.float64) * factor / encoding.grid).astype(np.int64)
    return np.concatenate([entries, np.array([1, 1])]).view(np.uint64)


def _largest_unseen(world: World, poisoner: PartyId, *, direction: float = -1.0) -> Vector:
    """Return words that use up what the others leave of the sum's range: the worst that decoding lets pass.

    The poisoner is given the others' largest entry; in truth it would have to guess.
    """
    encoding = Consortium(world.updates, clip=CLIP).encoding
    others = [update for name, update in world.updates.items() if name != poisoner]
    room = SILOS * CLIP - len(others) * float(np.abs(np.stack(others)).max()) - SILOS * encoding.grid
    entries = direction * np.sign(world.updates[poisoner].astype(np.float64)) * np.floor(room / encoding.grid)
    return np.concatenate([entries.astype(np.int64), np.array([1, 1])]).view(np.uint64)


def _is_refused(world: World, sent: Mapping[PartyId, Vector]) -> bool:
    try:
        masked_mean(world, sent)
    except ProtocolError:
        return True
    return False


def _closed_gate(world: World, clean: NDArray[np.float64], poisoned: NDArray[np.float64]) -> list[str]:
    """Return the gate that closes on the poisoned mean, if one does; the honest mean passes both."""
    start, norm = np.zeros(FEATURES, dtype=np.float32), float(np.linalg.norm(clean))
    gates = Gates(max_norm=HEADROOM * norm, max_loss_increase=LOSS_INCREASE)
    check_aggregate(gates, start, clean.astype(np.float32), world.loss)
    try:
        check_aggregate(gates, start, poisoned.astype(np.float32), world.loss)
    except GateClosed as closed:
        return [closed.gate]
    return []


def _shift(poisoned: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
    return float(np.abs(poisoned - clean).max())


ATTACK = Attack(
    id="A12",
    title="poisoned update",
    does="One silo sends its update times −1000, through the encoder and around it",
    unprotected=against_twin,
    protected=against_us,
)
