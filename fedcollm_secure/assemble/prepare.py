"""Read data and models and refuse what cannot work, before anything is written."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_secure.assemble.cohort_size import check_cohort
from fedcollm_secure.assemble.common import Common, base_digest, make_numbers
from fedcollm_secure.assemble.learners import apart_of, make_encoders, make_learner, subjects_of, tokens_of
from fedcollm_secure.assemble.privacy_plans import check_delta, make_encoding, make_packing, make_plan
from fedcollm_secure.assemble.server_side import ServerSide
from fedcollm_secure.assemble.signal_to_noise import Signal
from fedcollm_secure.assemble.tokenizers import check_tokenizers
from fedcollm_secure.config import Config, resolved
from fedcollm_secure.config.protection import NonPrivate, PerSubject, RecordDP, SiloDP
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Tokens, max_length
from fedcollm_secure.learning.data import Holdings, Record, gather
from fedcollm_secure.learning.data.inventory import notices
from fedcollm_secure.learning.data.overlap import require_test_apart
from fedcollm_secure.learning.factors import Pass, Rule
from fedcollm_secure.learning.models import Base, choose_device, load_base, with_lora
from fedcollm_secure.learning.probe import why_apart
from fedcollm_secure.learning.training import Learner, both


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A checked configuration with its data and models in memory."""

    config: Config
    holdings: Holdings = field(repr=False)
    llm: Base = field(repr=False)
    slm: Base = field(repr=False)
    encoder: Encoder = field(repr=False)
    llm_encoder: Encoder = field(repr=False)  # the same one, unless `distill.align: tokens`
    server_llm: Adapter = field(repr=False)
    server_slm: Adapter = field(repr=False)
    silo_slm: Adapter = field(repr=False)  # one model serves all simulated silos, one after the other
    rule: Rule  # what travels of the factors, and what becomes of the sum
    encoding: FixedPoint
    packing: Packing | None  # where vectors travel encrypted
    plan: TrainingPlan | None
    signal: Signal | None  # what the plan's noise leaves, at best
    apart: str = ""  # under DP-SGD, why each record needs a forward pass of its own; empty where they share one

    @property
    def silos(self) -> tuple[str, ...]:
        """Return the silos' names in the order of every manifest."""
        return tuple(sorted(self.holdings.silos))

    @property
    def parameters(self) -> int:
        """Return d, the number of parameters that travel to the silos; `rule` says what comes back."""
        return self.server_slm.schema.length

    @property
    def vector_lengths(self) -> tuple[int, ...]:
        """Return the length of each vector that a silo sends in a run, pass by pass, round by round."""
        # A rule trains the same factors in every second round.
        of_two = [
            [self.encoding.length(self.rule.length(Pass(round=t, number=k))) for k in range(self.rule.passes)]
            for t in (1, 2)
        ]
        return tuple(length for t in range(self.config.rounds) for length in of_two[t % 2])

    @cached_property
    def base_digest(self) -> str:
        """Return the digest of all that a silo's model holds fixed."""
        return base_digest(self.slm.digest, self.server_slm)

    @cached_property
    def training_digest(self) -> str:
        """Return the digest of the whole resolved configuration: every silo trains by the same one."""
        return hashlib.sha256(resolved(self.config).encode()).hexdigest()

    @property
    def common(self) -> Common:
        """Return what a party that is not simulated would compute for itself."""
        return Common(
            config=self.config,
            silos=self.silos,
            rule=self.rule,
            encoding=self.encoding,
            packing=self.packing,
            plan=self.plan,
            parameters=self.parameters,
            schema_digest=self.server_slm.schema.digest,
            base_digest=self.base_digest,
            training_digest=self.training_digest,
        )

    @property
    def server_side(self) -> ServerSide:
        """Return what the server alone has."""
        return ServerSide(
            common=self.common,
            llm=self.llm,
            slm=self.slm,
            encoder=self.encoder,
            llm_encoder=self.llm_encoder,
            server_llm=self.server_llm,
            server_slm=self.server_slm,
            test=self.holdings.test,
            auxiliary=self.holdings.auxiliary,
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Return what the holder of the records should be told of them. It may tell how many: never logged."""
        privacy = self.config.privacy
        rate = privacy.sampling_rate if isinstance(privacy, RecordDP) else None
        return tuple(notices(self.holdings, sampling_rate=rate))

    @property
    def model_warnings(self) -> tuple[str, ...]:
        """Return what transformers warned of as it loaded the models, each once."""
        return tuple(dict.fromkeys((*self.llm.warnings, *self.slm.warnings)))

    def tokens(self, records: Sequence[Record]) -> list[Tokens]:
        """Return each record with its right answer, tokenised."""
        return tokens_of(self.encoder, records)

    def learner(self, silo: str, *, optimizer_file: Path | None = None) -> Learner:
        """Return a silo's training; without a file its optimiser begins afresh each round."""
        return make_learner(
            self.common,
            silo,
            self.holdings.silos[silo],
            adapter=self.silo_slm,
            encoder=self.encoder,
            apart=self.apart,
            optimizer_file=optimizer_file,
        )

    def subjects(self, silo: str) -> tuple[tuple[int, ...], ...] | None:
        """Return each person's first records, as indices of the silo's; None where records are protected."""
        return subjects_of(self.config, self.holdings.silos[silo])


def tell_nobody(_what: str) -> None:
    """Tell nobody."""


def prepare(config: Config, say: Callable[[str], None] = tell_nobody) -> Prepared:
    """Read everything that a run needs; the cheap checks come first. `say` is told what takes long.

    Raises:
        ConfigError: data, models, encoding, privacy plan or cohort do not fit, or noise would drown the run.
    """
    if not isinstance(config.privacy, NonPrivate):
        say("calibrating the noise to the budget")
    plan = make_plan(config)
    say("reading the data")
    holdings = gather_for(config)
    check_subjects_apart(config, holdings)
    check_delta(config, _most_units(config, holdings))
    make_packing(config, make_encoding(config, len(holdings.silos)), len(holdings.silos))
    check_cohort(config, tuple(holdings.silos))
    device = choose_device(config.device)
    say("loading the models")
    llm = load_base(config.models.llm, "models.llm", device)
    slm = load_base(config.models.slm, "models.slm", device)
    check_tokenizers(config, llm, slm)
    for_silos = load_base(config.models.slm, "models.slm", device)
    longest = min(max_length(llm.model), max_length(slm.model))
    server_slm = Adapter(with_lora(slm, config.lora, seed=config.seed), config.what_travels)
    numbers = make_numbers(config, server_slm, len(holdings.silos), plan)
    llm_encoder, encoder = make_encoders(config, llm, slm, longest)
    prepared = Prepared(
        config=config,
        holdings=holdings,
        llm=llm,
        slm=slm,
        encoder=encoder,
        llm_encoder=llm_encoder,
        server_llm=Adapter(with_lora(llm, config.lora, seed=config.seed), "fedavg"),
        server_slm=server_slm,
        silo_slm=Adapter(with_lora(for_silos, config.lora, seed=config.seed), config.what_travels),
        rule=numbers.rule,
        encoding=numbers.encoding,
        packing=numbers.packing,
        plan=numbers.plan,
        signal=numbers.signal,
    )
    say("reading every record with the tokenizer, and probing the models")
    _require_readable(prepared)
    return replace(prepared, apart=_apart(prepared))


def _require_readable(prepared: Prepared) -> None:
    """Refuse here, and not in the run, an answer that no model can read: right ones, and those it is told apart from.

    Raises:
        ConfigError: with its file and row.
    """
    scored = (prepared.holdings.test, *prepared.holdings.own.values())
    for records in (*prepared.holdings.silos.values(), prepared.holdings.auxiliary, *scored):
        prepared.tokens(records)
    first = {answer: record for records in scored for record in reversed(records) for answer in record.answers}
    prepared.encoder.encode(
        [(record.prompt, answer) for answer, record in first.items()],
        [record.place or "data.task" for record in first.values()],
    )
    if prepared.llm_encoder is not prepared.encoder:
        read = [(r.prompt, r.answer) for r in (*prepared.holdings.auxiliary, *prepared.holdings.test)]
        prepared.llm_encoder.encode([*read, *((record.prompt, answer) for answer, record in first.items())])


def _apart(prepared: Prepared) -> str:
    """Return why records cannot share a forward pass; empty where they can, or where no record has its own gradient.

    Raises:
        ConfigError: one of the models cannot be trained with what `lora` names.
    """
    learner = prepared.learner(prepared.silos[0])
    vocabulary = min(len(prepared.slm.tokenizer), len(prepared.llm.tokenizer))
    plainly = replace(learner, plan=None, settings=replace(learner.settings, microbatch=1))
    why_apart(replace(plainly, adapter=prepared.server_llm, trains=both), vocabulary)
    return apart_of(learner, vocabulary)


def gather_for(config: Config) -> Holdings:
    """Return everyone's records. Raises: ConfigError."""
    subject = _subject_column(config)
    holdings = gather(config.data, seed=config.seed, subject=subject, own=config.evaluate.own)
    if config.data.overlap == "refuse":
        require_test_apart(holdings)
    return holdings


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


def _most_units(config: Config, holdings: Holdings) -> int:
    """Return how many units the guarantee speaks of: of the largest silo, or silos where they are the unit."""
    privacy = config.privacy
    if isinstance(privacy, SiloDP):
        return len(holdings.silos)
    if isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject):
        return max(len({record.subject for record in records}) for records in holdings.silos.values())
    return max(holdings.sizes.values())


def _subject_column(config: Config) -> str | None:
    privacy = config.privacy
    return privacy.unit.column if isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject) else None
