"""From a configuration to objects: the only room that knows every concrete class.

prepare(config) → Prepared   reads data and models, checks all that can be checked, writes nothing
own_scoring(config, silo) → OwnScoring   one silo's model and the records that it kept apart
start(prepared, out) / resume(prepared, out) → Job   the run's folder, keys, ledgers and log, all parties wired
"""

from fedcollm_secure.assemble.held_out_evaluation import OwnScoring, own_scoring
from fedcollm_secure.assemble.job import Job, resume, start
from fedcollm_secure.assemble.prepare import Prepared, prepare

__all__ = ["Job", "OwnScoring", "Prepared", "own_scoring", "prepare", "resume", "start"]
