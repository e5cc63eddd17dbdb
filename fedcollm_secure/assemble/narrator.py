"""Tell a person what is happening, and how far the encryption of a large adapter has come."""

from fedcollm_secure.federation.summing import Watch

FEW_CIPHERTEXTS = 64
"""So many take under a second: nobody waits for them."""


class Narrator:
    """A `Watch` that remembers the round, so that a party that knows none can speak in it."""

    def __init__(self, watch: Watch) -> None:
        """Pass everything on to `watch`."""
        self._watch = watch
        self._round = 0

    def __call__(self, number: int, text: str) -> None:
        """Say what is happening in a round."""
        self._round = number
        self._watch(number, text)

    def encrypting(self, done: int, total: int) -> None:
        """Say how many ciphertexts of one silo's update are made, if there are many."""
        if total > FEW_CIPHERTEXTS:
            self._watch(self._round, f"a silo encrypts its update: {done} of {total} ciphertexts")
