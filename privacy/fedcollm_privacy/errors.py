"""What can go wrong with a privacy budget; a caller's mistake is a `ValueError` or `RuntimeError` instead."""


class PrivacyError(Exception):
    """Carry a message that says what, expected, got, and what to do."""

    def diagnostics(self) -> str:
        """Return the explanation that a person reads, possibly over several lines."""
        return str(self)


class BudgetExhausted(PrivacyError):
    """Refuse a round that the population's budget cannot pay for; nothing was written and nothing is spent."""

    def __init__(self, *, quantity: str, needed: float, spent: float, budget: float) -> None:
        """Name the `quantity` (`epsilon` or `delta`): the total `needed` with this round, `spent` so far, `budget`."""
        super().__init__(
            f"the {quantity} budget is exhausted: with this round the population would have spent "
            f"{quantity} {needed:.6g} of {budget:.6g} (spent so far: {spent:.6g}). Stop here and keep the model of the "
            f"last paid round, or have the population's owner open a ledger with a larger budget"
        )
        self.quantity = quantity
        self.needed = needed
        self.spent = spent
        self.budget = budget


class UnsupportedEvent(PrivacyError):
    """Refuse to price an event that an accountant does not know, rather than guess."""

    def __init__(self, *, accountant: str, event: str, reason: str = "this event has no rule here") -> None:
        """Name the innermost offending `event`, not the composition around it."""
        super().__init__(
            f"{accountant} cannot price {event}: {reason}. Describe the mechanism with the events of "
            f"fedcollm_privacy.event, or as NonPrivate()"
        )
        self.event = event


class LedgerError(PrivacyError):
    """A ledger that does not verify, belongs to something else, or is asked for what its rules forbid.

    `first_bad` is the index of the first bad entry (0 is the opening entry), or None when no entry is at fault.
    """

    def __init__(self, reason: str, first_bad: int | None = None) -> None:
        """Keep the index apart from the reason, so that `verify --json` can show both."""
        super().__init__(reason if first_bad is None else f"ledger entry {first_bad}: {reason}")
        self.reason = reason
        self.first_bad = first_bad


class NotPerRecord(RuntimeError):
    """A layer whose rows are not the records of the batch: its parameters have no per-record gradient this way."""
