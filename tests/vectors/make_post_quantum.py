"""Write the known-answer vectors of the post-quantum profile: `python tests/vectors/make_post_quantum.py`.

ML-KEM encapsulation and ML-DSA signing draw from the library's generator, which takes no fixed bytes. What they gave
once is therefore kept: the script reads it back from the file and makes it anew only where the file is gone. Everything
else is made from fixed inputs, as `make_vectors.py` does it.
"""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import canonical, hpke
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import hybrid
from fedcollm_crypto.masking.dealing import Dealing, Parcel, ShareBox
from fedcollm_crypto.masking.requests import Delivery, Relay
from fedcollm_crypto.signed import Signed, sign

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("make_vectors", HERE / "make_vectors.py")
assert SPEC is not None
assert SPEC.loader is not None
make_vectors = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_vectors)

Vectors = dict[str, object]
KEM_SEED, SCALAR, CONTEXT = bytes(range(64)), bytes(range(100, 132)), b"context"


def kept(name: str, make: Callable[[], Vectors]) -> Vectors:
    """Return what the file holds, or make it where there is none."""
    path = HERE / name
    return json.loads(path.read_text()) if path.exists() else make()


def derivation_vectors() -> Vectors:
    """Everything that follows from a master secret."""
    master, t1, manifest_hash = b"\x44" * 32, b"\x22" * 32, b"\x33" * 32
    keys = hybrid.MaskKeyPairs.derive(master, manifest_hash, "silo-1")
    pair = hybrid.Pair(transcript=t1, manifest_hash=manifest_hash, low="silo-1", high="silo-2")
    secret = pair.secret(master)
    x25519, mlkem768 = keys.public_keys
    return {
        "master": master.hex(),
        "transcript": t1.hex(),
        "manifest_hash": manifest_hash.hex(),
        "x25519_private_silo-1": keys.x25519.private_bytes_raw().hex(),
        "x25519_public_silo-1": x25519.hex(),
        "mlkem768_seed_silo-1": keys.mlkem768.private_bytes_raw().hex(),
        "mlkem768_public_silo-1": mlkem768.hex(),
        "mask_secret_silo-1_to_silo-2": secret.hex(),
        "mask_secret_commitment": hybrid.commit(secret).hex(),
        "shared": (b"\x55" * 32).hex(),
        "pair_mask_key_silo-1_silo-2": pair.mask_key(b"\x55" * 32, secret).hex(),
    }


def box_vectors() -> Vectors:
    """A box of each kind that the library sealed once; it must open for ever."""
    kem = MLKEM768PrivateKey.from_seed_bytes(KEM_SEED).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(SCALAR).public_key().public_bytes_raw()
    return {
        "mlkem768_seed": KEM_SEED.hex(),
        "x25519_private": SCALAR.hex(),
        "context": CONTEXT.hex(),
        "plaintext": b"plaintext".hex(),
        "mlkem768_box": hpke.seal_kem(kem, b"plaintext", CONTEXT, "").hex(),
        "hybrid_box": hpke.seal_hybrid((kem, x25519), b"plaintext", CONTEXT, "").hex(),
    }


def box_bad_vectors() -> Vectors:
    """The same boxes, changed: none may open."""
    good = kept("post_quantum_boxes.json", box_vectors)
    cases: list[Vectors] = []
    for kind in ("mlkem768_box", "hybrid_box"):
        box = bytes.fromhex(str(good[kind]))
        changes = {
            "first_byte": bytes([box[0] ^ 1]) + box[1:],
            "last_byte_of_mlkem": box[:1087] + bytes([box[1087] ^ 1]) + box[1088:],
            "byte_behind_mlkem": box[:1088] + bytes([box[1088] ^ 1]) + box[1089:],
            "last_byte": box[:-1] + bytes([box[-1] ^ 1]),
            "short": box[:-1],
            "long": box + b"\0",
            "empty": b"",
        }
        cases += [{"name": f"{kind}_{name}", "kind": kind, "box": bad.hex()} for name, bad in changes.items()]
    return {"cases": cases, "reason": "does not open"}


def signature_vectors() -> Vectors:
    """A signature of both kinds that was made once."""
    identity = Identity.generate("silo-1", make_vectors.fixed("identity/silo-1"), post_quantum=True)
    return {
        "identity": "identity/silo-1",
        "kind": "hello",
        "body": "{}",
        "ed25519": identity.public_key.hex(),
        "mldsa44": identity.mldsa44_key.hex(),
        "signature": identity.sign("hello", b"{}").hex(),
    }


def signature_bad_vectors() -> Vectors:
    """Parts of it, which must not verify."""
    signature = bytes.fromhex(str(kept("post_quantum_signatures.json", signature_vectors)["signature"]))
    first, second = signature[:64], signature[64:]
    cases = {
        "ed25519_alone": first,
        "mldsa44_alone": second,
        "swapped": second + first,
        "zero_mldsa44": first + bytes(2420),
        "zero_ed25519": bytes(64) + second,
        "long": signature + b"\0",
    }
    return {"cases": [{"name": n, "signature": s.hex()} for n, s in cases.items()], "reason": "does not verify"}


def round_vectors() -> Vectors:
    """What silo-2 of four is asked in an attempt that silo-1 leaves before M3, and what is fixed in its replies."""
    setting = make_vectors.Setting(4, post_quantum=True)
    rounds, total = setting.play("silo-1")
    rounds = [messages for messages in rounds if messages]  # nobody is asked for a disclosure
    asked = [bytes.fromhex(messages["silo-2"]["request"]) for messages in rounds]
    return {
        "requests": [canonical.decode(request) for request in asked],
        "replies": [fixed_part(bytes.fromhex(m["silo-2"]["reply"])) for m in rounds],
        "total": total,
    }


def fixed_part(reply: bytes) -> Vectors:
    """Return what a silo with fixed randomness always replies: all but boxes and signatures."""
    if reply[:1] == b"D":
        dealing = Dealing.decode(reply[1:])
        body = {key: value for key, value in dealing.shares.body.items() if key != "root"}
        return {"words": "", "body": {**body, "commitments": [commitments(box) for box in dealing.boxes.values()]}}
    skip = 8 * make_vectors.WORDS if reply[:1] == b"V" else 0
    return {"words": reply[1 : 1 + skip].hex(), "body": dict(Signed.decode(reply[1 + skip :]).body)}


def commitments(box: ShareBox) -> list[str]:
    """Return for whom a box is, and what it commits to."""
    secret = "" if box.mask_secret is None else box.mask_secret.commitment.hex()
    return [box.recipient, box.seed_share_commitment.hex(), box.key_share_commitment.hex(), secret]


def bad_request_vectors() -> Vectors:
    """Requests that silo-2 must refuse, after it answered the good ones before them."""
    good = kept("post_quantum_round.json", round_vectors)["requests"]
    setting = make_vectors.Setting(4, post_quantum=True)
    server, dealer = setting.identities["server"], setting.identities["silo-1"]

    def relay(stage: int, change: Callable[[Signed], Signed]) -> canonical.Json:
        asked = Signed.from_json(good[stage])
        messages = Relay.from_body(asked.body).messages
        body = replace(Relay.from_body(asked.body), messages=(change(messages[0]), *messages[1:])).to_body()
        return sign(server, asked.kind, body).to_json()

    def without(message: Signed, name: str) -> Signed:
        return sign(dealer, message.kind, {key: value for key, value in message.body.items() if key != name})

    def half(message: Signed) -> Signed:
        return sign(replace(dealer, mldsa44=None), message.kind, message.body)

    def delivery(change: Callable[[Parcel], Parcel]) -> canonical.Json:
        body = Delivery.from_body(Signed.from_json(good[2]).body)
        changed = replace(body, parcels=(change(body.parcels[0]), *body.parcels[1:]))
        return sign(server, "ask-check", changed.to_body()).to_json()

    classical = replace(setting.manifest, profile="classical").to_body()
    cases: list[tuple[str, int, canonical.Json, str]] = [
        ("classical_manifest", 0, sign(server, "manifest", classical).to_json(), "classical_profile"),
        ("classical_hello", 1, relay(1, lambda m: without(m, "mlkem768")), "other_profile"),
        ("half_signed_hello", 1, relay(1, half), "malformed"),
        ("tampered_box", 2, delivery(lambda p: replace(p, box=replace(p.box, box=bytes(1268)))), "malformed"),
        (
            "box_without_mask_secret",
            2,
            delivery(lambda p: replace(p, box=replace(p.box, mask_secret=None))),
            "malformed",
        ),
        ("half_signed_root", 2, delivery(lambda p: replace(p, shares=half(p.shares))), "malformed"),
        ("other_path", 2, delivery(lambda p: replace(p, path=p.path[::-1])), "malformed"),
    ]
    return {
        "cases": [
            {"name": name, "after_good_requests": stage, "request": request, "reason_code": code}
            for name, stage, request, code in cases
        ]
    }


FILES: dict[str, Callable[[], Vectors]] = {
    "post_quantum_derivation.json": derivation_vectors,
    "post_quantum_boxes.json": lambda: kept("post_quantum_boxes.json", box_vectors),
    "post_quantum_bad_boxes.json": box_bad_vectors,
    "post_quantum_signatures.json": lambda: kept("post_quantum_signatures.json", signature_vectors),
    "post_quantum_bad_signatures.json": signature_bad_vectors,
    "post_quantum_round.json": lambda: kept("post_quantum_round.json", round_vectors),
    "post_quantum_bad_requests.json": lambda: kept("post_quantum_bad_requests.json", bad_request_vectors),
}


def main() -> None:
    """Write all files."""
    for name, make in FILES.items():
        (HERE / name).write_text(make_vectors.render(make()))


if __name__ == "__main__":
    main()
