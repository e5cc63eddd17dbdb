"""A silo that is shown two manifests: it checks the one beside the payload, acts, and then runs the one inside."""

from collections.abc import Mapping


class TwoManifestSilo:
    """`adapter`: what this silo expects. It cosigns and reserves as soon as the manifest beside the payload fits."""

    def __init__(self, *, adapter: str) -> None:
        """Have reserved nothing yet."""
        self._adapter = adapter
        self.reserved = 0

    def begin(self, beside: Mapping[str, str], inside: Mapping[str, str]) -> str:
        """Return the adapter that it trains from; empty where the payload is junk."""
        if beside["adapter"] != self._adapter:
            raise ValueError("another adapter than this silo's")
        self.reserved += 1
        return inside.get("adapter", "")
