"""What a silo writes down of an attempt, and what it knows from it: an entry is durable before its answer is sent.

Convicted, Enrolled   as a manifest is answered: who was convicted in what it began with; the session's members
Answered, Replied     each stage: the request, and whom it speaks of; the hash of the reply
Released              the shares that open a sum are about to leave
Declined              a request was refused
"""

import hashlib
from collections.abc import Iterable

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.masking import requests
from fedcollm_crypto.masking.conviction import BadDealing
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import RoundManifest, threshold
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import Answered, Convicted, Declined, Enrolled, Released, Replied, Where
from fedcollm_crypto.signed import Signed

Asked = tuple[str, str]
"""The kind of a request and the hash of its bytes, in hex."""

ELSEWHERE = "elsewhere"
"""The fault of a silo that was convicted in an attempt which this one was not in, as the journal calls it."""
_NOWHERE = Where(session_id="", round=0, attempt=0, linear_pass=0)


class SiloRecord:
    """The stage journal of one silo, and the proofs that it was shown and has not acted on yet."""

    def __init__(self, setup: SiloSetup) -> None:
        """Write to the journal of this setup."""
        self._setup = setup
        self._stages = setup.stages
        self._shown: list[Convicted] = []

    @property
    def memory(self) -> Memory:
        """Return what this silo knows of open sums and of the convicted."""
        return Memory.of((*self._stages.entries(), *self._shown))

    def convict(self, proof: bytes) -> None:
        """Take in proof that a silo dealt bad shares; it is written down once an attempt is begun with it.

        Raises: ProtocolError for proof of nothing.
        """
        found = BadDealing.decode(proof)
        found.verify(self._setup.roster)
        where = Where.of(found.manifest)
        reply_hash = found.hellos.get(self._setup.party, b"").hex()
        known = (*self._stages.entries(), *self._shown)
        mine = Replied(where=where, stage=requests.MANIFEST, reply_hash=reply_hash) in known
        entry = Convicted(
            where=where,
            party=found.accused,
            fault=found.fault if mine else ELSEWHERE,
            proof_hash=hashlib.sha256(proof).hexdigest(),
        )
        others = [one for one in known if isinstance(one, Convicted) and one.party == entry.party]
        if all(mine and one.where != where for one in others):
            self._shown.append(entry)

    def enrol(self, manifest: RoundManifest) -> None:
        """Remember whoever was convicted in what this attempt began with, and the session's members, once."""
        for conviction in self._shown:
            self._stages.append(conviction)
        self._shown.clear()
        known = (entry.where.session_id for entry in self._stages.entries() if isinstance(entry, Enrolled))
        if manifest.session_id in known:
            return
        members, policy = tuple(sorted(self._setup.roster.of_role("silo"))), self._setup.policy
        least = threshold(len(members), policy.colluding, policy.adversary)
        self._stages.append(
            Enrolled(where=Where.of(manifest), members=members, least=str(least), dp_plan_hash=manifest.dp_plan_hash)
        )

    def answered(self, where: Where, asked: Asked, members: Iterable[PartyId]) -> Answered:
        """Write down that a stage is about to be answered."""
        stage, request_hash = asked
        entry = Answered(where=where, stage=stage, request_hash=request_hash, members=tuple(sorted(members)))
        self._stages.append(entry)
        return entry

    def replied(self, where: Where, stage: str, reply: Signed) -> None:
        """Write down what is about to be said."""
        self._stages.append(Replied(where=where, stage=stage, reply_hash=reply.body_hash.hex()))

    def released(self, manifest: RoundManifest, survivors: Iterable[PartyId]) -> None:
        """Write down that a sum over this model version is about to be out."""
        self._stages.append(
            Released(
                where=Where.of(manifest),
                model_version=manifest.adapter_hash,
                survivors=tuple(sorted(survivors)),
                dp_plan_hash=manifest.dp_plan_hash,
            )
        )

    def declined(self, where: Where | None, asked: Asked, reason_code: str) -> None:
        """Write down a refusal; `where` is None before any attempt."""
        stage, request_hash = asked
        self._stages.append(
            Declined(where=where or _NOWHERE, stage=stage, request_hash=request_hash, reason_code=reason_code)
        )
