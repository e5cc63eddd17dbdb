"""A7: the server, with one silo in league, makes a decryptor open what is no sum, or hand out its key.

Homomorphic encryption is malleable and its library trusts every byte: a ciphertext may be one silo's alone, the others'
subtracted, the secret key in disguise, or no ciphertext at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fedcollm_crypto import hpke
from fedcollm_crypto.aggregation import Ask, PartyEnd, PartyId, ServerEnd, Sum, Vector
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import CryptoError
from fedcollm_crypto.homomorphic import commitments as said
from fedcollm_crypto.homomorphic.commitments import SEND_REQUEST, Deposit
from fedcollm_crypto.homomorphic.messages import OpenRequest
from fedcollm_crypto.homomorphic.residues import Residues, add_into, from_wire, split, to_wire, wire_bytes
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.requests import ASK_VECTOR
from fedcollm_crypto.signed import Signed
from fedcollm_secure.assurance.attacks.attack_consortium import as_update, is_recovered, largest_error
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import try_ways
from fedcollm_secure.assurance.attacks.encrypted_consortium import (
    DECRYPTOR,
    PUPPET,
    Encrypted,
    answered,
    blocked_by,
    finish,
    play_to,
    require_answer,
)
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.twins.foreign_decryptor import run_twin

KEY_FACTOR = 1 << 16
"""round(q/t) for q of 60 and t of 44 bits: (0, that) decrypts to the secret key."""


def against_twin() -> Outcome:
    """Ask a decryptor that loads and opens whatever it is sent, as examples on the web do; crashes in a process."""
    opened, crash = run_twin("opened"), run_twin("missing_sizes")
    beyond = run_twin("sizes_overflow").figures.get("values_beyond_the_slots", 0)
    error = max(opened.figures["error_alone"], opened.figures["error_cancelled"])
    ternary = opened.figures["key_coefficients_ternary"]
    return Outcome(
        succeeded=error < 1e-3 and ternary == opened.figures["degree"] and crash.status < 0,
        told=(
            f"one silo's ciphertext is opened, alone and with the others cancelled, to {error:.1e}; the ciphertext "
            f"(0, round(q/t)) opens to {ternary:,.0f} coefficients in -1, 0, 1: the key; a message without sizes "
            f"ends the process with status {crash.status}; one with too large sizes returns {beyond:,.0f} values of "
            "foreign memory"
        ),
        figures={
            "max_abs_error": error,
            "key_coefficients_ternary": ternary,
            "exit_status_without_sizes": crash.status,
            "values_beyond_the_slots": beyond,
        },
    )


def against_us() -> Outcome:
    """Try the same against a trustee and, where there is a difference, against sums with the masks inside."""
    with Worker() as worker:
        return try_ways(
            {
                "one silo's ciphertexts alone": partial(open_one_alone, worker),
                "the others cancelled": partial(cancel_the_others, worker),
                "the others cancelled, masks inside": partial(cancel_under_masks, worker),
                "a key of the server's friend": partial(hand_out_another_key, worker),
                "two sums that differ by a silo": partial(open_two_sums, worker),
                "the key in disguise": partial(send_the_key_in_disguise, worker),
                "the library's own bytes": partial(send_foreign_bytes, worker),
            }
        )


def open_one_alone(worker: Worker) -> bool:
    """Bring the trustee the victim's ciphertexts and nobody else's, then ask for the sum."""
    attacked = Encrypted(worker, trusting=True)
    server, parties = attacked.server(), attacked.parties()
    ask = play_to(Deposit.KIND, server, parties, attacked.names)
    trustee = parties[DECRYPTOR]
    require_answer(b"".join(trustee.handle(ask.requests[DECRYPTOR])))
    committed: list[Json] = [_progress(parties[name]).commitment.to_json() for name in attacked.names]
    body: dict[str, Json] = {"manifest": server.manifest.to_body(), "messages": committed, "sum_hash": bytes(32).hex()}
    reply = require_answer(b"".join(trustee.handle(attacked.signed(OpenRequest.KIND, body))))
    words = np.frombuffer(reply[1:], "<u8", count=server.manifest.quantisation.length)
    return _is_victims(attacked, attacked.names[0], words)


def cancel_the_others(worker: Worker) -> bool:
    """Send, as a silo's own, what makes the sum the victim's alone; the silo even knows the others' ciphertexts."""
    attacked = Encrypted(worker, trusting=True)
    server, parties = attacked.server(), attacked.parties()
    victim, *others, friend = attacked.names
    ask = play_to(SEND_REQUEST, server, parties, attacked.names)
    for name in (victim, *others):
        server.absorb(name, parties[name].handle(ask.requests[name]))
    silo = parties[friend]
    (*_, sent) = silo.handle(ask.requests[friend])
    box, counter = _silo(silo)._key.box, np.zeros(len(attacked.consortium.vector(victim)), dtype=np.int64)  # pyright: ignore[reportPrivateUsage] # its own memory
    counter[-2:] = len(others) + 1
    crafted = box.encrypt(attacked.packing.pack(counter)).copy()
    for name in others:
        add_into(crafted, _negative(_ciphertexts(parties[name], box.coefficients), box.prime), box.prime)
    box_key = _silo(silo)._key.message.box_key  # pyright: ignore[reportPrivateUsage] # its own memory
    context = said.piece_context(server.manifest.hash, friend, 0)
    server.absorb(friend, [b"V", hpke.seal_classical(box_key, to_wire(crafted), context, "it"), sent])
    following = server.step()
    with blocked_by(server, DECRYPTOR):
        result = _finished(following, server, parties)
    if friend in server.dropped:
        raise Blocked("other_ciphertexts")
    own = counter.view(np.uint64)
    return _is_victims(attacked, victim, result.total - own)


def cancel_under_masks(worker: Worker) -> bool:
    """The same where the masks are inside: the server adds, so a silo may well see the others' ciphertexts."""
    attacked = Encrypted(worker, trusting=False)
    server, parties = attacked.server(), attacked.parties()
    victim, *others, friend = attacked.names
    seen: list[Residues] = []

    def craft(own: Residues) -> Residues:
        prime, crafted = silo._key.message.prime, own.copy()  # pyright: ignore[reportPrivateUsage] # its own memory
        for each in seen:
            add_into(crafted, _negative(each, prime), prime)
        return crafted

    parties[friend] = silo = attacked.silo(friend, craft)
    ask = play_to(ASK_VECTOR, server, parties, attacked.names)
    for name in (victim, *others, friend):
        reply = b"".join(parties[name].handle(ask.requests[name]))
        server.absorb(name, [reply])
        if name in others:
            size = wire_bytes(attacked.packing.scheme.lattice.degree * 2)
            seen.append(from_wire(reply[1 : 1 + size], 1 << 60, attacked.packing.scheme.lattice.degree * 2))
    with blocked_by(server, DECRYPTOR):
        following = server.step()
        result = _finished(following, server, parties)
    return _is_victims(attacked, victim, result.total)


def hand_out_another_key(worker: Worker) -> bool:
    """Name a decryptor in league in the manifest, and let it open the victim's ciphertexts by themselves."""
    attacked = Encrypted(worker, trusting=True)
    server, puppet = attacked.server(decryptor=PUPPET), attacked.decryptor(PUPPET)
    parties = {**attacked.parties(), PUPPET: puppet}
    victim = attacked.names[0]
    with blocked_by(server, victim):
        ask = play_to(Deposit.KIND, server, parties, attacked.names)
    puppet.handle(ask.requests[PUPPET])
    if not isinstance(puppet, Trustee) or puppet._total is None or puppet._custody._held is None:  # pyright: ignore[reportPrivateUsage] # it is in league
        return False
    decoded = puppet._custody._held.box.decrypt(puppet._total.residues())  # pyright: ignore[reportPrivateUsage] # it is in league
    length = server.manifest.quantisation.length
    return _is_victims(attacked, victim, np.rint(decoded).astype(np.int64).reshape(-1)[:length].view(np.uint64))


def open_two_sums(worker: Worker) -> bool:
    """Open a second sum for one model version, with the victim left out: the difference is its update."""
    attacked = Encrypted(worker, trusting=True)
    victim, parties = attacked.names[-1], attacked.parties()
    first = finish((server := attacked.server()).start(attacked.names), server, parties)
    manifest = replace(attacked.consortium.manifest(), round=2)
    server, parties = attacked.server(manifest), attacked.parties()
    del parties[victim]
    with blocked_by(server, DECRYPTOR):
        second = finish(server.start(attacked.names), server, parties)
    return _is_victims(attacked, victim, first.total - second.total)


def send_the_key_in_disguise(worker: Worker) -> bool:
    """A silo sends (0, round(q/t)): what is opened holds the secret key, if anything is released."""
    attacked = Encrypted(worker, trusting=False)
    server, parties = attacked.server(), attacked.parties()
    friend = attacked.names[-1]

    def craft(own: Residues) -> Residues:
        crafted = np.zeros_like(own)
        crafted[len(own) // 2] = KEY_FACTOR
        return crafted

    parties[friend] = attacked.silo(friend, craft)
    with blocked_by(server, DECRYPTOR):
        finish(server.start(attacked.names), server, parties)
    return True


def send_foreign_bytes(worker: Worker) -> bool:
    """A silo sends a container of the library, which crashes whoever loads it, in place of coefficients."""
    attacked = Encrypted(worker, trusting=False)
    server, parties = attacked.server(), attacked.parties()
    friend = attacked.names[-1]
    ask = play_to(ASK_VECTOR, server, parties, attacked.names)
    hostile = run_twin("bytes_without_sizes").data
    reply = b"".join(parties[friend].handle(ask.requests[friend]))
    signed = reply[1 + wire_bytes(2 * attacked.packing.scheme.lattice.degree) :]
    server.absorb(friend, [b"V", hostile, signed])
    rest = {name: party for name, party in parties.items() if name != friend}
    following = answered(ask, server, rest)
    try:
        result = _finished(following, server, rest)
    except CryptoError:
        return True  # one silo stopped the round of all
    return friend in result.contributors


def _is_victims(attacked: Encrypted, victim: PartyId, words: Vector) -> bool:
    encoding = attacked.consortium.encoding
    error = largest_error(as_update(words, encoding), attacked.consortium.updates[victim])
    return is_recovered(error, encoding)


def _finished(following: Ask | Sum, server: ServerEnd, parties: Mapping[PartyId, PartyEnd]) -> Sum:
    return finish(following, server, parties) if isinstance(following, Ask) else following


def _silo(party: object) -> TrustingSilo:
    if not isinstance(party, TrustingSilo):
        raise TypeError(f"a silo that trusts a trustee was expected, got {type(party).__name__}")
    return party


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What a silo committed to."""

    commitment: Signed
    ciphertexts: bytes


def _progress(party: object) -> _Kept:
    progress = _silo(party)._progress  # pyright: ignore[reportPrivateUsage] # what was sent anyway
    if progress is None:
        raise ValueError("this silo has not committed")
    progress.ciphertexts.rewind()
    return _Kept(commitment=progress.commitment, ciphertexts=progress.ciphertexts.read())


def _ciphertexts(party: object, coefficients: int) -> Residues:
    data = _progress(party).ciphertexts
    pieces = split(data, wire_bytes(coefficients))
    return np.concatenate([from_wire(piece, 1 << 60, coefficients) for piece in pieces])


def _negative(residues: Residues, prime: int) -> Residues:
    negative: Residues = np.where(residues == 0, np.uint64(0), np.uint64(prime) - residues)
    return negative


ATTACK = Attack(
    id="A7",
    title="a decryptor that opens too much",
    does="Server and one silo make the decryptor open one silo alone, cancel the others, hand out its key, or crash",
    unprotected=against_twin,
    protected=against_us,
)
