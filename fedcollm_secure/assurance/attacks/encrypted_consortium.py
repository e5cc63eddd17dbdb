"""A consortium whose sums are opened by a decryptor, for the attacks: real parties, one child process for them all."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Ask, PartyEnd, PartyId, ServerEnd, Sum
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import CryptoError
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, no_log
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.messages import ATTACHED
from fedcollm_crypto.homomorphic.packing import bfv_packing, ckks_packing
from fedcollm_crypto.homomorphic.parameters import Bfv
from fedcollm_crypto.homomorphic.residues import Residues
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_server import TrustingServer
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Box, Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Part, always
from fedcollm_crypto.masking.requests import Refusal
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure.assurance.attacks.attack_consortium import (
    SERVER,
    Consortium,
    as_member,
    expected_of,
    random_updates,
)
from fedcollm_secure.assurance.attacks.malicious_server import Blocked

DECRYPTOR: PartyId = "decryptor"
PUPPET: PartyId = "puppet"
"""A second decryptor of the roster, in league with the server."""
SILOS = 5

Craft = Callable[[Residues], Residues]


class Encrypted:
    """Five silos, a server, two decryptors; `trusting`: CKKS with a trustee, else BFV with the masks inside."""

    def __init__(self, worker: Worker, *, trusting: bool) -> None:
        """Give everybody keys; nothing is sent yet."""
        self.worker, self.trusting = worker, trusting
        self.consortium = Consortium(random_updates(SILOS))
        self.names = self.consortium.names
        self.identities = self.consortium.identities
        self.identities |= {name: Identity.generate(name) for name in (DECRYPTOR, PUPPET)}
        decryptors = tuple(as_member(self.identities[name], "decryptor") for name in (DECRYPTOR, PUPPET))
        members = (*self.consortium.roster.members, *decryptors)
        self.consortium.roster = replace(self.consortium.roster, members=members)
        largest = self.consortium.encoding.largest_sum
        pack = ckks_packing if trusting else bfv_packing
        self.packing = pack(largest=largest, silos=SILOS)
        self._stages = {name: MemoryStages() for name in (*self.names, DECRYPTOR, PUPPET)}

    def silo(self, party: PartyId, craft: Craft | None = None) -> EncryptedSilo | TrustingSilo:
        """Start a silo; `craft` makes its ciphertexts of the honest ones."""
        expected = expected_of(self.consortium.manifest())
        own = always(replace(expected, decryptor=DECRYPTOR, parameters_hash=self.packing.scheme.hash))
        worker = self.worker if craft is None else CraftingWorker(self.worker, craft)
        setup = SiloSetup(
            identity=self.identities[party],
            roster=self.consortium.roster,
            policy=self.consortium.policy,
            stages=self._stages[party],
        )
        part = Part(expected=own, vector=lambda: self.consortium.vector(party))
        if self.trusting:
            return TrustingSilo(setup=setup, part=part, packing=self.packing, worker=worker)
        scheme = as_bfv(self.packing.scheme)
        return EncryptedSilo(setup=setup, part=part, packing=self.packing, scheme=scheme, worker=worker)

    def decryptor(self, party: PartyId = DECRYPTOR) -> Decryptor | Trustee:
        """Start a decryptor."""
        setup = DecryptorSetup(
            identity=self.identities[party],
            roster=self.consortium.roster,
            policy=self.consortium.policy,
            scheme=self.packing.scheme,
            stages=self._stages[party],
            worker=self.worker,
            require_logged=no_log,
        )
        if self.trusting:
            return Trustee(setup=setup, packing=self.packing)
        return Decryptor(setup=setup, packing=self.packing, scheme=as_bfv(self.packing.scheme))

    def server(self, manifest: RoundManifest | None = None, decryptor: PartyId = DECRYPTOR) -> "Server":
        """Start the server of an attempt."""
        manifest, roster = manifest or self.consortium.manifest(), self.consortium.roster
        signer = self.identities[SERVER]
        if self.trusting:
            return TrustingServer(
                manifest=manifest, roster=roster, signer=signer, trustee=decryptor, packing=self.packing
            )
        scheme = as_bfv(self.packing.scheme)
        return EncryptedServer(
            manifest=manifest, roster=roster, signer=signer, decryptor=decryptor, packing=self.packing, scheme=scheme
        )

    def parties(self) -> dict[PartyId, PartyEnd]:
        """Start all who answer the server."""
        return {**{name: self.silo(name) for name in self.names}, DECRYPTOR: self.decryptor()}

    def signed(self, kind: str, body: Mapping[str, Json]) -> bytes:
        """Return a request to the decryptor that the server signed, whatever it says."""
        return messages.attach(sign(self.identities[SERVER], kind, body).encode())


Server = EncryptedServer | TrustingServer


@dataclass(frozen=True)
class CraftingBox:
    """A public key in the hands of a silo that makes its ciphertexts by hand."""

    box: Box
    craft: Craft

    @property
    def coefficients(self) -> int:
        """Return how many coefficients a ciphertext has."""
        return self.box.coefficients

    def encrypt(self, slots: NDArray[np.int64]) -> Residues:
        """Return what the silo makes of the honest ciphertexts."""
        return self.craft(self.box.encrypt(slots))

    def close(self) -> None:
        """Forget the key."""
        self.box.close()


class CraftingWorker(Worker):
    """A silo's way to the library, with `craft` between them."""

    def __init__(self, worker: Worker, craft: Craft) -> None:
        """Use the child of another worker."""
        super().__init__()
        self._worker, self._craft = worker, craft

    def encryptor(self, scheme: object, public_key: Residues) -> CraftingBox:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # a box by its methods, not by its class
        """Take a decryptor's public key."""
        box = self._worker.encryptor(scheme, public_key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # handed on
        return CraftingBox(box, self._craft)


def play_to(kind: str, server: ServerEnd, parties: Mapping[PartyId, PartyEnd], cohort: tuple[PartyId, ...]) -> Ask:
    """Play until a request of this kind is to be sent, which is returned unanswered. Raises: CryptoError."""
    ask = server.start(cohort)
    while not any(kind_of(request) == kind for request in ask.requests.values()):
        following = answered(ask, server, parties)
        if isinstance(following, Sum):
            raise ValueError(f"the attempt ended before a request of kind {kind}")
        ask = following
    return ask


def answered(ask: Ask, server: ServerEnd, parties: Mapping[PartyId, PartyEnd]) -> Ask | Sum:
    """Let all answer that are there, and return what comes of it."""
    for party, request in ask.requests.items():
        if party in parties:
            server.absorb(party, parties[party].handle(request))
    return server.step()


def finish(ask: Ask, server: ServerEnd, parties: Mapping[PartyId, PartyEnd]) -> Sum:
    """Play to the end."""
    while not isinstance(following := answered(ask, server, parties), Sum):
        ask = following
    return following


def require_answer(reply: bytes) -> bytes:
    """Return a reply. Raises: Blocked for a signed refusal."""
    if reply[:1] == b"M" and (message := Signed.decode(reply[1:])).kind == Refusal.KIND:
        raise Blocked(Refusal.from_body(message.body).reason_code)
    return reply


@contextmanager
def blocked_by(server: Server, party: PartyId) -> Generator[None]:
    """Turn the end of an attempt into the reason that a party gave for it."""
    try:
        yield
    except CryptoError as error:
        raise Blocked(server.refused.get(party, "nothing_released")) from error


def kind_of(request: bytes) -> str:
    """Return the kind of a request, with a key before it or without."""
    if request[:1] != ATTACHED:
        return Signed.decode(request).kind
    head, rest = messages.detach(request)
    return Signed.decode(head if head[:1] != ATTACHED else bytes(rest)).kind


def as_bfv(scheme: object) -> Bfv:
    """Return BFV's parameters. Raises: TypeError for another scheme's."""
    if not isinstance(scheme, Bfv):
        raise TypeError(f"BFV was expected, got {type(scheme).__name__}")
    return scheme
