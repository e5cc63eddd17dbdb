"""A silo on its own machine: its own records, its small model, its ledger; of the server's model no more than a digest.

plan + site ──▶ terms, which it computes for itself     site ──▶ records, model     law ──▶ ledger
"""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedcollm_crypto import durable
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.stages import FileStages, Heard, Released
from fedcollm_crypto.roster import Roster
from fedcollm_privacy.errors import BudgetExhausted
from fedcollm_privacy.ledger import Book, Ledger, read_book
from fedcollm_privacy.ledger.entry import GENESIS, Entry, Opened, encode
from fedcollm_secure.assemble.cohort_size import check_cohort
from fedcollm_secure.assemble.common import Common, make_common, make_numbers
from fedcollm_secure.assemble.learners import apart_of, make_encoder, make_learner, subjects_of
from fedcollm_secure.assemble.parties import first_manifest
from fedcollm_secure.assemble.privacy_plans import LARGEST_WEIGHT, check_delta, make_plan
from fedcollm_secure.assemble.silo_side import assemble_silo, record_weight
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.config.plan import Plan
from fedcollm_secure.config.policy import Policy
from fedcollm_secure.config.protection import PerSubject, RecordDP
from fedcollm_secure.config.site import Site
from fedcollm_secure.errors import ConfigError, RefusedByPolicy
from fedcollm_secure.federation.open_round import PENDING_NAME
from fedcollm_secure.federation.silo import Silo
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import max_length
from fedcollm_secure.learning.data.holdings import OwnRecords, gather_own
from fedcollm_secure.learning.models import choose_device, load_base, tokenizer_fingerprint, with_lora
from fedcollm_secure.learning.training import Learner


@dataclass(frozen=True, kw_only=True)
class SiloSide:
    """A silo's part of a plan, in memory; nothing is opened or written yet."""

    plan: Plan
    common: Common
    learner: Learner = field(repr=False)
    own: OwnRecords = field(repr=False)


def prepare_silo(plan: Plan, site: Site, policy: Policy) -> SiloSide:
    """Read a silo's own records and small model, and compute the plan's terms for itself.

    Raises:
        ConfigError: records or model are not what the plan asks for, or the plan cannot work.
        RefusedByPolicy: fewer records than the silo's law asks for.
    """
    if site.data is None or site.slm is None:
        raise ConfigError("site.yaml", "expected data and slm: a silo's records, and its small model")
    config = plan.config(site.data, slm=site.slm.source, device=site.device)
    own_plan = make_plan(config)
    subject = _subject(config.privacy)
    own = gather_own(
        config.data,
        site.data,
        site.name,
        labels=plan.data.known or (),
        seed=config.seed,
        subject=subject,
        own=config.evaluate.own,
    )
    if len(own.training) < policy.data.rows:
        raise RefusedByPolicy(f"policy.yaml: data.rows asks for {policy.data.rows} records or more; there are fewer")
    if record_weight_of(plan, len(own.training)) > LARGEST_WEIGHT:
        raise ConfigError("silo.weighting", f"examples counts at most {LARGEST_WEIGHT} records a silo")
    persons = subjects_of(config, own.training)
    check_delta(config, len(persons) if persons is not None else len(own.training))
    check_cohort(config, plan.silos)
    slm = load_base(config.models.slm, "slm", choose_device(site.device))
    for what, got, expected in (
        ("weights", slm.digest, plan.models.slm.digest),
        ("tokenizer", tokenizer_fingerprint(slm.tokenizer), plan.models.tokenizer),
    ):
        if got != expected:
            raise ConfigError("slm", f"the {what} are not the plan's: expected {expected[:16]}…, got {got[:16]}…")
    if plan.models.context > max_length(slm.model):
        raise ConfigError("plan", f"it asks for {plan.models.context} tokens, this model takes fewer")
    adapter = Adapter(with_lora(slm, config.lora, seed=config.seed), config.what_travels)
    numbers = make_numbers(config, adapter, len(plan.silos), own_plan)
    common = make_common(config, plan.silos, numbers, adapter, weights=slm.digest, training_digest=plan.digest)
    encoder = make_encoder(config, slm, plan.models.context)
    learner = make_learner(common, site.name, own.training, adapter=adapter, encoder=encoder, apart="")
    apart = apart_of(learner, len(slm.tokenizer))
    if apart:
        learner = replace(learner, gradients="one_by_one")
    return SiloSide(plan=plan, common=common, learner=learner, own=own)


def open_silo(
    side: SiloSide, folder: Path, site: Site, policy: Policy, roster: Roster, identity: Identity, resources: ExitStack
) -> Silo:
    """Open what the silo remembers, and return it ready to answer; everything is locked against a second process.

    `folder` is the session's. The ledger and what was ever released lie with the data set, over all plans.
    Raises: LedgerError, RunError, InUse where another process has it or it was changed.
    """
    ledger_file = Path(site.ledger)
    durable.make_folder(ledger_file.parent)
    durable.make_folder(folder)
    stages = FileStages(ledger_file.with_name(stages_name(ledger_file)))
    resources.callback(stages.close)
    _require_memory(stages, side, ledger_file)
    ledger = open_ledger(site, policy) if side.common.plan is not None else None
    if ledger is not None:
        resources.callback(ledger.close)
    journal = Journal(folder / JOURNAL_NAME)
    resources.callback(journal.close)
    return assemble_silo(
        common=side.common,
        roster=roster,
        identity=identity,
        manifest=first_manifest(side.common, roster, side.plan.session),
        learner=side.learner,
        weight=record_weight(side.common, len(side.own.training)),
        ledger=ledger,
        stages=stages,
        journal=journal,
        pending=folder / PENDING_NAME,
        worker=resources.enter_context(Worker()),
        stopwatch=Stopwatch(),
    )


def _require_memory(stages: FileStages, side: SiloSide, ledger_file: Path) -> None:
    """Hold what a data set was part of, over all sessions, against what it is asked for now.

    Guarantee: without differential privacy it is in sums of one session alone, so that no two of them, over other
    weights, other work or other holders of the same names, can be subtracted; and where sums with differential privacy
    were opened, none follows without the ledger that paid for them.
    Raises: RefusedByPolicy.
    """
    sums = [entry for entry in stages.entries() if isinstance(entry, Released | Heard)]
    others = {entry.where.session_id for entry in sums if not entry.dp_plan_hash} - {side.plan.session}
    if side.common.plan is None and others:
        raise RefusedByPolicy(
            "this data set was already part of sums without differential privacy, in another plan: from sums of two "
            "such plans a silo's update can be worked out. Take part with differential privacy, or let that plan go on"
        )
    if side.common.plan is not None and not ledger_file.exists() and any(entry.dp_plan_hash for entry in sums):
        raise RefusedByPolicy(
            f"{ledger_file} is missing, and this data set has spent ε already ({stages_name(ledger_file)} says so): "
            "restore the newest ledger from your backup"
        )


def stages_name(ledger_file: Path) -> str:
    """Return the name of the file beside a ledger that remembers which sums its data set was part of."""
    return ledger_file.with_suffix(".stages.jsonl").name


def population_of(site: Site) -> str:
    """Return the name of the data set in its ledger: of this site, whatever plans there are."""
    return f"{site.name}/{Path(site.ledger).stem}"


def record_weight_of(plan: Plan, records: int) -> int:
    """Return how often a silo would count under a plan."""
    return 1 if plan.silo.weighting == "uniform" else records


def open_ledger(site: Site, policy: Policy) -> Ledger:
    """Open the ledger of a site's data set, whose budget is the law's; the folder must exist. Raises: LedgerError."""
    return Ledger.open(
        Path(site.ledger),
        population=population_of(site),
        epsilon=policy.privacy.epsilon_total,
        delta=policy.privacy.delta_total,
        simulated=False,
    )


@dataclass(frozen=True, kw_only=True)
class Affordable:
    """How many of a plan's rounds a data set's budget pays for: ε spent before, and after them."""

    rounds: int
    asked: int
    spent: float
    after: float
    total: float

    @property
    def words(self) -> str:
        """Return it for a person."""
        return (
            f"ε {self.spent:.3f} of {self.total:g} is spent; {self.rounds} of this plan's {self.asked} rounds can be "
            f"paid, up to ε {self.after:.3f}"
        )


def affordable(side: SiloSide, site: Site, policy: Policy) -> Affordable | None:
    """Try a plan on what the ledger says, in memory; None where the plan has no differential privacy.

    Raises: LedgerError where the ledger was changed, or is that of another data set.
    """
    plan, path, law = side.common.plan, Path(site.ledger), policy.privacy
    if plan is None:
        return None
    opened = Opened(population=population_of(site), epsilon=law.epsilon_total, delta=law.delta_total, simulated=False)
    book = read_book(path) if path.exists() else Book(opened)
    if not path.exists():
        _try(book, opened)
    before = book.epsilon_spent()
    paid = 0
    for number in range(1, side.plan.rounds + 1):
        try:
            entry = book.reservation(session=side.plan.session, number=number, plan=plan)
        except BudgetExhausted:
            break
        _try(book, entry)
        _try(book, book.release(session=side.plan.session, number=number, digest=GENESIS))
        paid = number
    return Affordable(
        rounds=paid, asked=side.plan.rounds, spent=before, after=book.epsilon_spent(), total=law.epsilon_total
    )


def _try(book: Book, entry: Entry | None) -> None:
    """Apply an entry to a book in memory, as if it had been written."""
    if entry is not None:
        book.apply(entry, encode(entry, index=book.entries, previous=book.head)[1])


def _subject(privacy: object) -> str | None:
    if isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject):
        return privacy.unit.column
    return None
