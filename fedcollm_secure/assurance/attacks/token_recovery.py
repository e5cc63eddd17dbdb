"""A1: the server reads the words of a silo's records back from what the silo sends.

Masks hide a single update, and so who wrote what; they do not change the sum, and the sum of a few silos is as easy to
read. Noise hides what: under DP-SGD nothing is left to read in either.
"""

from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome


def against_twin() -> Outcome:
    """Read one silo's update that travels in the clear."""
    from fedcollm_secure.assurance.attacks.token_readings import in_the_clear  # torch is imported where it is needed

    return in_the_clear()


def against_us() -> Outcome:
    """Read a masked upload, sums, and what DP-SGD leaves of an update and of a sum."""
    from fedcollm_secure.assurance.attacks.token_readings import protected

    return protected()


ATTACK = Attack(
    id="A1",
    title="token recovery",
    does="The server looks for the tokens whose embeddings lie in the span of a LoRA update",
    unprotected=against_twin,
    protected=against_us,
)
