"""A server that chooses everything, against real silos: sessions, cohorts, attempts, thresholds, logs, who hears what.

Hypothesis draws what it does; an oracle of its own keeps every sum that was opened, and checks after each step that
they tell of nobody, and hold enough noise. With any one rule switched off, the same machine finds the break.

`CHOOSING_EXAMPLES=200` draws more, `CHOOSING_SEEDS=3` runs each sabotage under that many seeds.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedcollm_crypto.masking import invariant as invariants
from fedcollm_crypto.masking import rules
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import threshold
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import ASK_CONSENT, ASK_VECTOR
from fedcollm_secure.assurance.attacks.bad_dealing import shares_of_nothing
from fedcollm_secure.assurance.attacks.colluding_silo import Deal
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, drift, version
from fedcollm_secure.assurance.attacks.twins import former_rules
from fedcollm_secure.federation import admission, gates
from fedcollm_secure.federation.messages import Show
from fedcollm_secure.learning.vectors import digest

SILOS, LIMIT = 7, 0.5
EXAMPLES = int(os.environ.get("CHOOSING_EXAMPLES", "12"))
SEEDS = range(1, 1 + int(os.environ.get("CHOOSING_SEEDS", "1")))
STRICT = SiloPolicy(max_single_changes=0)
FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108  # a journal is fsynced


LEFT_OUT = st.sampled_from([frozenset(places) for places in ((), (), (), (0,), (0, 1), (1, 2), (0, 2), (0, 6), (1, 6))])
"""Whom a server leaves out, by place: nobody, one silo, pairs that overlap, one silo with the one in league."""
HALVES = st.sampled_from([frozenset({0, 1, 2}), frozenset({3, 4, 5, 6}), frozenset({0, 1, 2, 3})])
"""Whom a server leaves out of an attempt among few."""
ADAPTERS = st.sampled_from([0, 0, 0, 1, 2])
WHICH = st.sampled_from([0, 0, 1])


class Opened:
    """One sum that came out: in which session, of which version, over which honest silos, who was shown which log."""

    def __init__(self, session: int, adapter: str, honest: frozenset[str], *, private: bool, heads: set[str]) -> None:
        self.session, self.adapter, self.honest, self.private, self.heads = session, adapter, honest, private, heads


class ChoosingServer(RuleBasedStateMachine):
    """Seven silos, the last of which is in league with the server, and up to two sessions among them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=FAST))
        self.region = Neighbourhood(SILOS, self.folder, policy=STRICT)
        self.puppet = sorted(self.region.houses)[-1]
        self.sessions: list[Session] = []
        self.rounds: list[int] = []
        self.averages: list[np.ndarray] = []
        self.attempts = 0
        self.opened: list[Opened] = []
        self.drifts: list[float] = []

    def teardown(self) -> None:
        for session in self.sessions:
            session.silos.close()
        shutil.rmtree(self.folder)

    @initialize(
        private=st.sampled_from([False, False, True]),
        trusting=st.sampled_from([False, False, True]),
        deals_badly=st.sampled_from([False, False, True]),
    )
    def first_session(self, private: bool, trusting: bool, deals_badly: bool) -> None:
        deal = shares_of_nothing if deals_badly else None
        self._begin(sorted(self.region.houses), private=private, trusting=trusting, deal=deal)

    @precondition(lambda self: len(self.sessions) == 1)
    @rule(left_out=LEFT_OUT)
    def do_the_same_job_again(self, left_out: frozenset[int]) -> None:
        names = [name for place, name in enumerate(sorted(self.region.houses)) if place not in left_out]
        self._begin(names, private=False, trusting=False)
        self._attempt(1, 0)

    def _begin(self, names: list[str], *, private: bool, trusting: bool, deal: Deal | None = None) -> None:
        self.sessions.append(
            Session(
                self.region,
                names,
                dp_plan_hash="ee" * 32 if private else "",
                noise_shares=threshold(len(names), 1, "malicious") - 1 if private else 0,
                trust_region=LIMIT if trusting else None,
                puppets={self.puppet: deal},
            )
        )
        self.rounds.append(1)
        self.averages.append(version(0))

    @rule(which=WHICH, left_out=LEFT_OUT, adapter=ADAPTERS)
    def open_a_sum(self, which: int, left_out: frozenset[int], adapter: int) -> None:
        """Ask everybody, and leave some out once they have dealt their shares."""
        self._attempt(which, adapter, silent=left_out)

    @rule(which=WHICH, left_out=HALVES, adapter=ADAPTERS, logged=st.booleans())
    def open_sums_among_few(self, which: int, left_out: frozenset[int], adapter: int, logged: bool) -> None:
        """Ask a small cohort, then the others, with the threshold that a cohort of this size would have by itself."""
        for left in (left_out, frozenset(range(SILOS)) - left_out):
            self._attempt(which, adapter, left_out=left, own_threshold=True, logged=logged)

    @rule(which=WHICH, left_out=LEFT_OUT, adapter=ADAPTERS)
    def open_a_sum_that_the_log_does_not_name(self, which: int, left_out: frozenset[int], adapter: int) -> None:
        self._attempt(which, adapter, silent=left_out, logged=False)

    @rule(which=WHICH, adapter=ADAPTERS)
    def show_two_logs(self, which: int, adapter: int) -> None:
        self._attempt(which, adapter, forked=True)

    @rule(which=WHICH, left_out=LEFT_OUT)
    def train_a_round(self, which: int, left_out: frozenset[int]) -> None:
        """Go on as an honest server does, from a new adapter; some silos are lost on the way."""
        place, before = which % len(self.sessions), len(self.opened)
        self._attempt(which, 100 + self.attempts, silent=left_out)
        if len(self.opened) > before:
            self._close(place, self.sessions[place].agreed, version(100 + self.attempts - 1))

    @rule(which=WHICH, adapter=ADAPTERS, left_out=LEFT_OUT)
    def have_a_friend_convicted(self, which: int, adapter: int, left_out: frozenset[int]) -> None:
        """Open a sum with the one in league in it, who may deal badly; then another, with the proof, without some."""
        self._attempt(which, adapter)
        self._attempt(which, adapter, left_out=left_out | {SILOS - 1}, with_proofs=True)

    @rule(which=WHICH)
    def send_a_far_adapter(self, which: int) -> None:
        """Go on from far away, once an average is there to be far from: held against it, then against itself."""
        place, before = which % len(self.sessions), len(self.opened)
        if self.rounds[place] == 1:
            self._attempt(place, 0)
            session = self.sessions[place]
            contributors = session.agreed if len(self.opened) > before else frozenset(session.members)
            self._close(place, contributors, version(0))
        for own_reference in (False, True):
            self._attempt(place, 50, own_reference=own_reference)

    @rule(
        which=WHICH,
        adapter=ADAPTERS,
        left_out=st.one_of(LEFT_OUT, HALVES),
        silent=LEFT_OUT,
        asleep=LEFT_OUT,
        own_threshold=st.booleans(),
        logged=st.booleans(),
        later=st.booleans(),
    )
    def do_anything(self, which, adapter, left_out, silent, asleep, own_threshold, logged, later) -> None:
        self._attempt(
            which,
            adapter,
            left_out=left_out,
            silent=silent,
            asleep=asleep,
            own_threshold=own_threshold,
            logged=logged,
            later=later,
        )

    def _attempt(
        self,
        which: int,
        adapter: int,
        *,
        left_out: frozenset[int] = frozenset(),
        silent: frozenset[int] = frozenset(),
        asleep: frozenset[int] = frozenset(),
        own_threshold: bool = False,
        logged: bool = True,
        later: bool = False,
        forked: bool = False,
        own_reference: bool = False,
        with_proofs: bool = False,
    ) -> None:
        place = which % len(self.sessions)
        session, names = self.sessions[place], self.sessions[place].members
        cohort = tuple(name for index, name in enumerate(names) if index not in left_out)
        if len(cohort) < 3:
            return
        self.attempts += 1
        start = version(adapter)
        reference = start if own_reference else self.averages[place]
        referenced = session.trusts and self.rounds[place] > 1
        deaf = {names[index]: ASK_CONSENT for index in asleep if index < len(names)}
        deaf |= {names[index]: ASK_VECTOR for index in silent if index < len(names)}
        fork = session.forked_log(f"fork-{self.attempts}") if forked else None
        shown = {} if fork is None else dict.fromkeys(cohort[: len(cohort) // 2], fork)
        try:
            manifest = session.manifest(
                number=self.rounds[place] + later,
                attempt=self.attempts,
                adapter=start,
                cohort=cohort,
                threshold=threshold(len(cohort) if own_threshold else len(names), 1, "malicious"),
                prev_result_hash=digest(reference) if referenced else "",
            )
            total = session.attempt(
                manifest,
                start,
                reference=reference if referenced else None,
                deaf=deaf,
                shown=shown,
                log_it=logged,
                proofs=tuple(session.convictions.values()) if with_proofs else (),
            )
        except (Blocked, ValueError) as error:  # refused, or no manifest at all
            if str(error) != "convicted":
                return
            contributors = session.agreed  # the silo in league knows what it did not share: the sum is out
        else:
            contributors = total.contributors
            assert np.array_equal(total.total, session.total(contributors))
        honest = contributors - {self.puppet}
        heads = {str(bool(shown.get(party))) for party in honest}
        private = bool(session.dp_plan_hash)
        self.opened.append(Opened(place, digest(start), honest, private=private, heads=heads))
        if session.trusts and self.rounds[place] > 1:
            self.drifts.append(drift(self.averages[place], start))

    @rule(which=WHICH, lie=st.sampled_from([False, False, False, True]), average=st.sampled_from(range(3)))
    def close(self, which: int, lie: bool, average: int) -> None:
        place = which % len(self.sessions)
        members = self.sessions[place].members
        self._close(place, frozenset(members[:3] if lie else members), version(average))

    def _close(self, place: int, contributors: frozenset[str], average: np.ndarray) -> None:
        self.sessions[place].close_round(self.rounds[place], contributors, average)
        self.rounds[place] += 1
        self.averages[place] = average

    @rule(which=WHICH, silo=st.sampled_from(range(SILOS)))
    def show_a_head_without_lines(self, which: int, silo: int) -> None:
        session = self.sessions[which % len(self.sessions)]
        party = session.members[silo % len(session.members)]
        if party != self.puppet:
            session.silos.ask(party, Show(view=session.view(party)))

    @rule(which=WHICH, silo=st.sampled_from(range(SILOS)))
    def restart(self, which: int, silo: int) -> None:
        session = self.sessions[which % len(self.sessions)]
        session.silos.restart(session.members[silo % len(session.members)])

    @invariant()
    def one_dimension_a_version(self) -> None:
        for index, one in enumerate(self.opened):
            for other in self.opened[:index]:
                same_session = one.session == other.session
                if one.adapter != other.adapter or (not same_session and (one.private or other.private)):
                    continue
                if same_session or one.honest & other.honest:
                    assert one.honest == other.honest, "two sums of one version, over different silos"

    @invariant()
    def nobody_is_exposed(self) -> None:
        rows = [one.honest for one in self.opened if not one.private]
        names = sorted(frozenset[str]().union(*rows))
        matrix = np.array([[float(name in row) for name in names] for row in rows]).reshape(len(rows), len(names))
        rank = np.linalg.matrix_rank(matrix) if rows else 0
        for place, name in enumerate(names):
            unit = np.eye(len(names))[place : place + 1]
            assert np.linalg.matrix_rank(np.vstack([matrix, unit])) > rank, f"the sums together give {name} away"

    @invariant()
    def each_sum_holds_enough_noise(self) -> None:
        for one in self.opened:
            if one.private:
                needed = self.sessions[one.session].noise_shares
                assert len(one.honest) >= needed, "a sum with less noise than the plan counts on"

    @invariant()
    def one_log_a_sum(self) -> None:
        assert all(len(one.heads) == 1 for one in self.opened), "a round completed under two views of the log"

    @invariant()
    def no_drift_beyond_the_limit(self) -> None:
        assert all(found <= LIMIT for found in self.drifts), "silos trained from an adapter beyond their trust region"


def play(examples: int, *, number: int = 0, steps: int = 10) -> None:
    """Run the machine. Raises: AssertionError, from the oracle."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        seed(number)(ChoosingServer),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_the_server_chooses_the_sums_tell_of_nobody() -> None:
    play(EXAMPLES)


SABOTAGES: dict[str, tuple[tuple[object, str, Callable[..., object]], ...]] = {
    "A14: t of the cohort": ((rules, "require_threshold", former_rules.threshold_of_the_cohort),),
    "A14: two sums of one version": (
        (invariants, "require_one_dimension", former_rules.allow),
        (invariants, "require_unreleased", former_rules.allow),
    ),
    "A15: any noise will do": (
        (rules, "require_threshold", former_rules.threshold_of_the_cohort),
        (invariants, "require_noise_shares", former_rules.allow),
        (invariants, "require_one_dimension", former_rules.allow),
    ),
    "A16: two views of the log": ((admission, "require_named_head", former_rules.allow),),
    "A17: a reference of the server's own": ((gates.TrustRegion, "check", former_rules.drift_from_whatever_is_named),),
    "A18: a conviction opens anything": (
        (invariants, "require_unreleased", former_rules.no_second_sum_unless_somebody_was_convicted),
        (invariants, "require_one_dimension", former_rules.one_set_unless_somebody_was_convicted),
        (invariants, "limit_exposure", former_rules.allow),
    ),
    "A19: single changes alone": ((invariants, "limit_exposure", former_rules.single_changes_alone),),
    "A23: sums by session": (
        (Memory, "of_version", former_rules.sums_of_this_session),
        (invariants, "limit_exposure", former_rules.allow),
    ),
}
"""What is switched off, by attack. Where two rules stop the same choice, both are."""
WITHIN = 200
"""Examples within which each break is found, under any of three seeds."""


@pytest.mark.parametrize("number", SEEDS)
@pytest.mark.parametrize("name", SABOTAGES)
def test_with_a_rule_switched_off_the_machine_finds_the_break(name: str, number: int) -> None:
    with ExitStack() as stack:
        for owner, attribute, instead in SABOTAGES[name]:
            stack.enter_context(patch.object(owner, attribute, instead))
        with pytest.raises(AssertionError):
            play(WITHIN, number=number)
