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
| counts       | no model: the silos' word counts, `word_counts`   | –                                                |

All methods share θ_0, the silos' batches and the learning rates; nothing is tuned for one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.config import Config
from fedcollm_secure.config.training import Distillation
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.distill import CoTuning
from fedcollm_secure.learning.evaluate import Evaluation, Scores
from fedcollm_secure.research import word_counts
from fedcollm_secure.research.resumable_work import fresh, write_result

Result = Mapping[str, object]
SLM_ONLY = ("fedavg", "one_way")  # their LLM is another method's: untouched, or tuned by CE alone
METHODS = ("zero_shot", "standalone", "fedavg", "fedavg_ce", "one_way", "fedcollm", "centralized", "counts")


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
        """Return the methods without a result."""
        wanted = [method for method in METHODS if method != "counts" or word_counts.can_follow(self.config)]
        return [method for method in wanted if not self.result_file(method).is_file()]


def run_grid_point(point: GridPoint, say: Callable[[str], None]) -> None:
    """Compute what is missing in one point."""
    if not point.missing:
        return
    baselines = Baselines(point)
    for method in point.missing:
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
        self._evaluation = Evaluation(
            self._prepared.holdings.test,
            self._prepared.encoder,
            tokens_per_batch=point.config.evaluate.tokens_per_batch,
        )

    def run(self, method: str) -> Result:
        """Return {"slm": scores, "llm": scores} of one method, whichever of the two it has."""
        for adapter, vector in self._start:
            adapter.write(vector)
        distill = self._point.config.distill
        match method:
            case "zero_shot":
                return {name: self._score(adapter) for name, adapter in self._server.items()}
            case "standalone":
                return self._standalone()
            case "fedavg":
                return self._federated(method, replace(distill, steps=0))
            case "fedavg_ce":
                return self._federated(method, replace(distill, weight=0.0))
            case "one_way":
                return self._federated(method, replace(distill, direction="llm_to_slm"))
            case "fedcollm":
                return self._federated(method, distill)
            case "centralized":
                return {"llm": self._centralized()}
            case "counts":
                return {"slm": {"accuracy": word_counts.accuracy(self._prepared)}}
            case _:
                raise ValueError(f"unknown method {method!r}")

    def _score(self, adapter: Adapter) -> Scores:
        return self._evaluation.score(adapter.model)

    def _federated(self, method: str, distill: Distillation) -> Mapping[str, Scores]:
        """Run the whole job, protocol and all, and score what it leaves; in between only a token of the test set."""
        holdings = self._prepared.holdings
        prepared = replace(
            self._prepared,
            config=replace(self._point.config, distill=distill),
            holdings=replace(holdings, test=holdings.test[:1]),
        )
        out = self._point.folder / "runs" / self._point.split / f"seed-{self._point.seed}" / method
        job = start(prepared, fresh(out), lambda _, __: None)
        try:
            for _ in job.rounds():
                pass
        finally:
            job.close()
        models = {"slm": prepared.server_slm} if method in SLM_ONLY else self._server
        return {name: self._score(adapter) for name, adapter in models.items()}

    def _standalone(self) -> Result:
        """Train each silo alone for as many steps as in the rounds."""
        silos = {name: self._alone(name) for name in self._prepared.silos}
        metrics = next(iter(silos.values()))
        mean = {metric: sum(scores[metric] for scores in silos.values()) / len(silos) for metric in metrics}
        return {"slm": mean, "silos": silos}

    def _alone(self, name: str) -> Scores:
        prepared = self._prepared
        learner = self._learners[name]
        theta = self._start[2][1]
        for round_number in range(1, prepared.config.rounds + 1):
            theta = theta + learner.update(theta, round_number)
        prepared.silo_slm.write(theta)
        return self._score(prepared.silo_slm)

    def _centralized(self) -> Scores:
        """Tune the LLM on all records for as many records as FedCoLLM's silos and server see together."""
        prepared, config = self._prepared, self._point.config
        records = [record for name in prepared.silos for record in prepared.holdings.silos[name]]
        records += prepared.holdings.auxiliary
        seen = sum(learner.steps_per_round * config.silo.batch_size for learner in self._learners.values())
        seen += config.distill.steps * config.distill.batch_size
        steps = -(-config.rounds * seen // config.silo.batch_size)
        CoTuning(
            llm=prepared.server_llm,
            slm=prepared.server_slm,
            encoder=prepared.encoder,
            records=prepared.tokens(records),
            settings=replace(config.distill, steps=steps, batch_size=config.silo.batch_size, weight=0.0),
            rounds=1,
            seed=config.seed,
        ).tune_llm()
        return self._score(prepared.server_llm)


def _in_words(result: Result) -> str:
    parts: list[str] = []
    for model in ("slm", "llm"):
        scores = cast(Mapping[str, float], result.get(model) or {})
        if scores:
            metric, value = next(iter(scores.items()))
            parts.append(f"{model.upper()} {metric} {value:.4f}")
    return ", ".join(parts)
