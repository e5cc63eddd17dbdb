"""Recorded traffic and a later quantum computer: whoever has all X25519 keys, which is what it would compute from them.

The silos' randomness is recorded to know those keys; nothing else that was drawn is used, except in the control.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import attempt
from fedcollm_crypto.masking.hybrid import MaskKeyPairs
from fedcollm_crypto.masking.messages import Hello
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, random_updates
from fedcollm_secure.assurance.attacks.malicious_server import Blocked, Mallory, unmasked

Drawn = dict[str, list[bytes]]


def _recorded(*, post_quantum: bool) -> tuple[Mallory, Drawn]:
    """Return the traffic of M1 to M3 among five silos, and what each drew: c, s, b … or c, C, m, b …"""
    consortium = Consortium(random_updates(5), policy=SiloPolicy(post_quantum=post_quantum))
    manifest, drawn = consortium.manifest(), dict[str, list[bytes]]()

    def recorder(name: str) -> Callable[[int], bytes]:
        drawn[name] = []

        def draw(count: int) -> bytes:
            drawn[name].append(secrets.token_bytes(count))
            return drawn[name][-1]

        return draw

    silos = {name: consortium.silo(name, manifest, recorder(name)) for name in consortium.names}
    mallory = Mallory(consortium, manifest, silos=silos)
    mallory.collect()
    return mallory, drawn


def test_with_every_x25519_key_the_classical_profile_lies_open() -> None:
    mallory, drawn = _recorded(post_quantum=False)
    victim, *others = mallory.names
    channel = X25519PrivateKey.from_private_bytes(drawn[victim][0])
    opened = {}
    for other in others:
        shared = sealing.agree(channel, Hello.from_body(mallory.hellos[other].body).channel_key, other)
        box = mallory.parcels[other][victim].box
        opened[other] = attempt.open_box(mallory.place(other), shared, box)
    seed = mallory.combine({other: each.seed_share for other, each in opened.items()})
    private = mallory.combine({other: each.key_share for other, each in opened.items()})

    assert private == drawn[victim][1]
    assert (mallory.open_one(victim, seed, private, others) == mallory.consortium.vector(victim)).all()


def _opened(mallory: Mallory, drawn: Drawn, mask_secret: Callable[[str, str], bytes]) -> bool:
    """Take the masks off silo-01 with b, which a server lawfully learns, with all X25519 keys, and r as given."""
    victim, *others = mallory.names
    place, (_, _, master, seed, *_) = mallory.place(victim), drawn[victim]
    private, plus = MaskKeyPairs.derive(master, mallory.manifest.hash, victim).x25519, [mallory.self_mask(victim, seed)]
    for other in others:  # all come after silo-01: it adds every mask, and chose every r
        shared = sealing.agree(private, place.hellos[other].mask_key, other)
        plus.append(place.pair(victim, other).mask_key(shared, mask_secret(victim, other)))
    return bool((unmasked(mallory.words[victim], plus, []) == mallory.consortium.vector(victim)).all())


def test_with_every_x25519_key_the_post_quantum_profile_still_hides_the_update() -> None:
    mallory, drawn = _recorded(post_quantum=True)
    victim, other = mallory.names[:2]
    place, box = mallory.place(other), mallory.parcels[other][victim].box
    drawn_anew = attempt.draw_secrets(mallory.manifest, other, secrets.token_bytes)
    breaker = replace(drawn_anew, channel=X25519PrivateKey.from_private_bytes(drawn[other][0]))
    hybrid = breaker.hybrid

    assert hybrid is not None
    with pytest.raises(ProtocolError, match="does not open"):
        attempt.open_hybrid_box(place, breaker, hybrid, box)
    assert not _opened(mallory, drawn, lambda *_: bytes(32))


def test_with_the_mask_secrets_too_the_update_lies_open() -> None:
    mallory, drawn = _recorded(post_quantum=True)

    assert _opened(mallory, drawn, lambda one, other: mallory.place(one).pair(one, other).secret(drawn[one][2]))


def test_a_silo_that_insists_on_the_profile_refuses_the_classical_one() -> None:
    consortium = Consortium(random_updates(5), policy=SiloPolicy(post_quantum=True))

    with pytest.raises(Blocked, match=r"^classical_profile$"):
        Mallory(consortium, replace(consortium.manifest(), profile="classical")).meet()
