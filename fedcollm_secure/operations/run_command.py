"""The `run` command: drive a job to its end, or to a clean stop, and write down what came of it."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from fedcollm_secure.assemble import Job, Prepared, prepare, resume, start
from fedcollm_secure.assemble.server_side import ServerSide
from fedcollm_secure.audit_log.events import RunFinished
from fedcollm_secure.audit_log.file_digests import summary_digest
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.errors import FedCoLLMError, RefusedByPolicy, RunIncomplete
from fedcollm_secure.federation import guarantees
from fedcollm_secure.operations.live_progress import Show
from fedcollm_secure.operations.report import write_report

Json = Mapping[str, object]


def run(config: Config, out: Path, *, resuming: bool, show: Show) -> Json:
    """Run or resume, and return the summary; everything else is in `out`.

    Raises:
        ConfigError, RunError: nothing was started.
        RefusedByPolicy, RunIncomplete: stopped early; summary and report stand, complete rounds are kept.
    """
    prepared = prepare(config, lambda what: show.phase(0, what))
    for text in (*prepared.notices, *prepared.model_warnings):
        logging.getLogger("fedcollm_secure").warning(text)
    return run_prepared(prepared, out, resuming=resuming, show=show)


def run_prepared(prepared: Prepared, out: Path, *, resuming: bool, show: Show) -> Json:
    """Run what is prepared (see `run`); whoever made `show` begins and ends it."""
    show.phase(0, "making keys, ledgers and the log" if not resuming else "checking what is there")
    job = (resume if resuming else start)(prepared, out, show.phase, show.share)
    return drive(job, prepared.server_side, out, show, simulated=True)


def drive(job: Job, side: ServerSide, out: Path, show: Show, *, simulated: bool) -> Json:
    """Drive a job to its end or a clean stop, whoever carries its messages; return the summary (see `run`)."""
    stopped: FedCoLLMError | None = None
    with closing(job):
        try:
            for line in job.run.metrics():
                show.line(line)
            for line in job.rounds():
                show.line(line)
        except (RefusedByPolicy, RunIncomplete) as error:
            stopped = error
        show.phase(0, "having the log's head cosigned, and writing the report")
        summary = _write_summary(side, job, stopped, simulated=simulated)
    write_report(out)
    if job.finished and summary["stopped_because"]:  # a log is closed over no other stop
        stopped = RefusedByPolicy(str(summary["stopped_because"]))
    if stopped is not None:
        raise stopped
    return summary


def _write_summary(side: ServerSide, job: Job, stopped: FedCoLLMError | None, *, simulated: bool) -> Json:
    """Write summary.json; a run that can go on is not closed in the log.

    It is written before the log is closed over its digest, and sealed with the log's head after: a run that dies in
    between is resumed to do the rest.
    """
    summary = job.run.summary() if job.finished else _closed(side, job, stopped, simulated=simulated)
    job.coordinator.attest()
    summary = {**summary, "log": {"size": job.log.head.size, "root": job.log.head.root}}
    job.run.write_json("summary.json", summary)
    return summary


def _closed(side: ServerSide, job: Job, stopped: FedCoLLMError | None, *, simulated: bool) -> Json:
    common = side.common
    summary = summarise(common.config, job.session, common.silos, job.run.metrics(), stopped, simulated=simulated)
    told = {"test_records": len(side.test), "server_records": len(side.auxiliary)}
    summary = {**summary, "data": told}
    if not isinstance(stopped, RunIncomplete):
        job.run.write_json("summary.json", summary)
        job.log.append(RunFinished(summary_digest=summary_digest(summary)))
    return summary


def summarise(
    config: Config,
    session: str,
    silos: Sequence[str],
    lines: Sequence[Json],
    stopped: FedCoLLMError | None,
    *,
    simulated: bool = True,
) -> Json:
    """Return the summary document (the `run --json` of the command line), without its `log`."""
    last = lines[-1]
    return {
        "run_id": session,
        "name": config.name,
        "rounds_planned": config.rounds,
        "rounds_done": last["round"],
        "stopped_because": str(stopped) if stopped else None,
        "aggregation": tag_of(config.aggregation),
        "privacy": tag_of(config.privacy),
        "gained": {model: _gain(lines, model) for model in ("slm", "llm")},
        "budget": _budget(config, cast(Mapping[str, Json], last["silos"])),
        "guarantees": [row.as_json() for row in guarantees.guarantees(config)],
        "visible_to": guarantees.visible_to(config, len(silos)),
        "warnings": guarantees.warnings(config, len(silos)),
        "seconds": _total(lines, "seconds"),
        "bytes": _total(lines, "bytes"),
        "simulated": simulated,
    }


def _gain(lines: Sequence[Json], model: str) -> Json:
    """Return the main score before any training and at the end."""
    scored = [cast(Mapping[str, float], line[model]) for line in lines if line.get(model)]
    metric = next(iter(scored[0]))
    return {"metric": metric, "from": scored[0][metric], "to": scored[-1][metric]}


def _budget(config: Config, silos: Mapping[str, Json]) -> Json:
    if isinstance(config.privacy, NonPrivate):
        return {}
    privacy = config.privacy
    return {
        name: {"epsilon": privacy.epsilon, "delta": privacy.delta, "spent": spent["epsilon"]}
        for name, spent in silos.items()
    }


def _total(lines: Sequence[Json], key: str) -> Json:
    columns = [cast(Mapping[str, float], line[key]) for line in lines]
    return {name: round(sum(column[name] for column in columns), 3) for name in columns[0]}
