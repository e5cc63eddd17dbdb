"""From a configuration to objects: the only room that knows every concrete class.

prepare(config) → Prepared   reads data and models, checks all that can be checked, writes nothing
start(prepared, out) / resume(prepared, out) → Job   the run's folder, keys, ledgers and log, all parties wired
"""

from fedcollm_secure.assemble.job import Job, resume, start
from fedcollm_secure.assemble.prepare import Prepared, prepare

__all__ = ["Job", "Prepared", "prepare", "resume", "start"]
