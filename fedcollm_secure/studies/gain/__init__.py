"""The `gain` command: a silo asks whether a run was worth it, on records that it kept out of training.

after.py: what the run left, held against its log       score.py: before and after, record by record
paired.py: the gain and its interval                    release.py: two noisy integers, paid for before they are drawn
check.py: what somebody who was handed a release can verify
"""

from fedcollm_secure.studies.gain.command import gain, release
from fedcollm_secure.studies.gain.words import gain_words, release_words

__all__ = ["gain", "gain_words", "release", "release_words"]
