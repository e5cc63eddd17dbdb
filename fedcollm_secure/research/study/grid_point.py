"""Run one point of a study: the whole job as `run` does it, then one small result."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from fedcollm_secure.assemble import Prepared, prepare
from fedcollm_secure.assemble.server_work import make_evaluations
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.errors import RunError
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.learning.evaluate import Judged
from fedcollm_secure.learning.pair import load_adapter
from fedcollm_secure.operations.live_progress import SilentShow
from fedcollm_secure.operations.run_command import run_prepared
from fedcollm_secure.research import word_counts
from fedcollm_secure.research.evaluation_set import records_digest
from fedcollm_secure.research.resumable_work import fresh, write_result
from fedcollm_secure.research.study.sweep import Point

Json = Mapping[str, object]


def run_point(point: Point, say: Callable[[str], None]) -> None:
    """Compute the result if it is missing; a run that was interrupted goes on where it can."""
    if point.result_file.is_file():
        return
    prepared = prepare(point.config)
    for text in prepared.notices:
        say(text)
    out, summary = _run(point, prepared)
    result = {**result_of(point, summary), **answers_of(prepared, out)}
    write_result(point.result_file, result)
    bound = "∞" if point.epsilon is None else f"{point.epsilon:g}"
    say(f"ε = {bound}, {point.way}, seed {point.config.seed}: {_in_words(result)}")


def result_of(point: Point, summary: Json) -> Json:
    """Return the point's line of the document; seconds leave out scoring, which a deployment does not do each round."""
    gained = cast(Mapping[str, Mapping[str, float | str]], summary["gained"])
    seconds, traffic = cast(Mapping[str, float], summary["seconds"]), cast(Mapping[str, int], summary["bytes"])
    return {
        "epsilon": point.epsilon,
        "factors": point.config.what_travels,
        "aggregation": tag_of(point.config.aggregation),
        "seed": point.config.seed,
        "slm": gained["slm"]["to"],
        "llm": gained["llm"]["to"],
        "seconds": round(sum(value for phase, value in seconds.items() if phase != "evaluate"), 3),
        "bytes": traffic["up"] + traffic["down"],
        "slm_before": gained["slm"]["from"],
        "llm_before": gained["llm"]["from"],
        "metric": gained["slm"]["metric"],
        "way": point.way,
        **({"set": dict(point.others)} if point.others else {}),
    }


def answers_of(prepared: Prepared, out: Path) -> Json:
    """Return what the finished run's models, and word counts, answer to each test record, for paired intervals."""
    evaluations = make_evaluations(prepared.server_side)
    judged: dict[str, Judged] = {}
    for name, adapter in (("slm", prepared.server_slm), ("llm", prepared.server_llm)):
        load_adapter(adapter, out / "adapters" / name)
        judged[name] = evaluations[name].judge(adapter.model)
    counts: Json = {}
    if word_counts.can_follow(prepared.config):
        judged["counts"] = word_counts.judge(prepared)
        counts = {"counts": judged["counts"].scores["accuracy"]}
    by_record = {name: each.by_record for name, each in judged.items()}
    return {**counts, "by_record": by_record, "test": records_digest(prepared.holdings.test)}


def _run(point: Point, prepared: Prepared) -> tuple[Path, Json]:
    """Return the folder and the summary of the finished run, resuming or starting it."""
    out = point.path / "run"
    finished = _finished(out)
    if finished is not None:
        return out, finished
    show = SilentShow()
    if (out / "config.yaml").is_file():
        try:
            return out, run_prepared(prepared, out, resuming=True, show=show)
        except RunError:  # it died before its first round was kept
            out = fresh(out)
    return out, run_prepared(prepared, out, resuming=False, show=show)


def _finished(out: Path) -> Json | None:
    summary = RunDirectory(out).summary()
    return summary if "log" in summary and summary["rounds_done"] == summary["rounds_planned"] else None


def _in_words(result: Json) -> str:
    return f"SLM {result['slm']:.4f}, LLM {result['llm']:.4f}, {result['seconds']:.0f} s"
