"""Run one point of a study: the whole job as `run` does it, then one small result."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.errors import RunError
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.operations.live_progress import SilentShow
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.research.resumable_work import fresh, write_result
from fedcollm_secure.research.study.sweep import Point

Json = Mapping[str, object]


def run_point(point: Point, say: Callable[[str], None]) -> None:
    """Compute the result if it is missing; a run that was interrupted goes on where it can."""
    if point.result_file.is_file():
        return
    result = result_of(point, _summary(point))
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


def _summary(point: Point) -> Json:
    """Return the summary of the finished run, resuming or starting it."""
    out = point.path / "run"
    finished = _finished(out)
    if finished is not None:
        return finished
    show = SilentShow()
    if (out / "config.yaml").is_file():
        try:
            return run(point.config, out, resuming=True, show=show)
        except RunError:  # it died before its first round was kept
            out = fresh(out)
    return run(point.config, out, resuming=False, show=show)


def _finished(out: Path) -> Json | None:
    summary = RunDirectory(out).summary()
    return summary if "log" in summary and summary["rounds_done"] == summary["rounds_planned"] else None


def _in_words(result: Json) -> str:
    return f"SLM {result['slm']:.4f}, LLM {result['llm']:.4f}, {result['seconds']:.0f} s"
