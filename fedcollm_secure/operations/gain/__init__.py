"""The `gain` command: a silo asks whether a run was worth it, on records that it kept out of training.

finished_run.py          what the run left, held against its log
held_out_score.py        before and after, record by record
paired_gain.py           the gain and its interval
noisy_release.py         two noisy integers, paid for before they are drawn
release_verification.py  what somebody who was handed a release can verify
"""

from fedcollm_secure.operations.gain.gain_command import gain, release
from fedcollm_secure.operations.gain.gain_verdict import gain_words, release_words

__all__ = ["gain", "gain_words", "release", "release_words"]
