"""Ask whether a silo gained: for itself, or in a form that may be told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fedcollm_crypto import canonical, durable
from fedcollm_crypto.keys import Identity
from fedcollm_privacy.score_plan import ScorePlan
from fedcollm_secure.assemble.simulated_silos import open_ledger
from fedcollm_secure.audit_log.ledger_heads import ledger_lines
from fedcollm_secure.audit_log.untrusted_files import is_there, read_regular
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate, PerRecord, RecordDP, SiloDP
from fedcollm_secure.errors import ConfigError, LogError, RunError
from fedcollm_secure.operations.gain.finished_run import AfterRun, read_run
from fedcollm_secure.operations.gain.held_out_score import Scored, score
from fedcollm_secure.operations.gain.noisy_release import RELEASE_NAME, publish, read_body, signed_document, terms_of
from fedcollm_secure.operations.gain.paired_gain import verdict

Json = Mapping[str, object]
GAIN_NAME = "gain.json"


def gain(folder: Path, silo: str) -> Json:
    """Score the silo's kept records before and after the run, and keep the answer in the silo's own folder.

    Guarantee: nothing is written anywhere else, and nothing is noised: the answer is the silo's own.

    Raises:
        ConfigError, LogError, RunError: the run or the silo cannot be scored; see `read_run` and `score`.
    """
    after_run = read_run(folder, silo)
    document = _document(after_run, score(after_run, one_by_one=False))
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    durable.replace(after_run.folder / GAIN_NAME, text.encode(), private=True)
    return document


def release(folder: Path, silo: str, epsilon: float) -> Json:
    """Return the signed document with the silo's noisy gain; asked again, the same one.

    Guarantee: (`epsilon`, 0)-DP for each record that the silo kept apart, charged to its ledger before noise is drawn.

    Raises:
        ConfigError: what cannot be released, or not at this ε. BudgetExhausted: the silo's budget has no room.
        LogError, RunError, LedgerError: the run, or the ledger, is not whole.
    """
    after_run = read_run(folder, silo)
    plan = _plan(after_run.config, epsilon)
    path = after_run.folder / RELEASE_NAME
    stored = read_regular(path) if is_there(path) else _publish(after_run, plan, path)
    said = read_body(stored).get("epsilon")
    if said != plan.as_json()["epsilon"]:
        raise ConfigError(
            "--release",
            f"this silo told its gain of this run at ε = {said}, once and for all: ask for that, not {epsilon}",
        )
    return cast(Json, canonical.decode(stored))


def _publish(after_run: AfterRun, plan: ScorePlan, path: Path) -> bytes:
    ledger_file = after_run.folder / "ledger.jsonl"
    if is_there(ledger_file):
        ledger_lines(ledger_file)
    elif not isinstance(after_run.config.privacy, NonPrivate):
        raise RunError(f"{ledger_file} is missing: what training spent is unknown, and a fresh ledger would forget it")
    identity = Identity.load(after_run.silo, after_run.folder / "identity.pem")
    with open_ledger(after_run.config, after_run.run, after_run.silo) as ledger:
        if not all(ledger.holds(head) for head in after_run.ledger_heads):
            raise LogError(
                f"{ledger_file} does not hold a head that the log commits to: it was replaced, or an older copy was "
                "put back, and what training spent is not all in it. Nothing was drawn; put the newest copy back"
            )
        scored = score(after_run, one_by_one=True)
        terms = terms_of(after_run, plan, scored.metric)
        return publish(
            ledger=ledger,
            path=path,
            session=after_run.session,
            plan=plan,
            terms=canonical.encode(terms),
            make=lambda: signed_document(terms, plan, scored, identity),
        )


def _plan(config: Config, epsilon: float) -> ScorePlan:
    """Return what is charged. Raises: ConfigError where noise for one record would not protect the unit."""
    privacy = config.privacy
    if isinstance(privacy, SiloDP):
        raise ConfigError(
            "--release", "expected unit: record; silo_dp protects a silo, whose score this is. Keep it home"
        )
    if isinstance(privacy, RecordDP) and not isinstance(privacy.unit, PerRecord):
        raise ConfigError(
            "--release",
            "expected unit: record; under unit: {subject: …} a person with many kept records could change the gain by "
            "as many, and noise for one record would not hide that. Keep the score at home",
        )
    if isinstance(privacy, NonPrivate) and config.evaluate.own_epsilon == 0:
        raise ConfigError(
            "evaluate.own_epsilon",
            "expected a budget above 0, got 0: this run has no differential privacy and no budget for scores. Run "
            "again with --set evaluate.own_epsilon=1",
        )
    try:
        return ScorePlan(epsilon=epsilon)
    except ValueError as error:
        raise ConfigError("--release", str(error)) from error


def _document(after_run: AfterRun, scored: Scored) -> Json:
    paired = scored.paired
    low, high = paired.ci95
    return {
        "run": after_run.session,
        "silo": after_run.silo,
        "round": after_run.round,
        "adapter": after_run.adapter_digest,
        "records": paired.records,
        "metric": scored.metric,
        "before": dict(scored.before),
        "after": dict(scored.after),
        "won": paired.won,
        "lost": paired.lost,
        "gain": round(paired.gain, 6),
        "ci95": [round(low, 6), round(high, 6)],
        "interval": "paired, Bonett and Price 2012",
        "verdict": verdict(low, high),
        "private": not isinstance(after_run.config.privacy, NonPrivate),
        "may_be_told": False,
    }
