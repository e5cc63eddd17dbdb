"""A plan as a file: its one text, the roster of its consortium, and the coordinator's signature over both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from fedcollm_crypto import canonical
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.kinds import Text
from fedcollm_crypto.roster import Roster, SignedRoster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure.config.plan import Plan, read_plan
from fedcollm_secure.consortium.folder import not_one, read_file
from fedcollm_secure.consortium.rosters import read_closed
from fedcollm_secure.errors import ConfigError

PLAN_LETTERS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PlanBody(Declared):
    """What the coordinator signs."""

    KIND: ClassVar[str] = "plan"
    plan: Annotated[str, Text(PLAN_LETTERS)]
    roster: SignedRoster


@dataclass(frozen=True, kw_only=True)
class SealedPlan:
    """A plan that was signed by the coordinator of its roster, which all silos signed."""

    plan: Plan
    roster: Roster
    roster_bytes: bytes


def seal_plan(identity: Identity, plan: Plan, roster: bytes) -> bytes:
    """Sign a plan with the closed roster that it is for."""
    body = PlanBody(plan=plan.text, roster=SignedRoster.from_body(canonical.decode(roster)))
    return sign(identity, PlanBody.KIND, body.to_body()).encode()


def open_plan(path: Path, root: tuple[bytes, bytes], known_hash: str | None) -> SealedPlan:
    """Read a plan; `root` and `known_hash` are what this member knows of its roster (`rosters.read_closed`).

    Guarantee: the coordinator of the roster signed it, for this roster and epoch, and all silos of it are the roster's.
    Raises: ConfigError.
    """
    try:
        signed = Signed.decode(read_file(path, "a plan, as consortium plan writes it"))
        if signed.kind != PlanBody.KIND:
            raise ProtocolError(f"it is a {signed.kind}")
        body = PlanBody.from_body(signed.body)
        roster_bytes = canonical.encode(body.roster.to_body())
        roster = read_closed(roster_bytes, root, known_hash)
        if roster.member(signed.sender).role != "server":
            raise ProtocolError(f"{signed.sender} signed it, who is not the coordinator")
        signed.verify(roster.key(signed.sender))
    except ProtocolError as error:
        raise not_one(path, "a plan", error) from error
    plan = read_plan(body.plan)
    named = (plan.consortium, plan.epoch, plan.roster, frozenset(plan.silos))
    if named != (roster.consortium_id, roster.epoch, roster.hash, roster.of_role("silo")):
        raise ConfigError(str(path), "the plan is for another consortium, epoch or set of silos than its roster")
    return SealedPlan(plan=plan, roster=roster, roster_bytes=roster_bytes)
