"""Keys, roster and the two ends of the aggregation for one run.

The local engine simulates every party, so their keys are made here and lie in the run's folder; a real silo makes its
own key, and the roster is signed by the consortium before the first round.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedcollm_crypto import durable
from fedcollm_crypto.aggregation import ServerEnd
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, RequireLogged
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.parameters import Bfv as BfvScheme
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_server import TrustingServer
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import requests, rules
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import StageJournal
from fedcollm_crypto.plain import UnsafePlainServer, UnsafePlainSilo
from fedcollm_crypto.roster import Member, Role, Roster, sign_roster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble.cohort_size import SERVER, least_cohort
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.config.protection import Bfv, Ckks, Encrypted, Masked, UnsafePlain
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.silo import MakeEnd
from fedcollm_secure.learning.factors import Pass


@dataclass(frozen=True, kw_only=True)
class Parties:
    """All identities of a simulated consortium, and the roster that lists their public keys."""

    server: Identity = field(repr=False)
    silos: dict[str, Identity] = field(repr=False)
    decryptor: Identity | None = field(repr=False)
    roster: Roster


def make_parties(prepared: Prepared, run: RunDirectory) -> Parties:
    """Draw keys for everyone, keep them where each party would, and sign the roster."""
    server = _new_identity(SERVER, run, prepared)
    silos = {name: _new_identity(name, run, prepared) for name in prepared.silos}
    name = _decryptor_name(prepared)
    decryptor = _new_identity(name, run, prepared) if name else None
    roster = _roster(prepared, server, silos, decryptor)
    run.audit.mkdir(parents=True, exist_ok=True)
    others = [decryptor] if decryptor else []
    durable.replace(run.audit / "roster.json", sign_roster(roster, server, list(silos.values()), others))
    return Parties(server=server, silos=silos, decryptor=decryptor, roster=roster)


def load_parties(prepared: Prepared, run: RunDirectory) -> Parties:
    """Read the keys of an earlier start of this run.

    Raises:
        FileNotFoundError: a key is gone.
    """
    server = Identity.load(SERVER, _key_file(SERVER, run))
    silos = {name: Identity.load(name, _key_file(name, run)) for name in prepared.silos}
    name = _decryptor_name(prepared)
    decryptor = Identity.load(name, _key_file(name, run)) if name else None
    roster = _roster(prepared, server, silos, decryptor)
    return Parties(server=server, silos=silos, decryptor=decryptor, roster=roster)


def first_manifest(prepared: Prepared, roster: Roster, session: str) -> RoundManifest:
    """Return the manifest's constant part: round 0, attempt 0, no adapter yet."""
    security, colluding = prepared.config.security, _colluding(prepared)
    return RoundManifest(
        consortium_id=roster.consortium_id,
        epoch=roster.epoch,
        session_id=session,
        round=0,
        attempt=0,
        server=SERVER,
        cohort=prepared.silos,
        roster_hash=roster.hash,
        policy_hash=roster.policy_hash,
        base_model_hash=prepared.base_digest,
        adapter_hash="",
        lora_schema_hash=prepared.server_slm.schema.digest,
        train_cfg_hash=prepared.training_digest,
        dp_plan_hash=prepared.plan.digest() if prepared.plan else "",
        quantisation=Quantisation.of(prepared.encoding, prepared.rule.length(Pass(round=1))),
        adversary=security.adversary,
        colluding=colluding,
        k_min=least_cohort(prepared.config),
        threshold=threshold(len(prepared.silos), colluding, security.adversary),
        profile="post_quantum" if security.post_quantum else "classical",
    )


def server_end(prepared: Prepared, parties: Parties) -> Callable[[RoundManifest], ServerEnd]:
    """Return how the coordinator makes its end of one attempt."""
    roster, signer = parties.roster, parties.server
    match prepared.config.aggregation:
        case Masked():
            return lambda manifest: MaskedServer(manifest=manifest, roster=roster, signer=signer)
        case Bfv(decryptor=decryptor):
            packing, scheme = _bfv(prepared)
            return lambda manifest: EncryptedServer(
                manifest=manifest, roster=roster, signer=signer, decryptor=decryptor, packing=packing, scheme=scheme
            )
        case Ckks(decryptor=trustee):
            packing = _packing(prepared)
            return lambda manifest: TrustingServer(
                manifest=manifest, roster=roster, signer=signer, trustee=trustee, packing=packing
            )
        case UnsafePlain():
            return lambda manifest: UnsafePlainServer(
                manifest.quantisation.length,
                manifest.k_min,
                sign(signer, requests.MANIFEST, manifest.to_body()).encode(),
            )


def silo_end(prepared: Prepared, parties: Parties, name: str, stages: StageJournal, worker: Worker) -> MakeEnd:
    """Return how a silo makes its end of one attempt, under its own policy."""
    aggregation = prepared.config.aggregation
    if isinstance(aggregation, UnsafePlain):
        return lambda part: _plain_end(parties.roster, name, part)
    setup = SiloSetup(identity=parties.silos[name], roster=parties.roster, policy=_policy(prepared), stages=stages)
    match aggregation:
        case Masked():
            return lambda part: MaskedSilo(setup=setup, part=part)
        case Bfv():
            packing, scheme = _bfv(prepared)
            return lambda part: EncryptedSilo(setup=setup, part=part, packing=packing, scheme=scheme, worker=worker)
        case Ckks():
            packing = _packing(prepared)
            return lambda part: TrustingSilo(setup=setup, part=part, packing=packing, worker=worker)


def _plain_end(roster: Roster, name: str, part: Part) -> UnsafePlainSilo:
    """Return an end that hides nothing, and still trains only for a round that the server signed."""

    def admit_note(note: bytes) -> None:
        signed = Signed.decode(note)
        if signed.kind != requests.MANIFEST or roster.member(signed.sender).role != "server":
            raise ProtocolError("a manifest from the server of the roster was expected")
        rules.verify_sender(signed, roster)
        manifest = RoundManifest.from_body(signed.body)
        if manifest.server != signed.sender or name not in manifest.cohort:
            raise ProtocolError("the manifest names another server, or a cohort without this silo")
        rules.require_my_roster(manifest, roster)
        rules.require_my_plan(manifest, part.expected(manifest))
        part.admit(manifest)

    return UnsafePlainSilo(part.vector, admit_note)


def decryptor_end(
    prepared: Prepared, parties: Parties, stages: StageJournal, worker: Worker, require_logged: RequireLogged
) -> Decryptor | Trustee:
    """Return the decryptor of a run, under its own policy."""
    if parties.decryptor is None:
        raise RuntimeError("this run has no decryptor")
    packing = _packing(prepared)
    setup = DecryptorSetup(
        identity=parties.decryptor,
        roster=parties.roster,
        policy=_policy(prepared),
        scheme=packing.scheme,
        stages=stages,
        worker=worker,
        require_logged=require_logged,
    )
    if isinstance(packing.scheme, BfvScheme):
        return Decryptor(setup=setup, packing=packing, scheme=packing.scheme)
    return Trustee(setup=setup, packing=packing)


def _packing(prepared: Prepared) -> Packing:
    if prepared.packing is None:
        raise RuntimeError("nothing is encrypted in this run")
    return prepared.packing


def _bfv(prepared: Prepared) -> tuple[Packing, BfvScheme]:
    packing = _packing(prepared)
    if not isinstance(packing.scheme, BfvScheme):
        raise RuntimeError("this run's packing is not BFV's")
    return packing, packing.scheme


def _decryptor_name(prepared: Prepared) -> str:
    """Return the decryptor's name; empty where there is none."""
    aggregation = prepared.config.aggregation
    return aggregation.decryptor if isinstance(aggregation, Encrypted) else ""


def expected_of(prepared: Prepared, own: RoundManifest) -> Expected:
    """Return what a silo computed itself of all rounds; the adapter and the pass are each round's."""
    return Expected(
        session_id=own.session_id,
        base_model_hash=own.base_model_hash,
        adapter_hash="",
        lora_schema_hash=own.lora_schema_hash,
        train_cfg_hash=own.train_cfg_hash,
        dp_plan_hash=own.dp_plan_hash,
        quantisation=own.quantisation,
        decryptor=_decryptor_name(prepared),
        parameters_hash="" if prepared.packing is None else prepared.packing.scheme.hash,
        noise_shares=prepared.plan.honest if isinstance(prepared.plan, SharedPlan) else 0,
    )


def _policy(prepared: Prepared) -> SiloPolicy:
    security = prepared.config.security
    return SiloPolicy(
        min_cohort=least_cohort(prepared.config),
        colluding=_colluding(prepared),
        adversary=security.adversary,
        allow_two_party=security.allow_two_party,
        post_quantum=security.post_quantum,
    )


def _colluding(prepared: Prepared) -> int:
    """Return n_c; of two parties neither can be guarded against."""
    security = prepared.config.security
    if isinstance(prepared.config.aggregation, UnsafePlain):
        return 0
    return min(security.colluding, len(prepared.silos) - 2) if security.allow_two_party else security.colluding


def _roster(prepared: Prepared, server: Identity, silos: dict[str, Identity], decryptor: Identity | None) -> Roster:
    policy: dict[str, Json] = {
        "adversary": prepared.config.security.adversary,
        "colluding": _colluding(prepared),
        "min_cohort": least_cohort(prepared.config),
        "simulated": True,
    }
    if prepared.config.security.post_quantum:
        policy["profile"] = "post_quantum"
    members = [_member(server, "server"), *(_member(identity, "silo") for identity in silos.values())]
    members += [] if decryptor is None else [_member(decryptor, "decryptor")]
    return Roster(consortium_id=prepared.config.name, epoch=1, members=tuple(members), policy=policy)


def _member(identity: Identity, role: Role) -> Member:
    return Member(id=identity.party, role=role, ed25519=identity.public_key, mldsa44=identity.mldsa44_key)


def _new_identity(name: str, run: RunDirectory, prepared: Prepared) -> Identity:
    identity = Identity.generate(name, post_quantum=prepared.config.security.post_quantum)
    path = _key_file(name, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    identity.save(path)
    return identity


def _key_file(name: str, run: RunDirectory) -> Path:
    folder = run.path / "server" if name == SERVER else run.silo(name)  # the decryptor's beside the silos'
    return folder / "identity.pem"
