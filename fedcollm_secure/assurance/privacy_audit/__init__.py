"""The `audit` command: does the code that trains keep the promise that the accountant prices?

    claim ε → audited_config.py: σ for it, whatever the file says → claim_evidence.py, by the kind of claim
      each silo's own noise, a record or a person (neighbouring_units.py)
        training_mechanism.py: what one unit can change, the sampling, the number of steps
        record_influence.py: a row of a silo's file
        planted_run.py: a run with canaries (one_run_audit.py) as rows of one silo's file (audited_data_set.py), under
                    chosen losses and batches (watched_learners.py), watched where its optimisers read
                    (optimiser_watch.py) → collected_draws.py
        watched_run.py: that run, and every silo again → noise, batches, updates; scores of the canaries
      noise in shares, against the server with all silos but the plan's honest ones
        shared_mechanism.py: what one unit can change of a silo's integers
        shared_run.py: the same run, with every share and integer (observed_shares.py) → noise, repeats, scores
      a whole silo, under noise in shares
        silo_mechanism.py: how far an update reaches;   repeated_sums.py: its sum, drawn again and again
    noise, of either kind → noise_draws.py (tensor_places.py) → noise_checks.py, within the budget of false_alarms.py
    (detection_power.py) → the largest ε that the guesses refute → holds, or not

The audit runs the training path of any run; `sabotage.py` breaks that path on purpose, to show that the audit sees it
(`noise_sabotages.py`, `training_sabotages.py`, by what `sabotage_scene.py` knows). No run can import this folder
(an import contract in pyproject.toml).
"""

from fedcollm_secure.assurance.privacy_audit.audit_command import audit, exit_code
from fedcollm_secure.assurance.privacy_audit.audit_verdict import audit_words
from fedcollm_secure.assurance.privacy_audit.sabotage import SABOTAGES

__all__ = ["SABOTAGES", "audit", "audit_words", "exit_code"]
