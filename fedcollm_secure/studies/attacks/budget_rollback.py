"""A9: somebody puts an older copy of a silo's privacy ledger back, and spends the budget a second time.

The silo itself cannot tell an old copy from the present one. Whoever holds the consortium's log can: each closed round
commits to the head of every ledger, and `verify` looks for that head in the file.
"""

import hashlib
import tempfile
from pathlib import Path

from fedcollm_crypto.keys import Identity
from fedcollm_privacy.errors import BudgetExhausted
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.audit.digests import file_digest
from fedcollm_secure.audit.events import RoundClosed, RunStarted
from fedcollm_secure.audit.log import AuditLog
from fedcollm_secure.audit.verify import verify_run
from fedcollm_secure.errors import LogError
from fedcollm_secure.studies.attacks.outcome import Attack, Outcome
from fedcollm_secure.studies.attacks.twins.ledger import TwinLedger

SILO, ROUNDS = "north", 2
PLAN = RecordPlan(
    epsilon=8.0,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=0.5,
    noise_multiplier=3.0,
    steps_per_round=1,
    rounds=ROUNDS,
    batch_size=4,
)


def against_twin() -> Outcome:
    """Spend all, restore the copy, spend all again."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "budget.json"
        ledger = TwinLedger(path, PLAN.epsilon)
        copy = path.read_bytes()
        first = _drain(ledger)
        path.write_bytes(copy)
        second = _drain(TwinLedger(path, PLAN.epsilon))
    spent = (first + second) * PLAN.epsilon / ROUNDS
    return Outcome(
        succeeded=spent > PLAN.epsilon,
        told=f"{first} rounds, an old copy, {second} rounds more: ε {spent:g} spent of {PLAN.epsilon:g}, unseen",
        figures={"rounds": first + second, "epsilon_spent": spent, "epsilon_budget": PLAN.epsilon},
    )


def _drain(ledger: TwinLedger) -> int:
    rounds = 0
    while ledger.spend(PLAN.epsilon / ROUNDS):
        rounds += 1
    return rounds


def against_us() -> Outcome:
    """Restore the ledger of before round 2; spend again; let anybody verify the run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, ledger = _begin(folder), folder / "silos" / SILO / "ledger.jsonl"
        _close_round(folder, log, 1)
        copy = ledger.read_bytes()
        _close_round(folder, log, 2)
        ledger.write_bytes(copy)
        again = _spends(folder, 2, "another update of round 2")
        try:
            verify_run(folder)
        except LogError as error:
            found = str(error)
        else:
            found = ""
    return Outcome(
        succeeded=not found,
        reason="detected_by_verify" if found else "",
        told=(
            f"the silo spends round 2 {'a second time' if again else 'once'}; verify then finds it: {found}. Found, "
            "not prevented: the silo alone cannot tell, and a log that was replaced as well shows only against a head "
            "held elsewhere"
        ),
        figures={"epsilon_budget": PLAN.epsilon, "spent_twice_before_detection": int(again)},
    )


def _begin(folder: Path) -> AuditLog:
    config = folder / "config.yaml"
    config.write_text("name: rollback\n")
    (folder / "silos" / SILO).mkdir(parents=True)
    log = AuditLog.create(folder / "audit", Identity.generate("server"), "rollback")
    log.append(
        RunStarted(
            run_id="rollback",
            config_digest=file_digest(config),
            software={},
            roster_digest=_digest("roster"),
            aggregation="masked",
            privacy="record_dp",
            models={},
            simulated=True,
        )
    )
    return log


def _close_round(folder: Path, log: AuditLog, number: int) -> None:
    _spends(folder, number, f"update {number}")
    with _open(folder) as ledger:
        head = ledger.head
    log.append(
        RoundClosed(
            round=number,
            contributors=(SILO,),
            total_weight=1,
            sum_digest=_digest(f"sum {number}"),
            adapter_before=_digest(f"adapter {number - 1}"),
            adapter_after=_digest(f"adapter {number}"),
            llm_adapter_digest=_digest(f"llm {number}"),
            ledgers={SILO: head},
            epsilon={},
        )
    )


def _spends(folder: Path, number: int, update: str) -> bool:
    """Let an update leave under the ledger as it lies there; return whether the ledger allowed it."""
    with _open(folder) as ledger:
        try:
            ledger.reserve(session="rollback", round=number, plan=PLAN)
        except BudgetExhausted:
            return False
        ledger.release(session="rollback", round=number, digest=_digest(update))
    return True


def _open(folder: Path) -> Ledger:
    path = folder / "silos" / SILO / "ledger.jsonl"
    return Ledger.open(path, population=SILO, epsilon=PLAN.epsilon, delta=PLAN.delta, simulated=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


ATTACK = Attack(
    id="A9",
    title="budget rollback",
    does="Somebody restores an old copy of a silo's ledger and spends the privacy budget again",
    unprotected=against_twin,
    protected=against_us,
)
