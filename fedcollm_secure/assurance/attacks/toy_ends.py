"""The ends of a toy session's aggregation, as its region's protection has them."""

from fedcollm_crypto.aggregation import PartyEnd, ServerEnd, SiloEnd
from fedcollm_crypto.homomorphic.ciphertext_carriers import CiphertextSilo
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, RequireLogged
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.silo_key import SiloKey
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_server import TrustingServer
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest
from fedcollm_crypto.masking.policy import Expected, Part
from fedcollm_crypto.masking.ring_carriers import SiloCarrier
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.roster import Roster
from fedcollm_secure.assurance.attacks.attack_consortium import as_member
from fedcollm_secure.assurance.attacks.colluding_silo import Deal, PuppetEnd
from fedcollm_secure.assurance.attacks.encrypted_consortium import DECRYPTOR, as_bfv
from fedcollm_secure.assurance.attacks.toy_region import DIGEST, SCHEMA, Neighbourhood


def roster_of(region: Neighbourhood, silos: tuple[str, ...]) -> Roster:
    """Return who belongs to a session over these silos."""
    members = [as_member(region.houses[party].identity, "silo") for party in silos]
    members.append(as_member(region.server, "server"))
    if region.protection.worker is not None:
        members.append(as_member(region.decryptor.identity, "decryptor"))
    policy = {"colluding": 1, "profile": region.protection.profile}
    return Roster(consortium_id="attacked", epoch=1, members=tuple(members), policy=policy)


def own_terms(region: Neighbourhood, session: str) -> Expected:
    """Return what a silo of the toy model computed itself."""
    encrypted = region.protection.worker is not None
    return Expected(
        session_id=session,
        base_model_hash=DIGEST,
        adapter_hash="",
        lora_schema_hash=SCHEMA.digest,
        train_cfg_hash=DIGEST,
        dp_plan_hash="",
        quantisation=Quantisation.of(region.encoding, SCHEMA.length),
        decryptor=DECRYPTOR if encrypted else "",
        parameters_hash=region.packing.scheme.hash if encrypted else "",
    )


def server_end(region: Neighbourhood, roster: Roster, manifest: RoundManifest) -> ServerEnd:
    """Return the server's end of one attempt."""
    if region.protection.worker is None:
        return MaskedServer(manifest=manifest, roster=roster, signer=region.server)
    if region.protection.trusting:
        return TrustingServer(
            manifest=manifest, roster=roster, signer=region.server, trustee=DECRYPTOR, packing=region.packing
        )
    return EncryptedServer(
        manifest=manifest,
        roster=roster,
        signer=region.server,
        decryptor=DECRYPTOR,
        packing=region.packing,
        scheme=as_bfv(region.packing.scheme),
    )


def silo_end(region: Neighbourhood, roster: Roster, party: str, part: Part) -> SiloEnd:
    """Return a silo's end of one attempt, under its own policy."""
    house, worker = region.houses[party], region.protection.worker
    setup = SiloSetup(identity=house.identity, roster=roster, policy=region.policy, stages=house.stages)
    if worker is None:
        return MaskedSilo(setup=setup, part=part)
    packing = region.packing
    if region.protection.trusting:
        return TrustingSilo(setup=setup, part=part, packing=packing, worker=worker)
    return EncryptedSilo(setup=setup, part=part, packing=packing, scheme=as_bfv(packing.scheme), worker=worker)


def puppet_end(region: Neighbourhood, roster: Roster, party: str, deal: Deal | None) -> PuppetEnd:
    """Return the end of a silo in league with the server. Raises: TypeError under CKKS, where nobody deals."""
    signer, vector, worker = region.houses[party].identity, region.vector(party), region.protection.worker
    if worker is None:
        return PuppetEnd(signer=signer, roster=roster, vector=vector, deal=deal)
    scheme = as_bfv(region.packing.scheme)
    key = SiloKey(roster, scheme, worker)

    def carrier(manifest: RoundManifest) -> SiloCarrier:
        key.check(manifest)
        return CiphertextSilo(manifest.quantisation, region.packing, key.box, scheme.modulus)

    return PuppetEnd(signer=signer, roster=roster, vector=vector, deal=deal, take=key.take, carrier=carrier)


def decryptor_end(region: Neighbourhood, roster: Roster, worker: Worker, require_logged: RequireLogged) -> PartyEnd:
    """Return the decryptor, which opens what `require_logged` finds in the log."""
    setup = DecryptorSetup(
        identity=region.decryptor.identity,
        roster=roster,
        policy=region.policy,
        scheme=region.packing.scheme,
        stages=region.decryptor.stages,
        worker=worker,
        require_logged=require_logged,
    )
    if region.protection.trusting:
        return Trustee(setup=setup, packing=region.packing)
    return Decryptor(setup=setup, packing=region.packing, scheme=as_bfv(region.packing.scheme))
