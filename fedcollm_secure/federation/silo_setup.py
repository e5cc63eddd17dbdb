"""What a silo is made of, as data alone: what it holds rounds to, what it learns with, and what it remembers."""

from dataclasses import dataclass, field

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.policy import Expected
from fedcollm_crypto.masking.stages import StageJournal
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_secure.audit_log.journal import Journal
from fedcollm_secure.audit_log.witness import Witness
from fedcollm_secure.federation.gates import TrustRegion
from fedcollm_secure.federation.open_round import Pending
from fedcollm_secure.learning.factors import Rule
from fedcollm_secure.learning.training import Learner


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A silo's privacy: the plan it trains under, and the ledger that enforces it."""

    plan: TrainingPlan
    ledger: Ledger = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SiloTerms:
    """What all rounds of a run must keep to: what every manifest says, how far an adapter moves, what may be spent.

    `expected` leaves out the adapter and the pass, which are each round's. `silos` are those of the roster.
    """

    expected: Expected
    silos: frozenset[PartyId]
    trust_region: TrustRegion | None
    budget: Budget | None


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How this silo's records become integers that travel: it trains, shares what the rule says, and rounds it.

    `parameters`: how many values an adapter has. `weight`: how often the silo counts.
    """

    learner: Learner = field(repr=False)
    parameters: int
    rule: Rule
    encoding: FixedPoint
    weight: int


@dataclass(frozen=True, kw_only=True)
class SiloMemory:
    """What outlives a restart, beside the ledger.

    `stages`: what this silo answered and helped to open, in any session. `journal`: what it took part in, in this run.
    `witness`: the head of the log that it cosigned last. `pending`: its update, as long as the round is open.
    """

    stages: StageJournal = field(repr=False)
    journal: Journal = field(repr=False)
    witness: Witness = field(repr=False)
    pending: Pending = field(repr=False)
