"""The `audit` command: does the code that trains keep the promise that the accountant prices?

    claim ε → plan.py: σ for it, whatever the file says
      mechanism.py: what one record can change, the noise, the sampling, empty batches, the number of steps
      canaries.py: a whole run with canaries in one silo → scores in its update, in the sum, in the final model
    → the largest ε that the guesses refute → holds, or not

The audit runs the training path of any run; `sabotage.py` breaks that path on purpose, to show that the audit sees it.
No run can import this folder (an import contract in pyproject.toml).
"""

from fedcollm_secure.studies.audit.command import audit, exit_code
from fedcollm_secure.studies.audit.sabotage import SABOTAGES
from fedcollm_secure.studies.audit.words import audit_words

__all__ = ["SABOTAGES", "audit", "audit_words", "exit_code"]
