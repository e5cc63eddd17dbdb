"""What the tests of the log share."""

from tests.witnessed_log import witnessed

__all__ = ["witnessed"]
