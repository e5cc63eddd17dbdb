"""Read data and models and refuse what cannot work, before anything is written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import threshold
from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.event import PoissonGaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.subjects import group_by_subject
from fedcollm_secure.config import Config, resolved
from fedcollm_secure.config.data import FreeText
from fedcollm_secure.config.protection import Masked, PerSubject, RecordDP
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Tokens, length_order, max_length
from fedcollm_secure.learning.data import Holdings, Record, gather
from fedcollm_secure.learning.factors import Pass, Rule, make_rule
from fedcollm_secure.learning.models import Base, choose_device, load_base, require_same_tokenizer, with_lora
from fedcollm_secure.learning.training import Learner

LARGEST_WEIGHT = 2**20  # records of one silo that `weighting: examples` can count
SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A checked configuration with its data and models in memory."""

    config: Config
    holdings: Holdings = field(repr=False)
    llm: Base = field(repr=False)
    slm: Base = field(repr=False)
    encoder: Encoder = field(repr=False)
    server_llm: Adapter = field(repr=False)
    server_slm: Adapter = field(repr=False)
    silo_slm: Adapter = field(repr=False)  # one model serves all simulated silos, one after the other
    encoding: FixedPoint
    plan: RecordPlan | None

    @property
    def silos(self) -> tuple[str, ...]:
        """Return the silos' names in the order of every manifest."""
        return tuple(sorted(self.holdings.silos))

    @property
    def parameters(self) -> int:
        """Return d, the number of parameters that travel to the silos; `rule` says what comes back."""
        return self.server_slm.schema.length

    @cached_property
    def rule(self) -> Rule:
        """Return what travels of the factors, and what becomes of the sum."""
        schema = self.server_slm.schema
        return make_rule(self.config.what_travels, schema, silos=len(self.silos), seed=self.config.seed)

    @property
    def words_per_round(self) -> float:
        """Return how many words a silo sends a round, on average over the run."""
        rounds, passes = self.config.rounds, range(self.rule.passes)
        lengths = [self.rule.length(Pass(round=t, number=k)) + 2 for t in range(1, rounds + 1) for k in passes]
        return sum(lengths) / rounds

    @cached_property
    def base_digest(self) -> str:
        """Return the digest of all that a silo's model holds fixed."""
        return hashlib.sha256(f"{self.slm.digest}/{self.server_slm.frozen_digest}".encode()).hexdigest()

    @cached_property
    def training_digest(self) -> str:
        """Return the digest of the whole resolved configuration: every silo trains by the same one."""
        return hashlib.sha256(resolved(self.config).encode()).hexdigest()

    def tokens(self, records: Sequence[Record]) -> list[Tokens]:
        """Return each record with its right answer, tokenised."""
        return self.encoder.encode([(record.prompt, record.answer) for record in records])

    def learner(self, silo: str, *, optimizer_file: Path | None = None) -> Learner:
        """Return a silo's training; without a file its optimiser begins afresh each round."""
        tokens = self.tokens(self.holdings.silos[silo])
        order = length_order(tokens)
        return Learner(
            adapter=self.silo_slm,
            encoder=self.encoder,
            records=[tokens[index] for index in order],
            subjects=self._subjects(silo, order),
            settings=self.config.silo,
            rounds=self.config.rounds,
            seed=self.config.seed,
            name=silo,
            plan=self.plan,
            trains=self.rule.trained,
            optimizer_file=optimizer_file,
        )

    def _subjects(self, silo: str, order: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
        """Return each person's first records, as places in `order`; None where records are protected."""
        privacy = self.config.privacy
        if not isinstance(privacy, RecordDP) or not isinstance(privacy.unit, PerSubject):
            return None
        names = [record.subject for record in self.holdings.silos[silo]]
        place = {index: position for position, index in enumerate(order)}
        grouped = group_by_subject(names, most_records=privacy.records_per_subject)
        return tuple(tuple(place[index] for index in indices) for indices in grouped)


def prepare(config: Config) -> Prepared:
    """Read everything that a run needs; the cheap checks come first.

    Raises:
        ConfigError: data, models, encoding, privacy plan or cohort do not fit.
    """
    plan = make_plan(config)
    holdings = gather(config.data, seed=config.seed, subject=_subject_column(config))
    check_subjects_apart(config, holdings)
    encoding = make_encoding(config, len(holdings.silos))
    check_cohort(config, tuple(holdings.silos))
    device = choose_device(config.device)
    llm = load_base(config.models.llm, "models.llm", device)
    slm = load_base(config.models.slm, "models.slm", device)
    require_same_tokenizer(llm, slm)
    for_silos = load_base(config.models.slm, "models.slm", device)
    longest = min(max_length(llm.model), max_length(slm.model))
    prepared = Prepared(
        config=config,
        holdings=holdings,
        llm=llm,
        slm=slm,
        encoder=Encoder(slm.tokenizer, longest, end_answers=isinstance(config.data.task, FreeText)),
        server_llm=Adapter(with_lora(llm, config.lora, seed=config.seed), "fedavg"),
        server_slm=Adapter(with_lora(slm, config.lora, seed=config.seed), config.what_travels),
        silo_slm=Adapter(with_lora(for_silos, config.lora, seed=config.seed), config.what_travels),
        encoding=encoding,
        plan=plan,
    )
    check_rule(prepared)
    return prepared


def make_plan(config: Config) -> RecordPlan | None:
    """Return the silos' DP-SGD plan, calibrated unless the configuration states the noise.

    A stated noise may cost more than the budget over all rounds: the ledger then stops the silo where ε runs out.

    Raises:
        ConfigError: no noise reaches the target.
    """
    privacy, steps = config.privacy, config.silo.steps
    if not isinstance(privacy, RecordDP) or steps is None:
        return None
    unit = "subject" if isinstance(privacy.unit, PerSubject) else "record"
    try:
        if privacy.noise_multiplier is None:
            return RecordPlan.calibrated(
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                clip_norm=privacy.clip_norm,
                sampling_rate=privacy.sampling_rate,
                steps_per_round=steps,
                rounds=config.rounds,
                batch_size=config.silo.batch_size,
                unit=unit,
            )
        return RecordPlan(
            epsilon=_epsilon_of(privacy, privacy.noise_multiplier, steps * config.rounds),
            delta=privacy.delta,
            clip_norm=privacy.clip_norm,
            sampling_rate=privacy.sampling_rate,
            noise_multiplier=privacy.noise_multiplier,
            steps_per_round=steps,
            rounds=config.rounds,
            batch_size=config.silo.batch_size,
            unit=unit,
        )
    except ValueError as error:
        raise ConfigError("privacy.record_dp", str(error)) from error


def make_encoding(config: Config, silos: int) -> FixedPoint:
    """Return the smallest ring that holds every possible sum.

    Raises:
        ConfigError: no ring does; the message says by how much.
    """
    grid, weight = config.aggregation, 1 if config.silo.weighting == "uniform" else LARGEST_WEIGHT
    try:
        return FixedPoint.smallest_ring(clip=grid.clip, bits=grid.bits, max_weight=weight, max_silos=silos)
    except ValueError as error:
        raise ConfigError("aggregation", str(error)) from error


def check_subjects_apart(config: Config, holdings: Holdings) -> None:
    """Refuse a statement about persons in several silos that the data contradict; a simulation alone can see it.

    Raises:
        ConfigError: somebody is in more silos than stated.
    """
    privacy = config.privacy
    if not isinstance(privacy, RecordDP) or privacy.silos_per_subject is None:
        return
    found = holdings.most_silos_of_a_subject
    if found > privacy.silos_per_subject:
        raise ConfigError(
            "privacy.record_dp.silos_per_subject",
            f"a person of these data is in {found} silos, stated are {privacy.silos_per_subject} at most: state "
            f"{found}, and ε adds up, or split the data by person",
        )


def check_rule(prepared: Prepared) -> None:
    """Refuse modules that the rule cannot decompose.

    Raises:
        ConfigError: the rank exceeds a module's width.
    """
    try:
        _ = prepared.rule
    except ValueError as error:
        raise ConfigError("factors", str(error)) from error


def check_cohort(config: Config, silos: tuple[str, ...]) -> None:
    """Refuse a consortium that is too small for what `security` promises.

    Raises:
        ConfigError: too few silos, or a silo with the server's name.
    """
    if SERVER in silos:
        raise ConfigError("data.silos", f"no silo can be called {SERVER!r}; choose another name")
    least = least_cohort(config)
    if len(silos) < least:
        raise ConfigError(
            "security.min_cohort",
            f"expected at least {least} silos, got {len(silos)}: the sum of fewer hides nobody. Add silos, or with "
            "two of them say security: {allow_two_party: true, min_cohort: 2, colluding: 0}",
        )
    if isinstance(config.aggregation, Masked) and needed_to_finish(config, len(silos)) > len(silos):
        raise ConfigError("security.colluding", f"{len(silos)} silos cannot withstand {config.security.colluding}")


def least_cohort(config: Config) -> int:
    """Return k_min, the fewest silos whose sum may be released."""
    if isinstance(config.aggregation, Masked):
        return max(2, config.security.min_cohort)
    return 2


def needed_to_finish(config: Config, silos: int) -> int:
    """Return t, how many silos must stay to the end of a round for its sum to come out."""
    if not isinstance(config.aggregation, Masked):
        return least_cohort(config)
    return max(threshold(silos, config.security.colluding, config.security.adversary), least_cohort(config))


def _subject_column(config: Config) -> str | None:
    privacy = config.privacy
    return privacy.unit.column if isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject) else None


def _epsilon_of(privacy: RecordDP, noise_multiplier: float, steps: int) -> float:
    accountant = PLDAccountant()
    event = PoissonGaussian(sampling_rate=privacy.sampling_rate, noise_multiplier=noise_multiplier, steps=steps)
    accountant.spend(event)
    return accountant.epsilon(privacy.delta)
