"""One run as frozen data. A privacy parameter has no default; everything else has the paper's choice.

Each class checks itself once constructed; what only shows between two parts is checked by `Config`. A union's members
carry their YAML `tag`; `setting` says how `{tag: {...}}` becomes the member.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from fedcollm_crypto.names import check_name
from fedcollm_secure.config.data import (
    ByColumn,
    ByLabel,
    Classification,
    Count,
    Data,
    Dirichlet,
    Files,
    FreeText,
    Iid,
    Members,
    MultipleChoice,
    Own,
    Share,
    Split,
)
from fedcollm_secure.config.models import Lora, Models
from fedcollm_secure.config.protection import (
    Aggregation,
    Audit,
    Bfv,
    Ckks,
    Engine,
    Gates,
    LocalEngine,
    Masked,
    NonPrivate,
    PerRecord,
    PerSubject,
    Privacy,
    RecordDP,
    Security,
    SiloDP,
    UnsafePlain,
)
from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import ONE_OF, Named, Setting, Text
from fedcollm_secure.config.source import FileSource, HubSource, PackageSource
from fedcollm_secure.config.training import Distillation, Evaluation, Factors, LocalTraining


@dataclass(frozen=True, kw_only=True)
class Config(Setting):
    """One run, complete."""

    name: Text
    models: Models
    data: Data
    rounds: int
    silo: LocalTraining
    distill: Distillation
    aggregation: Annotated[Aggregation, ONE_OF]
    privacy: Annotated[Privacy, ONE_OF]
    seed: int = 0  # splits, batch order and initial adapters; never masks, keys or noise
    lora: Lora = Lora()
    factors: Factors | None = None  # None: ffa under DP, fedavg (the paper's) without
    security: Security = Security()
    gates: Gates = Gates()
    audit: Audit = Audit()
    engine: Annotated[Engine, ONE_OF] = LocalEngine()
    evaluate: Evaluation = Evaluation()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    splits: Named[Split] | None = None  # for `compare`: named alternatives, all compared

    def __post_init__(self) -> None:
        """Check what only shows between two parts of the tree."""
        require(
            re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", self.name) is not None,
            f"name: expected 1 to 64 of A-Z a-z 0-9 . _ -, the first no dot or dash, got {self.name!r}",
        )
        for split in self.splits or ():
            check_name(split)
        require(self.rounds > 0, f"rounds: expected 1 or more, got {self.rounds}")
        require(0 <= self.seed < 2**53, f"seed: expected 0 to 2^53 - 1, got {self.seed}")
        require(
            not self.audit.archive or isinstance(self.aggregation, Masked),
            "audit.archive: expected masked: no other round can be added up again, and under unsafe_plain the archive "
            "would hold each silo's update in the clear",
        )
        if isinstance(self.privacy, RecordDP):
            self._check_record_dp()
        if isinstance(self.privacy, SiloDP):
            self._check_silo_dp()
        self._check_factors()
        self._check_adapters()
        if self.evaluate.own_epsilon > 0:
            self._check_own_epsilon()

    def _check_record_dp(self) -> None:
        require(
            self.silo.weighting == "uniform",
            "silo.weighting: expected uniform under record_dp, got examples: a weight that depends on the data "
            "changes the sensitivity; use uniform",
        )
        require(
            self.silo.steps is not None,
            "silo.epochs: under record_dp the number of steps must be public; give silo.steps instead",
        )
        require(
            self.silo.gradient_norm is None,
            "silo.gradient_norm: under record_dp each record is clipped to privacy.record_dp.clip_norm; remove it",
        )
        require(
            self.lora.dropout == 0.0,
            "lora.dropout: expected 0 under record_dp: dropout masks come from a generator that is not "
            "cryptographic, and the clipped gradient would depend on it; set 0.0",
        )
        require(
            self.silo.optimizer_state == "fresh",
            "silo.optimizer_state: kept is not offered under record_dp: a silo that lost its state in a crash could "
            "not repeat the plan; use fresh",
        )
        if isinstance(self.privacy, RecordDP) and self.privacy.noise == "joint":
            self._check_joint(self.privacy)

    def _check_joint(self, privacy: RecordDP) -> None:
        self._check_shared("privacy.record_dp.noise: joint")
        require(
            self.silo.steps == 1,
            f"silo.steps: expected 1 under noise: joint, where each step's gradient is summed over the silos, got "
            f"{self.silo.steps}; ask for more rounds instead",
        )
        require(
            self.silo.weight_decay == 0.0,
            f"silo.weight_decay: expected 0 under noise: joint, where the server steps, got {self.silo.weight_decay}",
        )
        require(
            self.what_travels in ("ffa", "fedavg"),
            f"factors: {self.what_travels} does not fit noise: joint, which sends gradients; use ffa or fedavg",
        )
        require(
            privacy.noise_multiplier is None,
            "noise_multiplier: shared noise is calibrated to epsilon; remove it",
        )

    def _check_silo_dp(self) -> None:
        self._check_shared("privacy.silo_dp")
        require(
            self.silo.weighting == "uniform",
            "silo.weighting: expected uniform under silo_dp, got examples: a weight that depends on the data changes "
            "the sensitivity; use uniform",
        )
        require(
            self.silo.optimizer_state == "fresh",
            "silo.optimizer_state: kept is not offered under silo_dp: what a round sends must follow from that round; "
            "use fresh",
        )
        require(
            self.what_travels != "exact",
            "factors: exact sends two vectors a round, of which silo_dp could clip neither for both; use ffa or fedsvd",
        )

    def _check_shared(self, where: str) -> None:
        require(
            isinstance(self.aggregation, Masked | Bfv),
            f"{where}: each silo adds a share of the noise, which protects the sum alone; use masked or bfv",
        )

    def _check_factors(self) -> None:
        """Refuse an optimiser's memory of coordinates that mean something else in the next round."""
        require(
            self.silo.optimizer_state == "fresh" or self.what_travels in ("fedavg", "ffa"),
            f"silo.optimizer_state: kept does not fit factors: {self.what_travels}, whose rounds train other matrices, "
            "or in another basis, than the round before; use fresh",
        )
        require(
            self.distill.optimizer_state == "fresh" or self.what_travels not in ("fedsvd", "exact"),
            f"distill.optimizer_state: kept does not fit factors: {self.what_travels}, which changes the basis of A "
            "and B in each round; use fresh",
        )

    def _check_adapters(self) -> None:
        """Refuse rules that know of nothing but products B·A of one rank, and halves that would be trained in full."""
        require(
            self.lora.has_only_pairs or self.what_travels in ("fedavg", "ffa"),
            f"factors: {self.what_travels} does not fit lora.use_dora or lora.modules_to_save: it takes turns with, or "
            "decomposes, products B·A, and these are none; use fedavg, or ffa, whose A alone is fixed",
        )
        require(
            self.lora.rank_pattern is None or self.what_travels not in ("fedsvd", "exact"),
            f"factors: {self.what_travels} does not fit lora.rank_pattern: it decomposes products of one rank; use "
            "fedavg, ffa or rolora",
        )
        for name, model in (("llm", self.models.llm), ("slm", self.models.slm)):
            require(
                not self.lora.modules_to_save or model.dtype == "float32",
                f"models.{name}.dtype: expected float32 with lora.modules_to_save, whose weights would lose small "
                f"steps in {model.dtype}",
            )

    def _check_own_epsilon(self) -> None:
        """Refuse a budget for what could not be told under it."""
        require(
            not isinstance(self.privacy, SiloDP),
            "evaluate.own_epsilon: expected 0 under silo_dp, whose unit is a silo with all its records: a score of its "
            "own would be about that silo alone",
        )
        if not isinstance(self.privacy, RecordDP):
            return
        require(
            isinstance(self.privacy.unit, PerRecord),
            "evaluate.own_epsilon: expected 0 under unit: {subject: …}: a person with many records could change a "
            "score by as many, and noise for one record would not hide that; use unit: record, or keep scores at home",
        )
        require(
            self.privacy.noise_multiplier is None,
            "evaluate.own_epsilon: expected 0 beside a stated noise_multiplier, under which training goes on until the "
            "ledger's budget is spent, this part included; remove noise_multiplier, so that noise is calibrated",
        )

    @property
    def what_travels(self) -> Factors:
        """Return `factors`, or its default: FFA-LoRA (A fixed, only B travels) under DP, both factors without."""
        return self.factors or ("fedavg" if isinstance(self.privacy, NonPrivate) else "ffa")


ALTERNATIVES: tuple[type[Setting], ...] = (
    PackageSource,
    FileSource,
    HubSource,
    Classification,
    MultipleChoice,
    FreeText,
    Own,
    Share,
    Count,
    Iid,
    ByColumn,
    ByLabel,
    Dirichlet,
    Files,
    Members,
    Masked,
    Bfv,
    Ckks,
    UnsafePlain,
    RecordDP,
    SiloDP,
    NonPrivate,
    PerRecord,
    PerSubject,
    LocalEngine,
)
TAG_OF: Mapping[type, str] = {kind: kind.tag for kind in ALTERNATIVES}
"""What an alternative is called in YAML, in summaries and in the log."""


def tag_of(alternative: object) -> str:
    """Return the tag of a union's member, e.g. `masked`.

    Raises:
        KeyError: it is no alternative.
    """
    return TAG_OF[type(alternative)]
