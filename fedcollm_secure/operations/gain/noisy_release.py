"""A silo's gain told to others: two noisy integers, one document, paid for before the noise is drawn.

1. a stored document?  → that one, whatever was asked     4. draw
2. reserve ε in the silo's ledger, or refuse              5. write the document, whole and durable
3. record the release in the ledger                       6. mark it done; only now is it shown

A kill before 3 drew nothing; its reservation is given back. A kill from 3 on stays charged: the next try is an attempt
of its own, with a charge of its own, or is refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from fedcollm_crypto import canonical, durable
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.signed import sign
from fedcollm_privacy.ledger import Ledger, LedgerRow, RoundState
from fedcollm_privacy.score_plan import MECHANISM, ScorePlan
from fedcollm_secure.operations.gain.finished_run import AfterRun
from fedcollm_secure.operations.gain.held_out_score import Scored
from fedcollm_secure.operations.gain.paired_gain import verdict

RELEASE_NAME = "gain-release.json"
KIND = "own-score"
_OF_EACH_INTEGER, _OF_THE_SAMPLE = 0.01, 0.03  # how often each may be off; together the 5 % of a 95 % interval


def publish(
    *, ledger: Ledger, path: Path, session: str, plan: ScorePlan, terms: bytes, make: Callable[[], bytes]
) -> bytes:
    """Return the document at `path`, or charge `plan`, let `make` draw one, and keep it there.

    Guarantee: whatever is killed when, `make` never runs twice under one charge, and what it returns leaves this
    function only once it is durable. `ledger` is locked by this process: of two that ask at once one waits outside.

    Raises:
        BudgetExhausted: nothing was drawn; nothing is charged.
    """
    if path.is_file():  # 1
        return path.read_bytes()
    name = _fresh_session(ledger, f"{session}/gain")
    ledger.reserve(session=name, round=1, plan=plan)  # 2
    ledger.release(session=name, round=1, digest=sha256(terms).hexdigest())  # 3
    document = make()  # 4
    durable.replace(path, document)  # 5
    ledger.done(session=name, round=1)  # 6
    return document


def _fresh_session(ledger: Ledger, prefix: str) -> str:
    """Give back what a killed attempt reserved and never drew under, and return the name of a further attempt."""
    earlier: Sequence[LedgerRow] = [row for row in ledger.rows() if row.session.startswith(f"{prefix}/")]
    for row in earlier:
        if row.state is RoundState.RESERVED:
            ledger.void(session=row.session, round=row.round, reason="killed before anything was drawn")
    return f"{prefix}/{len(earlier) + 1}"


def terms_of(after_run: AfterRun, plan: ScorePlan, metric: str) -> dict[str, Json]:
    """Return what is fixed before anything is drawn."""
    return {
        "adapter": after_run.adapter_digest,
        "epsilon": plan.as_json()["epsilon"],
        "mechanism": MECHANISM,
        "metric": metric,
        "round": after_run.round,
        "run": after_run.session,
        "silo": after_run.silo,
        "simulated": True,
        "unit": "record",
    }


def signed_document(terms: Mapping[str, Json], plan: ScorePlan, scored: Scored, identity: Identity) -> bytes:
    """Draw the noise and return the document under the silo's signature. Each call is a release."""
    noisy_gain, noisy_records = plan.noisy(scored.paired.net, scored.paired.records)
    return sign(identity, KIND, {**terms, **statement(plan, noisy_gain, noisy_records)}).encode()


def statement(plan: ScorePlan, noisy_gain: int, noisy_records: int) -> dict[str, Json]:
    """Return the two integers and what follows from them: post-processing, which anybody can repeat.

    |X|, |Y| ≤ k but for 1 % each. So the gain on the kept records, (b − c)/n, lies between the corners of
    [G̃ ± k] / [Ñ ± k], n ≥ 1: `kept_ci95`. It is a mean of values in [−1, 1], hence but for 3 % within √(2·ln(2/0.03)/n)
    of the gain on records like these (Hoeffding), n at its least: `ci95`. How many records differ is not released, so
    nothing sharper can be said.
    """
    bound = plan.noise_bound(_OF_EACH_INTEGER)
    least, most = max(1, noisy_records - bound), max(1, noisy_records + bound)
    low, high = noisy_gain - bound, noisy_gain + bound
    kept_low, kept_high = low / (least if low < 0 else most), high / (least if high > 0 else most)
    half = math.sqrt(2 * math.log(2 / _OF_THE_SAMPLE) / least)
    ci95 = (_clipped(kept_low) - half, _clipped(kept_high) + half)
    return {
        "noisy_gain": noisy_gain,
        "noisy_records": noisy_records,
        "gain_per_record": _decimal(noisy_gain / max(1, noisy_records)),
        "kept_ci95": [_decimal(kept_low), _decimal(kept_high)],
        "ci95": [_decimal(bound) for bound in ci95],
        "verdict": verdict(*ci95),
    }


def _clipped(value: float) -> float:
    return min(1.0, max(-1.0, value))


def _decimal(value: float) -> str:
    return f"{_clipped(value):.6f}"


def read_body(document: bytes) -> Mapping[str, Json]:
    """Return what a stored document says, unverified. Raises: ProtocolError."""
    whole = canonical.decode(document)
    body = whole.get("body") if isinstance(whole, Mapping) else None
    return body if isinstance(body, Mapping) else {}
