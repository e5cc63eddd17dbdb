"""Read a run directory into one record, whether the run finished, was stopped, or was killed.

summary.json ── what the run says of itself (absent in a killed run)
metrics.jsonl ─ a line a round (the last may be torn)
config.yaml ─── names what the summary cannot when it is absent
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedcollm_secure.audit_log.untrusted_files import (
    LINES_BYTES,
    is_there,
    parse_object,
    read_object,
    read_regular,
    read_text,
)
from fedcollm_secure.config.yaml12 import read_yaml
from fedcollm_secure.errors import ConfigError, LogError, RunError
from fedcollm_secure.presentation.typed_document import Document

METRIC_PREFERENCE = ("accuracy", "exact_match", "accuracy_norm", "perplexity")
MODELS = ("slm", "llm")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One line of metrics.jsonl; `epsilon` is what each silo had spent after the round."""

    number: int
    scores: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    up_bytes: int
    down_bytes: int
    epsilon: Mapping[str, float]
    delta: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one silo may spend; `epsilon` is None where there is no differential privacy."""

    epsilon: float | None
    delta: float | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run as its directory tells it."""

    name: str
    run_id: str | None
    config: str
    summary: Document | None
    rounds: tuple[Round, ...]
    rounds_planned: int | None
    budgets: Mapping[str, Budget]

    @property
    def rounds_done(self) -> int:
        """The summary's count, or the number of rounds that left a line after round 0."""
        counted = self.summary.whole("rounds_done") if self.summary else None
        return counted if counted is not None else max((line.number for line in self.rounds), default=0)

    @property
    def metric(self) -> str | None:
        """The score that the report leads with: the one that its gains are in, or the first by preference."""
        measured = {name for line in self.rounds for scores in line.scores.values() for name in scores}
        gained = self.summary.child("gained") if self.summary else None
        stated = [gained.child(model).text("metric") for model in MODELS] if gained else []
        return next((name for name in (*stated, *METRIC_PREFERENCE) if name in measured), None)

    def series(self, model: str, metric: str) -> list[tuple[int, float]]:
        """The score of `model` by round."""
        return [
            (line.number, line.scores[model][metric]) for line in self.rounds if metric in line.scores.get(model, {})
        ]


def read_record(run: Path) -> Record:
    """Read a run directory.

    Raises: ConfigError where it is no run directory; RunError or LogError where a file in it has the wrong shape, or
    is no regular file.
    """
    config_path = run / "config.yaml"
    if not is_there(config_path):
        raise ConfigError(
            "report", f"{run} is not a run directory: it has no config.yaml. Give the folder that `run` wrote"
        )
    config_text = read_text(config_path)
    config = _parse_config(config_text)
    summary = _read_summary(run / "summary.json")
    rounds = read_rounds(run / "metrics.jsonl")
    source = summary or config
    planned = (summary.whole("rounds_planned") if summary else None) or config.whole("rounds")
    return Record(
        name=source.text("name") or config.text("name") or run.name,
        run_id=summary.text("run_id") if summary else None,
        config=config_text,
        summary=summary,
        rounds=rounds,
        rounds_planned=planned,
        budgets=_budgets(summary, config, rounds),
    )


def read_rounds(path: Path) -> tuple[Round, ...]:
    """Read metrics.jsonl, by round; a last line that is not JSON and has no newline was torn by a crash, and left out.

    Raises: RunError for any other line that cannot be read.
    """
    if not is_there(path):
        return ()
    *whole, tail = read_regular(path, LINES_BYTES).decode(errors="replace").split("\n")
    rounds = [_round(line, number) for number, line in enumerate(whole, start=1) if line.strip()]
    if tail:
        with suppress(RunError):
            rounds.append(_round(tail, len(whole) + 1))
    latest = {line.number: line for line in rounds}  # a resumed run may write a round again
    return tuple(latest[number] for number in sorted(latest))


def _round(line: str, number: int) -> Round:
    place = f"metrics.jsonl line {number}"
    try:
        document = Document.of(place, parse_object(line.encode(), place))
    except LogError as error:
        raise RunError(f"{place} is not JSON ({error}); a round's line was damaged") from error
    traffic, silos = document.child("bytes"), dict(document.child("silos").named_children())
    return Round(
        number=document.whole("round") or 0,
        scores={model: document.child(model).numbers() for model in MODELS},
        seconds=document.child("seconds").numbers(),
        up_bytes=traffic.whole("up") or 0,
        down_bytes=traffic.whole("down") or 0,
        epsilon={name: epsilon for name, silo in silos.items() if (epsilon := silo.number("epsilon")) is not None},
        delta={name: delta for name, silo in silos.items() if (delta := silo.number("delta")) is not None},
    )


def _parse_config(text: str) -> Document:
    try:
        return Document.of("config.yaml", read_yaml(text, "config.yaml"))
    except ConfigError as error:
        raise RunError(f"config.yaml is not YAML ({error})") from error


def _read_summary(path: Path) -> Document | None:
    if not is_there(path):
        return None
    try:
        return Document.of("summary.json", read_object(path))
    except LogError as error:
        raise RunError(error.reason) from error


def _budgets(summary: Document | None, config: Document, rounds: tuple[Round, ...]) -> dict[str, Budget]:
    """The summary's budgets by silo; else the configuration's, for the silos that the last round names."""
    stated = summary.child("budget") if summary else config.child("privacy").child("record_dp")
    by_silo = {name: _budget(silo) for name, silo in stated.named_children()}
    if by_silo:
        return by_silo
    common = _budget(stated)
    names = rounds[-1].epsilon if rounds else {}
    return dict.fromkeys(names, common) if common.epsilon is not None else {}


def _budget(document: Document) -> Budget:
    return Budget(epsilon=document.number("epsilon"), delta=document.number("delta"))
