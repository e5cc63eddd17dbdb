"""Keys and roster of a simulated consortium: the local engine has every party in one process.

So their keys are made here and lie in the run's folder. A real silo makes its own key, and the roster is signed by the
consortium before the first round (`fedcollm_secure.consortium`).
"""

from dataclasses import dataclass, field
from pathlib import Path

from fedcollm_crypto import durable
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Member, Role, Roster, sign_roster
from fedcollm_secure.assemble.cohort_size import SERVER, least_cohort
from fedcollm_secure.assemble.parties import colluding_of
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.federation.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Parties:
    """All identities of a simulated consortium, and the roster that lists their public keys."""

    server: Identity = field(repr=False)
    silos: dict[str, Identity] = field(repr=False)
    decryptor: Identity | None = field(repr=False)
    roster: Roster


def make_parties(prepared: Prepared, run: RunDirectory) -> Parties:
    """Draw keys for everyone, keep them where each party would, and sign the roster."""
    server = _new_identity(SERVER, run, prepared)
    silos = {name: _new_identity(name, run, prepared) for name in prepared.silos}
    name = prepared.common.decryptor
    decryptor = _new_identity(name, run, prepared) if name else None
    roster = _roster(prepared, server, silos, decryptor)
    run.audit.mkdir(parents=True, exist_ok=True)
    others = [decryptor] if decryptor else []
    durable.replace(run.audit / "roster.json", sign_roster(roster, server, list(silos.values()), others))
    return Parties(server=server, silos=silos, decryptor=decryptor, roster=roster)


def load_parties(prepared: Prepared, run: RunDirectory) -> Parties:
    """Read the keys of an earlier start of this run.

    Raises:
        FileNotFoundError: a key is gone.
    """
    server = Identity.load(SERVER, _key_file(SERVER, run))
    silos = {name: Identity.load(name, _key_file(name, run)) for name in prepared.silos}
    name = prepared.common.decryptor
    decryptor = Identity.load(name, _key_file(name, run)) if name else None
    roster = _roster(prepared, server, silos, decryptor)
    return Parties(server=server, silos=silos, decryptor=decryptor, roster=roster)


def _roster(prepared: Prepared, server: Identity, silos: dict[str, Identity], decryptor: Identity | None) -> Roster:
    policy: dict[str, Json] = {
        "adversary": prepared.config.security.adversary,
        "colluding": colluding_of(prepared.common),
        "min_cohort": least_cohort(prepared.config),
        "simulated": True,
    }
    if prepared.config.security.post_quantum:
        policy["profile"] = "post_quantum"
    members = [_member(server, "server"), *(_member(identity, "silo") for identity in silos.values())]
    members += [] if decryptor is None else [_member(decryptor, "decryptor")]
    return Roster(consortium_id=prepared.config.name, epoch=1, members=tuple(members), policy=policy)


def _member(identity: Identity, role: Role) -> Member:
    return Member(id=identity.party, role=role, ed25519=identity.public_key, mldsa44=identity.mldsa44_key)


def _new_identity(name: str, run: RunDirectory, prepared: Prepared) -> Identity:
    identity = Identity.generate(name, post_quantum=prepared.config.security.post_quantum)
    path = _key_file(name, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    identity.save(path)
    return identity


def _key_file(name: str, run: RunDirectory) -> Path:
    folder = run.path / "server" if name == SERVER else run.silo(name)  # the decryptor's beside the silos'
    return folder / "identity.pem"
