"""A9: somebody puts an older copy of a silo's privacy ledger back, and spends the budget a second time.

By itself a silo cannot tell an old copy from the present one. The consortium's log can: each closed round commits to
the head of every ledger. A round begins with the log's lines since the last one closed, and the silo looks for the head
in its ledger; `verify` looks again afterwards.
"""

import hashlib
import tempfile
from pathlib import Path

from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.keys import Identity
from fedcollm_privacy.errors import BudgetExhausted
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.toy_log import began, closed, gave_no_sum
from fedcollm_secure.assurance.attacks.twins.counter_ledger import TwinLedger
from fedcollm_secure.audit_log.events import RunStarted
from fedcollm_secure.audit_log.file_digests import file_digest
from fedcollm_secure.audit_log.log import LOG_NAME, AuditLog, origin
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.audit_log.unseen_lines import Recent, hold_ledger
from fedcollm_secure.errors import LogError

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
    """Restore the ledger of before round 2; ask for round 3, then for round 2 again; let anybody verify the run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, ledger = _begin(folder), folder / "silos" / SILO / "ledger.jsonl"
        _close_round(folder, log, 1)
        copy = ledger.read_bytes()
        _close_round(folder, log, 2)
        ledger.write_bytes(copy)
        log.checkpoint()
        refusals = [_refusal(folder, log, log.recent(0), 3), _refusal(folder, log, _older(folder, log), 2)]
        found = _found(folder)
    return Outcome(
        succeeded="" in refusals or not found,
        reason="ledger_rolled_back" if all(refusals) else "",
        told=(
            f"asked for the next round, the silo refuses: {refusals[0]}. Asked for the old one again, it refuses: "
            f"{refusals[1]}. Whoever verifies the run finds it as well: {found}. What the silo released in a round "
            "that is not closed yet, and rounds of another log, stand in its ledger alone"
        ),
        figures={"epsilon_budget": PLAN.epsilon, "rounds_spent_twice": refusals.count("")},
    )


def _refusal(folder: Path, log: AuditLog, recent: Recent, number: int) -> str:
    """Return why the silo, as it begins round `number`, does not reserve it; empty where it spends."""
    with _open(folder) as ledger:
        try:
            head = Checkpoint.of(log.checkpoint().text)
            told = recent.told(head, known=head.size)
            told.require_next(number)
            hold_ledger(ledger, SILO, told.closed)
        except (Refused, ProtocolError) as error:
            return str(error)
    return "" if _spends(folder, number, f"another update of round {number}") else "the budget is exhausted"


def _older(folder: Path, log: AuditLog) -> Recent:
    """Return lines of the log from where round 1 was closed, as if it were the last."""
    lines = tuple((folder / "audit" / LOG_NAME).read_bytes().splitlines())
    first = next(index for index, line in enumerate(lines) if b'"round_closed"' in line)
    return log.recent(first)


def _found(folder: Path) -> str:
    try:
        verify_run(folder)
    except LogError as error:
        return str(error)
    return ""


def _begin(folder: Path) -> AuditLog:
    config = folder / "config.yaml"
    config.write_text("name: rollback\n")
    (folder / "silos" / SILO).mkdir(parents=True)
    log = AuditLog.create(folder / "audit", Identity.generate("server"), origin("rollback"))
    log.append(
        RunStarted(
            run_id="rollback",
            config_digest=file_digest(config),
            software={},
            roster_digest=_digest("roster"),
            aggregation="masked",
            privacy="record_dp",
            models={},
            environment_digest="00" * 32,
            simulated=True,
        )
    )
    return log


def _close_round(folder: Path, log: AuditLog, number: int) -> None:
    _spends(folder, number, f"update {number}")
    with _open(folder) as ledger:
        head = ledger.head
    log.append(began(number, (SILO,)))
    log.append(gave_no_sum(number))
    log.append(closed(number, (), ledgers={SILO: head}))


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
