"""A key is fresh, for one attempt, used once: also after a restart; and a silo takes no other."""

from dataclasses import replace

import pytest

from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.homomorphic import custody, messages
from fedcollm_crypto.homomorphic.custody import Custody, DecryptorSetup, no_log
from fedcollm_crypto.homomorphic.messages import FreshKey, KeyRequest
from fedcollm_crypto.homomorphic.parameters import Bfv, Ckks
from fedcollm_crypto.homomorphic.silo_key import SiloKey
from fedcollm_crypto.homomorphic.worker import WorkerFailed
from fedcollm_crypto.masking.manifest import Encryption
from fedcollm_crypto.masking.stages import FileStages, Where
from fedcollm_crypto.signed import Signed, sign


@pytest.fixture
def consortium(tools, worker):
    return tools.Encrypted(3, worker)


def setup_of(consortium, **changes) -> DecryptorSetup:
    settings = {
        "identity": consortium.identities["decryptor"],
        "roster": consortium.roster,
        "policy": consortium.policy,
        "scheme": consortium.packing.scheme,
        "stages": consortium.stages["decryptor"],
        "worker": consortium.worker,
        "require_logged": no_log,
    }
    return DecryptorSetup(**(settings | changes))


def request_of(consortium, **changes) -> KeyRequest:
    where = Where.of(replace(consortium.manifest, **changes))
    return KeyRequest(where=where, parameters_hash=consortium.packing.scheme.hash)


def issued(consortium, keeper: Custody, **changes) -> tuple[FreshKey, bytes, Signed]:
    """Return the key of an attempt: what is said of it, and its bytes."""
    _, wire, message = keeper.issue(request_of(consortium, **changes))
    signed = Signed.decode(message)
    return FreshKey.from_body(signed.body), wire, signed


def manifest_of(consortium, key: FreshKey, **changes):
    """Return the manifest that names a key."""
    named = Encryption(decryptor="decryptor", parameters_hash=key.parameters_hash, key_hash=key.key_hash.hex())
    return replace(consortium.manifest, encryption=named, **changes)


def test_every_attempt_has_a_key_of_its_own(consortium):
    keeper = Custody(setup_of(consortium))
    keys = [issued(consortium, keeper, attempt=i)[0] for i in (0, 0, 1)]

    assert len({key.key_hash for key in keys}) == len({key.box_key for key in keys}) == 3


def test_a_key_that_was_replaced_opens_nothing_any_more(consortium):
    keeper = Custody(setup_of(consortium))
    first = manifest_of(consortium, issued(consortium, keeper)[0])
    issued(consortium, keeper)

    with pytest.raises(Refused, match="another key") as refused:
        keeper.held_for(first)
    assert refused.value.reason_code == "other_encryption"


def test_a_key_is_used_once(consortium):
    keeper = Custody(setup_of(consortium))
    manifest = manifest_of(consortium, issued(consortium, keeper)[0])
    keeper.use(manifest, bytes(32)).close()

    with pytest.raises(Refused, match="it was used"):
        keeper.use(manifest, bytes(32))
    with pytest.raises(Refused, match="a sum was opened in that attempt"):
        keeper.issue(request_of(consortium))


def test_a_use_outlives_a_restart(consortium, tmp_path):
    journal = FileStages(tmp_path / "stages")
    keeper = Custody(setup_of(consortium, stages=journal))
    manifest = manifest_of(consortium, issued(consortium, keeper)[0])
    keeper.use(manifest, bytes(32)).close()
    journal.close()

    reopened = FileStages(tmp_path / "stages")
    restarted = Custody(setup_of(consortium, stages=reopened))
    with pytest.raises(Refused, match="this party restarted"):
        restarted.use(manifest, bytes(32))
    with pytest.raises(Refused, match="a sum was opened in that attempt"):
        restarted.issue(request_of(consortium))
    assert issued(consortium, restarted, attempt=1)[0].where.attempt == 1
    reopened.close()


def test_a_use_is_written_down_before_the_key_is_handed_out(consortium):
    class FullDisk:
        def entries(self):
            return ()

        def append(self, entry) -> None:
            raise OSError("no space left")

    keeper = Custody(setup_of(consortium, stages=FullDisk()))
    manifest = manifest_of(consortium, issued(consortium, keeper)[0])

    with pytest.raises(OSError, match="no space left"):
        keeper.use(manifest, bytes(32))


def test_a_restarted_decryptor_has_no_key(consortium):
    manifest = manifest_of(consortium, issued(consortium, Custody(setup_of(consortium)))[0])

    with pytest.raises(Refused, match="this party restarted"):
        Custody(setup_of(consortium)).held_for(manifest)


def test_a_key_for_other_parameters_is_not_made(consortium):
    request = replace(request_of(consortium), parameters_hash=Ckks().hash)

    with pytest.raises(Refused, match="not those of this decryptor"):
        Custody(setup_of(consortium)).issue(request)


@pytest.mark.parametrize("party", ["silo-001", "server"])
def test_who_is_no_decryptor_of_the_roster_holds_no_key(consortium, party):
    with pytest.raises(ValueError, match="must be a decryptor of the roster"):
        setup_of(consortium, identity=consortium.identities[party])


# --- what a silo takes for a key ---


def behind(signed: Signed, wire: bytes) -> bytes:
    """Return a request with a key in front of it."""
    return messages.attach(messages.attach(signed.encode(), wire), b"rest")


def taken(consortium, signed: Signed, wire: bytes) -> SiloKey:
    silo_key = SiloKey(consortium.roster, consortium.packing.scheme, consortium.worker)
    assert silo_key.take(behind(signed, wire)) == b"rest"
    return silo_key


def resigned(consortium, signed: Signed, **changes) -> Signed:
    return sign(consortium.identities["decryptor"], signed.kind, {**signed.body, **changes})


def test_a_silo_takes_the_manifests_key(consortium):
    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    silo_key = taken(consortium, signed, wire)
    silo_key.check(manifest_of(consortium, key))

    assert silo_key.box.prime == key.prime


def test_a_key_that_no_decryptor_signed_is_refused(consortium):
    _, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    silo_key = SiloKey(consortium.roster, consortium.packing.scheme, consortium.worker)
    own = sign(consortium.identities["server"], signed.kind, signed.body)
    fake = sign(replace(consortium.identities["server"], party="decryptor"), signed.kind, signed.body)

    with pytest.raises(ProtocolError, match="that a decryptor of the roster signed"):
        silo_key.take(behind(own, wire))
    with pytest.raises(ProtocolError, match="signature"):
        silo_key.take(behind(fake, wire))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempt": 1}, "for another attempt"),
        ({"round": 2}, "for another attempt"),
        ({"encryption": None}, "without the key of the decryptor that it names"),
    ],
)
def test_a_key_for_another_attempt_is_refused(consortium, changes, message):
    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    manifest = replace(manifest_of(consortium, key), **changes)

    with pytest.raises(Refused, match=message):
        taken(consortium, signed, wire).check(manifest)


def test_another_key_than_the_manifests_is_refused(consortium):
    keeper = Custody(setup_of(consortium))
    old, wire, signed = issued(consortium, keeper)
    new, _, _ = issued(consortium, keeper)

    with pytest.raises(Refused, match="not the manifest's"):
        taken(consortium, signed, wire).check(manifest_of(consortium, new))
    with pytest.raises(Refused, match="came without the key"):
        SiloKey(consortium.roster, consortium.packing.scheme, consortium.worker).check(manifest_of(consortium, old))


def test_a_key_that_comes_after_the_manifest_takes_no_others_place(consortium):
    """An older key behind a later request: ciphertexts would be sealed to whoever kept its private half."""
    keeper = Custody(setup_of(consortium))
    old, old_wire, old_signed = issued(consortium, keeper)
    new, wire, signed = issued(consortium, keeper)
    silo = taken(consortium, signed, wire)
    silo.check(manifest_of(consortium, new))

    assert silo.take(behind(old_signed, old_wire)) == b"rest"

    assert silo.message == new != old
    with pytest.raises(Refused, match="not the manifest's"):
        silo.check(manifest_of(consortium, new))  # what came is the old one


def test_a_key_that_came_with_an_earlier_request_does_not_count(consortium):
    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    silo = taken(consortium, signed, wire)
    silo.take(b"{}")

    with pytest.raises(Refused, match="came without the key"):
        silo.check(manifest_of(consortium, key))


def test_one_key_for_two_attempts_is_refused_though_the_decryptor_signed_it_twice(consortium):
    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    silo = taken(consortium, signed, wire)
    manifest = manifest_of(consortium, key)
    silo.check(manifest)
    attempt = key.where.attempt + 1
    silo.take(behind(resigned(consortium, signed, attempt=attempt), wire))

    with pytest.raises(Refused, match="in another attempt"):
        silo.check(replace(manifest, attempt=attempt))


def test_other_bytes_than_the_signed_key_are_refused(consortium):
    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))

    with pytest.raises(ProtocolError, match="not the one that the decryptor signed"):
        taken(consortium, signed, wire[:-1] + bytes((wire[-1] ^ 1,))).check(manifest_of(consortium, key))


@pytest.mark.parametrize(
    "changes",
    [{"library": "tenseal 9.9"}, {"library": custody.LIBRARY + ".1"}, {"parameters_hash": Bfv(plain_bits=46).hash}],
)
def test_another_version_of_the_library_or_other_parameters_are_refused(consortium, changes):
    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    skewed = taken(consortium, resigned(consortium, signed, **changes), wire)

    with pytest.raises(ProtocolError, match=r"other parameters or another library: expected tenseal 0\.3"):
        skewed.check(manifest_of(consortium, key))


@pytest.mark.parametrize("prime", ["0", "-5", str(1 << 60), "x"])
def test_a_prime_that_is_none_is_refused(consortium, prime):
    _, wire, signed = issued(consortium, Custody(setup_of(consortium)))

    with pytest.raises(ProtocolError, match="a prime of at most 60 bits"):
        taken(consortium, resigned(consortium, signed, prime=prime), wire)


def test_a_failed_child_is_a_refusal(consortium):
    class Broken:
        def encryptor(self, scheme, key):
            raise WorkerFailed("it crashed")

    key, wire, signed = issued(consortium, Custody(setup_of(consortium)))
    silo_key = SiloKey(consortium.roster, consortium.packing.scheme, Broken())
    silo_key.take(behind(signed, wire))

    with pytest.raises(Refused, match="the homomorphic child crashed"):
        silo_key.check(manifest_of(consortium, key))


def test_an_old_request_does_not_take_the_key_of_the_attempt_under_way(consortium):
    keeper = Custody(setup_of(consortium))
    keeper.issue(request_of(consortium, attempt=2))

    with pytest.raises(Refused, match="a key was drawn for a later attempt"):
        keeper.issue(request_of(consortium, attempt=1))

    keeper.issue(request_of(consortium, attempt=3))
