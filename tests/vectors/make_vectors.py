"""Write the known-answer vectors of the crypto room: `python tests/vectors/make_vectors.py`.

All inputs are fixed; "randomness" is SHAKE-256 of a label and a counter. Files named `_bad_` list inputs that
must be refused, with a part of the reason. A second implementation needs nothing but these files and crypto/README.md.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedcollm_crypto import canonical, derivation, sealing, shamir
from fedcollm_crypto.aggregation import Ask
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import transcript
from fedcollm_crypto.masking.dealing import Dealing, Parcel, Shares, box_tree
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy, always
from fedcollm_crypto.masking.requests import Delivery, Relay, VectorRequest, sign_message
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member, Role, Roster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_crypto.stream import keystream

HERE = Path(__file__).parent
Vectors = dict[str, object]
WORDS = 4


def fixed(label: str) -> Callable[[int], bytes]:
    """Return randomness that isn't: the n-th call gives SHAKE-256("label/n")."""
    numbers: Iterator[int] = iter(range(1 << 60))
    return lambda count: hashlib.shake_256(f"{label}/{next(numbers)}".encode()).digest(count)


def stream_vectors() -> Vectors:
    """Keys, and the hash of 1000 words of their streams."""
    keys = [bytes(32), bytes(range(32)), b"\xff" * 32]
    whole = {key: b"".join(chunk.tobytes() for chunk in keystream(key, 1000)) for key in keys}
    return {
        "cases": [
            {"key": k.hex(), "first_16_bytes": s[:16].hex(), "sha256_of_8000_bytes": hashlib.sha256(s).hexdigest()}
            for k, s in whole.items()
        ]
    }


def shamir_vectors() -> Vectors:
    """Sharings of fixed secrets with fixed coefficients."""
    cases = []
    for secret, t, points in (
        (bytes(32), 1, [1]),
        (b"\x01" * 32, 2, [1, 2, 3]),
        (b"\xff" * 32, 5, [2, 3, 5, 7, 11, 13]),
    ):
        shares = shamir.split(secret, t, points, fixed(f"shamir/{t}"))
        cases.append(
            {
                "coefficients_from": f"shamir/{t}",
                "secret": secret.hex(),
                "threshold": t,
                "shares": {str(point): share.hex() for point, share in shares.items()},
            }
        )
    return {"cases": cases}


def shamir_bad_vectors() -> Vectors:
    """Shares that must not combine."""
    shares = shamir.split(b"\x01" * 32, 2, [1, 2], fixed("shamir/2"))
    changed = bytes([shares[2][0], shares[2][1] ^ 1]) + shares[2][2:]
    prime = shamir.PRIME.to_bytes(66, "big")
    cases = [("changed", changed, "one secret"), ("prime", prime, "element"), ("short", shares[2][1:], "element")]
    return {
        "cases": [
            {"name": name, "threshold": 2, "shares": {"1": shares[1].hex(), "2": bad.hex()}, "reason": reason}
            for name, bad, reason in cases
        ]
    }


def derivation_vectors() -> Vectors:
    """Every label: keys, commitments, hashes."""
    secret, t1, manifest_hash = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
    return {
        "secret": secret.hex(),
        "transcript": t1.hex(),
        "manifest_hash": manifest_hash.hex(),
        "pair_mask_key_silo-1_silo-2": transcript.pair_mask_key(secret, t1, manifest_hash, "silo-2", "silo-1").hex(),
        "self_mask_key_silo-1": transcript.self_mask_key(secret, t1, manifest_hash, "silo-1").hex(),
        "box_key_silo-1_to_silo-2": sealing.box_key(secret, t1, "silo-1", "silo-2").hex(),
        "box_key_silo-2_to_silo-1": sealing.box_key(secret, t1, "silo-2", "silo-1").hex(),
        "seed_commitment": transcript.seed_commitment(secret).hex(),
        "seed_share_commitment": transcript.seed_share_commitment(secret + secret + b"\x11\x11").hex(),
        "key_share_commitment": transcript.key_share_commitment(secret + secret + b"\x11\x11").hex(),
        "cohort_hash_a_b": transcript.cohort_hash(["b", "a"]).hex(),
        "survivors_hash": transcript.survivors_hash({"a": t1, "b": secret}).hex(),
        "labelled_a_bc": derivation.labelled(b"label", b"a", b"bc").hex(),
    }


def fixedpoint_vectors() -> Vectors:
    """Updates at, inside and beyond the clip; weights; both rings."""
    update = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 7.0, -7.0, 0.1, 2.0**-20, 1.5 / 32767], np.float32)
    cases = []
    for ring_bits, weight in ((64, 1), (64, 100), (32, 100)):
        encoding = FixedPoint(clip=1.0, bits=16, ring_bits=ring_bits, max_weight=100, max_silos=100)
        cases.append(
            {
                "ring_bits": ring_bits,
                "bits": 16,
                "clip": "1.0",
                "weight": weight,
                "update": [float(x).hex() for x in update],
                "encoded": [str(x) for x in encoding.encode(update, weight).tolist()],
            }
        )
    return {"cases": cases}


def canonical_vectors() -> Vectors:
    """Values and their only spelling."""
    values: list[canonical.Json] = [
        {},
        [],
        "é€😀\n\u0001",
        {"b": 1, "a": [True, None, -5]},
        {"\U0001f600": 1, "\ufb33": 2},
    ]
    return {"cases": [{"value": value, "canonical": canonical.encode(value).hex()} for value in values]}


def canonical_bad_vectors() -> Vectors:
    """Bytes that are JSON for many readers, but not ours."""
    texts = [
        b'{"a":1,"a":2}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"1.0",
        b"-0",
        b"9007199254740992",
        b'"\\u0061"',
        b"{}x",
        b"NaN",
    ]
    return {"cases": [{"bytes": text.hex(), "reason": "not canonical JSON"} for text in texts]}


class Setting:
    """Five silos, or n, whose keys and secrets anybody can recompute."""

    def __init__(self, n: int = 5, *, post_quantum: bool = False) -> None:
        self.names = [f"silo-{i}" for i in range(1, n + 1)]
        self.identities = {
            name: Identity.generate(name, fixed(f"identity/{name}"), post_quantum=post_quantum)
            for name in [*self.names, "server"]
        }
        members = [self.member(name, "silo") for name in self.names]
        server = self.member("server", "server")
        self.roster = Roster(consortium_id="vectors", epoch=1, members=(*members, server), policy={})
        self.manifest = RoundManifest(
            consortium_id="vectors",
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
            quantisation=Quantisation(ring_bits=64, bits=16, clip=1.0, max_weight=100, length=WORDS),
            adversary="malicious",
            colluding=1,
            k_min=3,
            threshold=threshold(n, 1, "malicious"),
            profile="post_quantum" if post_quantum else "classical",
        )
        self.vectors = {n: np.arange(WORDS, dtype=np.uint64) * np.uint64(i) for i, n in enumerate(self.names, 1)}

    def member(self, name: str, role: Role) -> Member:
        ed25519, mldsa44 = self.identities[name].public_keys
        return Member(id=name, role=role, ed25519=ed25519, mldsa44=mldsa44)

    def silo(self, name: str) -> MaskedSilo:
        m = self.manifest
        expected = Expected(
            session_id=m.session_id,
            base_model_hash=m.base_model_hash,
            adapter_hash=m.adapter_hash,
            lora_schema_hash=m.lora_schema_hash,
            train_cfg_hash=m.train_cfg_hash,
            dp_plan_hash=m.dp_plan_hash,
            quantisation=m.quantisation,
        )
        setup = SiloSetup(
            identity=self.identities[name],
            roster=self.roster,
            policy=SiloPolicy(post_quantum=m.post_quantum),
            stages=MemoryStages(),
            randomness=fixed(f"silo/{name}"),
        )
        part = Part(expected=always(expected), vector=lambda: self.vectors[name].copy())
        return MaskedSilo(setup=setup, part=part)

    def play(
        self, lost: str = "", junk: tuple[str, str] = ("", "")
    ) -> tuple[list[dict[str, dict[str, str]]], list[int]]:
        """Run a round; return every message and the sum.

        `lost` is a silo that is gone before the vectors; `junk` a dealer and whose box it fills with zeros.
        """
        silos = {name: self.silo(name) for name in self.names}
        server = MaskedServer(manifest=self.manifest, roster=self.roster, signer=self.identities["server"])
        rounds: list[dict[str, dict[str, str]]] = []
        step = server.start(self.names)
        while isinstance(step, Ask):
            messages: dict[str, dict[str, str]] = {}
            for name, request in step.requests.items():
                reply = b"".join(silos[name].handle(request))
                if server.stage == "ask-shares" and name == junk[0]:
                    reply = self.with_junk(reply, junk[1])
                messages[name] = {"request": request.hex(), "reply": reply.hex()}
                if len(rounds) < 4 or name != lost:
                    server.absorb(name, [reply])
            rounds.append(messages)
            step = server.step()
        return rounds, [int(x) for x in step.total]

    def with_junk(self, reply: bytes, victim: str) -> bytes:
        """Return a dealing with zeros in one box, under a root that its dealer signed."""
        dealing = Dealing.decode(reply[1:])
        boxes = {**dealing.boxes, victim: replace(dealing.boxes[victim], box=bytes(160))}
        root = replace(Shares.from_body(dealing.shares.body), root=box_tree(boxes).root())
        shares = sign_message(self.identities[dealing.shares.sender], root)
        return reply[:1] + Dealing(shares=shares, boxes=boxes).encode()


def masking_vectors() -> Vectors:
    """One attempt, byte for byte: five silos, the second lost after the shares were checked."""
    setting = Setting()
    rounds, total = setting.play("silo-2")
    return {
        "identities": {n: fixed(f"identity/{n}")(32).hex() for n in setting.identities},
        "roster": setting.roster.to_body(),
        "vectors": {n: [int(x) for x in v] for n, v in setting.vectors.items()},
        "randomness_of_a_silo": "silo/NAME",
        "lost_before_vectors": "silo-2",
        "rounds": rounds,
        "total": total,
    }


def dispute_vectors() -> Vectors:
    """The same five silos; the box of silo-5 for silo-1 holds zeros, so silo-1 complains and silo-5 discloses."""
    rounds, total = Setting().play(junk=("silo-5", "silo-1"))
    return {"box_of_zeros": {"dealer": "silo-5", "recipient": "silo-1"}, "rounds": rounds, "total": total}


def masking_bad_vectors() -> Vectors:
    """Requests that silo-1 must refuse at a stage, after it answered the good requests before it."""
    setting = Setting()
    rounds, _ = setting.play("silo-2")
    good = [bytes.fromhex(messages["silo-1"]["request"]) for messages in rounds if messages]
    disputed = [
        bytes.fromhex(m["silo-1"]["request"]) for m in setting.play(junk=("silo-5", "silo-1"))[0] if "silo-1" in m
    ]
    server = setting.identities["server"]

    def manifest(**change: object) -> bytes:
        return sign(server, "manifest", replace(setting.manifest, **change).to_body()).encode()  # type: ignore[arg-type]

    def relay(stage: int, change: Callable[[list[Signed]], list[Signed]]) -> bytes:
        asked = Signed.decode(good[stage])
        body = Relay.from_body(asked.body)
        return sign(server, asked.kind, replace(body, messages=tuple(change(list(body.messages)))).to_body()).encode()

    def other(message: Signed, **change: canonical.Json) -> Signed:
        return sign(setting.identities[message.sender], message.kind, {**message.body, **change})

    def delivery(change: Callable[[list[Parcel]], list[Parcel]]) -> bytes:
        body = Delivery.from_body(Signed.decode(good[2]).body)
        return sign(server, "ask-check", replace(body, parcels=tuple(change(list(body.parcels)))).to_body()).encode()

    def over(change: Callable[[list[str]], list[str]]) -> bytes:
        body = VectorRequest.from_body(Signed.decode(good[3]).body)
        return sign(server, "ask-vector", replace(body, members=tuple(change(list(body.members)))).to_body()).encode()

    zeros: canonical.Json = "00" * 32
    cases = [
        ("other_epoch", 0, manifest(epoch=2), "other_roster"),
        ("other_adapter", 0, manifest(adapter_hash="ee" * 32), "other_plan"),
        ("small_cohort", 0, manifest(colluding=0, k_min=2), "small_cohort"),
        ("low_threshold", 0, manifest(adversary="semi_honest", threshold=3), "low_threshold"),
        ("other_manifest", 1, relay(1, lambda h: [*h[:4], other(h[4], manifest_hash=zeros)]), "other_manifest"),
        ("copied_key", 1, relay(1, lambda h: [*h[:4], other(h[4], mask_key=h[3].body["mask_key"])]), "equal_keys"),
        ("forged_hello", 1, relay(1, lambda h: [*h[:4], replace(h[4], signature=bytes(64))]), "malformed"),
        ("few_hellos", 1, relay(1, lambda h: h[:3]), "too_few"),
        ("without_mine", 1, relay(1, lambda h: h[1:]), "not_mine"),
        (
            "tampered_box",
            2,
            delivery(lambda p: [*p[:4], replace(p[4], box=replace(p[4].box, box=bytes(160)))]),
            "malformed",
        ),
        ("few_boxes", 2, delivery(lambda p: p[:3]), "too_few"),
        ("few_members", 3, over(lambda u: u[:3]), "too_few"),
        ("new_member", 3, over(lambda u: [*u, "silo-6"]), "new_member"),
        ("other_cohort", 4, relay(4, lambda u: [*u[:3], other(u[3], cohort_hash=zeros)]), "other_cohort"),
        ("few_uploads", 4, relay(4, lambda u: u[:3]), "too_few"),
        ("few_consents", 5, relay(5, lambda c: c[:3]), "no_quorum"),
        ("other_survivors", 5, relay(5, lambda c: [*c[:3], other(c[3], survivors_hash=zeros)]), "no_quorum"),
        ("second_vector", 4, over(lambda u: u[:4]), "second_answer"),
    ]
    undisclosed = replace(VectorRequest.from_body(Signed.decode(disputed[3]).body), disclosures=())
    return {
        "good_requests": [request.hex() for request in good],
        "cases": [
            {"name": name, "after_good_requests": stage, "request": request.hex(), "reason_code": code}
            for name, stage, request, code in cases
        ],
        "good_requests_of_a_dispute": [request.hex() for request in disputed],
        "cases_of_a_dispute": [
            {
                "name": "undisclosed_box",
                "after_good_requests": 3,
                "request": sign(server, "ask-vector", undisclosed.to_body()).encode().hex(),
                "reason_code": "bad_shares",
            }
        ],
    }


FILES: dict[str, Callable[[], Vectors]] = {
    "stream.json": stream_vectors,
    "shamir.json": shamir_vectors,
    "shamir_bad_shares.json": shamir_bad_vectors,
    "derivation.json": derivation_vectors,
    "fixedpoint.json": fixedpoint_vectors,
    "canonical.json": canonical_vectors,
    "canonical_bad_spelling.json": canonical_bad_vectors,
    "masking.json": masking_vectors,
    "masking_dispute.json": dispute_vectors,
    "masking_bad_requests.json": masking_bad_vectors,
}


def render(vectors: Vectors) -> str:
    """Return the file's text."""
    return json.dumps(vectors, indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Write all files."""
    for name, make in FILES.items():
        (HERE / name).write_text(render(make()))


if __name__ == "__main__":
    main()
