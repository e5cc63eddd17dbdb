"""The events of the consortium log: what it can say, and nothing else.

Every event is a frozen dataclass whose annotations are the allow-list (`event_fields.py`). There is no field for data,
an update, a silo's own loss, norm or count, a seed, a key or a host name, so none of them can be written by accident.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias, get_args

from fedcollm_crypto.canonical import Json
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.audit_log.event_fields import Checked, Code, Count, Decimal, Digest, Label, Version
from fedcollm_secure.errors import printable


@dataclass(frozen=True, kw_only=True)
class RunStarted(Checked):
    """Open a log: who takes part, with which models, under which rules, with what installed (`environment.py`)."""

    run_id: Label
    config_digest: Digest
    software: Mapping[Label, Version]
    roster_digest: Digest
    aggregation: Code
    privacy: Code
    models: Mapping[Label, Digest]
    environment_digest: Digest
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class RoundStarted(Checked):
    """Fix what every silo of the cohort was asked to do."""

    round: Count
    attempt: Count
    cohort: tuple[Label, ...]
    adapter_digest: Digest
    plan_digest: Digest
    manifest_digest: Digest

    @classmethod
    def of(cls, manifest: RoundManifest) -> "RoundStarted":
        """Return the line that names an attempt, before any key of an encryption is drawn for it."""
        return cls(
            round=manifest.round,
            attempt=manifest.attempt,
            cohort=manifest.cohort,
            adapter_digest=manifest.adapter_hash,
            plan_digest=manifest.train_cfg_hash,
            manifest_digest=manifest.terms_hash.hex(),
        )


@dataclass(frozen=True, kw_only=True)
class HeadAttested(Checked):
    """State who cosigned the head of `size` entries: a cosignature that is missing there was taken away."""

    size: Count
    silos: tuple[Label, ...]


@dataclass(frozen=True, kw_only=True)
class PartyDropped(Checked):
    """A silo that began the round and did not finish it."""

    round: Count
    party: Label
    reason_code: Code


@dataclass(frozen=True, kw_only=True)
class PartyRefused(Checked):
    """A silo that would not take part: its policy or its budget said no."""

    round: Count
    party: Label
    reason_code: Code


@dataclass(frozen=True, kw_only=True)
class SumAgreed(Checked):
    """The silos that are left agreed to open the sum over `survivors`: logged before any share is asked for.

    Whoever takes part later learns from it which sums there are, and a silo that was in it finds it named, or refuses.
    """

    round: Count
    attempt: Count
    linear_pass: Count
    adapter_digest: Digest
    survivors: tuple[Label, ...]

    @classmethod
    def of(cls, manifest: RoundManifest, survivors: Collection[str]) -> "SumAgreed":
        """Return the line that names an attempt's sum over these silos."""
        return cls(
            round=manifest.round,
            attempt=manifest.attempt,
            linear_pass=manifest.linear_pass,
            adapter_digest=manifest.adapter_hash,
            survivors=tuple(sorted(survivors)),
        )


@dataclass(frozen=True, kw_only=True)
class PartyConvicted(Checked):
    """A silo dealt bad shares; the proof lies beside the log, and whoever has the roster can check it."""

    round: Count
    attempt: Count
    party: Label
    fault: Code
    proof_digest: Digest


@dataclass(frozen=True, kw_only=True)
class StageAnswered(Checked):
    """Who answered the attempt's exchange number `stage`, with the digest of each reply and of the signature in it.

    `accepted`: whose reply counts, the others being dropped. It is U1 after a masked sum's first stage, U2 after its
    second, U3 after its fifth. A stage that nobody answered has no line.
    """

    round: Count
    attempt: Count
    stage: Count
    accepted: tuple[Label, ...]
    replies: Mapping[Label, Digest]


@dataclass(frozen=True, kw_only=True)
class SumDecrypted(Checked):
    """What the decryptor signed when it opened a sum; the statement lies beside the log, under `statement_digest`.

    `ciphertexts_digest` names the sum of ciphertexts; without masks inside, the commitments to them.
    """

    round: Count
    attempt: Count
    linear_pass: Count
    decryptor: Label
    parameters_digest: Digest
    key_digest: Digest
    ciphertexts_digest: Digest
    opened_digest: Digest
    statement_digest: Digest


@dataclass(frozen=True, kw_only=True)
class RoundSummed(Checked):
    """Vouch for what the server saw in a linear pass: a digest of all that each silo sent.

    `averaged_digest` is that of what the round's passes were merged to, before distillation; `is_mean` says that it is
    θ_t + mean, as with most factor rules.
    """

    round: Count
    attempt: Count
    averaged_digest: Digest
    is_mean: bool
    replies: Mapping[Label, Digest]


@dataclass(frozen=True, kw_only=True)
class RoundClosed(Checked):
    """Record what a round released: the sum's digest and who is in it, never a single update.

    `averaged_digest` is that of what the next adapter is held against: the average of the round's updates, or, where
    there is none or a gate threw it away, that of the round before. `adapter_before` and `adapter_after` are the small
    model's, `ledgers` commits to each silo's ledger head.
    """

    round: Count
    contributors: tuple[Label, ...]
    total_weight: Count
    sum_digest: Digest
    averaged_digest: Digest
    adapter_before: Digest
    adapter_after: Digest
    llm_adapter_digest: Digest
    ledgers: Mapping[Label, Digest]
    epsilon: Mapping[Label, Decimal]


@dataclass(frozen=True, kw_only=True)
class GatePassed(Checked):
    """A gate that a round's result passed."""

    round: Count
    gate: Code


@dataclass(frozen=True, kw_only=True)
class GateRejected(Checked):
    """A round whose result was thrown away; the last good adapter stands."""

    round: Count
    gate: Code
    reason: Code


@dataclass(frozen=True, kw_only=True)
class RunStopped(Checked):
    """A run that ended early on purpose, e.g. because a budget was exhausted."""

    reason: Code
    rounds_done: Count


@dataclass(frozen=True, kw_only=True)
class RunResumed(Checked):
    """A run that goes on after a stop or a crash."""

    rounds_done: Count
    config_digest: Digest
    software: Mapping[Label, Version]
    environment_digest: Digest


@dataclass(frozen=True, kw_only=True)
class RunFinished(Checked):
    """Close a log: the summary is final."""

    summary_digest: Digest


Event: TypeAlias = (
    RunStarted
    | RoundStarted
    | HeadAttested
    | PartyDropped
    | PartyRefused
    | SumAgreed
    | PartyConvicted
    | StageAnswered
    | SumDecrypted
    | RoundSummed
    | RoundClosed
    | GatePassed
    | GateRejected
    | RunStopped
    | RunResumed
    | RunFinished
)
EVENT_TYPES: tuple[type[Event], ...] = get_args(Event)


def event_to_json(event: Event) -> dict[str, Json]:
    """Return the event as a JSON object with its `type`, e.g. `round_closed`."""
    body: dict[str, Json] = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    return {"type": type_name(type(event)), **body}


def event_from_json(value: Json) -> Event:
    """Read what `event_to_json` wrote.

    Raises: ValueError for an unknown type, a missing or an unknown field, or a value outside the allow-list.
    """
    if not isinstance(value, dict):
        raise ValueError(f"an event must be a JSON object, got {type(value).__name__}")
    name = value.get("type")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown event type; this version knows {', '.join(_KINDS)}")
    given = {name: item for name, item in value.items() if name != "type"}
    expected = {field.name for field in fields(kind)}
    if set(given) != expected:
        wrong = sorted(set(given) ^ expected)
        raise ValueError(f"{kind.__name__} has missing or unknown fields: {printable(', '.join(wrong))}")
    return _build(kind, {name: tuple(item) if isinstance(item, list) else item for name, item in given.items()})


def type_name(kind: type[Event]) -> str:
    """Return `round_closed` for `RoundClosed`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _build(kind: Callable[..., Event], values: Mapping[str, object]) -> Event:
    return kind(**values)  # the event itself checks what each field may hold


def _plain(value: object) -> Json:
    match value:
        case bool() | int() | str():
            return value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple():
            return [_plain(item) for item in value]
        case _:
            raise ValueError(f"a log entry cannot hold a {type(value).__name__}")


_KINDS = {type_name(kind): kind for kind in EVENT_TYPES}
