"""What each party of an encrypted sum sees: the decryptor uniform values, the server residues, nobody an update."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from fedcollm_crypto.aggregation import Chunks, aggregate
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, no_log
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.packing import bfv_packing
from fedcollm_crypto.homomorphic.parameters import Bfv
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.policy import Part, always
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member

LENGTH = 8192
LARGEST = 5 * 100 * 32767


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One child for all tests here."""
    with Worker() as child:
        yield child


def opened(tools, worker: Worker, vector: np.ndarray) -> np.ndarray:
    """Play one round in which every silo sends this vector; return what the decryptor opened, in [0, 1)."""
    packing = bfv_packing(largest=LARGEST, silos=5)
    scheme = packing.scheme
    assert isinstance(scheme, Bfv)
    consortium, trent = tools.Consortium(5, length=LENGTH), Identity.generate("trent")
    member = Member(id="trent", role="decryptor", ed25519=trent.public_key)
    roster = replace(consortium.roster, members=(*consortium.roster.members, member))
    manifest = replace(consortium.manifest, roster_hash=roster.hash)
    expected = replace(consortium.expected(), decryptor="trent", parameters_hash=scheme.hash)
    silos = {
        party: EncryptedSilo(
            setup=SiloSetup(
                identity=consortium.identities[party],
                roster=roster,
                policy=consortium.policy,
                stages=MemoryStages(),
            ),
            part=Part(expected=always(expected), vector=vector.copy),
            packing=packing,
            scheme=scheme,
            worker=worker,
        )
        for party in consortium.names
    }
    setup = DecryptorSetup(
        identity=trent,
        roster=roster,
        policy=consortium.policy,
        scheme=scheme,
        stages=MemoryStages(),
        worker=worker,
        require_logged=no_log,
    )
    decryptor = Decryptor(setup=setup, packing=packing, scheme=scheme)
    server = EncryptedServer(
        manifest=manifest,
        roster=roster,
        signer=consortium.identities["server"],
        decryptor="trent",
        packing=packing,
        scheme=scheme,
    )
    answers: list[bytes] = []

    def exchange(requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        for party, request in requests.items():
            if party == "trent":
                answers.append(b"".join(decryptor.handle(request)))
                yield party, [answers[-1]]
            else:
                yield party, silos[party].handle(request)

    result = aggregate(server, exchange, consortium.names)
    assert np.array_equal(result.total, vector * np.uint64(5))
    return np.frombuffer(answers[-1][1:], dtype="<u8", count=LENGTH) / scheme.modulus


@pytest.mark.parametrize("value", [0, 1000])
def test_what_the_decryptor_opens_is_uniform_whatever_it_hides(tools, worker, value) -> None:
    seen = opened(tools, worker, np.full(LENGTH, value, dtype=np.uint64))

    counts = np.bincount((seen * 16).astype(int), minlength=16)
    chi_square = float(((counts - LENGTH / 16) ** 2 / (LENGTH / 16)).sum())
    assert chi_square < 60  # 15 degrees of freedom: exceeded once in 4 million


def test_progress_is_told_ciphertext_by_ciphertext(tools) -> None:
    told: list[tuple[int, int]] = []

    with Worker(progress=lambda done, of: told.append((done, of))) as child:
        opened(tools, child, np.zeros(LENGTH, dtype=np.uint64))

    assert told == [(1, 1)] * 5


def test_without_masks_the_decryptor_would_see_the_sum(tools, worker, monkeypatch) -> None:
    monkeypatch.setattr(
        "fedcollm_crypto.homomorphic.ciphertext_carriers.ModularStream.read_into", lambda _, chunk: chunk.fill(0)
    )

    seen = opened(tools, worker, np.full(LENGTH, 1000, dtype=np.uint64))

    assert np.unique(seen).size == 1
