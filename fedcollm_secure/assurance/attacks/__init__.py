"""The attack suite: each attack runs for real against a known-bad twin, where it succeeds, and against us.

    attack_consortium.py   real identities, roster and silo ends; updates that we know, to judge what was recovered
    malicious_server.py    Mallory, who holds the server's key;   colluding_silo.py: a silo whose secrets she knows
    twins/                 our own known-bad code, from descriptions of flaws; no run can import it
    one file an attack     against_twin() → Outcome, against_us() → Outcome
    attack_variants.py     several ways to one goal;   attack_suite.py: choose, run, say

Nothing here switches a defence off. `tests/assurance/attacks` does, a rule at a time, and shows that
the attack then works.
"""
