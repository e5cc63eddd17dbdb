"""A silo's update is hidden from a server in league with few silos, and open to one in league with as many as t."""

import pytest

from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, random_updates
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Mallory


def _in_league(friends: int) -> Mallory:
    """Run M1 to M3 among seven silos, t = 5, of which the last so many belong to the server."""
    consortium = Consortium(random_updates(7))
    names = consortium.names[7 - friends :]
    puppets = {name: Puppet(signer=consortium.identities[name], vector=consortium.vector(name)) for name in names}
    mallory = Mallory(consortium, consortium.manifest(), puppets=puppets)
    mallory.collect()
    return mallory


def _opened_by_friends(mallory: Mallory, victim: str) -> bool:
    shares = {friend: mallory.opened_by(friend, victim) for friend in mallory.puppets}
    seed = mallory.combine({friend: each.seed_share for friend, each in shares.items()})
    private = mallory.combine({friend: each.key_share for friend, each in shares.items()})
    opened = mallory.open_one(victim, seed, private, [name for name in mallory.names if name != victim])
    return (opened == mallory.consortium.vector(victim)).all()


@pytest.mark.parametrize("friends", [1, 2, 4])
def test_fewer_than_t_silos_in_league_cannot_combine_a_secret(friends: int) -> None:
    mallory = _in_league(friends)

    with pytest.raises(ValueError, match=f"5 shares are needed, got {friends}"):
        _opened_by_friends(mallory, mallory.names[0])


def test_as_many_as_t_silos_in_league_open_any_update() -> None:
    mallory = _in_league(5)

    assert _opened_by_friends(mallory, mallory.names[0])
