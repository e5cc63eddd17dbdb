"""Hold what the log says of its sums against itself: who agreed to open them, what came of them, who was convicted.

stage_answered  in order of an attempt's stages; what was accepted is among what was answered
sum_agreed      once for an attempt that began, from its adapter, over silos of its cohort
round_summed    follows a sum_agreed of the same attempt; the sum in the clear, where nobody agrees, is left out. Its
                digest of each party's replies is that over the party's digests in the attempt's stages
round_closed    over the silos that agreed; `averaged_digest` is the average's, or, where there is none or a gate threw
                it away, that of the round before: a round without a sum moves no reference. The manifests of the next
                round name it too
party_convicted its proof lies under audit/proofs/, and convicts that silo under the run's roster
"""

from collections.abc import Sequence
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
    RoundSummed,
    RunStarted,
    StageAnswered,
    SumAgreed,
)
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

PROOFS = "proofs"
IN_THE_CLEAR = "unsafe_plain"
KEEPS_THE_AVERAGE = {"trust_region"}  # a gate on what was made of the average afterwards


def check_sums(entries: Sequence[Entry]) -> None:
    """Check each round that was closed. Raises: LogError with the entry that does not fit."""
    started = entries[0].event if entries else None
    agrees = isinstance(started, RunStarted) and started.aggregation != IN_THE_CLEAR
    before: list[Entry] = []
    last = ""
    for entry in entries:
        match entry.event:
            case SumAgreed() as agreed:
                _check_agreed(before, agreed, entry.index)
            case StageAnswered() as stage:
                _check_stage(before, stage, entry.index)
            case RoundSummed() as summed:
                _check_replies(before, summed, entry.index)
                if agrees:
                    _agreed(before, summed, entry.index)
            case RoundClosed() as closed:
                _check_closed(before, closed, entry.index, last, agrees=agrees)
                before, last = [], closed.averaged_digest
                continue
            case _:
                pass
        before.append(entry)


def check_parties(entries: Sequence[Entry], roster: Roster) -> None:
    """Hold each party that the log names against the roster, and what it says of a round against its beginning.

    Raises: LogError for a party that the roster does not list, a stage that others answered than were asked (but the
    decryptor), or a gate, a loss or a refusal in a round that did not begin.
    """
    members = {member.id for member in roster.members}
    decryptors = {member.id for member in roster.members if member.role == "decryptor"}
    asked: dict[tuple[int, int], set[str]] = {}
    begun: set[int] = set()
    for entry in entries:
        named: set[str] = set()
        match entry.event:
            case RoundStarted() as one:
                asked[one.round, one.attempt], named = set(one.cohort), set(one.cohort)
                begun.add(one.round)
            case StageAnswered() as one:
                named = set(one.replies)
                if not named <= asked.get((one.round, one.attempt), set()) | decryptors:
                    raise LogError(f"round {one.round}: others answered than were asked", entry.index)
            case PartyDropped() | PartyRefused() | GatePassed() | GateRejected() as one:
                named = {one.party} if isinstance(one, PartyDropped | PartyRefused) else set()
                if one.round not in begun:
                    raise LogError(f"something is said of round {one.round}, which did not begin", entry.index)
            case RoundClosed() as one:
                named = {*one.contributors, *one.ledgers, *one.epsilon}
            case _:
                pass
        if not named <= members:
            raise LogError("a party is named that is not in the roster", entry.index)


def averages(entries: Sequence[Entry]) -> dict[int, str]:
    """Return, by round, the digest of what the model was distilled from when that round closed."""
    return {entry.event.round: entry.event.averaged_digest for entry in entries if isinstance(entry.event, RoundClosed)}


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


def _check_agreed(before: Sequence[Entry], agreed: SumAgreed, index: int) -> None:
    """Hold who agreed against what they were asked: silos that join later take these lines for what was opened."""
    attempt = agreed.round, agreed.attempt
    events = [entry.event for entry in before]
    asked = [event for event in events if isinstance(event, RoundStarted) and (event.round, event.attempt) == attempt]
    if not asked or asked[-1].adapter_digest != agreed.adapter_digest:
        raise LogError(f"silos agreed to a sum of round {attempt[0]}, attempt {attempt[1]}, that never began so", index)
    if not set(agreed.survivors) <= set(asked[-1].cohort):
        raise LogError(f"silos agreed to a sum of round {attempt[0]} that were not asked in it", index)
    named = (event for event in events if isinstance(event, SumAgreed))
    if any((one.round, one.attempt, one.linear_pass) == (*attempt, agreed.linear_pass) for one in named):
        raise LogError(f"a sum of round {attempt[0]}, attempt {attempt[1]} is agreed to twice", index)


def _check_stage(before: Sequence[Entry], stage: StageAnswered, index: int) -> None:
    """Hold a stage against the attempt that it is of, and against the stages before it."""
    attempt, events = (stage.round, stage.attempt), [entry.event for entry in before]
    if not any(isinstance(one, RoundStarted) and (one.round, one.attempt) == attempt for one in events):
        raise LogError(f"a stage of round {attempt[0]}, attempt {attempt[1]} was answered, which never began", index)
    earlier = [one.stage for one in _stages(before, *attempt)]
    if stage.stage < 1 or (earlier and earlier[-1] >= stage.stage):
        raise LogError(f"stages of round {attempt[0]}, attempt {attempt[1]} are not in their order", index)
    if not set(stage.accepted) <= stage.replies.keys():
        raise LogError(f"stage {stage.stage} of round {attempt[0]} counts silos that did not answer", index)


def _check_replies(before: Sequence[Entry], summed: RoundSummed, index: int) -> None:
    said: dict[str, list[bytes]] = {}
    for stage in _stages(before, summed.round, summed.attempt):
        for party, reply in stage.replies.items():
            said.setdefault(party, []).append(bytes.fromhex(reply))
    if {party: sha256(b"".join(replies)).hexdigest() for party, replies in said.items()} != dict(summed.replies):
        raise LogError(
            f"round {summed.round}, attempt {summed.attempt}: the digests of all replies are not over those of its "
            "stages",
            index,
        )


def _stages(before: Sequence[Entry], number: int, attempt: int) -> list[StageAnswered]:
    events = (entry.event for entry in before)
    return [one for one in events if isinstance(one, StageAnswered) and (one.round, one.attempt) == (number, attempt)]


def _agreed(before: Sequence[Entry], summed: RoundSummed, index: int) -> SumAgreed:
    for entry in reversed(before):
        event = entry.event
        if isinstance(event, SumAgreed) and (event.round, event.attempt) == (summed.round, summed.attempt):
            return event
    raise LogError(f"round {summed.round}, attempt {summed.attempt} was summed, and no silos agreed to open it", index)


def _check_closed(before: Sequence[Entry], closed: RoundClosed, index: int, last: str, *, agrees: bool) -> None:
    """Hold what closes a round against what came out; without a sum the `last` average stands."""
    of_round = [entry.event for entry in before]
    summed = [event for event in of_round if isinstance(event, RoundSummed) and event.round == closed.round]
    if summed and agrees:
        survivors = _agreed(before, summed[0], index).survivors
        if closed.contributors and sorted(survivors) != sorted(closed.contributors):
            raise LogError(f"round {closed.round} is closed over other silos than those that agreed", index)
    started = [event for event in of_round if isinstance(event, RoundStarted) and event.round == closed.round]
    thrown_away = any(
        isinstance(event, GateRejected) and event.round == closed.round and event.gate not in KEEPS_THE_AVERAGE
        for event in of_round
    )
    if not started:
        return  # such a log is cut short of its beginning, which other checks say
    if len({event.adapter_digest for event in started}) > 1:
        raise LogError(f"round {closed.round} began from two adapters: one model version makes a round", index)
    average = summed[-1].averaged_digest if summed and not thrown_away else last or started[-1].adapter_digest
    if closed.averaged_digest != average:
        raise LogError(
            f"round {closed.round} is closed with another average than the one that came out: silos would hold the "
            "next adapter against a reference of the server's own choice",
            index,
        )
