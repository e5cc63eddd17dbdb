"""What can be seen from outside: uploads look random, nothing secret is printed or written, no weak generator."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fedcollm_crypto
from fedcollm_crypto.errors import CryptoError
from fedcollm_crypto.masking.stages import FileStages

SOURCES = sorted(Path(fedcollm_crypto.__file__).parent.rglob("*.py"))


def upload(tools, vector: np.ndarray, ring_bits: int) -> np.ndarray:
    """Return silo-001's masked words for a vector."""
    consortium = tools.Consortium(3, length=len(vector), ring_bits=ring_bits)
    consortium.vectors = dict.fromkeys(consortium.names, vector)
    silos = {p: consortium.silo(p, randomness=tools.fixed(f"uniform {p}")) for p in consortium.names}
    request = tools.run_to(5, consortium.server(), silos).requests["silo-001"]
    data = b"".join(silos["silo-001"].handle(request))
    return np.frombuffer(data[1 : 1 + len(vector) * ring_bits // 8], f"<u{ring_bits // 8}")


@pytest.mark.parametrize("ring_bits", [32, 64])
@pytest.mark.parametrize("value", [0, 1, 2**32 - 1])
def test_a_masked_vector_is_uniform_whatever_it_hides(tools, ring_bits: int, value: int):
    words = upload(tools, np.full(40_000, value, np.uint64), ring_bits)
    octets = words.view(np.uint8).reshape(-1, ring_bits // 8)

    for place in range(ring_bits // 8):  # each byte of the word, the highest included
        counts = np.bincount(octets[:, place], minlength=256)
        chi_square = float(((counts - 156.25) ** 2 / 156.25).sum())
        assert 140 < chi_square < 400, f"byte {place}"  # 255 degrees of freedom: beyond 1e-7 tails


def test_a_masked_vector_does_not_follow_the_vector(tools):
    half = 20_000
    vector = np.concatenate([np.zeros(half, np.uint64), np.full(half, 2**63, np.uint64)])

    top_bit = upload(tools, vector, 64) >> np.uint64(63)

    difference = abs(int(top_bit[:half].sum()) - int(top_bit[half:].sum()))
    assert difference < 5 * (half / 2) ** 0.5  # five standard deviations of the difference of two binomials


def test_csprng_global_seeds_change_nothing(tools):
    def words() -> bytes:
        np.random.seed(7)
        random.seed(7)
        consortium = tools.Consortium(3)
        silos = consortium.silos()
        request = tools.run_to(5, consortium.server(), silos).requests["silo-001"]
        return b"".join(silos["silo-001"].handle(request))[1:41]

    assert words() != words()


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield f"{node.module}"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def weak_generators(source: str) -> list[str]:
    tree = ast.parse(source)
    names = [*imported(tree), *attributes(tree)]
    return [n for n in names if n.split(".")[0] in ("random", "torch") or n.startswith(("np.random", "numpy.random"))]


def unsafe_loaders(source: str) -> list[str]:
    tree = ast.parse(source)
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    calls = {"np.load", "numpy.load", "eval", "exec"}
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [n for n in imported(tree) if n.split(".")[0] in modules] + [n for n in called if n in calls]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_csprng_no_file_uses_a_weak_generator(path: Path):
    assert weak_generators(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nopickle_no_file_loads_objects(path: Path):
    assert unsafe_loaders(path.read_text()) == []


def test_csprng_and_nopickle_find_what_they_look_for():
    assert weak_generators("import random") == ["random"]
    assert weak_generators("from numpy.random import default_rng")
    assert weak_generators("import numpy as np\nnp.random.seed(1)")
    assert unsafe_loaders("import pickle") == ["pickle"]
    assert unsafe_loaders("np.load(x)") == ["np.load"]


def everything_visible(silo) -> str:
    """Return what a log, a traceback or a debugger's first line would show."""
    progress = silo._progress
    return " ".join(
        [repr(silo), repr(progress), repr(progress.states), repr(silo.evidence), *(map(repr, progress.states.values()))]
    )


def secrets_of(state) -> list[bytes]:
    """Return the private keys that a state holds, whether drawn or derived."""
    secrets = getattr(state, "secrets", None)
    if secrets is None:
        return []
    hybrid = [] if secrets.hybrid is None else [secrets.hybrid.channel, secrets.hybrid.mask]
    return [key.private_bytes_raw() for key in (secrets.channel, secrets.mask, *hybrid)]


@pytest.mark.parametrize("post_quantum", [False, True])
def test_secret_scan_nothing_secret_is_printed_written_or_raised(tools, tmp_path, caplog, post_quantum: bool):
    consortium = tools.Consortium(3, post_quantum=post_quantum)
    drawn: list[bytes] = []

    def randomness(count: int) -> bytes:
        drawn.append(tools.fixed(f"canary {len(drawn)}")(count))
        return drawn[-1]

    journal = FileStages(tmp_path / "stages")
    silos = consortium.silos()
    silos["silo-001"] = consortium.silo("silo-001", randomness=randomness, stages=journal)
    seen: list[str] = []
    derived: set[bytes] = set()
    server = consortium.server()
    ask = server.start(consortium.names)
    request = ask.requests["silo-001"]
    while not isinstance(ask, tools.Sum):
        for party, reply in tools.answers(ask, silos).items():
            server.absorb(party, [reply])
        seen.append(everything_visible(silos["silo-001"]))
        derived |= {secret for state in silos["silo-001"]._progress.states.values() for secret in secrets_of(state)}
        request = ask.requests.get("silo-001", request)  # nobody is asked for a disclosure
        with pytest.raises(CryptoError) as caught:
            silos["silo-001"].handle(request[:-1])
        seen.append(caught.value.diagnostics())
        ask = server.step()
    seen += [(tmp_path / "stages").read_text(), caplog.text]
    journal.close()

    nonce = 4 if post_quantum else 3  # it is public
    assert len(drawn) > 6
    assert len(derived) == (4 if post_quantum else 2)
    text = "\n".join(seen)
    for secret in (*drawn[:nonce], *drawn[nonce + 1 :], *derived):
        for shown in (secret.hex(), repr(secret)[2:-1], str(int.from_bytes(secret, "big"))):
            assert shown not in text


@pytest.mark.parametrize("post_quantum", [False, True])
def test_secret_scan_secrets_are_gone_after_the_sum(tools, post_quantum: bool):
    consortium = tools.Consortium(3, post_quantum=post_quantum)
    silos = consortium.silos()
    tools.answers(tools.run_to(7, consortium.server(), silos), silos)

    for silo in silos.values():
        assert silo._progress.states == {}
        assert silo._vector is None
