"""A15: less noise than the plan counts on. Silos share one noise; the server names a cohort with fewer honest shares.

ε of the ledger is that of the plan, whatever the server asks for. What a sum over three silos really costs follows from
the noise that is in it: two honest shares instead of five.
"""

import math
import tempfile
from functools import partial
from pathlib import Path

from fedcollm_crypto.masking.manifest import threshold
from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.event import PoissonGaussian
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import Way, try_under_each
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, Protection
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins.former_rules import rules_that_look_at_one_attempt

SILOS, NAMED, IN_LEAGUE = 8, 3, 1


def plan() -> SharedPlan:
    """Return a plan for eight silos: ε = 8 over ten rounds, five honest shares in each sum."""
    return SharedPlan.calibrated(
        epsilon=8.0,
        delta=1e-5,
        clip_norm=1.0,
        sampling_rate=1.0,
        rounds=10,
        batch_size=1,
        unit="silo",
        grid=2.0**-20,
        rounding=2.0**-21,
        dimension=1000,
        silos=SILOS,
        honest=threshold(SILOS, IN_LEAGUE, "malicious") - IN_LEAGUE,
    )


def true_epsilon(counted_on: SharedPlan, honest: int) -> float:
    """Return ε of the whole plan where each sum holds only `honest` shares that nobody in league knows."""
    noise = counted_on.noise_multiplier * math.sqrt(honest / counted_on.honest)
    accountant = PLDAccountant()
    accountant.spend(PoissonGaussian(sampling_rate=1.0, noise_multiplier=noise, steps=1), counted_on.rounds)
    return accountant.epsilon(counted_on.accounted_delta)


def against_twin() -> Outcome:
    """Name three of eight silos to silos that do not count shares."""
    counted_on = plan()
    with rules_that_look_at_one_attempt():
        opened = open_over(NAMED)
    return Outcome(
        succeeded=opened,
        told=f"the sum over {NAMED} silos opens; it holds {NAMED - IN_LEAGUE} honest shares of the noise, not "
        f"{counted_on.honest}",
        figures={
            "epsilon_in_the_ledger": round(counted_on.epsilon, 3),
            "epsilon_true": round(true_epsilon(counted_on, NAMED - IN_LEAGUE), 3),
        },
    )


def ways(protection: Protection) -> dict[str, Way]:
    """Return every cohort that is too small for the plan, with the lowest threshold that a manifest can state."""
    over = partial(open_over, protection=protection)
    small: dict[str, Way] = {f"a cohort of {named}": partial(over, named) for named in range(NAMED, SILOS - 2)}
    return {**small, "all silos, for a plan that counts on seven": partial(over, SILOS, shares=7)}


def against_us() -> Outcome:
    """Try them under each protection."""
    return try_under_each(ways)


def open_over(named: int, *, shares: int | None = None, protection: Protection = CLASSICAL) -> bool:
    """Have the sum over this many silos opened; return whether it was, with fewer honest shares than planned.

    `shares`: how many the silos count on; as many as the plan says by default. Raises: Blocked.
    """
    counted_on = plan()
    with tempfile.TemporaryDirectory() as folder:
        region = Neighbourhood(SILOS, Path(folder), protection=protection)
        session = Session(region, dp_plan_hash=counted_on.digest(), noise_shares=shares or counted_on.honest)
        adapter, cohort = version(0), session.members[:named]
        least = threshold(named, IN_LEAGUE, "malicious")
        total = session.attempt(session.manifest(adapter=adapter, cohort=cohort, threshold=least), adapter)
        return len(total.contributors) - IN_LEAGUE < counted_on.honest


ATTACK = Attack(
    id="A15",
    title="less noise than planned",
    does="Silos share the noise of a plan for eight; the server has a sum over three opened, in which most is missing",
    unprotected=against_twin,
    protected=against_us,
)
