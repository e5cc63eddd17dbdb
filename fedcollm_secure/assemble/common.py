"""What all parties of a run agree on, wherever each of them is: computed by every one for itself, and compared."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_secure.assemble.privacy_plans import make_encoding, make_packing, make_shared_plan
from fedcollm_secure.assemble.signal_to_noise import Signal, fewest_trained, require_signal
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import Encrypted
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.factors import Rule, make_rule


@dataclass(frozen=True, kw_only=True)
class Common:
    """The terms of a run. Its digests are of the small model with its adapter, and of the text that all train by.

    `silos`: their names in the order of every manifest. `parameters`: d, how many travel to the silos. `packing`: where
    vectors travel encrypted.
    """

    config: Config
    silos: tuple[str, ...]
    rule: Rule
    encoding: FixedPoint
    packing: Packing | None
    plan: TrainingPlan | None
    parameters: int
    schema_digest: str
    base_digest: str
    training_digest: str

    @property
    def decryptor(self) -> str:
        """Return the decryptor's name; empty where there is none."""
        aggregation = self.config.aggregation
        return aggregation.decryptor if isinstance(aggregation, Encrypted) else ""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What follows from the configuration, the number of silos and the adapter's shape: rule, noise, ring."""

    rule: Rule
    encoding: FixedPoint
    packing: Packing | None
    plan: TrainingPlan | None
    signal: Signal | None


def make_numbers(config: Config, slm: Adapter, silos: int, own_plan: RecordPlan | None) -> Numbers:
    """Return them; `own_plan` is that of each silo's own noise (`make_plan`), None where there is none.

    Raises:
        ConfigError: encoding or privacy plan do not fit, or noise would drown the run.
    """
    rule = _rule(config, slm, silos)
    shared = make_shared_plan(config, rule, silos)
    plan = shared or own_plan
    signal = _signal(config, plan, fewest_trained(slm.schema, rule), silos)
    encoding = make_encoding(config, silos, shared.noise_allowance if shared is not None else 0)
    return Numbers(
        rule=rule, encoding=encoding, packing=make_packing(config, encoding, silos), plan=plan, signal=signal
    )


def make_common(
    config: Config, silos: Iterable[str], numbers: Numbers, slm: Adapter, *, weights: str, training_digest: str
) -> Common:
    """Return the terms of a run; `weights` is the digest of the small model that `slm` adapts."""
    return Common(
        config=config,
        silos=tuple(sorted(silos)),
        rule=numbers.rule,
        encoding=numbers.encoding,
        packing=numbers.packing,
        plan=numbers.plan,
        parameters=slm.schema.length,
        schema_digest=slm.schema.digest,
        base_digest=base_digest(weights, slm),
        training_digest=training_digest,
    )


def base_digest(weights: str, slm: Adapter) -> str:
    """Return the digest of all that a silo's model holds fixed; `weights` is that of the model itself."""
    return hashlib.sha256(f"{weights}/{slm.frozen_digest}".encode()).hexdigest()


def _signal(config: Config, plan: TrainingPlan | None, trained: int, silos: int) -> Signal | None:
    if plan is None:
        return None
    signal = Signal.of(plan, trained=trained, silos=silos)
    require_signal(config, signal)
    return signal


def _rule(config: Config, slm: Adapter, silos: int) -> Rule:
    ranks = {shape[0] for name, shape in slm.schema.shapes.items() if ".lora_A." in name}
    if config.what_travels in ("fedsvd", "exact") and ranks != {config.lora.rank}:
        raise ConfigError(
            "factors",
            f"{config.what_travels} decomposes products B·A of rank {config.lora.rank}, but with these lora.targets "
            "some modules hold several products in one pair, as experts do: use fedavg, ffa or rolora, or name others",
        )
    try:
        return make_rule(config.what_travels, slm.schema, silos=silos, seed=config.seed)
    except ValueError as error:
        raise ConfigError("factors", str(error)) from error
