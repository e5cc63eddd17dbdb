"""A16: two manifests: one that is checked, one that is run; and two logs, each shown to one half of the cohort.

The twin takes an unsigned manifest beside the signed one, checks the first, cosigns and reserves, and then runs
whatever the second says, or nothing. Ours has one manifest, the signed one; it acts when all of it holds.
"""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fedcollm_crypto.homomorphic.commitments import Commitment
from fedcollm_crypto.masking.messages import Hello
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import Way, try_under_each
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.protection import Protection
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import NOTHING, Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins.two_manifest_silo import TwoManifestSilo
from fedcollm_secure.federation.messages import Begin, Step
from fedcollm_secure.learning.vectors import digest

SILOS = 5


def against_twin() -> Outcome:
    """Show an honest manifest beside a payload for another adapter, and one beside junk."""
    silo = TwoManifestSilo(adapter=digest(version(0)))
    runs_another = silo.begin({"adapter": digest(version(0))}, {"adapter": digest(version(7))}) == digest(version(7))
    acts_on_junk = silo.begin({"adapter": digest(version(0))}, {}) == "" and silo.reserved == 2
    return Outcome(
        succeeded=runs_another and acts_on_junk,
        told="it checks the manifest beside the payload and trains for the one inside; for junk it cosigns and "
        "reserves all the same",
        figures={"rounds_reserved": silo.reserved, "rounds_honestly_begun": 0},
    )


def ways(protection: Protection) -> dict[str, Way]:
    """Return what is left to try."""
    return {
        "junk in the payload": partial(junk_payload, protection),
        "a payload that nobody signed": partial(unsigned_payload, protection),
        "another adapter than the manifest's": partial(another_adapter, protection),
        "a manifest inside a later step": partial(manifest_in_a_step, protection),
        "two logs for two halves": partial(two_logs, protection),
    }


def against_us() -> Outcome:
    """Try them under each protection."""
    return try_under_each(ways)


def honest_payload(protection: Protection) -> bool:
    """Send what an honest server does, in the way in which the others come: this does leave a trace."""
    with _session(protection) as session:
        return _traces(session, session.first_request(session.manifest(adapter=version(0))))


def unsigned_payload(protection: Protection) -> bool:
    """Send the honest manifest under a signature that is not the server's."""
    with _session(protection) as session:
        other = session.region.houses[session.members[1]].identity
        return _traces(session, session.first_request(session.manifest(adapter=version(0)), signer=other))


def junk_payload(protection: Protection) -> bool:
    """Send junk behind a genuine head of the log."""
    with _session(protection) as session:
        return _traces(session, b"junk")


def another_adapter(protection: Protection) -> bool:
    """Sign a manifest for one adapter, and send another."""
    with _session(protection) as session:
        session.attempt(session.manifest(adapter=version(0)), version(7))
        return True


def manifest_in_a_step(protection: Protection) -> bool:
    """Begin an attempt, and hand in the manifest of another one as its next step: nothing of it is checked there."""
    with _session(protection) as session:
        victim, adapter = session.members[0], version(0)
        for number, attempt in ((1, 1), (2, 1)):
            manifest = session.manifest(number=number, attempt=attempt, adapter=adapter)
            payload = session.first_request(manifest)
            begin = Begin(view=session.view(victim), reference=NOTHING, adapter=adapter, payload=payload)
            reply = session.silos.send(victim, begin if number == 1 else Step(payload=payload))
        return session.kind_of(reply) in (Hello.KIND, Commitment.KIND)


def two_logs(protection: Protection) -> bool:
    """Show two halves of the cohort two logs of one origin; return whether the round completes."""
    with _session(protection) as session:
        adapter, other = version(0), session.forked_log("other")
        shown = dict.fromkeys(session.members[:2], other)
        session.attempt(session.manifest(adapter=adapter), adapter, shown=shown)
        return True


@contextmanager
def _session(protection: Protection) -> Generator[Session]:
    with tempfile.TemporaryDirectory() as folder:
        yield Session(Neighbourhood(SILOS, Path(folder), protection=protection))


def _traces(session: Session, payload: bytes) -> bool:
    """Begin with this payload; return whether the silo cosigned or wrote anything. Raises: Blocked."""
    victim = session.members[0]
    before = session.silos.traces(victim)
    begin = Begin(view=session.view(victim), reference=NOTHING, adapter=version(0), payload=payload)
    try:
        session.silos.send(victim, begin)
    except Blocked:
        if session.silos.traces(victim) == before:
            raise
    return session.silos.traces(victim) != before


ATTACK = Attack(
    id="A16",
    title="two manifests",
    does="The server shows one manifest to be checked and another to be run, or junk, or two logs to two halves",
    unprotected=against_twin,
    protected=against_us,
)
