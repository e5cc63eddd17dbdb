"""A20: bytes and folders of a stranger, made to cost time, to hang a reader, or to end it with an error of its own.

Three ways: JSON nested to one depth that a parser still takes and what walks over its value does not; megabytes of JSON
that nobody signed; and a folder in which evidence is a FIFO, a link to a device, or a folder.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.signed import Signed
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER, Consortium, random_updates
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.twins.trusting_reader import TwinServer, read_evidence
from fedcollm_secure.audit_log.events import RunStopped
from fedcollm_secure.audit_log.log import LOG_NAME, AuditLog
from fedcollm_secure.operations.verify_command import verify_directory

SILOS = 3
DEPTHS = (*range(1, 64), *range(64, 2000, 8), *range(900, 1001))
MEBIBYTES = 4
PATIENCE_S = 0.5
"""How long a reader may take; what is still waiting then has no end of its own."""

Read = Callable[[Path], object]


def nested(depth: int) -> bytes:
    """Return lists inside one another."""
    return b"[" * depth + b"]" * depth


def unsigned(body: bytes, sender: str = "silo-01", kind: str = "hello") -> bytes:
    """Return a message with a signature that is none."""
    envelope = f'"from":"{sender}","kind":"{kind}","signature":"{"00" * 64}"'.encode()
    return b'{"body":{"a":' + body + b"}," + envelope + b"}"


def many_values() -> bytes:
    """Return a list that is long in objects, which cost a parser most."""
    return b"[" + b"{}," * ((MEBIBYTES << 20) // 3) + b"{}]"


def raised_by(absorb: Callable[[bytes], object], depths: Iterator[bytes]) -> int:
    """Return how many replies got anything but a refusal out of a reader."""
    found = 0
    for reply in depths:
        try:
            absorb(reply)
        except ProtocolError:
            continue
        except (RecursionError, ValueError):
            found += 1
    return found


def seconds_per_mebibyte(absorb: Callable[[bytes], object]) -> float:
    """Return the CPU time that a reader spends on a mebibyte that nobody signed."""
    reply, begun = unsigned(many_values(), SERVER, "manifest"), time.process_time()
    with suppress(ProtocolError):
        absorb(reply)
    return (time.process_time() - begun) / (len(reply) / 2**20)


@contextmanager
def run_with_a_fifo() -> Generator[Path, None, None]:
    """Give a run's folder whose log is a FIFO that nobody writes to, and let go whoever waits on it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        AuditLog.create(folder / "audit", Identity.generate(SERVER), "fedcollm-secure/attacked").append(
            RunStopped(reason="attacked", rounds_done=0)
        )
        log = folder / "audit" / LOG_NAME
        log.unlink()
        os.mkfifo(log)
        yield folder
        try:
            os.close(os.open(log, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody waits
            return


def hangs(read: Read, folder: Path) -> bool:
    """Say whether a reader is still busy after `PATIENCE_S`."""
    thread = threading.Thread(target=read, args=(folder,), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return thread.is_alive()


def against_twin() -> Outcome:
    """Send a reader without bounds all depths and some megabytes, and show it the folder."""
    twin = TwinServer()
    raised = raised_by(lambda reply: twin.absorb("silo-01", reply), (unsigned(nested(depth)) for depth in DEPTHS))
    cost = seconds_per_mebibyte(lambda reply: twin.absorb("silo-01", reply))
    with run_with_a_fifo() as folder:
        waits = hangs(lambda run: read_evidence(run / "audit" / LOG_NAME), folder)
    return Outcome(
        succeeded=raised > 0 and waits,
        reason="" if raised and waits else "read_through",
        told=(
            f"{raised} of {len(DEPTHS)} depths get a RecursionError out of absorb, which is said never to raise; a "
            f"mebibyte that nobody signed costs {cost:.2f} s of CPU before the signature is looked at; a FIFO in the "
            f"log's place {'holds the verifier for ever' if waits else 'is read'}"
        ),
        figures={"replies_that_raised": raised, "seconds_per_mebibyte": cost, "readers_that_hang": int(waits)},
    )


def against_us() -> Outcome:
    """Do the same to a server, a silo and a verifier of ours; the server also gets depths that a silo really signed."""
    consortium = Consortium(random_updates(SILOS))
    party, manifest = consortium.names[0], consortium.manifest()
    silo = consortium.silo(party, manifest)

    def absorb(reply: bytes) -> None:
        server = MaskedServer(manifest=manifest, roster=consortium.roster, signer=consortium.identities[SERVER])
        server.start(manifest.cohort)
        server.absorb(party, [b"M" + reply])

    raised = raised_by(absorb, _replies(consortium.identities[party]))
    raised += raised_by(lambda reply: list(silo.handle(reply)), _replies(consortium.identities[SERVER]))
    cost = seconds_per_mebibyte(lambda reply: list(silo.handle(reply)))
    codes: list[int] = []
    with run_with_a_fifo() as folder:
        waits = hangs(lambda run: codes.append(verify_directory(run, None, None)[0]), folder)
    return Outcome(
        succeeded=raised > 0 or waits or codes != [1],
        reason="too_deep, too_full, unsigned, no_regular_file",
        told=(
            f"{2 * 2 * len(DEPTHS)} replies and requests of {len(DEPTHS)} depths, half of them truly signed, end in a "
            f"refusal; a mebibyte that nobody signed costs {cost:.4f} s: the signature over the bytes that came is "
            f"looked at first; the folder is refused with exit {codes[0] if codes else '-'}"
        ),
        figures={"replies_that_raised": raised, "seconds_per_mebibyte": cost, "readers_that_hang": int(waits)},
    )


def _replies(signer: Identity) -> Iterator[bytes]:
    """Yield messages of every depth, that nobody signed and that this party did."""
    for depth in DEPTHS:
        kind = "manifest" if signer.party == SERVER else "hello"
        yield unsigned(nested(depth), signer.party, kind)
        for_all = b'{"a":' + nested(depth) + b"}"
        signature = signer.sign(kind, for_all)
        yield Signed(kind=kind, sender=signer.party, body_bytes=for_all, signature=signature).encode()


ATTACK = Attack(
    id="A20",
    title="hostile bytes",
    does="A stranger sends JSON of every depth and megabytes that nobody signed, and a folder whose log is a FIFO",
    unprotected=against_twin,
    protected=against_us,
)
