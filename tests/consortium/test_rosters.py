"""Keys, invitations and rosters: what each file proves, and what nobody can slip in."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fedcollm_crypto import canonical
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.signed import sign
from fedcollm_secure.consortium import rosters
from fedcollm_secure.consortium.cards import Card, read_card, read_invitation
from fedcollm_secure.consortium.folder import MemberFolder
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.operations.consortium_command import init, invite, join, roster_add, roster_close, roster_sign

SILOS = ("north", "south")


@dataclass(frozen=True, kw_only=True)
class Ceremony:
    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def root(self) -> tuple[bytes, bytes]:
        return read_card(self / "coordinator/member.json").member.public_keys

    def signatures(self) -> list[Path]:
        return [self / f"{name}/roster-signature.json" for name in SILOS]


@pytest.fixture
def ceremony(tmp_path: Path) -> Ceremony:
    """Return a consortium whose draft is there, and signed by nobody."""
    init("pilot", tmp_path / "coordinator", "127.0.0.1:7400", None, post_quantum=False)
    for name in SILOS:
        invite(name, tmp_path / "coordinator", None)
        join(tmp_path / f"coordinator/invitations/{name}.json", tmp_path / name, None)
    roster_add([tmp_path / f"{name}/member.json" for name in SILOS], tmp_path / "coordinator")
    return Ceremony(path=tmp_path)


def sign_all(ceremony: Ceremony) -> None:
    for name in SILOS:
        roster_sign(ceremony / "coordinator/roster-draft.json", ceremony / name, None)


def test_a_roster_that_all_signed_is_closed(ceremony: Ceremony) -> None:
    sign_all(ceremony)
    roster_close(ceremony.signatures(), ceremony / "coordinator", None)
    data = (ceremony / "coordinator/roster.json").read_bytes()
    known = (ceremony / "north/roster-hash").read_text()
    roster = rosters.read_closed(data, ceremony.root, known)
    assert roster.of_role("silo") == set(SILOS)
    assert rosters.certificates_of(roster, "silo").keys() == set(SILOS)


def test_without_one_silo_it_is_not_closed(ceremony: Ceremony) -> None:
    sign_all(ceremony)
    with pytest.raises(ConfigError, match="missing, of south"):
        roster_close(ceremony.signatures()[:1], ceremony / "coordinator", None)


def test_a_coordinator_that_asks_fewer_to_sign_is_not_believed(ceremony: Ceremony) -> None:
    cards = [read_card(ceremony / f"{name}/member.json") for name in ("coordinator", *SILOS)]
    drafted = rosters.draft("pilot", 1, cards, post_quantum=False)
    weaker = canonical.encode(replace(drafted, policy={**drafted.policy, "countersignatures": 1}).to_body())
    (ceremony / "weaker.json").write_bytes(weaker)
    with pytest.raises(ConfigError, match="all its 2 silos must sign"):
        roster_sign(ceremony / "weaker.json", ceremony / "north", None)


def test_a_draft_with_another_key_of_mine_is_not_signed(ceremony: Ceremony) -> None:
    other = ceremony / "other"
    join(ceremony / "coordinator/invitations/north.json", other, None)
    roster_add([other / "member.json"], ceremony / "coordinator")
    with pytest.raises(ConfigError, match="lists north with another key"):
        roster_sign(ceremony / "coordinator/roster-draft.json", ceremony / "north", None)
    assert not (ceremony / "north/roster-hash").exists()


def test_a_roster_of_another_draft_is_not_mine(ceremony: Ceremony) -> None:
    sign_all(ceremony)
    roster_close(ceremony.signatures(), ceremony / "coordinator", None)
    data = (ceremony / "coordinator/roster.json").read_bytes()
    with pytest.raises(ConfigError, match="not the one that this member signed"):
        rosters.read_closed(data, ceremony.root, "00" * 32)
    stranger = Identity.generate("server").public_keys
    with pytest.raises(ConfigError, match="does not verify"):
        rosters.read_closed(data, stranger, None)


def test_nobody_hands_in_anothers_key(ceremony: Ceremony) -> None:
    card = read_card(ceremony / "north/member.json")
    forged = sign(Identity.generate("north"), Card.KIND, card.to_body()).encode()
    (ceremony / "forged.json").write_bytes(forged)
    with pytest.raises(ConfigError, match="does not verify"):
        read_card(ceremony / "forged.json")


def test_a_card_in_one_name_with_anothers_certificate_is_none(ceremony: Ceremony) -> None:
    south = read_card(ceremony / "south/member.json")
    north = Identity.load("north", ceremony / "north/keys/identity.pem")
    with pytest.raises(ValueError, match="not one in the name 'north'"):
        Card(consortium="pilot", name="north", role="silo", ed25519=north.public_key, certificate=south.certificate)


def test_an_invitation_is_the_coordinators_own(ceremony: Ceremony) -> None:
    path = ceremony / "coordinator/invitations/north.json"
    assert read_invitation(path).coordinator.name == "server"
    path.write_bytes(path.read_bytes().replace(b"127.0.0.1:7400", b"127.0.0.2:7400"))
    with pytest.raises(ConfigError, match="does not verify"):
        read_invitation(path)


def test_keys_are_encrypted_where_a_passphrase_is_given_and_never_overwritten(tmp_path: Path) -> None:
    place = MemberFolder(path=tmp_path / "north")
    place.make_keys("north", b"seven words", post_quantum=False)
    assert b"ENCRYPTED" in place.identity_file.read_bytes()
    assert b"ENCRYPTED" in place.link_key.read_bytes()
    assert place.identity("north", b"seven words").party == "north"
    for wrong in (None, b"other words"):
        with pytest.raises(ConfigError, match="passphrase"):
            place.identity("north", wrong)
    with pytest.raises(ConfigError, match="has keys already"):
        place.make_keys("north", None, post_quantum=False)
    assert place.identity_file.stat().st_mode & 0o077 == 0
    assert place.link_key.stat().st_mode & 0o077 == 0


def test_only_public_files_are_given_away(ceremony: Ceremony) -> None:
    sign_all(ceremony)
    secrets = [
        line
        for name in ("identity.pem", "link.pem")
        for line in (ceremony / "north/keys" / name).read_text().splitlines()
        if "-----" not in line
    ]
    given = [ceremony / "north/member.json", ceremony / "north/roster-signature.json"]
    given += [path for path in (ceremony / "coordinator").rglob("*") if path.is_file()]
    for path in given:
        assert not any(line in path.read_text() for line in secrets)
