"""What whole runs share."""

from fedcollm_secure.operations.live_progress import PlainShow


class Quiet(PlainShow):
    """Show nothing."""

    def __init__(self) -> None:
        pass

    def line(self, line: object) -> None:
        pass
