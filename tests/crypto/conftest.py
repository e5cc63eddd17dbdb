"""A consortium in memory: identities, roster, manifest, both ends. Its keys are fixed, so that failures repeat."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
import pytest

from fedcollm_crypto.aggregation import Ask, Chunks, Exchange, PartyId, Sum, Vector
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, no_log
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.packing import bfv_packing, ckks_packing
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_server import TrustingServer
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import requests
from fedcollm_crypto.masking.dealing import Dealing, ShareBox, Shares, box_tree
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy, always
from fedcollm_crypto.masking.requests import Delivery, Refusal, Relay, VectorRequest
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member, Role, Roster
from fedcollm_crypto.signed import Signed, sign


def fixed(label: str) -> Callable[[int], bytes]:
    """Return 'randomness' that is the same every time: SHAKE-256 of the label and a counter."""
    counter = iter(range(1 << 60))
    return lambda count: hashlib.shake_256(f"{label}/{next(counter)}".encode()).digest(count)


class Consortium:
    """n silos and a server that know each other."""

    def __init__(
        self, n: int, *, length: int = 5, ring_bits: int = 64, post_quantum: bool = False, **changes: object
    ) -> None:
        self.names = [f"silo-{i:03}" for i in range(1, n + 1)]
        self.identities = {
            name: Identity.generate(name, fixed(name), post_quantum=post_quantum) for name in [*self.names, "server"]
        }
        members = [self.member(name, "silo") for name in self.names]
        server = self.member("server", "server")
        self.roster = Roster(consortium_id="test", epoch=1, members=(*members, server), policy={"k_min": 2})
        colluding = 1 if n > 2 else 0
        self.policy = SiloPolicy(
            min_cohort=min(n, 3), colluding=colluding, allow_two_party=n == 2, post_quantum=post_quantum
        )
        self.manifest = RoundManifest(
            consortium_id="test",
            epoch=1,
            session_id="session",
            round=1,
            attempt=0,
            server="server",
            cohort=tuple(self.names),
            roster_hash=self.roster.hash,
            policy_hash=self.roster.policy_hash,
            base_model_hash="aa" * 32,
            adapter_hash="bb" * 32,
            lora_schema_hash="cc" * 32,
            train_cfg_hash="dd" * 32,
            dp_plan_hash="",
            quantisation=Quantisation(ring_bits=ring_bits, bits=16, clip=1.0, max_weight=100, length=length),
            adversary="malicious",
            colluding=colluding,
            k_min=min(n, 3),
            threshold=threshold(n, colluding, "malicious"),
            profile="post_quantum" if post_quantum else "classical",
        )
        self.manifest = replace(self.manifest, **changes)  # type: ignore[arg-type]
        generator = np.random.default_rng(n)
        top = 2**64 if ring_bits == 64 else 2**32
        self.vectors = {p: generator.integers(0, top, length, dtype=np.uint64) for p in self.names}
        self.stages = {p: MemoryStages() for p in self.names}

    def member(self, name: str, role: Role) -> Member:
        ed25519, mldsa44 = self.identities[name].public_keys
        return Member(id=name, role=role, ed25519=ed25519, mldsa44=mldsa44)

    def server(self, manifest: RoundManifest | None = None) -> MaskedServer:
        return MaskedServer(manifest=manifest or self.manifest, roster=self.roster, signer=self.identities["server"])

    def expected(self, manifest: RoundManifest | None = None) -> Expected:
        m = manifest or self.manifest
        return Expected(
            session_id=m.session_id,
            base_model_hash=m.base_model_hash,
            adapter_hash=m.adapter_hash,
            lora_schema_hash=m.lora_schema_hash,
            train_cfg_hash=m.train_cfg_hash,
            dp_plan_hash=m.dp_plan_hash,
            quantisation=m.quantisation,
        )

    def brought(
        self, party: PartyId, manifest: RoundManifest | None, changes: Mapping[str, object]
    ) -> dict[str, object]:
        """Return the setup and the part of a silo, and of `changes` whatever is of neither."""
        setup: dict[str, object] = {
            "identity": self.identities[party],
            "roster": self.roster,
            "policy": self.policy,
            "stages": self.stages[party],
        }
        part: dict[str, object] = {
            "expected": always(self.expected(manifest)),
            "vector": lambda: self.vectors[party].copy(),
        }
        of_setup, of_part = ({field.name for field in fields(kind)} for kind in (SiloSetup, Part))
        setup |= {name: value for name, value in changes.items() if name in of_setup}
        part |= {name: value for name, value in changes.items() if name in of_part}
        others = {name: value for name, value in changes.items() if name not in of_setup | of_part}
        return {"setup": SiloSetup(**setup), "part": Part(**part), **others}  # type: ignore[arg-type]

    def silo(self, party: PartyId, manifest: RoundManifest | None = None, **changes: object) -> MaskedSilo:
        return MaskedSilo(**self.brought(party, manifest, changes))  # type: ignore[arg-type]

    def silos(self, manifest: RoundManifest | None = None, **changes: object) -> dict[PartyId, MaskedSilo]:
        return {party: self.silo(party, manifest, **changes) for party in (manifest or self.manifest).cohort}

    def total(self, parties: Sequence[PartyId] | frozenset[PartyId]) -> Vector:
        """Return the sum in the clear, modulo the ring."""
        total = np.sum([self.vectors[party] for party in parties], axis=0, dtype=np.uint64)
        return total & np.uint64(0xFFFFFFFF) if self.manifest.quantisation.ring_bits == 32 else total

    def signed(self, kind: str, body: Mapping[str, object]) -> bytes:
        """Return a request that the server signed, whatever it says."""
        return sign(self.identities["server"], kind, body).encode()  # type: ignore[arg-type]


class Encrypted(Consortium):
    """Silos, a server and a decryptor: "bfv" and "bfv packed" with masks inside, "ckks" with a trustee."""

    def __init__(self, n: int, worker: Worker, scheme: str = "bfv", *, length: int = 5, **changes: object) -> None:
        super().__init__(n, length=length, **changes)
        self.worker, self.trusts = worker, scheme == "ckks"
        self.encoding = FixedPoint.smallest_ring(
            clip=1.0, bits=8 if scheme == "bfv packed" else 16, max_weight=100, max_silos=n
        )
        pack = ckks_packing if self.trusts else bfv_packing
        self.packing = pack(largest=self.encoding.largest_sum, silos=n)
        self.identities["decryptor"] = Identity.generate("decryptor", fixed("decryptor"))
        members = (*self.roster.members, self.member("decryptor", "decryptor"))
        self.roster = Roster(consortium_id="test", epoch=1, members=members, policy={"k_min": 2})
        quantisation = Quantisation.of(self.encoding, length - 2)
        self.manifest = replace(self.manifest, roster_hash=self.roster.hash, quantisation=quantisation)
        self.stages["decryptor"] = MemoryStages()
        generator = np.random.default_rng(n)
        for party in self.names:
            update = generator.normal(0, 0.5, length - 2).astype(np.float32)
            self.vectors[party] = self.encoding.encode(update, int(generator.integers(1, 101)))

    def expected(self, manifest: RoundManifest | None = None) -> Expected:
        parameters_hash = self.packing.scheme.hash
        return replace(super().expected(manifest), decryptor="decryptor", parameters_hash=parameters_hash)

    def server(self, manifest: RoundManifest | None = None, **changes: object) -> EncryptedServer | TrustingServer:
        settings: dict[str, object] = {
            "manifest": manifest or self.manifest,
            "roster": self.roster,
            "signer": self.identities["server"],
            "packing": self.packing,
        }
        if self.trusts:
            return TrustingServer(**(settings | {"trustee": "decryptor"} | changes))  # type: ignore[arg-type]
        settings |= {"decryptor": "decryptor", "scheme": self.packing.scheme}
        return EncryptedServer(**(settings | changes))  # type: ignore[arg-type]

    def silo(
        self, party: PartyId, manifest: RoundManifest | None = None, **changes: object
    ) -> EncryptedSilo | TrustingSilo:
        settings = {"packing": self.packing, "worker": self.worker} | self.brought(party, manifest, changes)
        if self.trusts:
            return TrustingSilo(**settings)  # type: ignore[arg-type]
        return EncryptedSilo(**({"scheme": self.packing.scheme} | settings))  # type: ignore[arg-type]

    def decryptor(self, **changes: object) -> Decryptor | Trustee:
        settings: dict[str, object] = {
            "identity": self.identities["decryptor"],
            "roster": self.roster,
            "policy": self.policy,
            "scheme": self.packing.scheme,
            "stages": self.stages["decryptor"],
            "worker": self.worker,
            "require_logged": no_log,
        }
        setup = DecryptorSetup(**(settings | changes))  # type: ignore[arg-type]
        if self.trusts:
            return Trustee(setup=setup, packing=self.packing)
        return Decryptor(setup=setup, packing=self.packing, scheme=self.packing.scheme)

    def parties(self, manifest: RoundManifest | None = None) -> dict[PartyId, object]:
        """Return all who answer the server: the silos and the decryptor."""
        return {**self.silos(manifest), "decryptor": self.decryptor()}


def exchange_with(silos: Mapping[PartyId, MaskedSilo], lost: Callable[[int, PartyId], bool] | None = None) -> Exchange:
    """Carry requests to silos in memory; lose the reply of a party at a stage (from 1) when `lost` says so."""
    stage = 0

    def exchange(requests: Mapping[PartyId, bytes]) -> Iterator[tuple[PartyId, Chunks]]:
        nonlocal stage
        stage += 1
        for party, request in requests.items():
            if lost is None or not lost(stage, party):
                yield party, silos[party].handle(request)

    return exchange


def refusal_code(reply: Chunks) -> str:
    """Return the reason code of a reply that must be a signed refusal."""
    message = Signed.decode(b"".join(reply)[1:])
    assert message.kind == Refusal.KIND, f"{message.kind} is an answer, not a refusal"
    return Refusal.from_body(message.body).reason_code


def run_to(stage: int, server: MaskedServer, silos: Mapping[PartyId, MaskedSilo]) -> Ask:
    """Play the protocol up to the requests of a stage (1–7), which are returned unanswered."""
    ask = server.start(list(silos))
    for _ in range(1, stage):
        for party, request in ask.requests.items():
            server.absorb(party, silos[party].handle(request))
        following = server.step()
        assert isinstance(following, Ask)
        ask = following
    return ask


def reshaped(consortium: Consortium, request: bytes, change: Callable[[list], list]) -> bytes:  # type: ignore[type-arg]
    """Return the request with other contents, signed anew: what a malicious server can always do.

    `change` gets its messages; for `ask-check` the parcels, for `ask-vector` the names of U2.
    """
    asked = Signed.decode(request)
    match asked.kind:
        case requests.ASK_CHECK:
            delivery = Delivery.from_body(asked.body)
            body = replace(delivery, parcels=tuple(change(list(delivery.parcels)))).to_body()
        case requests.ASK_VECTOR:
            wanted = VectorRequest.from_body(asked.body)
            body = replace(wanted, members=tuple(change(list(wanted.members)))).to_body()
        case _:
            relay = Relay.from_body(asked.body)
            body = replace(relay, messages=tuple(change(list(relay.messages)))).to_body()
    return consortium.signed(asked.kind, body)


def answers(ask: Ask, silos: Mapping[PartyId, MaskedSilo]) -> dict[PartyId, bytes]:
    """Let every silo answer, and return the bytes."""
    return {party: b"".join(silos[party].handle(request)) for party, request in ask.requests.items()}


def reply_of(data: bytes, skip: int = 0) -> Signed:
    """Return the signed message of a reply: beside its boxes, or behind a vector of `skip` bytes."""
    return Dealing.decode(data[1:]).shares if data[:1] == requests.DEALING_FRAME else Signed.decode(data[1 + skip :])


def repacked(data: bytes, message: Signed, skip: int = 0) -> bytes:
    """Return a reply with another signed message in it, beside the same boxes or behind the same words."""
    if data[:1] == requests.DEALING_FRAME:
        return data[:1] + replace(Dealing.decode(data[1:]), shares=message).encode()
    return data[: 1 + skip] + message.encode()


def sign_dealing(
    identity: Identity, manifest_hash: bytes, transcript: bytes, boxes: Mapping[PartyId, ShareBox]
) -> Dealing:
    """Return any boxes under a root that a silo signed."""
    root = Shares(manifest_hash=manifest_hash, transcript=transcript, root=box_tree(boxes).root())
    return Dealing(shares=requests.sign_message(identity, root), boxes=boxes)


def redealt(consortium: Consortium, reply: bytes, change: Callable[[dict[PartyId, ShareBox]], None]) -> bytes:
    """Return a dealing in which the dealer has changed boxes, and signed the root over them."""
    dealing = Dealing.decode(reply[1:])
    boxes = dict(dealing.boxes)
    change(boxes)
    said = Shares.from_body(dealing.shares.body)
    identity = consortium.identities[dealing.shares.sender]
    return reply[:1] + sign_dealing(identity, said.manifest_hash, said.transcript, boxes).encode()


class Toolbox:
    """What tests share; a fixture, since test files are no package."""

    Consortium = Consortium
    Encrypted = Encrypted
    exchange_with = staticmethod(exchange_with)
    refusal_code = staticmethod(refusal_code)
    run_to = staticmethod(run_to)
    fixed = staticmethod(fixed)
    reshaped = staticmethod(reshaped)
    answers = staticmethod(answers)
    reply_of = staticmethod(reply_of)
    repacked = staticmethod(repacked)
    sign_dealing = staticmethod(sign_dealing)
    redealt = staticmethod(redealt)
    Sum = Sum


@pytest.fixture(scope="session")
def tools() -> type[Toolbox]:
    """Give tests the consortium and its helpers."""
    return Toolbox


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """Give tests one child process in which TenSEAL runs; whoever breaks it starts its own."""
    with Worker() as shared:
        yield shared
