"""A whole federation with a model of eight numbers: real silos, a real log, and a server in the attacker's hands.

Everything is the code of a run but the training: a silo's update is a constant that we know, the worst case for anybody
who fears differences. What a silo keeps for good (its key, its journals, which sums it opened) outlives sessions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedcollm_crypto.aggregation import Ask, PartyId, Sum, Vector
from fedcollm_crypto.errors import CryptoError
from fedcollm_crypto.homomorphic.commitments import COMMIT_REQUEST, SEND_REQUEST
from fedcollm_crypto.homomorphic.decryptor_client import DecryptorLine, ask_key, take_key
from fedcollm_crypto.homomorphic.messages import attach
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.conviction import Guilty
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.requests import ASK_VECTOR, MANIFEST, STAGES
from fedcollm_crypto.masking.requests import Refusal as SignedRefusal
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER
from fedcollm_secure.assurance.attacks.colluding_silo import Deal
from fedcollm_secure.assurance.attacks.encrypted_consortium import DECRYPTOR, kind_of
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.toy_ends import own_terms, roster_of, server_end
from fedcollm_secure.assurance.attacks.toy_members import Members
from fedcollm_secure.assurance.attacks.toy_region import (
    DIGEST,
    NO_PUPPETS,
    NOBODY,
    NOTHING,
    SCHEMA,
    Neighbourhood,
)
from fedcollm_secure.audit_log.events import RoundClosed, RoundStarted, RunStarted, SumAgreed
from fedcollm_secure.audit_log.log import AuditLog, origin
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.federation.messages import Begin, Show, Step
from fedcollm_secure.learning.vectors import Float32, digest

_OF_CKKS = {COMMIT_REQUEST: MANIFEST, SEND_REQUEST: ASK_VECTOR}


class Session:
    """One roster, one log, and the members' running silos. The attacker writes the log and signs the manifests."""

    def __init__(
        self,
        region: Neighbourhood,
        members: Sequence[PartyId] | None = None,
        *,
        dp_plan_hash: str = "",
        noise_shares: int = 0,
        trust_region: float | None = None,
        puppets: Mapping[PartyId, Deal | None] = NO_PUPPETS,
    ) -> None:
        """Begin a session of these members, all by default, and open everybody's journals.

        `puppets` are members in league with the server, and what they deal.
        """
        self.region, self.members = region, tuple(sorted(members or region.houses))
        self.name = region.next_session()
        self.dp_plan_hash, self.noise_shares, self.trusts = dp_plan_hash, noise_shares, trust_region is not None
        self.roster = roster_of(region, self.members)
        self.folder = region.folder / self.name
        self.log = self._new_log("audit")
        self.silos = Members(
            region,
            self.members,
            self.roster,
            replace(own_terms(region, self.name), dp_plan_hash=dp_plan_hash, noise_shares=noise_shares),
            trust_region=trust_region,
            puppets=puppets,
        )
        self.convictions: dict[PartyId, bytes] = {}
        self.agreed: frozenset[PartyId] = frozenset()  # over whom the last attempt's sum was to be opened

    def manifest(self, *, number: int = 1, attempt: int = 1, adapter: Float32, **changes: object) -> RoundManifest:
        """Return the honest manifest of an attempt; `changes` are the attacker's."""
        policy, n = self.region.policy, len(self.members)
        honest = RoundManifest(
            consortium_id=self.roster.consortium_id,
            epoch=1,
            session_id=self.name,
            round=number,
            attempt=attempt,
            server=SERVER,
            cohort=self.members,
            roster_hash=self.roster.hash,
            policy_hash=self.roster.policy_hash,
            base_model_hash=DIGEST,
            adapter_hash=digest(adapter),
            lora_schema_hash=SCHEMA.digest,
            train_cfg_hash=DIGEST,
            dp_plan_hash=self.dp_plan_hash,
            quantisation=Quantisation.of(self.region.encoding, SCHEMA.length),
            adversary="malicious",
            colluding=policy.colluding,
            k_min=max(policy.min_cohort, policy.colluding + 2),
            threshold=threshold(n, policy.colluding, "malicious"),
            log_checkpoint=self.log.checkpoint().text,
            profile=self.region.protection.profile,
        )
        return replace(honest, **changes)  # type: ignore[arg-type]  # the attacker's own fields, checked by the class

    def view(self, party: PartyId, log: AuditLog | None = None) -> View:
        """Return what a silo is shown of a log: the true one, or another."""
        shown, known, heard = log or self.log, self.silos.known(party), self.silos.heard(party)
        note = shown.checkpoint()
        proof = shown.consistency_proof(min(known, shown.head.size))
        return View(note=note.encode(), old=known, proof=tuple(proof), recent=shown.recent(min(heard, shown.head.size)))

    def attempt(
        self,
        manifest: RoundManifest,
        adapter: Float32,
        *,
        reference: Float32 | None = None,
        deaf: Mapping[PartyId, str] = NOBODY,
        shown: Mapping[PartyId, AuditLog] | None = None,
        log_it: bool = True,
        proofs: tuple[bytes, ...] = (),
    ) -> Sum:
        """Play an attempt. A silo that is `deaf` from a stage on hears nothing of it and of what follows.

        `shown`: another log for some silos. `log_it`: name the sum in the log once it is agreed, as an honest server
        does. Raises: Blocked with all codes of refusal.
        """
        end = server_end(self.region, self.roster, manifest)
        begins = {
            party: Begin(
                view=self.view(party, (shown or {}).get(party)),
                proofs=proofs,
                reference=NOTHING if reference is None else reference,
                adapter=adapter,
                payload=b"",
            )
            for party in manifest.cohort
        }
        self._begin(manifest)
        refused: dict[PartyId, str] = {}
        try:
            ask: Ask | Sum = end.start(manifest.cohort)
            while isinstance(ask, Ask):
                stage = _stage(ask)
                for party, request in ask.requests.items():
                    if party in deaf and _number(stage) >= _number(deaf[party]):
                        continue
                    step = replace(begins[party], payload=request) if _number(stage) == 0 else Step(payload=request)
                    try:
                        end.absorb(party, [self.silos.send(party, step)])
                    except Blocked as blocked:
                        refused[party] = str(blocked)
                ask = end.step()
                self.agreed = end.survivors
                if isinstance(ask, Ask) and end.survivors and log_it:
                    self._log_agreed(manifest, end.survivors)
                    log_it = False
        except Guilty as guilty:
            self.convictions |= end.convictions
            raise Blocked("convicted") from guilty
        except CryptoError as error:
            codes = sorted({*refused.values(), *end.refused.values()})
            raise Blocked(", ".join(codes) or "nothing_released") from error
        return ask

    def kind_of(self, reply: bytes) -> str:
        """Return the kind of a signed message in a reply. Raises: Blocked for a refusal."""
        message = Signed.decode(reply[1:])
        if message.kind == SignedRefusal.KIND:
            raise Blocked(SignedRefusal.from_body(message.body).reason_code)
        return message.kind

    def close_round(self, number: int, contributors: Collection[PartyId], averaged: Float32) -> None:
        """Write into the log that a round has its result."""
        self.log.append(
            RoundClosed(
                round=number,
                contributors=tuple(sorted(contributors)),
                total_weight=len(contributors),
                sum_digest=DIGEST,
                averaged_digest=digest(averaged),
                adapter_before=DIGEST,
                adapter_after=DIGEST,
                llm_adapter_digest=DIGEST,
                ledgers={},
                epsilon={},
            )
        )

    def total(self, parties: Collection[PartyId]) -> Vector:
        """Return what the sum over these silos is."""
        total = np.zeros(self.region.encoding.length(SCHEMA.length), dtype=np.uint64)
        for party in parties:
            total += self.region.vector(party)
        return total

    def forked_log(self, name: str) -> AuditLog:
        """Return another log of the same origin, which says something else."""
        return self._new_log(name, privacy="record_dp")

    def first_request(self, manifest: RoundManifest, signer: Identity | None = None) -> bytes:
        """Return the manifest as it is sent, signed by the server or by anybody, behind the decryptor's genuine key."""
        signer, key = signer or self.region.server, b""
        if self.region.protection.worker is not None:
            scheme = self.region.packing.scheme
            line = DecryptorLine(decryptor=DECRYPTOR, roster=self.roster, signer=self.region.server)
            question = ask_key(line, manifest, scheme).requests[DECRYPTOR]
            line.absorb([self.silos.send(DECRYPTOR, Step(payload=question))])
            manifest, _, key = take_key(line, manifest, scheme)
        kind = COMMIT_REQUEST if self.region.protection.trusting else MANIFEST
        request = sign(signer, kind, manifest.to_body()).encode()
        return attach(key, request) if key else request

    def _begin(self, manifest: RoundManifest) -> None:
        """Show the decryptor the head that the manifest names, and write into the log what it asks for."""
        self._tell_decryptor()
        self.log.append(RoundStarted.of(manifest))

    def _tell_decryptor(self) -> None:
        if self.region.protection.worker is not None:
            self.silos.ask(DECRYPTOR, Show(view=self.view(DECRYPTOR)))

    def _log_agreed(self, manifest: RoundManifest, survivors: Collection[PartyId]) -> None:
        self.log.append(SumAgreed.of(manifest, survivors))
        if self.region.protection.worker is not None:
            for party in sorted(survivors):
                self.log.cosigned(self.silos.cosigned(party, self.view(party)))
        self._tell_decryptor()

    def _new_log(self, folder: str, privacy: str = "non_private") -> AuditLog:
        log = AuditLog.create(self.folder / folder, self.region.server, origin(self.name))
        log.append(
            RunStarted(
                run_id=self.name,
                config_digest=DIGEST,
                software={},
                roster_digest=self.roster.hash,
                aggregation="masked",
                privacy=privacy,
                models={},
                environment_digest="00" * 32,
                simulated=True,
            )
        )
        return log


def _number(stage: str) -> int:
    """Return a stage's place among the masked sum's, −1 for a talk with the decryptor. CKKS has two of them."""
    named = _OF_CKKS.get(stage, stage)
    return STAGES.index(named) if named in STAGES else -1


def _stage(ask: Ask) -> str:
    """Return the kind of an exchange's requests, which is one for all of them; empty where nobody is asked."""
    return next((kind_of(request) for request in ask.requests.values()), "")
