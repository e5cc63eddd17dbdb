"""How many silos a consortium may have, and whom two of them withstand: a sentence with the key, never a traceback."""

from collections.abc import Callable

import pytest

from fedcollm_secure.assemble.cohort_size import check_cohort
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError

Make = Callable[..., dict[str, object]]
TWO: dict[str, object] = {"min_cohort": 2, "allow_two_party": True}


@pytest.mark.parametrize("adversary", ["malicious", "semi_honest"])
@pytest.mark.parametrize("aggregation", [{"masked": {}}, {"bfv": {}}])
def test_two_silos_of_which_one_may_collude_are_refused(
    adversary: str, aggregation: dict[str, object], tree: Make
) -> None:
    config = parse(tree(aggregation=aggregation, security={**TWO, "adversary": adversary}))
    with pytest.raises(ConfigError, match=r"security\.colluding: expected at most 0 with 2 silos, got 1: two honest"):
        check_cohort(config, ("north", "south"))

    check_cohort(parse(tree(aggregation=aggregation, security={**TWO, "colluding": 0})), ("north", "south"))
    check_cohort(config, ("north", "south", "west"))


@pytest.mark.parametrize(("post_quantum", "most"), [(False, 255), (True, 127)])
def test_more_silos_than_can_cosign_one_head_are_refused(tree: Make, post_quantum: bool, most: int) -> None:
    config = parse(tree(aggregation={"masked": {}}, security={"post_quantum": post_quantum}))
    silos = tuple(f"silo-{number}" for number in range(most + 1))

    check_cohort(config, silos[:most])
    with pytest.raises(ConfigError, match=f"expected at most {most} silos, got {most + 1}"):
        check_cohort(config, silos)
