"""The `audit` command: does the code that trains keep the promise that the accountant prices?

    claim ε → plan.py: σ for it, whatever the file says → evidence.py, by the kind of claim
      each silo's own noise, a record or a person (neighbours.py)
        mechanism.py: what one unit can change, the noise, the sampling, empty batches, the number of steps
        planted.py: a whole run with canaries in one silo → scores in its update, in the sum, in the final model
      noise in shares, against the server with all silos but the plan's honest ones
        shared_mechanism.py: what one unit can change of a silo's integers, every share drawn in a run, repeats
        shared_run.py: the same canaries → scores in the sum, less what colluders sent, and in the final model
      a whole silo, under noise in shares
        silo_mechanism.py: how far an update reaches;   repeated.py: its sum, drawn again and again
    → the largest ε that the guesses refute → holds, or not

The audit runs the training path of any run; `sabotage.py` breaks that path on purpose, to show that the audit sees it.
No run can import this folder (an import contract in pyproject.toml).
"""

from fedcollm_secure.studies.audit.command import audit, exit_code
from fedcollm_secure.studies.audit.sabotage import SABOTAGES
from fedcollm_secure.studies.audit.words import audit_words

__all__ = ["SABOTAGES", "audit", "audit_words", "exit_code"]
