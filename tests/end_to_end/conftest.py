"""What whole runs share."""

from fedcollm_secure.operations.live_progress import SilentShow as Quiet

__all__ = ["Quiet"]
