"""A13: whoever holds the final small model tells which records it was trained on.

Here and not in the audit, because it needs a twin: only where members are found without protection does it mean
anything that they are not found with it. The audit bounds ε; this shows what an attacker makes of two forward passes.
"""

from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome


def against_twin() -> Outcome:
    """Attack a model trained without differential privacy."""
    from fedcollm_secure.assurance.attacks.membership_scores import (
        without_privacy,  # torch is imported where it is needed
    )

    return without_privacy()


def against_us() -> Outcome:
    """Attack the same under DP-SGD."""
    from fedcollm_secure.assurance.attacks.membership_scores import with_privacy

    return with_privacy()


ATTACK = Attack(
    id="A13",
    title="membership inference",
    does="Whoever holds the final model and the public base looks for records whose likelihood rose most",
    unprotected=against_twin,
    protected=against_us,
)
