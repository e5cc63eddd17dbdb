from collections.abc import Sequence
from dataclasses import replace

import pytest

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Member, Roster, own_quorum, read_roster, sign_roster

ROOT, A, B, SERVER = (Identity.generate(name) for name in ("root", "a", "b", "server"))
ROSTER = Roster(
    consortium_id="clinics",
    epoch=3,
    members=(
        Member(id="b", role="silo", ed25519=B.public_key),
        Member(id="a", role="silo", ed25519=A.public_key),
        Member(id="server", role="server", ed25519=SERVER.public_key),
    ),
    policy={"k_min": 3},
)


def signed(roster: Roster, countersigners: Sequence[Identity], root: Identity = ROOT) -> bytes:
    return sign_roster(roster, root, countersigners, [A, B, SERVER])


def test_a_signed_roster_is_read_back():
    roster = read_roster(signed(ROSTER, [A, B]), ROOT.public_key)

    assert roster == ROSTER
    assert roster.hash == ROSTER.hash
    assert roster.of_role("silo") == {"a", "b"}


def test_points_follow_the_order_of_the_roster():
    assert [ROSTER.point(p) for p in ("b", "a", "server")] == [1, 2, 3]


def test_a_roster_of_another_root_is_refused():
    with pytest.raises(ProtocolError, match="the consortium root"):
        read_roster(signed(ROSTER, [A, B], A), ROOT.public_key, quorum=2)


def test_a_roster_without_its_quorum_is_refused():
    with pytest.raises(ProtocolError, match="1 countersignatures, 2 are needed"):
        read_roster(signed(ROSTER, [A]), ROOT.public_key)


def test_a_countersignature_of_a_stranger_is_refused():
    with pytest.raises(ProtocolError, match="not in the roster"):
        read_roster(signed(ROSTER, [A, Identity.generate("eve")]), ROOT.public_key, quorum=1)


def test_a_forged_countersignature_is_refused_even_beyond_the_quorum():
    impostor = replace(Identity.generate("x"), party="b")

    with pytest.raises(ProtocolError, match="signature of b"):
        read_roster(signed(ROSTER, [A, impostor]), ROOT.public_key, quorum=1)


def test_a_changed_roster_is_refused():
    data = signed(ROSTER, [A, B]).replace(b'"epoch":3', b'"epoch":4')

    with pytest.raises(ProtocolError, match="does not verify"):
        read_roster(data, ROOT.public_key, quorum=2)


@pytest.mark.parametrize("changed", [{"id": "c"}, {"role": "auditor"}, {"ed25519": ROOT.public_key}])
def test_the_hash_covers_every_member(changed: dict[str, object]):
    members = (replace(ROSTER.members[0], **changed), *ROSTER.members[1:])  # type: ignore[arg-type]

    assert replace(ROSTER, members=members).hash != ROSTER.hash


@pytest.mark.parametrize(
    "members",
    [
        (ROSTER.members[0], replace(ROSTER.members[1], id="b")),
        (ROSTER.members[0], replace(ROSTER.members[1], ed25519=ROSTER.members[0].ed25519)),
    ],
)
def test_two_members_share_neither_a_name_nor_a_key(members: tuple[Member, ...]):
    with pytest.raises(ValueError, match="distinct names and distinct keys"):
        replace(ROSTER, members=members)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 0}, "epoch"),
        ({"members": [{"id": "a", "role": "god", "ed25519": "00" * 32}]}, "role"),
        ({"members": [{"id": "a", "role": "silo", "ed25519": "00" * 31}]}, "32 bytes"),
        ({"members": [{"id": "a", "role": "silo"}]}, "ed25519 is missing"),
        ({"extra": 1}, "unknown fields"),
        ({"policy": []}, "an object was expected"),
    ],
)
def test_a_malformed_roster_is_refused(change: dict[str, object], message: str):
    body = ROSTER.to_body() | change  # type: ignore[operator]

    with pytest.raises(ProtocolError, match=message):
        Roster.from_body(canonical.decode(canonical.encode(body)))


def test_a_stranger_has_no_key():
    with pytest.raises(ProtocolError, match="not in the roster"):
        ROSTER.key("eve")


def test_roots_that_sign_nonsense_are_not_believed():
    data = canonical.encode(ROSTER.to_body() | {"members": [ROSTER.to_body()["members"][0]] * 2})

    with pytest.raises(ProtocolError, match="distinct names"):
        Roster.from_body(canonical.decode(data))


def test_a_member_needs_a_name():
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        Member(id="", role="silo", ed25519=bytes(32))


# --- members with keys of both kinds ---

HYBRID_ROOT, HYBRID_A = (Identity.generate(name, post_quantum=True) for name in ("root", "a"))
HYBRID = replace(
    ROSTER,
    members=(ROSTER.members[0], Member(id="a", role="silo", ed25519=HYBRID_A.public_key, mldsa44=HYBRID_A.mldsa44_key)),
)


def test_a_roster_that_both_kinds_of_keys_signed_is_read_back():
    data = sign_roster(HYBRID, HYBRID_ROOT, [HYBRID_A, B])

    assert read_roster(data, HYBRID_ROOT.public_key, 2, HYBRID_ROOT.mldsa44_key) == HYBRID


@pytest.mark.parametrize("signers", [(replace(HYBRID_ROOT, mldsa44=None), HYBRID_A), (ROOT, HYBRID_A)])
def test_a_root_signs_with_both_keys_or_not_at_all(signers: tuple[Identity, Identity]):
    with pytest.raises(ProtocolError, match="signature of the consortium root"):
        read_roster(sign_roster(HYBRID, signers[0], [signers[1]]), HYBRID_ROOT.public_key, 1, HYBRID_ROOT.mldsa44_key)


def test_a_member_with_two_keys_countersigns_with_both():
    lazy = replace(HYBRID_A, mldsa44=None)

    with pytest.raises(ProtocolError, match="signature of a under"):
        read_roster(sign_roster(HYBRID, ROOT, [B, lazy]), ROOT.public_key, 1)


def test_the_second_key_is_in_the_hash_and_its_absence_changes_nothing():
    without = replace(HYBRID, members=(HYBRID.members[0], replace(HYBRID.members[1], mldsa44=b"")))

    assert without.hash != HYBRID.hash
    assert set(ROSTER.to_body()["members"][0]) == {"ed25519", "id", "role"}  # type: ignore[index,call-overload,arg-type]


def test_two_members_share_no_second_key_either():
    first = replace(HYBRID.members[0], mldsa44=HYBRID_A.mldsa44_key)

    with pytest.raises(ValueError, match="distinct names and distinct keys"):
        replace(HYBRID, members=(first, HYBRID.members[1]))


@pytest.mark.parametrize("mldsa44", ["", "00" * 1311, "00" * 32])
def test_a_second_key_of_another_length_is_refused(mldsa44: str):
    member = {"id": "a", "role": "silo", "ed25519": A.public_key.hex(), "mldsa44": mldsa44}

    with pytest.raises(ProtocolError, match="mldsa44: 1312 bytes"):
        Roster.from_body(ROSTER.to_body() | {"members": [member]})  # type: ignore[operator]
    with pytest.raises(ValueError, match="1312 bytes"):
        Member(id="a", role="silo", ed25519=A.public_key, mldsa44=b"short")


# --- who has the keys, and how many agree ---


def test_a_member_that_did_not_prove_that_it_has_its_key_is_refused():
    with pytest.raises(ProtocolError, match="lacks a proof that server has the key"):
        read_roster(sign_roster(ROSTER, ROOT, [A, B]), ROOT.public_key)


@pytest.mark.parametrize("change", [{"epoch": 2}, {"consortium_id": "others"}])
def test_a_proof_of_another_epoch_or_consortium_is_none(change: dict[str, object]):
    other = replace(ROSTER, **change)  # type: ignore[arg-type]
    old = canonical.decode(signed(other, [A, B]))
    new = canonical.decode(signed(ROSTER, [A, B]))
    assert isinstance(old, dict)
    assert isinstance(new, dict)

    with pytest.raises(ProtocolError, match="kind roster-possession does not verify"):
        read_roster(canonical.encode({**new, "possession": old["possession"]}), ROOT.public_key)


def test_a_key_of_somebody_else_cannot_be_listed_under_ones_own_name():
    """The root lists `b` with a key that `b` does not have: what a dishonest enrolment would do."""
    stolen = Identity.generate("victim")
    roster = replace(ROSTER, members=(replace(ROSTER.members[0], ed25519=stolen.public_key), *ROSTER.members[1:]))

    with pytest.raises(ProtocolError, match="signature of b under a message of kind roster-possession"):
        read_roster(sign_roster(roster, ROOT, [A], [B, SERVER]), ROOT.public_key, quorum=1)


def test_more_than_half_of_the_silos_must_agree_unless_the_policy_asks_for_more():
    silos = [Identity.generate(f"s{number}") for number in range(5)]
    members = tuple(Member(id=one.party, role="silo", ed25519=one.public_key) for one in silos)
    for policy, needed in (({}, 3), ({"countersignatures": 4}, 4), ({"countersignatures": 1}, 3)):
        roster = replace(ROSTER, members=members, policy=policy)  # type: ignore[arg-type]
        assert own_quorum(roster) == needed
        read_roster(sign_roster(roster, ROOT, silos[:needed], silos), ROOT.public_key)
        with pytest.raises(ProtocolError, match=f"has {needed - 1} countersignatures, {needed} are needed"):
            read_roster(sign_roster(roster, ROOT, silos[: needed - 1], silos), ROOT.public_key)
    with pytest.raises(ProtocolError, match="a number up to 5"):
        own_quorum(replace(ROSTER, members=members, policy={"countersignatures": 6}))


def test_a_server_does_not_count_as_a_silo_that_agrees():
    with pytest.raises(ProtocolError, match="1 countersignatures, 2 are needed"):
        read_roster(signed(ROSTER, [A, SERVER]), ROOT.public_key)


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32])
def test_a_root_with_a_key_that_is_none_is_refused(key: bytes):
    with pytest.raises(ProtocolError, match="the key of the consortium root"):
        read_roster(signed(ROSTER, [A, B]), key)
