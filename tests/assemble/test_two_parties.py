"""Two silos and whom they withstand: a sentence with the key, never a traceback."""

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
