"""The `consortium` commands: who belongs to one. Each works on one party's folder, and names the next command.

coordinator   init ─ invite ─────────── roster add ────────────────── roster close ─ plan
hospital                      join ──────────────── roster sign ───────────────────────── silo
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedcollm_crypto import canonical
from fedcollm_secure.config.load import resolved
from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.config.policy import POLICY_NAME
from fedcollm_secure.config.site import SITE_NAME, Site, load_site
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.consortium import rosters
from fedcollm_secure.consortium.cards import (
    Card,
    Invitation,
    read_card,
    read_invitation,
    write_card,
    write_invitation,
)
from fedcollm_secure.consortium.folder import MemberFolder, read_file
from fedcollm_secure.errors import ConfigError, printable

Json = Mapping[str, object]
SERVER = "server"
CARD, INVITATION = "member.json", "invitation.json"
DRAFT, ROSTER, HASH = "roster-draft.json", "roster.json", "roster-hash"

POLICY_DRAFT = """\
# The law of {name}. `fedcollm-secure silo {folder} PLAN --dry-run` holds a plan against it, line by line.
accept:
  consortium: {consortium}
  plans: any-within-limits         # or a list of plans' digests
data:
  columns: [term, specialty]       # what may be read of the file in site.yaml
  rows: 100                        # at least so many records
privacy:
  epsilon_total: 8.0               # of the data set, over all plans that there will ever be
  delta_total: 2.0e-5              # both add up: two plans of the limits below, and no more
  epsilon_per_plan: 4.0
  delta_per_plan: 1.0e-5
sums:
  min_cohort: 3
work:
  rounds: 20
"""


def init(name: str, folder: Path, address: str, password: bytes | None, *, post_quantum: bool) -> Json:
    """Found a consortium: the coordinator's folder and keys. Raises: ConfigError."""
    place = MemberFolder(path=folder)
    site = Site(name=SERVER, consortium=name, role="server", address=address)
    identity = place.make_keys(SERVER, password, post_quantum=post_quantum)
    card = Card.of(identity, name, "server", place.link_certificate)
    place.write(SITE_NAME, resolved(site).encode())
    place.write(CARD, write_card(identity, card))
    return {
        "consortium": name,
        "fingerprint": card.fingerprint,
        "next": f"fedcollm-secure consortium invite NAME --in {folder}",
    }


def invite(member: str, folder: Path, password: bytes | None) -> Json:
    """Write an invitation for one silo. Raises: ConfigError."""
    place, site = MemberFolder(path=folder), load_site(folder)
    identity, own = place.identity(SERVER, password), read_card(folder / CARD)
    if member.casefold() == SERVER:
        raise ConfigError("member", f"no silo can be called {SERVER!r}; choose another name")
    invitation = Invitation(name=member, address=site.address, post_quantum=bool(own.mldsa44), coordinator=own)
    path = place.write(f"invitations/{member}.json", write_invitation(identity, invitation))
    return {
        "invitation": str(path),
        "fingerprint": own.fingerprint,
        "next": f"give {path} to {member}, who calls: fedcollm-secure consortium join {path.name} --in {member}",
    }


def join(invitation_file: Path, folder: Path, password: bytes | None) -> Json:
    """Take an invitation: make this member's folder and keys, here, and its card. Raises: ConfigError."""
    invitation, place = read_invitation(invitation_file), MemberFolder(path=folder)
    name, consortium = invitation.name, invitation.coordinator.consortium
    site = Site(
        name=name,
        consortium=consortium,
        role="silo",
        address=invitation.address,
        data=FileSource(path="records.csv"),
        slm=ModelSource(source="embedded:slm"),
    )
    identity = place.make_keys(name, password, post_quantum=invitation.post_quantum)
    card = Card.of(identity, consortium, "silo", place.link_certificate)
    path = place.write(CARD, write_card(identity, card))
    place.write(INVITATION, read_file(invitation_file, "an invitation"))
    place.write(SITE_NAME, resolved(site).encode())
    place.write(POLICY_NAME, POLICY_DRAFT.format(name=name, folder=folder, consortium=consortium).encode())
    return {
        "member": name,
        "consortium": consortium,
        "fingerprint": card.fingerprint,
        "coordinator_fingerprint": invitation.coordinator.fingerprint,
        "next": f"write {folder / SITE_NAME} and {folder / POLICY_NAME}, give {path} to the coordinator, and compare "
        "both fingerprints by telephone",
    }


def roster_add(cards: Sequence[Path], folder: Path) -> Json:
    """Draft the roster out of all cards that came so far; a new draft needs everybody's signature anew."""
    place, own = MemberFolder(path=folder), read_card(folder / CARD)
    for path in cards:
        card = read_card(path)
        if card.consortium != own.consortium or card.role != "silo":
            raise ConfigError(str(path), f"is the card of a {card.role} of {card.consortium}, not of a silo of ours")
        place.write(f"members/{card.name}.json", read_file(path, "a member's card"))
    members = [read_card(path) for path in sorted((folder / "members").glob("*.json"))]
    roster = rosters.draft(own.consortium, _next_epoch(folder), [own, *members], post_quantum=bool(own.mldsa44))
    path = place.write_json(DRAFT, roster.to_body())
    return {
        "draft": str(path),
        "epoch": roster.epoch,
        "members": {card.name: card.fingerprint for card in (own, *members)},
        "next": f"give {path} to each silo, who calls: fedcollm-secure consortium roster sign {path.name} --in FOLDER",
    }


def roster_sign(draft_file: Path, folder: Path, password: bytes | None) -> Json:
    """Sign a draft as a member, and remember that it is this one. Raises: ConfigError."""
    place, site = MemberFolder(path=folder), load_site(folder)
    identity = place.identity(site.name, password)
    roster = rosters.read_draft(draft_file)
    own, coordinator = read_card(folder / CARD), read_invitation(folder / INVITATION).coordinator
    links = rosters.links_of(roster)
    shown = {
        member.id: Card(
            consortium=roster.consortium_id,
            name=member.id,
            role="server" if member.role == "server" else "silo",
            ed25519=member.ed25519,
            mldsa44=member.mldsa44,
            certificate=links[member.id],
        ).fingerprint
        for member in roster.members
    }
    signature = rosters.sign_draft(roster, own, coordinator, identity)
    path = place.write_json("roster-signature.json", signature.to_body())
    place.write(HASH, roster.hash.encode())
    return {
        "signature": str(path),
        "epoch": roster.epoch,
        "members": shown,
        "next": f"compare the fingerprints, then give {path} to the coordinator",
    }


def roster_close(signatures: Sequence[Path], folder: Path, password: bytes | None) -> Json:
    """Close the draft with everybody's signatures. Raises: ConfigError."""
    place = MemberFolder(path=folder)
    identity, roster = place.identity(SERVER, password), rosters.read_draft(folder / DRAFT)
    data = rosters.close(roster, identity, [rosters.read_signature(path) for path in signatures])
    place.write(ROSTER, data)
    return {
        "roster": str(folder / ROSTER),
        "epoch": roster.epoch,
        "members": sorted(member.id for member in roster.members),
        "next": f"fedcollm-secure consortium plan CONFIG --in {folder}",
    }


def words(found: Json) -> str:
    """Show what a command did, and the next one."""
    lines: list[str] = []
    for key, value in found.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            lines += [f"{name}:", *(printable(f"  {one}: {other}") for one, other in value.items())]
        elif isinstance(value, list | tuple):
            lines.append(printable(f"{name}: {', '.join(map(str, value))}"))
        else:
            lines.append(printable(f"{name}: {value}"))
    return "\n".join(lines)


def _next_epoch(folder: Path) -> int:
    """Return 1, or one more than the epoch of the roster that is closed: its members signed that one."""
    path = folder / ROSTER
    if not path.exists():
        return 1
    body = canonical.decode(read_file(path, "a closed roster"))
    inner = body.get("roster") if isinstance(body, Mapping) else None
    epoch = inner.get("epoch") if isinstance(inner, Mapping) else None
    return epoch + 1 if isinstance(epoch, int) else 1
