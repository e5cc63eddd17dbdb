"""A consortium's plan: all that its parties must agree on, and nothing that is any one party's own.

No path, no address, no device: one plan has one text, and so one digest, on every machine. What it says of data is what
is asked of them, and the labels that the coordinator's public records have; of models, digests.

    configuration ── the coordinator makes a plan ──▶ plan ── each party adds its own places ──▶ configuration
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Literal, cast

from pydantic import TypeAdapter

from fedcollm_secure.config.data import Data, Labels, Members, Task
from fedcollm_secure.config.load import parse_as, resolved
from fedcollm_secure.config.models import Lora, Models, ModelSource
from fedcollm_secure.config.protection import Aggregation, Audit, Gates, Privacy, Security
from fedcollm_secure.config.require import require
from fedcollm_secure.config.schema import Config
from fedcollm_secure.config.setting import ONE_OF, Setting, Several, Text, Tree
from fedcollm_secure.config.source import FileSource, HubSource, PackageSource
from fedcollm_secure.config.training import Distillation, Evaluation, Factors, LocalTraining
from fedcollm_secure.config.yaml12 import read_yaml
from fedcollm_secure.errors import ConfigError

NONCE_BYTES = 16
ELSEWHERE = "elsewhere"
"""What a configuration that was made from a plan names where a party has no model of its own."""


@dataclass(frozen=True, kw_only=True)
class PlannedModel(Setting):
    """A model by the digest of its weights; `layers` and `dtype` as in a configuration."""

    digest: Text
    dtype: Literal["float32", "bfloat16"]
    layers: int | None

    def __post_init__(self) -> None:
        """Refuse what is no digest."""
        require(is_digest(self.digest), f"digest: expected 64 hexadecimal digits, got {self.digest!r}")


@dataclass(frozen=True, kw_only=True)
class PlannedModels(Setting):
    """Both models, the fingerprint of their one tokenizer, and how many tokens the shorter of them takes."""

    llm: PlannedModel
    slm: PlannedModel
    tokenizer: Text
    context: int


@dataclass(frozen=True, kw_only=True)
class PlannedData(Setting):
    """What is asked of every silo's records: the task names the columns, `known` a classification's labels in order."""

    task: Annotated[Task, ONE_OF]
    labels: Labels
    known: Several[Text] | None
    missing: Literal["refuse", "skip"]
    max_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Plan(Setting):
    """One run of a consortium. `nonce` makes two plans of equal terms two; `roster` is the hash of the members'."""

    name: Text
    nonce: Text
    consortium: Text
    epoch: int
    roster: Text
    silos: Several[Text]
    seed: int
    rounds: int
    models: PlannedModels
    lora: Lora
    data: PlannedData
    silo: LocalTraining
    distill: Distillation
    factors: Factors
    aggregation: Annotated[Aggregation, ONE_OF]
    privacy: Annotated[Privacy, ONE_OF]
    security: Security
    gates: Gates
    audit: Audit
    evaluate: Evaluation

    def __post_init__(self) -> None:
        """Refuse what no configuration could be made from."""
        require(is_digest(self.roster), f"roster: expected 64 hexadecimal digits, got {self.roster!r}")
        require(re.fullmatch("[0-9a-f]{32}", self.nonce) is not None, f"nonce: expected 32 digits, got {self.nonce!r}")
        self.config(FileSource(path=ELSEWHERE), slm=ELSEWHERE, device="auto")  # checks what shows between two parts

    def config(
        self,
        source: FileSource | PackageSource | HubSource,
        *,
        slm: str,
        device: Literal["auto", "cpu", "cuda"],
    ) -> Config:
        """Return the configuration of one party that trains: these terms with its own file, small model and device."""
        data, models = self.data, self.models
        return Config(
            name=self.name,
            seed=self.seed,
            models=Models(
                llm=ModelSource(source=ELSEWHERE, dtype=models.llm.dtype, layers=models.llm.layers),
                slm=ModelSource(source=slm, dtype=models.slm.dtype, layers=models.slm.layers),
            ),
            lora=self.lora,
            data=Data(
                source=source,
                task=data.task,
                silos=Members(names=self.silos),
                labels=data.labels,
                missing=data.missing,
                max_tokens=data.max_tokens,
            ),
            rounds=self.rounds,
            silo=self.silo,
            distill=self.distill,
            factors=self.factors,
            aggregation=self.aggregation,
            privacy=self.privacy,
            security=self.security,
            gates=self.gates,
            audit=self.audit,
            evaluate=self.evaluate,
            device=device,
        )

    @property
    def text(self) -> str:
        """Return the plan's one spelling."""
        return resolved(self)

    @property
    def digest(self) -> str:
        """Return SHA-256 of the text, in hex: every round's manifest names it."""
        return plan_digest(self.text)

    @property
    def session(self) -> str:
        """Return the one session in which this plan can be run: a second log of it would be a fork."""
        return f"{self.name}-{self.digest[:16]}"


def make_plan_of(
    config: Config,
    *,
    nonce: str,
    consortium: str,
    epoch: int,
    roster: str,
    silos: tuple[str, ...],
    digests: tuple[str, str],
    tokenizer: str,
    context: int,
    known: tuple[str, ...],
) -> Plan:
    """Return the plan of a configuration; `digests` are those of the large and the small model's weights."""
    llm, slm = config.models.llm, config.models.slm
    return Plan(
        name=config.name,
        nonce=nonce,
        consortium=consortium,
        epoch=epoch,
        roster=roster,
        silos=silos,
        seed=config.seed,
        rounds=config.rounds,
        models=PlannedModels(
            llm=PlannedModel(digest=digests[0], dtype=llm.dtype, layers=llm.layers),
            slm=PlannedModel(digest=digests[1], dtype=slm.dtype, layers=slm.layers),
            tokenizer=tokenizer,
            context=context,
        ),
        lora=config.lora,
        data=PlannedData(
            task=config.data.task,
            labels=config.data.labels,
            known=known or None,
            missing=config.data.missing,
            max_tokens=config.data.max_tokens,
        ),
        silo=config.silo,
        distill=config.distill,
        factors=config.what_travels,
        aggregation=config.aggregation,
        privacy=config.privacy,
        security=config.security,
        gates=config.gates,
        audit=config.audit,
        evaluate=config.evaluate,
    )


def read_plan(text: str) -> Plan:
    """Read a plan's text.

    Raises: ConfigError for what is none, or is spelt otherwise than we would: one plan has one digest.
    """
    tree = read_yaml(text, "plan")
    if not isinstance(tree, dict):
        raise ConfigError("plan", "expected a map of settings, and it holds none")
    plan = parse_as(Plan, _reader(), cast(Tree, tree))
    if plan.text != text:
        raise ConfigError("plan", "it is spelt otherwise than this version writes it; ask for one of this version")
    return plan


def plan_digest(text: str) -> str:
    """Return SHA-256 of a plan's text, in hex."""
    return sha256(text.encode()).hexdigest()


def is_digest(text: str) -> bool:
    """Say whether a text is SHA-256 in lower-case hex."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


@cache
def _reader() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)
