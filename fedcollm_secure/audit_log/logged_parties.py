"""Hold whom the log names against the roster, and whom it convicts against the proof.

party_convicted its proof lies under audit/proofs/, and convicts that silo under the run's roster, of an attempt of
                this log
"""

from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.conviction import BadDealing
from fedcollm_crypto.roster import Roster
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import (
    GatePassed,
    GateRejected,
    PartyConvicted,
    PartyDropped,
    PartyRefused,
    RoundClosed,
    RoundStarted,
    StageAnswered,
)
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

PROOFS = "proofs"


def check_parties(entries: Sequence[Entry], roster: Roster) -> None:
    """Hold each party that the log names against the roster, and what it says of a round against its beginning.

    Raises: LogError for a party that the roster does not list, a stage that others answered than were asked (but the
    decryptor), or a gate, a loss or a refusal in a round that did not begin.
    """
    members = {member.id for member in roster.members}
    decryptors = {member.id for member in roster.members if member.role == "decryptor"}
    asked: dict[tuple[int, int], frozenset[str]] = {}
    begun: set[int] = set()
    for entry in entries:
        named: Collection[str] = ()
        match entry.event:
            case RoundStarted() as one:
                named = asked[one.round, one.attempt] = frozenset(one.cohort)
                begun.add(one.round)
            case StageAnswered() as one:
                named, cohort = one.replies, asked.get((one.round, one.attempt), frozenset())
                if not all(party in cohort or party in decryptors for party in named):
                    raise LogError(f"round {one.round}: others answered than were asked", entry.index)
            case PartyDropped() | PartyRefused() | GatePassed() | GateRejected() as one:
                named = (one.party,) if isinstance(one, PartyDropped | PartyRefused) else ()
                if one.round not in begun:
                    raise LogError(f"something is said of round {one.round}, which did not begin", entry.index)
            case RoundClosed() as one:
                named = (*one.contributors, *one.ledgers, *one.epsilon)
            case _:
                pass
        if not members.issuperset(named):
            raise LogError("a party is named that is not in the roster", entry.index)


def check_convictions(audit: Path, entries: Sequence[Entry], roster: Roster | None) -> list[str]:
    """Verify the proof of each conviction; return which proofs, or the roster, are missing. Raises: LogError."""
    missing: list[str] = []
    begun = {entry.event.manifest_digest for entry in entries if isinstance(entry.event, RoundStarted)}
    for entry in entries:
        if isinstance(entry.event, PartyConvicted):
            path = audit / PROOFS / f"{entry.event.proof_digest}.json"
            if roster is None or not untrusted_files.is_there(path):
                missing.append(f"{PROOFS}/{path.name} is missing" if roster else "no roster to check a conviction by")
                continue
            proof = _check_proof(untrusted_files.read_regular(path), entry.event, entry.index, roster)
            if proof.manifest.terms_hash.hex() not in begun:
                raise LogError(f"the proof against {entry.event.party} is of another log's attempt", entry.index)
    return missing


def _check_proof(data: bytes, event: PartyConvicted, index: int, roster: Roster) -> BadDealing:
    try:
        proof = BadDealing.decode(data)
        proof.verify(roster)
    except ProtocolError as error:
        raise LogError(f"the proof against {event.party}: {error}", index) from error
    told = (event.proof_digest, event.party, event.fault, event.round, event.attempt)
    where = proof.manifest.round, proof.manifest.attempt
    if told != (sha256(data).hexdigest(), proof.accused, proof.fault, *where):
        raise LogError(f"the proof against {event.party} is another than the log names", index)
    return proof
