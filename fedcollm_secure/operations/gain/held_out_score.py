"""Score the adapter before the run and the last kept one on a silo's own records, as the server scores its test."""

from dataclasses import dataclass

from fedcollm_secure.assemble import OwnScoring, own_scoring
from fedcollm_secure.errors import LogError
from fedcollm_secure.learning.evaluate import Scores
from fedcollm_secure.learning.pair import load_adapter
from fedcollm_secure.learning.vectors import digest
from fedcollm_secure.operations.gain.finished_run import AfterRun
from fedcollm_secure.operations.gain.paired_gain import Paired


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All scores before and after; `paired` by `metric`, the one that is a rate of right answers."""

    metric: str
    before: Scores
    after: Scores
    paired: Paired


def score(after_run: AfterRun, *, one_by_one: bool) -> Scored:
    """Score both adapters. `one_by_one` makes each record's answer depend on that record alone (`own_scoring`).

    Raises:
        ConfigError: data or model cannot be read.
        LogError: this machine's model, or the adapter it begins from, is not the run's.
    """
    own = own_scoring(after_run.config, after_run.silo, one_by_one=one_by_one)
    _check(after_run, own)
    before = own.evaluation.judge(own.adapter.model)
    load_adapter(own.adapter, after_run.adapter)
    after = own.evaluation.judge(own.adapter.model)
    return Scored(
        metric=own.evaluation.rate,
        before=before.scores,
        after=after.scores,
        paired=Paired.of(before.right, after.right),
    )


def _check(after_run: AfterRun, own: OwnScoring) -> None:
    for what, found, logged in (
        ("models.slm", own.base_digest, after_run.base_digest),
        ("the untrained adapter", digest(own.adapter.read()), after_run.start_digest),
    ):
        if found != logged:
            raise LogError(
                f"{what} on this machine is not what the run began with (expected {logged[:16]}, got {found[:16]}): "
                "score with the model and the versions that the log names"
            )
