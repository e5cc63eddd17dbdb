"""The `audit` command: does the code that trains keep the promise that the accountant prices?

    claim ε → plan.py: σ for it, whatever the file says → evidence.py, by the kind of claim
      each silo's own noise, a record or a person (neighbours.py)
        mechanism.py: what one unit can change, the sampling, the number of steps;   records.py: a row of a silo's file
        planted.py: a run with canaries (canaries.py) as rows of one silo's file (data_set.py), under chosen losses
                    and batches (learners.py), watched where its optimisers read (watch.py) → collected.py
        watched_run.py: that run, and every silo again → noise, batches, updates; scores of the canaries
      noise in shares, against the server with all silos but the plan's honest ones
        shared_mechanism.py: what one unit can change of a silo's integers
        shared_run.py: the same run, with every share and integer (observed.py) → noise, repeats, scores in the sum
      a whole silo, under noise in shares
        silo_mechanism.py: how far an update reaches;   repeated.py: its sum, drawn again and again
    noise, of either kind → draws.py (places.py) → noise_checks.py, within the budget of alarms.py (power.py)
    → the largest ε that the guesses refute → holds, or not

The audit runs the training path of any run; `sabotage.py` breaks that path on purpose, to show that the audit sees it
(`noise_sabotages.py`, `training_sabotages.py`, by what `scene.py` knows). No run can import this folder (an import
contract in pyproject.toml).
"""

from fedcollm_secure.assurance.privacy_audit.command import audit, exit_code
from fedcollm_secure.assurance.privacy_audit.sabotage import SABOTAGES
from fedcollm_secure.assurance.privacy_audit.words import audit_words

__all__ = ["SABOTAGES", "audit", "audit_words", "exit_code"]
