"""A16: two manifests: one that is checked, one that is run; and two logs, each shown to one half of the cohort.

The twin takes an unsigned manifest beside the signed one, checks the first, cosigns and reserves, and then runs
whatever the second says, or nothing. Ours has one manifest, the signed one; it acts when all of it holds.
"""

import tempfile
from pathlib import Path

from fedcollm_crypto.masking.requests import MANIFEST
from fedcollm_crypto.signed import sign
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import try_ways
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
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


def against_us() -> Outcome:
    """Try what is left."""
    return try_ways(
        {
            "junk in the payload": lambda: leaves_a_trace(b"junk"),
            "a payload that nobody signed": unsigned_payload,
            "another adapter than the manifest's": another_adapter,
            "a manifest inside a later step": manifest_in_a_step,
            "two logs for two halves": two_logs,
        }
    )


def unsigned_payload() -> bool:
    """Send the honest manifest under a signature that is not the server's."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Neighbourhood(SILOS, Path(folder)))
        other = session.region.houses[session.members[1]].identity
        return _traces(session, sign(other, MANIFEST, session.manifest(adapter=version(0)).to_body()).encode())


def leaves_a_trace(payload: bytes) -> bool:
    """Send a payload behind a genuine head of the log; return whether the silo cosigned or wrote anything."""
    with tempfile.TemporaryDirectory() as folder:
        return _traces(Session(Neighbourhood(SILOS, Path(folder))), payload)


def another_adapter() -> bool:
    """Sign a manifest for one adapter, and send another."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Neighbourhood(SILOS, Path(folder)))
        session.attempt(session.manifest(adapter=version(0)), version(7))
        return True


def manifest_in_a_step() -> bool:
    """Begin an attempt, and hand in the manifest of another one as its next step: nothing of it is checked there."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Neighbourhood(SILOS, Path(folder)))
        victim, adapter = session.members[0], version(0)
        for number, attempt in ((1, 1), (2, 1)):
            manifest = session.manifest(number=number, attempt=attempt, adapter=adapter)
            payload = sign(session.region.server, MANIFEST, manifest.to_body()).encode()
            begin = Begin(view=session.view(victim), reference=NOTHING, adapter=adapter, payload=payload)
            reply = session.silos.send(victim, begin if number == 1 else Step(payload=payload))
        return session.kind_of(reply) == "hello"


def two_logs() -> bool:
    """Show two halves of the cohort two logs of one origin; return whether the round completes."""
    with tempfile.TemporaryDirectory() as folder:
        session, adapter = Session(Neighbourhood(SILOS, Path(folder))), version(0)
        other = session.forked_log("other")
        shown = dict.fromkeys(session.members[:2], other)
        session.attempt(session.manifest(adapter=adapter), adapter, shown=shown)
        return True


def _traces(session: Session, payload: bytes) -> bool:
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
