"""One split, one seed, every method; each result is a small JSON file, written whole, and never computed twice.

| method       | SLM                                               | LLM                                              |
|--------------|---------------------------------------------------|--------------------------------------------------|
| zero_shot    | before any training                               | before any training                              |
| standalone   | each silo alone, T·E steps; mean over silos       | –                                                |
| fedavg       | T rounds, no server step (R = 0)                  | –                                                |
| fedavg_ce    | and R server steps of CE on D_a (λ = 0)           | `server_only`: the same T·R steps of CE on D_a   |
| one_way      | and KL from the LLM, which learns by CE alone     | –                                                |
| fedcollm     | Algorithm 1                                       | Algorithm 1                                      |
| centralized  | –                                                 | CE on all records, as often as FedCoLLM sees one |
| control      | Algorithm 1 with silos that teach nothing         | the same                                         |
| counts       | no model: the silos' word counts, `word_counts`   | –                                                |
| with_counts  | untrained, the counts beside it, `counts_expert`  | the same                                         |

All methods share θ_0, the silos' batches and the learning rates; nothing is tuned for one of them. Where the main score
is a rate of right answers, a result also has it by test record, and `test_set.json` says which test records are apart:
no silo's record is near them (`evaluation_set`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import cast

from fedcollm_secure.assemble import Prepared, prepare, start
from fedcollm_secure.assemble.server_work import make_co_tuning, make_evaluations
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate
from fedcollm_secure.config.training import Distillation
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.evaluate import Judged
from fedcollm_secure.research import counts_expert, word_counts
from fedcollm_secure.research.evaluation_set import EvaluationSet
from fedcollm_secure.research.resumable_work import fresh, write_result

Result = Mapping[str, object]
SLM_ONLY = ("fedavg", "one_way")  # their LLM is another method's: untouched, or tuned by CE alone
BY_COUNTS = ("counts", "with_counts")
METHODS = (
    *("zero_shot", "standalone", "fedavg", "fedavg_ce", "one_way", "fedcollm", "centralized", "control"),
    *BY_COUNTS,
)
TEST_SET = "test_set"
TEACHES_NOTHING = 1e-9  # a silo's learning rate: its weights move, so that it takes part, and its update rounds to none


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """One split and one seed of a comparison."""

    split: str
    seed: int
    config: Config
    folder: Path

    def result_file(self, method: str) -> Path:
        """Return where a method's result lies."""
        return self.folder / "results" / self.split / f"seed-{self.seed}" / f"{method}.json"

    @property
    def missing(self) -> list[str]:
        """Return what has no result yet: methods, and the test set's own."""
        methods = [method for method in METHODS if method not in BY_COUNTS or word_counts.can_follow(self.config)]
        wanted = [TEST_SET, *methods]
        return [method for method in wanted if not self.result_file(method).is_file()]


def run_grid_point(point: GridPoint, say: Callable[[str], None]) -> None:
    """Compute what is missing in one point."""
    if not point.missing:
        return
    baselines = Baselines(point)
    for text in baselines.notices:
        say(text)
    for method in point.missing:
        if method == TEST_SET:
            write_result(point.result_file(TEST_SET), baselines.test_set())
            continue
        result = baselines.run(method)
        write_result(point.result_file(method), result)
        say(f"{point.split}, seed {point.seed}: {method} {_in_words(result)}")


class Baselines:
    """The models and data of one point, brought back to θ_0 before each method."""

    def __init__(self, point: GridPoint) -> None:
        """Read data and models."""
        self._point = point
        self._prepared = prepare(point.config)
        adapters = (self._prepared.server_llm, self._prepared.server_slm, self._prepared.silo_slm)
        self._learners = {name: self._prepared.learner(name) for name in self._prepared.silos}
        self._server = {"slm": self._prepared.server_slm, "llm": self._prepared.server_llm}
        self._start = [(adapter, adapter.read()) for adapter in adapters]
        self._evaluations = make_evaluations(self._prepared.server_side)

    @property
    def notices(self) -> Sequence[str]:
        """Return what the holder of the records should be told of them, such as how many were left out."""
        return self._prepared.notices

    def test_set(self) -> Result:
        """Return the digest of the test records, and which of them are apart (`evaluation_set`)."""
        test = EvaluationSet.of(self._prepared)
        return {"digest": test.digest, "apart": test.apart}

    def run(self, method: str) -> Result:
        """Return one method's {"slm": scores, "llm": scores}, whichever it has, and `by_record` the same by record."""
        for adapter, vector in self._start:
            adapter.write(vector)
        distill = self._point.config.distill
        match method:
            case "zero_shot":
                found = self._judge(self._server)
            case "standalone":
                return self._standalone()
            case "fedavg":
                found = self._federated(method, replace(distill, steps=0))
            case "fedavg_ce":
                found = self._federated(method, replace(distill, weight=0.0))
            case "one_way":
                found = self._federated(method, replace(distill, direction="llm_to_slm"))
            case "fedcollm":
                found = self._federated(method, distill)
            case "control":
                found = self._control()
            case "centralized":
                self._centralize()
                found = self._judge({"llm": self._server["llm"]})
            case "counts":
                found = {"slm": word_counts.judge(self._prepared)}
            case "with_counts":
                found = counts_expert.judge(self._prepared)
            case _:
                raise ValueError(f"unknown method {method!r}")
        scores = {model: each.scores for model, each in found.items()}
        return {**scores, "by_record": {model: each.by_record for model, each in found.items()}}

    def _judge(self, adapters: Mapping[str, Adapter]) -> Mapping[str, Judged]:
        return {name: self._evaluations[name].judge(adapter.model) for name, adapter in adapters.items()}

    def _federated(self, method: str, distill: Distillation) -> Mapping[str, Judged]:
        self._drive(method, replace(self._prepared, config=replace(self._point.config, distill=distill)))
        return self._judge({"slm": self._server["slm"]} if method in SLM_ONLY else self._server)

    def _control(self) -> Mapping[str, Judged]:
        """Run the job without privacy, with silos that teach nothing, on models of its own."""
        config = self._point.config
        silo = replace(config.silo, learning_rate=TEACHES_NOTHING, schedule="constant")
        prepared = prepare(replace(config, privacy=NonPrivate(), factors=config.what_travels, silo=silo))
        self._drive("control", prepared)
        return self._judge({"slm": prepared.server_slm, "llm": prepared.server_llm})

    def _drive(self, method: str, prepared: Prepared) -> None:
        """Run the whole job, protocol and all; in between only one record of the test set is scored."""
        out = self._point.folder / "runs" / self._point.split / f"seed-{self._point.seed}" / method
        holdings = replace(prepared.holdings, test=prepared.holdings.test[:1])
        with closing(start(replace(prepared, holdings=holdings), fresh(out), lambda _, __: None)) as job:
            for _ in job.rounds():
                pass

    def _standalone(self) -> Result:
        """Train each silo alone for as many steps as in the rounds; the mean over silos is the method's."""
        silos = {name: self._alone(name) for name in self._prepared.silos}
        by_silo = {name: judged.by_record for name, judged in silos.items()}
        mean = {
            metric: fmean(each.scores[metric] for each in silos.values())
            for metric in next(iter(silos.values())).scores
        }
        return {
            "slm": mean,
            "silos": {name: judged.scores for name, judged in silos.items()},
            "by_record": {"slm": [fmean(shares) for shares in zip(*by_silo.values(), strict=True)]},
            "silos_by_record": by_silo,
        }

    def _alone(self, name: str) -> Judged:
        prepared = self._prepared
        learner = self._learners[name]
        theta = self._start[2][1]
        for round_number in range(1, prepared.config.rounds + 1):
            theta = theta + learner.update(theta, round_number)
        prepared.silo_slm.write(theta)
        return self._evaluations["slm"].judge(prepared.silo_slm.model)

    def _centralize(self) -> None:
        """Tune the LLM on all records for as many records as FedCoLLM's silos and server see together."""
        prepared, config = self._prepared, self._point.config
        records = [record for name in prepared.silos for record in prepared.holdings.silos[name]]
        records += prepared.holdings.auxiliary
        seen = sum(learner.steps_per_round * config.silo.batch_size for learner in self._learners.values())
        seen += config.distill.steps * config.distill.batch_size
        steps = -(-config.rounds * seen // config.silo.batch_size)
        settings = replace(config.distill, steps=steps, batch_size=config.silo.batch_size, weight=0.0)
        replace(make_co_tuning(prepared.server_side, records), settings=settings, rounds=1).tune_llm()


def _in_words(result: Result) -> str:
    parts: list[str] = []
    for model in ("slm", "llm"):
        scores = cast(Mapping[str, float], result.get(model) or {})
        if scores:
            metric, value = next(iter(scores.items()))
            parts.append(f"{model.upper()} {metric} {value:.4f}")
    return ", ".join(parts)
