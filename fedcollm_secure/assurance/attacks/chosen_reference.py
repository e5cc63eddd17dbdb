"""A17: a reference of the server's own choice. Silos hold the next adapter against the last average, within a limit.

The twin takes the average from whoever names it in the manifest: the adapter's drift from itself is nothing. Ours takes
the digest from the log's line that closed the round, which both verifiers hold against the sum's.
"""

import tempfile
from pathlib import Path

from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import try_ways
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_log import ToyRound
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, drift, version
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.audit_log.logged_sums import check_sums
from fedcollm_secure.errors import LogError
from fedcollm_secure.learning.vectors import Float32, digest

LIMIT = 0.001
FAR = version(100_000)


def against_twin() -> Outcome:
    """Name the far adapter itself as its own reference."""
    averaged, named = version(0), FAR
    true_drift, seen = drift(averaged, FAR), drift(named, FAR)
    return Outcome(
        succeeded=seen <= LIMIT < true_drift,
        told=f"the adapter is its own reference: the silo sees a drift of {seen:g}",
        figures={"limit": LIMIT, "drift_seen": seen, "drift_true": round(true_drift, 1)},
    )


def against_us() -> Outcome:
    """Try to have the far adapter taken in round 2."""
    return try_ways(
        {
            "the far adapter as its own reference": lambda: takes_the_far_one(FAR, averaged=version(0)),
            "the true reference": lambda: takes_the_far_one(version(0), averaged=version(0)),
            "no reference": lambda: takes_the_far_one(None, averaged=version(0)),
            "the far adapter logged as the average, before whoever verifies": log_it_as_the_average,
        }
    )


def takes_the_far_one(reference: Float32 | None, *, averaged: Float32) -> bool:
    """Open round 1, close it with this average, and begin round 2 from the far adapter."""
    with tempfile.TemporaryDirectory() as folder:
        session = _after_one_round(Path(folder), averaged)
        named = "" if reference is None else digest(reference)
        manifest = session.manifest(number=2, adapter=FAR, prev_result_hash=named)
        session.attempt(manifest, FAR, reference=reference)
        return True


def log_it_as_the_average() -> bool:
    """Close round 1 with an average that did not come out: silos see no drift, and whoever verifies finds it."""
    with tempfile.TemporaryDirectory() as name:
        session = Session(Neighbourhood(5, Path(name)), trust_region=LIMIT)
        start = digest(version(0))
        told = ToyRound(cohort=session.members, adapter=start, averaged=start, closed_with=digest(FAR))
        for line in told.lines():
            session.log.append(line)
        try:
            check_sums(read_log(session.folder / "audit" / LOG_NAME).entries)
        except LogError as error:
            raise Blocked("found_by_verify") from error
        return True


def _after_one_round(folder: Path, averaged: Float32) -> Session:
    session, adapter = Session(Neighbourhood(5, folder), trust_region=LIMIT), version(0)
    total = session.attempt(session.manifest(adapter=adapter), adapter)
    session.close_round(1, total.contributors, averaged)
    return session


ATTACK = Attack(
    id="A17",
    title="a reference of the server's own choice",
    does="The server sends an adapter far from the average, with a reference near it that it made up",
    unprotected=against_twin,
    protected=against_us,
)
