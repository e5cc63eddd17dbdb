"""The `study` command: one configuration, some of its keys swept, several seeds; how utility pays for privacy.

STUDY.yaml → sweep.py: a point for each combination and seed, each a configuration of its own
  point.py: the whole job → points/DIGEST/{run/, result.json} (kept, so it can go on)
  frontier.py: means and intervals by combination, and which no other beats
→ study.json, study.html
"""

from fedcollm_secure.studies.study.command import study
from fedcollm_secure.studies.study.sweep import Sweep
from fedcollm_secure.studies.study.words import study_words

__all__ = ["Sweep", "study", "study_words"]
