"""What the page says of itself: whether the log holds, and what the page must not be taken for."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from fedcollm_crypto.errors import CryptoError
from fedcollm_privacy.errors import PrivacyError
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.errors import FedCoLLMError, LogError
from fedcollm_secure.operations.report.report_content import last_spent
from fedcollm_secure.operations.report.run_record import Record

SIMULATED = (
    "The silos were simulated: one program on one machine held the data and the keys of all of them. The protocol "
    "and its messages are real, the separation between the parties is not."
)
WITHOUT_PRIVACY = (
    "There was no differential privacy. Hiding single updates hides who contributed what; the sum, and the models "
    "made from it, can still reveal the content of records."
)
UNAUDITED = "The cryptography uses well-known primitives, but nobody independent has audited this implementation."
UNIT = (
    "ε and δ bound what the released models reveal about one unit of privacy, as the configuration names it. They do "
    "not cover the choice of hyper-parameters, what the base models had learned before, timing, or who took part."
)
DISHONEST = (
    "A silo that lies about its own training harms the protection of its own records only; a silo that poisons its "
    "update within the permitted norm is not detected."
)
PUBLIC = "Scores were measured on public test data. They say nothing about how the models serve in clinical use."
NO_EVIDENCE = "This page is a reading of the run's files and proves nothing by itself. The signed log does: verify it."


@dataclass(frozen=True, kw_only=True)
class LogState:
    """What the audit log was found to be when the page was written: `state` is good, incomplete or bad."""

    state: str
    sentence: str
    entries: int | None
    root: str | None
    command: str


def log_state(run: Path, record: Record) -> LogState:
    """Verify the log now, and say how anybody can do so again."""
    stated = record.summary.child("log") if record.summary else None
    entries = stated.whole("size") if stated else None
    root = stated.text("root") if stated else None
    command = f"fedcollm-secure verify {shlex.quote(run.resolve().name)}"
    try:
        verified = verify_run(run)
    except LogError as error:
        state, sentence = "bad", f"The log did not verify when this page was written: {error.diagnostics()}."
    except (FedCoLLMError, CryptoError, PrivacyError) as error:
        state, sentence = "bad", f"The run could not be verified when this page was written: {error.diagnostics()}."
    else:
        entries, root = verified.entries, verified.root
        if verified.incomplete:
            state, sentence = "incomplete", f"What is there verified; the record is incomplete: {verified.incomplete}."
        else:
            state, sentence = "good", "Every entry verified when this page was written."
    return LogState(state=state, sentence=sentence, entries=entries, root=root, command=command)


def limits(record: Record) -> list[str]:
    """What this page must not be taken for."""
    simulated = record.summary is None or record.summary.items.get("simulated") is not False
    private = bool(last_spent(record))
    first = [SIMULATED] if simulated else []
    second = [UNAUDITED, UNIT] if private else [WITHOUT_PRIVACY, UNAUDITED]
    return [*first, *second, DISHONEST, PUBLIC, NO_EVIDENCE]
