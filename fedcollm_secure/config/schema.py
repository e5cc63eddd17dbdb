"""The tree of settings as frozen data. A privacy parameter has no default; everything else has the paper's choice.

Each class checks itself once constructed; what only shows between two classes is checked by `Config`.
A union's members are listed with their YAML tag in `TAGS`; `load` turns `{tag: {...}}` into the member.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a causal language model comes from: `embedded:llm`, a local folder, or a hub id."""

    source: str = field(metadata={"key": "from"})
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    layers: int | None = None  # keep the first so many transformer blocks: a small model out of a large one

    def __post_init__(self) -> None:
        """Refuse an empty model."""
        _require(self.layers is None or self.layers > 0, f"layers: expected 1 or more, got {self.layers}")


@dataclass(frozen=True, kw_only=True)
class Models:
    """The server's LLM f_ψ and the silos' SLM g_φ; one tokenizer."""

    llm: ModelSource
    slm: ModelSource


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA on both models (peft); `targets` is `all-linear`, or names of modules."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        """Refuse what peft would accept silently."""
        _require(self.rank > 0, f"rank: expected 1 or more, got {self.rank}")
        _require(0.0 <= self.dropout < 1.0, f"dropout: expected [0, 1), got {self.dropout}")


# --- data -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """Text that comes with an installed package; `icd10cm` has its own test and auxiliary parts."""

    name: Literal["icd10cm"]


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A .jsonl, .csv or .parquet file; relative paths start at the configuration's folder."""

    path: str


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A data set of the Hugging Face hub (needs the `hub` extra)."""

    name: str
    split: str = "train"
    subset: str | None = None
    revision: str | None = None


Source = PackageSource | FileSource | HubSource


@dataclass(frozen=True, kw_only=True)
class Classification:
    """`prompt` is a template over the columns; the answer is the text in column `label`, one of those that occur."""

    prompt: str
    label: str


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """`choices` is a column with a list of texts, or several columns; `answer` a column with the right one's index."""

    prompt: str
    choices: str | tuple[str, ...]
    answer: str


@dataclass(frozen=True, kw_only=True)
class FreeText:
    """`prompt` and `answer` are templates over the columns."""

    prompt: str
    answer: str


Task = Classification | MultipleChoice | FreeText


@dataclass(frozen=True, kw_only=True)
class Own:
    """The part that the source itself sets aside."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """This share of the records, drawn at random with the configuration's seed."""

    share: float

    def __post_init__(self) -> None:
        """Refuse an empty or a full part."""
        _require(0.0 < self.share < 1.0, f"share: expected a number in (0, 1), got {self.share}")


@dataclass(frozen=True, kw_only=True)
class Count:
    """This many records, drawn at random with the configuration's seed."""

    count: int

    def __post_init__(self) -> None:
        """Refuse an empty part."""
        _require(self.count > 0, f"count: expected 1 or more, got {self.count}")


Part = Own | Share | Count | FileSource | HubSource


@dataclass(frozen=True, kw_only=True)
class Iid:
    """Equal random parts."""

    count: int

    def __post_init__(self) -> None:
        """Refuse a consortium of nobody."""
        _require(self.count > 0, f"count: expected 1 or more silos, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class ByColumn:
    """Each silo holds the records whose `column` has one of its values; a record of no group is nobody's."""

    column: str
    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ByLabel:
    """As `ByColumn`, over the task's own label."""

    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Dirichlet:
    """For each label, shares of the silos drawn from Dirichlet(α): small α, unequal silos (Hsu et al. 2019)."""

    count: int
    alpha: float

    def __post_init__(self) -> None:
        """Refuse an α for which no distribution exists."""
        _require(self.count > 0, f"count: expected 1 or more silos, got {self.count}")
        _require(self.alpha > 0, f"alpha: expected a positive number, got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """One file a silo; `data.source` then serves the test and auxiliary parts alone."""

    paths: Mapping[str, str]


Silos = Iid | ByColumn | ByLabel | Dirichlet | Files


@dataclass(frozen=True, kw_only=True)
class Data:
    """The records, what is asked of them, and who holds which."""

    source: Source
    task: Task
    silos: Silos
    test: Part = Own()
    auxiliary: Part = Own()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Another way to hold the data, for `compare`: it takes the place of `data.silos` and `data.auxiliary`."""

    silos: Silos
    auxiliary: Part = Own()


# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """A silo's part of a round: E epochs or steps of `optimizer` on its own records (Algorithm 1, ClientUpdate)."""

    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 16
    learning_rate: float = 1.0e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    gradient_norm: float | None = None
    optimizer_state: Literal["fresh", "kept"] = "fresh"
    weighting: Literal["uniform", "examples"] = "uniform"
    microbatch: int | None = None

    def __post_init__(self) -> None:
        """Refuse a round without an end, and rates that cannot train."""
        _require(
            (self.steps is None) != (self.epochs is None),
            f"give either steps or epochs, not both and not neither; got steps={self.steps}, epochs={self.epochs}",
        )
        _check_training(self.steps or self.epochs or 0, self.batch_size, self.learning_rate, self.warmup_steps)
        _require(
            self.gradient_norm is None or self.gradient_norm > 0,
            f"gradient_norm: expected a positive number, got {self.gradient_norm}",
        )
        _require(
            self.microbatch is None or self.microbatch > 0, f"microbatch: expected 1 or more, got {self.microbatch}"
        )


def _check_training(steps: int, batch_size: int, learning_rate: float, warmup_steps: int) -> None:
    _require(steps > 0, f"steps/epochs: expected 1 or more, got {steps}")
    _require(batch_size > 0, f"batch_size: expected 1 or more, got {batch_size}")
    _require(0 < learning_rate < float("inf"), f"learning_rate: expected a positive number, got {learning_rate}")
    _require(warmup_steps >= 0, f"warmup_steps: expected 0 or more, got {warmup_steps}")


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """η_θ and η_ω of the paper."""

    slm: float = 1.0e-3
    llm: float = 1.0e-3


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """R server steps on the auxiliary set (eq. 5–6): L^g = CE + λ·KL(f‖g) and L^f = CE + λ·KL(g‖f), `weight` = λ."""

    steps: int
    batch_size: int = 16
    weight: float = 1.0
    temperature: float = 1.0
    direction: Literal["mutual", "llm_to_slm", "slm_to_llm"] = "mutual"
    learning_rate: LearningRates = LearningRates()
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    gradient_norm: float | None = None
    optimizer_state: Literal["fresh", "kept"] = "fresh"

    def __post_init__(self) -> None:
        """Refuse a negative λ or temperature; zero steps is plain federated averaging."""
        _require(self.steps >= 0, f"steps: expected 0 or more, got {self.steps}")
        _check_training(max(self.steps, 1), self.batch_size, self.learning_rate.slm, self.warmup_steps)
        _check_training(1, self.batch_size, self.learning_rate.llm, 0)
        _require(self.weight >= 0, f"weight (λ): expected 0 or more, got {self.weight}")
        _require(self.temperature > 0, f"temperature: expected a positive number, got {self.temperature}")


# --- aggregation, security, privacy ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Fixed point: each coordinate of an update is clipped to ±`clip` and sent as a `bits`-bit integer."""

    clip: float = 1.0
    bits: int = 24

    def __post_init__(self) -> None:
        """Refuse a grid that holds nothing."""
        _require(0 < self.clip < float("inf"), f"clip: expected a positive number, got {self.clip}")
        _require(2 <= self.bits <= 32, f"bits: expected 2 to 32, got {self.bits}")


@dataclass(frozen=True, kw_only=True)
class Masked(Grid):
    """Secure aggregation by double masking (Bonawitz et al., CCS 2017)."""


@dataclass(frozen=True, kw_only=True)
class UnsafePlain(Grid):
    """No protection: the server sees every silo's update. For comparisons only."""


Aggregation = Masked | UnsafePlain


@dataclass(frozen=True, kw_only=True)
class Security:
    """Whom the aggregation must withstand; threshold and smallest cohort follow (`crypto/README.md`)."""

    adversary: Literal["malicious", "semi_honest"] = "malicious"
    colluding: int = 1
    min_cohort: int = 3
    allow_two_party: bool = False

    def __post_init__(self) -> None:
        """Refuse a cohort in which one honest silo would stand alone in the sum."""
        _require(self.colluding >= 0, f"colluding: expected 0 or more, got {self.colluding}")
        _require(self.min_cohort >= 2, f"min_cohort: expected 2 or more, got {self.min_cohort}")
        _require(
            self.allow_two_party or self.min_cohort >= max(3, self.colluding + 2),
            f"min_cohort: expected at least max(3, colluding + 2) = {max(3, self.colluding + 2)}, got "
            f"{self.min_cohort}: with fewer, colluding members can compute one silo's update from the sum; "
            "raise min_cohort, or say allow_two_party: true where that is accepted",
        )


@dataclass(frozen=True, kw_only=True)
class RecordDP:
    """DP-SGD in each silo at (ε, δ) over the whole run, per silo; `silo.batch_size` is the public normaliser.

    `noise_multiplier` is calibrated to the plan unless given; given, the ledger stops the silo where ε runs out.
    """

    epsilon: float
    delta: float
    clip_norm: float
    sampling_rate: float
    noise_multiplier: float | None = None
    unit: Literal["record"] = "record"

    def __post_init__(self) -> None:
        """Refuse parameters for which no guarantee exists."""
        _require(0 < self.epsilon < float("inf"), f"epsilon: expected a positive number, got {self.epsilon}")
        _require(0 < self.delta < 1, f"delta: expected a number in (0, 1), got {self.delta}")
        _require(0 < self.clip_norm < float("inf"), f"clip_norm: expected a positive number, got {self.clip_norm}")
        _require(0 < self.sampling_rate <= 1, f"sampling_rate: expected a number in (0, 1], got {self.sampling_rate}")
        _require(
            self.noise_multiplier is None or 0 < self.noise_multiplier < float("inf"),
            f"noise_multiplier: expected a positive number, got {self.noise_multiplier}",
        )


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """No differential privacy: the aggregate and the models may reveal records. Said in every report."""


Privacy = RecordDP | NonPrivate


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """All silos in this process: a simulation. Their ledgers live in the run directory and say so."""


Engine = LocalEngine


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How often, and on how much at a time, public test data are scored."""

    batch_size: int = 256
    every: int = 1

    def __post_init__(self) -> None:
        """Refuse never."""
        _require(self.batch_size > 0, f"batch_size: expected 1 or more, got {self.batch_size}")
        _require(self.every > 0, f"every: expected 1 or more, got {self.every}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, complete."""

    name: str
    models: Models
    data: Data
    rounds: int
    silo: LocalTraining
    distill: Distillation
    aggregation: Aggregation
    privacy: Privacy
    seed: int = 0  # splits, batch order and initial adapters; never masks, keys or noise
    lora: Lora = Lora()
    factors: Literal["fedavg", "ffa"] | None = None  # None: ffa under DP, fedavg (the paper's) without
    security: Security = Security()
    engine: Engine = LocalEngine()
    evaluate: Evaluation = Evaluation()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    splits: Mapping[str, Split] | None = None  # for `compare`: named alternatives, all compared

    def __post_init__(self) -> None:
        """Check what only shows between two parts of the tree."""
        _require(
            re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.name) is not None,
            f"name: expected 1 to 64 of A-Z a-z 0-9 . _ -, got {self.name!r}",
        )
        _require(self.rounds > 0, f"rounds: expected 1 or more, got {self.rounds}")
        _require(0 <= self.seed < 2**53, f"seed: expected 0 to 2^53 - 1, got {self.seed}")
        if isinstance(self.privacy, RecordDP):
            self._check_record_dp()

    def _check_record_dp(self) -> None:
        _require(
            self.silo.weighting == "uniform",
            "silo.weighting: expected uniform under record_dp, got examples: a weight that depends on the data "
            "changes the sensitivity; use uniform",
        )
        _require(
            self.silo.steps is not None,
            "silo.epochs: under record_dp the number of steps must be public; give silo.steps instead",
        )
        _require(
            self.silo.gradient_norm is None,
            "silo.gradient_norm: under record_dp each record is clipped to privacy.record_dp.clip_norm; remove it",
        )
        _require(
            self.lora.dropout == 0.0,
            "lora.dropout: expected 0 under record_dp: dropout masks come from a generator that is not "
            "cryptographic, and the clipped gradient would depend on it; set 0.0",
        )
        _require(
            self.silo.optimizer_state == "fresh",
            "silo.optimizer_state: kept is not offered under record_dp: a silo that lost its state in a crash could "
            "not repeat the plan; use fresh",
        )

    @property
    def what_travels(self) -> Literal["fedavg", "ffa"]:
        """Return `factors`, or its default: FFA-LoRA (A fixed, only B travels) under DP, both factors without."""
        return self.factors or ("ffa" if isinstance(self.privacy, RecordDP) else "fedavg")


TAGS: Mapping[str, type] = {
    "package": PackageSource,
    "path": FileSource,
    "hub": HubSource,
    "classification": Classification,
    "multiple_choice": MultipleChoice,
    "text": FreeText,
    "own": Own,
    "share": Share,
    "count": Count,
    "iid": Iid,
    "by_column": ByColumn,
    "by_label": ByLabel,
    "dirichlet": Dirichlet,
    "files": Files,
    "masked": Masked,
    "unsafe_plain": UnsafePlain,
    "record_dp": RecordDP,
    "non_private": NonPrivate,
    "local": LocalEngine,
}
"""YAML tag of each alternative. A class with one field may be written short: `{iid: 4}` is `{iid: {count: 4}}`."""
