"""Who stands beside whom: the units of privacy on which the tests of the mechanism compare neighbours.

Some are a silo's own, some made up. Beside copies of a short record, one with a long answer is the worst neighbour for
a loss that couples records. Beside a crowd, more than a microbatch holds, the worst for clipping by group or by layer
is one whose gradient is far longer than all others together and points against them. Where persons are the unit there
is also one with more records than the plan admits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.config.protection import RecordDP
from fedcollm_secure.learning.batches import Tokens, max_length
from fedcollm_secure.learning.training import Learner

NEIGHBOURS, COPIES, PRIVATE_RECORDS = 12, 8, 8
CROWD = "the audit's person with too many records"
MORE_THAN_A_MICROBATCH, MOST_AT_ONCE = 40, 512
LOUD = 1e3
START_STD = 0.02
Float64 = NDArray[np.float64]
Sums = Callable[[Sequence[int]], Float64]
"""Return float64[d], what a step releases when exactly these units are drawn, without its noise."""


@dataclass(frozen=True, kw_only=True)
class Company:
    """A silo's learner with the audit's records: `units[u]` lists the records of unit u, a record or a person."""

    learner: Learner
    units: Sequence[Sequence[int]]
    short: int  # a unit of one record with a one-token answer, of which the next COPIES − 1 are copies
    longer: Sequence[int]  # units with ever longer answers, and the person with too many records
    crowd: Sequence[int]  # copies of the short unit, more than a microbatch holds, between two that are loud
    loudness: Sequence[float]  # of each record
    start: NDArray[np.float32]  # where the adapter stands: not at B = 0, whose gradients are small

    @classmethod
    def of(cls, prepared: Prepared, silo: str) -> "Company":
        """Choose records of the silo, make some up, and let the product say whose they are."""
        generator = np.random.default_rng(prepared.config.seed)
        own = prepared.holdings.silos[silo]
        own = own[:: max(1, len(own) // PRIVATE_RECORDS)][:PRIVATE_RECORDS]
        crowd = [replace(own[0], subject=CROWD)] * (2 * most_records(prepared) + 1) if _by_person(prepared) else []
        silos = {**prepared.holdings.silos, silo: [*own, *crowd]}
        learner = replace(prepared, holdings=replace(prepared.holdings, silos=silos)).learner(silo)
        made_up, first = _made_up(prepared, generator), len(learner.records)
        alone = [(first + place,) for place in range(len(made_up))]
        subjects = None if learner.subjects is None else [*learner.subjects, *alone]
        units = [*[(place,) for place in range(first)], *alone] if subjects is None else subjects
        short = len(units) - len(made_up)
        crowded = [] if subjects is None else [max(range(short), key=lambda unit: len(units[unit]))]
        loud = {record for unit in crowded for record in units[unit]}  # the same short record, whose gradient is 2 C
        records = [made_up[0] if place in loud else each for place, each in enumerate(learner.records)]
        records = [*records, *made_up]
        at_once = min(prepared.config.silo.microbatch, MOST_AT_ONCE) + MORE_THAN_A_MICROBATCH
        known = len(units)
        added = [(len(records) + place,) for place in range(at_once + 2)]
        noise = generator.normal(0.0, START_STD, prepared.parameters).astype(np.float32)
        return cls(
            learner=replace(
                learner,
                records=[*records, *[made_up[0]] * len(added)],
                subjects=None if subjects is None else [*subjects, *added],
            ),
            units=[*units, *added],
            short=short,
            longer=[*range(short + COPIES, known), *crowded],
            crowd=range(known, known + len(added)),
            loudness=[*[1.0] * len(records), -LOUD, *[1.0] * at_once, -LOUD],
            start=prepared.server_slm.read() + noise,
        )

    def worst_change(self, sums: Sums) -> float:
        """Return the most that one unit changes a step's sum, in 2-norm, over neighbours of several sizes."""
        generator = np.random.default_rng(len(self.units))
        copies = list(range(self.short, self.short + COPIES))
        pairs = [(copies[0], copies[1:]), *((added, copies) for added in self.longer)]
        first, *between, last = self.crowd
        pairs += [(first, between), (last, between), (between[0], between[1:])]
        for _ in range(NEIGHBOURS):
            *others, added = generator.permutation(self.crowd[0])[: generator.integers(2, 10)].tolist()
            pairs.append((added, others))
        return max(float(np.linalg.norm(sums([*others, added]) - sums(others))) for added, others in pairs)

    def contribution(self, prepared: Prepared) -> list[Check]:
        """Count the records of the person who has more than the plan admits; nothing where records are the unit."""
        if not _by_person(prepared):
            return []
        most, bound = max(map(len, self.units)), most_records(prepared)
        told = f"a person of {2 * bound + 1} records brings {most} of them"
        return [Check(name="contribution", measured=most, low=bound, high=bound, told=told)]


def most_records(prepared: Prepared) -> int:
    """Return how many records one unit can bring into a step."""
    privacy = prepared.config.privacy
    return privacy.records_per_subject if isinstance(privacy, RecordDP) and _by_person(prepared) else 1


def _by_person(prepared: Prepared) -> bool:
    return prepared.plan is not None and prepared.plan.unit == "subject"


def _made_up(prepared: Prepared, generator: np.random.Generator) -> list[Tokens]:
    """Return copies of one record with a short answer, then records of random tokens with ever longer answers."""
    longest = max(2, min(64, max_length(prepared.silo_slm.model) // 2 - 1))
    lengths = sorted({2, longest // 4 or 1, longest // 2 or 1, longest})

    def random_ids(count: int) -> tuple[int, ...]:
        return tuple(generator.integers(2, len(prepared.slm.tokenizer), count).tolist())

    short = Tokens(prompt=random_ids(6), answer=random_ids(1))
    return [short] * COPIES + [Tokens(prompt=random_ids(6), answer=random_ids(length)) for length in lengths]
