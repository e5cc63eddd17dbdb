"""What can go wrong in the world, as opposed to a caller's mistake (`ValueError`, `TypeError`, `RuntimeError`).

No message of these errors ever holds a key, a seed, a share or a vector entry.
"""


class CryptoError(Exception):
    """Carry a message that says what, expected, got, and what to do."""

    def diagnostics(self) -> str:
        """Return the explanation that a person reads, possibly over several lines."""
        return str(self)


class ProtocolError(CryptoError):
    """A message or a result that no honest party sends: malformed, forged, replayed or inconsistent."""

    def diagnostics(self) -> str:
        """Say that nothing was released and that a party, not the configuration, is at fault."""
        return (
            f"{self}\nA party did not follow the protocol. The message was discarded and nothing was released. "
            "Find out who sent it before you try again."
        )


class BadSum(ProtocolError):
    """A sum that no honest consortium makes: somebody did not encode by the rules, and nobody can tell who.

    `reason_code` is one lower-case word with underscores, fit for a log and for a test.
    """

    def __init__(self, reason_code: str, message: str) -> None:
        """Keep the code for machines apart from the message for people."""
        super().__init__(message)
        self.reason_code = reason_code


class TooFewSilos(CryptoError):
    """Too few silos are left to finish; `dropped` says who left and why."""

    def __init__(self, what: str, *, needed: int, left: int, dropped: dict[str, str]) -> None:
        """Keep the numbers and the reasons apart from the sentence made of them."""
        super().__init__(f"{what}: {left} silos are left, {needed} are needed")
        self.needed = needed
        self.left = left
        self.dropped = dropped

    def diagnostics(self) -> str:
        """List who was dropped and why."""
        reasons = [f"  {party}: {why}" for party, why in sorted(self.dropped.items())]
        hint = "Nothing was released. Start the next attempt when more silos answer."
        return "\n".join([str(self), *reasons, hint])


class Refused(CryptoError):
    """A silo says no: its own policy or the rules of the protocol forbid what the server asks for.

    `reason_code` is one lower-case word with underscores, fit for a log and for a test. `accused` names the party
    whose signed message is at fault; empty when it is the one who asked.
    """

    def __init__(self, reason_code: str, message: str, *, accused: str = "") -> None:
        """Keep the code for machines apart from the message for people."""
        super().__init__(message)
        self.reason_code = reason_code
        self.accused = accused

    def diagnostics(self) -> str:
        """Put the code before the message."""
        return f"refused ({self.reason_code}): {self}"
