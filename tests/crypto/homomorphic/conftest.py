"""Driving an encrypted sum up to any request, and changing what is sent: what a malicious party can always do."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fedcollm_crypto.aggregation import Ask, PartyId, ServerEnd, SiloEnd, Sum
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.messages import ATTACHED
from fedcollm_crypto.homomorphic.residues import Residues
from fedcollm_crypto.homomorphic.worker import Box, Worker
from fedcollm_crypto.signed import Signed, sign


def kind_of(party: PartyId, request: bytes) -> str:
    """Return the kind of a request, whatever is attached to it."""
    if request[:1] == ATTACHED:
        head, rest = messages.detach(request)
        return Signed.decode(head if party == "decryptor" else bytes(rest)).kind
    return Signed.decode(request).kind


def play_to(kind: str, server: ServerEnd, parties: Mapping[PartyId, SiloEnd], cohort: list[PartyId]) -> Ask:
    """Play until a request of this kind is to be sent; it is returned unanswered."""
    ask = server.start(cohort)
    while not any(kind_of(party, request) == kind for party, request in ask.requests.items()):
        ask = answer(ask, server, parties)
    return ask


def answer(ask: Ask, server: ServerEnd, parties: Mapping[PartyId, SiloEnd]) -> Ask:
    """Let all answer, and return what is asked next."""
    for party, request in ask.requests.items():
        server.absorb(party, parties[party].handle(request))
    following = server.step()
    assert isinstance(following, Ask)
    return following


def finish(ask: Ask, server: ServerEnd, parties: Mapping[PartyId, SiloEnd]) -> Sum:
    """Play to the end."""
    while True:
        for party, request in ask.requests.items():
            server.absorb(party, parties[party].handle(request))
        following = server.step()
        if isinstance(following, Sum):
            return following
        ask = following


def resigned(consortium, request: bytes, attachment: bytes | None = None, **changes: Json) -> bytes:
    """Return a request to the decryptor with another body, or attachment, signed anew by the server."""
    message, attached = messages.detach(request)
    asked = Signed.decode(message)
    signed = sign(consortium.identities["server"], asked.kind, {**asked.body, **changes})
    return messages.attach(signed.encode(), bytes(attached) if attachment is None else attachment)


@dataclass(frozen=True, kw_only=True)
class CraftingBox:
    """A public key in the hands of a silo that makes its ciphertexts by hand."""

    box: Box
    craft: Callable[[Residues], Residues]

    @property
    def coefficients(self) -> int:
        return self.box.coefficients

    def encrypt(self, slots: np.ndarray) -> Residues:
        return self.craft(self.box.encrypt(slots))

    def close(self) -> None:
        self.box.close()


@dataclass(frozen=True, kw_only=True)
class CraftingWorker:
    """A silo's way to its library, with `craft` between them."""

    worker: Worker
    craft: Callable[[Residues], Residues]

    def progress(self, done: int, of: int) -> None:
        self.worker.progress(done, of)

    def encryptor(self, scheme, public_key: Residues) -> CraftingBox:
        return CraftingBox(box=self.worker.encryptor(scheme, public_key), craft=self.craft)


class Play:
    """What these tests share; a fixture, since test files are no package."""

    kind_of = staticmethod(kind_of)
    play_to = staticmethod(play_to)
    answer = staticmethod(answer)
    finish = staticmethod(finish)
    resigned = staticmethod(resigned)
    CraftingWorker = CraftingWorker


@pytest.fixture(scope="session")
def play() -> type[Play]:
    """Give tests the means to drive an encrypted sum."""
    return Play


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A sum over five silos that the decryptor is about to be asked to open."""

    consortium: object
    parties: Mapping[PartyId, SiloEnd]
    server: ServerEnd
    ask: Ask

    @property
    def request(self) -> bytes:
        return self.ask.requests["decryptor"]

    @property
    def manifest(self):
        return self.server.manifest

    def refused(self, tools, attachment: bytes | None = None, **changes: Json) -> str:
        """Ask for the opening with these changes, and return the code of the refusal."""
        request = resigned(self.consortium, self.request, attachment, **changes)
        return tools.refusal_code(self.parties["decryptor"].handle(request))

    def with_manifest(self, tools, **changes) -> str:
        """Ask for the opening under another manifest, and return the code of the refusal."""
        return self.refused(tools, manifest=replace(self.manifest, **changes).to_body())


def opening_of(consortium) -> Opening:
    """Play up to the opening."""
    parties, server = consortium.parties(), consortium.server()
    ask = play_to("he-open-request", server, parties, consortium.names)
    return Opening(consortium=consortium, parties=parties, server=server, ask=ask)


class Openings:
    """How to get there, for tests that change what they get."""

    of = staticmethod(opening_of)


@pytest.fixture(scope="session")
def openings() -> type[Openings]:
    """Give tests sums that wait to be opened."""
    return Openings


@pytest.fixture
def own_worker() -> Iterator[Worker]:
    """Give a test a child of its own, to be broken."""
    with Worker() as mine:
        yield mine
