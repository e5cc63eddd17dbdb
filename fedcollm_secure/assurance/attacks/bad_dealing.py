"""A18: bad dealing. A silo fills the boxes of others with junk, or deals shares that belong to no secret.

With junk it wants honest silos thrown out, and the server blamed; with shares off any polynomial it wants a run that
ends at the opening, every time, with nothing to convict it by.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_bytes

import numpy as np

from fedcollm_crypto import shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import attempt
from fedcollm_crypto.masking.attempt import Place
from fedcollm_crypto.masking.dealing import Dealing
from fedcollm_secure.assurance.attacks.attack_consortium import equal_weights, random_updates
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import Way, try_under_each
from fedcollm_secure.assurance.attacks.colluding_silo import Deal, Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Blocked, added_up
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, Protection
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins.unruled_round import TwinRound, twin_silos
from fedcollm_secure.assurance.attacks.twins.unruled_silo import TwinHello, TwinSilo

SILOS = 7
VICTIMS: tuple[PartyId, ...] = ("silo-02", "silo-03")


def junk_boxes(puppet: Puppet, place: Place) -> Dealing:
    """Deal to all but the victims, whose boxes are noise; the signature is over all of it."""
    honest = puppet.dealing(place)
    junk = {
        party: replace(box, box=token_bytes(len(box.box))) if party in VICTIMS else box
        for party, box in honest.boxes.items()
    }
    return puppet.sign_dealing(place, junk)


def shares_of_nothing(puppet: Puppet, place: Place) -> Dealing:
    """Deal to each silo a share of another secret, each with its commitment: every box opens."""
    channels = attempt.agree_channels(place, puppet.secrets)
    boxes = {
        party: attempt.deal_shares(
            place, replace(puppet.secrets, seed=token_bytes(shamir.SECRET_BYTES)), channels, token_bytes
        ).boxes[party]
        for party in place.hellos
    }
    return puppet.sign_dealing(place, boxes)


def against_twin() -> Outcome:
    """Deal junk, and shares of nothing, among silos that take what they get."""
    try:
        dies = not _twin_sum(JunkTwin)
    except ProtocolError:
        dies = True
    try:
        wrong = not _twin_sum(NothingTwin)
    except ProtocolError:
        wrong = True
    return Outcome(
        succeeded=dies and wrong,
        told="one dealer of junk, or of shares of nothing, ends every attempt, and nothing says who it was",
        figures={"attempts_lost": dies + wrong, "silos_convicted": 0},
    )


def ways(protection: Protection) -> dict[str, Way]:
    """Return both, and what a conviction could be good for; none under CKKS, where nobody deals shares."""
    if protection.trusting:
        return {}
    return {
        "junk boxes": partial(throws_somebody_out, junk_boxes, protection),
        "shares of nothing": partial(throws_somebody_out, shares_of_nothing, protection),
        "two sums by a conviction": partial(two_sums_by_a_conviction, protection),
    }


def against_us() -> Outcome:
    """Try them under each protection."""
    return try_under_each(ways)


def throws_somebody_out(deal: Deal, protection: Protection = CLASSICAL) -> bool:
    """Let one silo deal like this; return whether any honest silo's update is missing, or no sum comes out."""
    with tempfile.TemporaryDirectory() as folder:
        dealer: PartyId = "silo-01"
        region = Neighbourhood(SILOS, Path(folder), protection=protection)
        session = Session(region, puppets={dealer: deal})
        honest, adapter = [name for name in session.members if name != dealer], version(0)
        try:
            total = session.attempt(session.manifest(adapter=adapter), adapter)
        except Blocked:
            if set(session.convictions) != {dealer}:
                return True
            again = session.manifest(attempt=2, adapter=adapter, cohort=tuple(honest))
            total = session.attempt(again, adapter, proofs=tuple(session.convictions.values()))
        return total.contributors != frozenset(honest) or not np.array_equal(total.total, session.total(honest))


def two_sums_by_a_conviction(protection: Protection = CLASSICAL) -> bool:
    """Have the dealer convicted, and ask for the sum again without an honest silo as well."""
    with tempfile.TemporaryDirectory() as folder:
        dealer: PartyId = "silo-01"
        region = Neighbourhood(SILOS, Path(folder), protection=protection)
        session = Session(region, puppets={dealer: shares_of_nothing})
        adapter = version(0)
        try:
            session.attempt(session.manifest(adapter=adapter), adapter)
        except Blocked as blocked:
            if not session.convictions:
                raise blocked
        fewer = session.manifest(attempt=2, adapter=adapter, cohort=session.members[2:])
        session.attempt(fewer, adapter, proofs=tuple(session.convictions.values()))
        return True


class JunkTwin(TwinSilo):
    """A known-bad silo's neighbour who boxes noise for everybody else."""

    def deal(self, hellos: Mapping[PartyId, TwinHello]) -> dict[PartyId, bytes]:
        """(M2) Box noise."""
        return {
            party: box if party == self.name else token_bytes(len(box)) for party, box in super().deal(hellos).items()
        }


class NothingTwin(TwinSilo):
    """A known-bad silo's neighbour whose shares belong to no secret."""

    def deal(self, hellos: Mapping[PartyId, TwinHello]) -> dict[PartyId, bytes]:
        """(M2) Box a share of another secret for each."""
        mine, boxes = self._seed, dict[PartyId, bytes]()
        for party in hellos:
            self._seed = token_bytes(shamir.SECRET_BYTES)
            boxes[party] = super().deal(hellos)[party]
        self._seed = mine
        return boxes


def _twin_sum(dealer: type[TwinSilo]) -> bool:
    """Play a round with one such dealer; return whether the sum is right. Raises: ProtocolError."""
    updates, encoding = random_updates(5), equal_weights(5)
    vectors = {name: encoding.encode(update, 1) for name, update in updates.items()}
    silos = twin_silos(tuple(updates))
    first = next(iter(silos))
    silos[first].__class__ = dealer
    total = TwinRound(silos, vectors).open_sum(tuple(silos))
    return np.array_equal(total, added_up(list(vectors.values())))


ATTACK = Attack(
    id="A18",
    title="bad dealing",
    does="A silo deals junk boxes, or shares that belong to no secret: others fall out, or no sum ever opens",
    unprotected=against_twin,
    protected=against_us,
)
