"""What the entries of a ledger mean, and what they cost. No I/O: `apply` folds one entry at a time.

A round goes RESERVED → RELEASED → DONE, or RESERVED → VOID. What a population has spent:

* The session that began last: ε of its plan after the rounds reserved so far (PLD; valid because σ, q, T and the number
  of rounds were fixed before its first round).
* An earlier session that released anything: the ε of its whole plan, finished or not. A later plan may have been chosen
  after looking at those releases, and a bound for "the rounds that were run" does not survive such a choice.
* An earlier session that released nothing: 0. It is closed: nothing can be released under it any more.

Sessions add up in ε and δ (the basic privacy filter, Rogers et al. 2016, arXiv 1605.08294): their plans may be chosen
adaptively, as long as the sums stay within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from fedcollm_privacy.errors import BudgetExhausted, LedgerError
from fedcollm_privacy.ledger.entry import GENESIS, Done, Entry, Opened, Released, Reserved, Voided
from fedcollm_privacy.plans import Plan
from fedcollm_privacy.score_plan import ScorePlan

# Sums of decimal strings, e.g. three times 1e-5 / 3, may miss the budget by a rounding error.
_ROUNDING = 1e-9
# Another version of dp-accounting may compute a slightly different ε than the one that was written down.
_REPLAY_TOLERANCE = 1e-3


class RoundState(Enum):
    """Where a round stands."""

    RESERVED = "reserved"
    RELEASED = "released"
    DONE = "done"
    VOID = "void"


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """One round as `budget` shows it: `epsilon` was spent with it, and `remaining` was left, when it was reserved.

    `score` marks no round of training but the release of a silo's own score.
    """

    session: str
    round: int
    score: bool
    state: RoundState
    epsilon: float
    remaining: float


@dataclass(kw_only=True)
class _Round:
    state: RoundState
    epsilon: float
    digest: str | None = None


@dataclass(kw_only=True)
class _Session:
    plan: Plan
    left_at_begin: float  # ε that the budget had left for this session when it began
    rounds: dict[int, _Round] = field(default_factory=dict[int, _Round])

    def account(self) -> _Account:
        states = [each.state for each in self.rounds.values()]
        return _Account(
            plan=self.plan,
            left_at_begin=self.left_at_begin,
            reserved=sum(state is not RoundState.VOID for state in states),
            released=any(state in (RoundState.RELEASED, RoundState.DONE) for state in states),
        )


@dataclass(frozen=True, kw_only=True)
class _Account:
    """What a session's charge depends on."""

    plan: Plan
    left_at_begin: float
    reserved: int
    released: bool

    def running_epsilon(self) -> float:
        return self.plan.epsilon_after(self.reserved)

    def committed_epsilon(self) -> float:
        """Return ε of all rounds that the session was allowed to run, whether it ran them or not."""
        left = self.left_at_begin
        rounds = (k for k in range(self.plan.rounds, self.reserved, -1) if _fits(self.plan.epsilon_after(k), left))
        return self.plan.epsilon_after(next(rounds, self.reserved))


class Book:
    """The state of one ledger. Each question is answered from the entries applied so far."""

    def __init__(self, opened: Opened) -> None:
        """Begin with an untouched budget."""
        self.population = opened.population
        self.epsilon = opened.epsilon
        self.delta = opened.delta
        self.simulated = opened.simulated
        self.head = GENESIS
        self.heads: set[str] = set()  # after each entry
        self.entries = 0
        self._sessions: dict[str, _Session] = {}

    def rows(self) -> tuple[LedgerRow, ...]:
        """Return all rounds, session by session, in the order in which they were first reserved."""
        return tuple(
            LedgerRow(
                session=name,
                round=number,
                score=isinstance(session.plan, ScorePlan),
                state=each.state,
                epsilon=each.epsilon,
                remaining=max(0.0, self.epsilon - each.epsilon),
            )
            for name, session in self._sessions.items()
            for number, each in session.rounds.items()
        )

    def epsilon_spent(self) -> float:
        """Return ε spent by all sessions; see the module's rules."""
        return _charge(self._accounts())[0]

    def delta_spent(self) -> float:
        """Return δ spent by all sessions that are charged anything."""
        return _charge(self._accounts())[1]

    def reservation(self, *, session: str, number: int, plan: Plan) -> Reserved | None:
        """Return the entry that reserves the round; None when it is already reserved (a retry costs nothing).

        Raises:
            BudgetExhausted: the budget cannot pay for the round.
            LedgerError: another plan than the session's, a round beyond the plan, or a closed session.
        """
        known = self._sessions.get(session)
        if known is not None:
            _check_plan(session, known, plan)
            self._check_open(session)
            if number in known.rounds and known.rounds[number].state is not RoundState.VOID:
                return None
            if known.account().reserved >= plan.rounds:
                raise LedgerError(
                    f"session {session!r} has reserved all {plan.rounds} rounds of its plan; a further round needs a "
                    f"new session with a new plan"
                )
        epsilon, delta = _charge(self._accounts_with(session, plan))
        if not _fits(delta, self.delta):
            raise BudgetExhausted(quantity="delta", needed=delta, spent=self.delta_spent(), budget=self.delta)
        if not _fits(epsilon, self.epsilon):
            raise BudgetExhausted(quantity="epsilon", needed=epsilon, spent=self.epsilon_spent(), budget=self.epsilon)
        return Reserved(session=session, round=number, plan=plan, epsilon_after=epsilon)

    def release(self, *, session: str, number: int, digest: str) -> Released | None:
        """Return the entry that lets the update leave; None when this very update was released before."""
        each = self._round(session, number)
        if each.state in (RoundState.RELEASED, RoundState.DONE):
            if each.digest == digest:
                return None
            raise LedgerError(
                f"round {number} of session {session!r} has released {each.digest}; a second update ({digest}) would "
                f"be a second look at the data: send the first one again"
            )
        if each.state is RoundState.VOID:
            raise LedgerError(f"round {number} of session {session!r} is void: reserve it again before training")
        self._check_open(session)
        return Released(session=session, round=number, digest=digest)

    def done(self, *, session: str, number: int) -> Done | None:
        """Return the entry that closes the round; None when it is closed."""
        state = self._round(session, number).state
        if state is RoundState.DONE:
            return None
        if state is not RoundState.RELEASED:
            raise LedgerError(
                f"round {number} of session {session!r} is {state.value}: only a released round can be done"
            )
        return Done(session=session, round=number)

    def void(self, *, session: str, number: int, reason: str) -> Voided:
        """Return the entry that gives a reservation back."""
        state = self._round(session, number).state
        if not reason.strip():
            raise ValueError("voiding a reservation needs the operator's reason, got an empty one")
        if state is not RoundState.RESERVED:
            raise LedgerError(
                f"round {number} of session {session!r} is {state.value}: only a reservation can be voided"
            )
        return Voided(session=session, round=number, reason=reason)

    def apply(self, entry: Entry, digest: str) -> None:
        """Fold in an entry whose hash is `digest`.

        Raises:
            LedgerError: an entry that the rules forbid at this place.
        """
        match entry:
            case Opened():
                if self.entries:
                    raise LedgerError("a ledger is opened once")
            case Reserved():
                self._apply_reserved(entry)
            case Released():
                _expect(entry, self.release(session=entry.session, number=entry.round, digest=entry.digest))
                each = self._round(entry.session, entry.round)
                each.state, each.digest = RoundState.RELEASED, entry.digest
            case Done():
                _expect(entry, self.done(session=entry.session, number=entry.round))
                self._round(entry.session, entry.round).state = RoundState.DONE
            case Voided():
                _expect(entry, self.void(session=entry.session, number=entry.round, reason=entry.reason))
                self._round(entry.session, entry.round).state = RoundState.VOID
        self.head = digest
        self.heads.add(digest)
        self.entries += 1

    def _apply_reserved(self, entry: Reserved) -> None:
        try:
            expected = self.reservation(session=entry.session, number=entry.round, plan=entry.plan)
        except BudgetExhausted as refusal:
            # The same rounds, priced by another version of dp-accounting, may miss the budget by a hair.
            if refusal.needed > refusal.budget * (1 + _REPLAY_TOLERANCE):
                raise LedgerError(f"this round was beyond the budget: {refusal}") from refusal
            expected = Reserved(
                session=entry.session, round=entry.round, plan=entry.plan, epsilon_after=entry.epsilon_after
            )
        if expected is None or abs(expected.epsilon_after - entry.epsilon_after) > _REPLAY_TOLERANCE * self.epsilon:
            raise LedgerError(f"the entry states epsilon {entry.epsilon_after}, its plan gives {expected}")
        session = self._sessions.setdefault(
            entry.session, _Session(plan=entry.plan, left_at_begin=self._left_for(entry.session, entry.plan))
        )
        session.rounds[entry.round] = _Round(state=RoundState.RESERVED, epsilon=entry.epsilon_after)

    def _accounts(self) -> dict[str, _Account]:
        return {name: session.account() for name, session in self._sessions.items()}

    def _accounts_with(self, name: str, plan: Plan) -> dict[str, _Account]:
        """Return the accounts as they would be with one more round of session `name` reserved."""
        accounts = self._accounts()
        fresh = _Account(plan=plan, left_at_begin=math.inf, reserved=0, released=False)
        account = accounts.get(name, fresh)
        return accounts | {name: replace(account, reserved=account.reserved + 1)}

    def _left_for(self, name: str, plan: Plan) -> float:
        with_it = self._accounts_with(name, plan)
        return self.epsilon - (_charge(with_it)[0] - with_it[name].running_epsilon())

    def _round(self, session: str, number: int) -> _Round:
        known = self._sessions.get(session)
        if known is None or number not in known.rounds:
            raise LedgerError(f"round {number} of session {session!r} was never reserved: reserve it before training")
        return known.rounds[number]

    def _check_open(self, session: str) -> None:
        accounts = self._accounts()
        names = list(accounts)
        later = names[names.index(session) + 1 :]
        if not accounts[session].released and any(accounts[name].reserved for name in later):
            raise LedgerError(
                f"session {session!r} released nothing before a later session began, so it was closed and costs "
                f"nothing: start again under a new session"
            )


def _charge(accounts: Mapping[str, _Account]) -> tuple[float, float]:
    """Return (ε, δ) spent; see the module's rules."""
    current = _current(accounts)
    running = [accounts[current]] if current is not None else []
    committed = [each for name, each in accounts.items() if name != current and each.released]
    epsilons = [each.running_epsilon() for each in running] + [each.committed_epsilon() for each in committed]
    return math.fsum(epsilons), math.fsum(each.plan.delta for each in running + committed)


def _current(accounts: Mapping[str, _Account]) -> str | None:
    """Return the session that began last, of those with a round that is not void."""
    return next((name for name in reversed(list(accounts)) if accounts[name].reserved), None)


def _check_plan(name: str, known: _Session, plan: Plan) -> None:
    if known.plan.digest() != plan.digest():
        raise LedgerError(
            f"session {name!r} committed to plan {known.plan.digest()} before its first round, got {plan.digest()}: "
            f"a changed plan needs a new session"
        )


def _expect(entry: Entry, expected: Entry | None) -> None:
    if expected is None:
        raise LedgerError(f"the entry repeats an earlier one: {entry}")


def _fits(needed: float, budget: float) -> bool:
    return needed <= budget * (1 + _ROUNDING)
