"""The attack suite: each attack runs for real against a known-bad twin, where it succeeds, and against us.

    Consortium ── real identities, roster and silo ends; updates that we know, to judge what was recovered
    Mallory ───── the server's key in the wrong hands; Puppet: a silo whose secrets she knows
    twins/ ────── our own known-bad code, from descriptions of flaws; no run can import it
    one file an attack ── against_twin() → Outcome, against_us() → Outcome
    ways ──────── several ways to one goal; suite: choose, run, say

Nothing here switches a defence off. `tests/attacks` does, one rule at a time, and shows that the attack then works.
"""
