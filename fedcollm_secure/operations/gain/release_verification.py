"""What somebody who was handed a release can check: who signed it, for which adapter, and what follows from it."""

from collections.abc import Mapping
from pathlib import Path

from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.signed import Signed
from fedcollm_privacy.decimals import parse_decimal
from fedcollm_privacy.score_plan import ScorePlan
from fedcollm_secure.audit_log import run_verification
from fedcollm_secure.audit_log.events import RoundClosed, RunStarted
from fedcollm_secure.audit_log.log import KEY_NAME, LOG_NAME, read_public_key
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.roster_and_manifests import read_roster_of
from fedcollm_secure.audit_log.untrusted_files import is_there, read_regular, require_plain, shown
from fedcollm_secure.errors import ConfigError, LogError, RunError
from fedcollm_secure.operations.gain.noisy_release import KIND, statement

Json = Mapping[str, object]


def verify_gain(file: Path, run: Path, key: NoteKey | None) -> tuple[int, Json]:
    """Check a released gain against the log and roster of its run; return (exit code, document) as `verify` does.

    Guarantee: the silo that the roster lists signed these integers for an adapter that the log names. That noise was
    drawn as stated, and that the silo was charged, is its own word: its ledger shows the charge.

    Raises:
        ConfigError: there is no such file.
    """
    log = run / "audit" / LOG_NAME
    for path in (file, log):
        if not is_there(path):
            raise ConfigError("verify gain", f"no file at {shown(path)}")
    refused = {"verified": False, "entries": 0, "root": "", "first_bad": None}
    try:
        reason, entries, root = _check(file, log, key)
    except RunError as error:
        return 3, {**refused, "reason": str(error)}
    except (LogError, ProtocolError, ValueError) as error:
        return 1, {**refused, "reason": str(error)}
    return 0, {"verified": True, "entries": entries, "root": root, "first_bad": None, "reason": reason}


def _check(file: Path, log: Path, key: NoteKey | None) -> tuple[str, int, str]:
    require_plain(log.parents[1])
    contents = run_verification.verify_log(log, public_key=key).contents
    roster = read_roster_of(log.parent, contents.entries, key or read_public_key(log.parent / KEY_NAME))
    if roster is None:
        raise RunError("roster.json is missing, and with it the silo's key")
    signed = Signed.decode(read_regular(file))
    if signed.kind != KIND or signed.sender != signed.body.get("silo"):
        raise ProtocolError("release: expected a silo's own score under its own name, got another message")
    signed.verify(roster.key(signed.sender))
    _check_adapter(contents.entries, signed.body)
    plan = ScorePlan(epsilon=parse_decimal(signed.body.get("epsilon")))
    told = statement(plan, _integer(signed.body, "noisy_gain"), _integer(signed.body, "noisy_records"))
    if any(signed.body.get(name) != value for name, value in told.items()):
        raise ProtocolError("release: the interval is not what follows from the two integers")
    reason = f"{signed.sender} signed it, for the adapter that round {signed.body['round']} left; ε = {plan.epsilon:g}"
    return reason, contents.head.size, contents.head.root


def _check_adapter(entries: tuple[Entry, ...], body: Json) -> None:
    events = [entry.event for entry in entries]
    ours = any(isinstance(event, RunStarted) and event.run_id == body.get("run") for event in events)
    round_number, adapter = _integer(body, "round"), body.get("adapter")
    left = [(event.round, event.adapter_after) for event in events if isinstance(event, RoundClosed)]
    if not ours or (round_number, adapter) not in left:
        raise ProtocolError("release: it is not about an adapter that a round of this run left behind")


def _integer(body: Json, name: str) -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProtocolError(f"release: {name}: expected an integer, got {value!r}")
    return value
