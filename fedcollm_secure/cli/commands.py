"""What each command does: read its file, import what is heavy, call one function of a room, print.

The file comes first: nobody waits for torch to be told of a wrong key. Each command returns its exit code.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from fedcollm_secure.cli import output
from fedcollm_secure.cli.stopped_run import telling_how_to_go_on
from fedcollm_secure.errors import ConfigError


def run_command(given: argparse.Namespace) -> int:
    """Run or resume the co-tuning job."""
    from fedcollm_secure import config
    from fedcollm_secure.config.protection import NonPrivate

    settings = config.load(given.config, given.set)
    if given.resume and given.out is None:
        raise ConfigError("--resume", "name the run directory with --out")
    out = given.out or Path("runs") / f"{settings.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    budget = None if isinstance(settings.privacy, NonPrivate) else settings.privacy.epsilon
    with telling_how_to_go_on(given.config, out, given.set):
        from fedcollm_secure.operations.live_progress import make_show

        with make_show(settings.rounds, budget, quiet=given.quiet) as show:
            show.phase(0, "loading the libraries")
            from fedcollm_secure.learning.models import quiet
            from fedcollm_secure.operations.run_command import run
            from fedcollm_secure.operations.run_summary import run_words

            quiet()
            summary = run(settings, out, resuming=given.resume, show=show)
    output.result(summary, given.json, run_words(summary, out))
    return 0


def check_command(given: argparse.Namespace) -> int:
    """Say what a configuration would do."""
    from fedcollm_secure import config

    settings = config.load(given.config, given.set)
    if given.shape is not None:
        from fedcollm_secure.operations.shape_check import shape_check, shape_words

        told = shape_check(settings, Path(given.shape) if given.shape else None)
        output.result(told, given.json, shape_words(told))
        return 0
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.operations.check_command import check
    from fedcollm_secure.operations.check_summary import check_words

    quiet()
    found = check(settings, measure=given.measure)
    output.result(found, given.json, check_words(found))
    return 0


def compare_command(given: argparse.Namespace) -> int:
    """Run the baselines side by side."""
    from fedcollm_secure import config

    if given.seeds < 1:
        raise ConfigError("--seeds", f"expected 1 or more, got {given.seeds}")
    settings = config.load(given.config, given.set)
    from fedcollm_secure.research.compare import compare
    from fedcollm_secure.research.compare.comparison_table import compare_words

    out = given.out or Path("runs") / f"compare-{settings.name}"
    found = compare(settings, out, seeds=given.seeds, say=output.say)
    output.result(found, given.json, compare_words(found, out))
    return 0


def study_command(given: argparse.Namespace) -> int:
    """Sweep keys of a configuration."""
    from fedcollm_secure.research.study.sweep import Sweep

    sweep = Sweep.load(given.study, given.set)
    out = given.out or Path("runs") / f"study-{sweep.name}"
    sweep.points(out / "points")  # read for their errors alone
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.research.study.frontier_table import study_words
    from fedcollm_secure.research.study.study_command import study

    quiet()
    found = study(sweep, out, say=output.say)
    output.result(found, given.json, study_words(found, out))
    return 0


def report_command(given: argparse.Namespace) -> int:
    """Write a run's page, or the pack for an auditor."""
    from fedcollm_secure.operations.report import write_report

    if given.evidence is not None:
        from fedcollm_secure.operations.evidence.pack import write_pack

        pack = write_pack(given.run, given.evidence)
        output.result(
            {"evidence": str(pack)}, given.json, f"Evidence: {pack}\nCheck it with the line in {pack}/README.md"
        )
        return 0
    path = write_report(given.run, given.out)
    output.result({"report": str(path)}, given.json, f"Report: {path}")
    return 0


def verify_command(given: argparse.Namespace) -> int:
    """Check a run, a log, a round or a ledger."""
    from fedcollm_secure.operations import verify_command

    held, key = verify_command.parse_head(given.head), verify_command.parse_key(given.key)
    match given.what:
        case ["log", file]:
            code, found = verify_command.verify_log(Path(file), held, key)
        case ["budget", file]:
            code, found = verify_command.verify_budget(Path(file), given.log)
        case ["round", number, *runs] if number.isdecimal() and len(runs) <= 1:
            code, found = verify_command.verify_round(int(number), Path(runs[0] if runs else "."), key)
        case ["equivocation", one, other]:
            code, found = verify_command.verify_equivocation(Path(one), Path(other))
        case ["inclusion", proof, *runs] if len(runs) <= 1:
            code, found = verify_command.verify_inclusion(Path(proof), Path(runs[0]) if runs else None, key)
        case ["gain", file, run]:
            from fedcollm_secure.operations.gain.release_verification import verify_gain

            code, found = verify_gain(Path(file), Path(run), key)
        case [folder]:
            code, found = verify_command.verify_directory(Path(folder), held, key)
        case _:
            raise ConfigError(
                "verify", "expected RUN, or log, budget, round, equivocation, inclusion or gain with files"
            )
    output.result(found, given.json, verify_command.as_text(found))
    return code


def budget_command(given: argparse.Namespace) -> int:
    """Show a ledger."""
    from fedcollm_secure.operations.budget_command import budget, budget_words

    found = budget(given.ledger)
    output.result(found, given.json, budget_words(found))
    return 0


def gain_command(given: argparse.Namespace) -> int:
    """Say whether a silo gained."""
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.operations import gain as asked

    quiet()
    if given.release is not None:
        told = asked.release(given.run, given.silo, given.release)
        output.result(told, given.json, asked.release_words(told, given.run))
        return 0
    found = asked.gain(given.run, given.silo)
    output.result(found, given.json, asked.gain_words(found, given.run))
    return 0


def try_command(given: argparse.Namespace) -> int:
    """Ask a tuned model."""
    if given.tokens < 1:
        raise ConfigError("--tokens", f"expected 1 or more, got {given.tokens}")
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.operations.try_command import ask, ask_words

    quiet()
    found = ask(given.run, given.text, given.model, given.choice, given.tokens)
    output.result(found, given.json, ask_words(found))
    return 0


def examples_command(given: argparse.Namespace) -> int:
    """Write the shipped examples."""
    from fedcollm_secure.operations.examples_command import examples, examples_words

    found = examples(given.folder)
    output.result(found, given.json, examples_words(found, given.folder))
    return 0


def bench_command(given: argparse.Namespace) -> int:
    """Measure."""
    from fedcollm_secure.assurance import bench as measured

    if given.what == "dpsgd":
        steps = measured.bench_dpsgd(say=output.say)
        output.result(steps, given.json, measured.dpsgd_words(steps))
        return 0
    if given.what == "scoring":
        if given.config is None:
            raise ConfigError("--config", "expected a configuration, whose test is scored: bench scoring --config FILE")
        scored = measured.bench_scoring(given.config, given.set, say=output.say)
        output.result(scored, given.json, measured.scoring_words(scored))
        return 0
    if given.what == "he":
        sums = measured.bench_he(given.silos, given.parameters, say=output.say)
        output.result(sums, given.json, measured.he_words(sums))
        return 0
    if given.what == "log":
        from fedcollm_secure.assurance.bench import log_bench

        rows = log_bench.bench_log(given.entries or log_bench.ENTRIES, output.say)
        output.result({"rows": rows}, given.json, log_bench.log_words(rows))
        return 0
    sizes = measured.Sizes(
        silos=given.silos or measured.SILOS,
        parameters=given.parameters or measured.PARAMETERS,
        dropout_percent=given.dropouts or measured.DROPOUT_PERCENT,
        long_cases=bool(given.silos or given.parameters),
        every_silo=given.every_silo,
    )
    flower = measured.find_flower((Path.cwd(), measured.CHECKOUT))
    found = measured.bench(sizes, flower, say=output.say)
    output.result(found, given.json, measured.bench_words(found))
    return 0


def attack_command(given: argparse.Namespace) -> int:
    """Attack twins and this program."""
    from fedcollm_secure.assurance.attacks import attack_suite

    findings = attack_suite.run(attack_suite.choose(given.ids), output.say)
    output.result(attack_suite.document(findings), given.json, attack_suite.words(findings))
    return attack_suite.exit_code(findings)


def audit_command(given: argparse.Namespace) -> int:
    """Test the mechanism."""
    from fedcollm_secure import config

    settings = config.load(given.config, given.set)
    from fedcollm_secure.assurance import privacy_audit as audited
    from fedcollm_secure.learning.models import quiet

    quiet()
    found = audited.audit(settings, given.claimed, given.sabotage, say=output.say)
    output.result(found, given.json, audited.audit_words(found))
    return audited.exit_code(found)


def schema_command(given: argparse.Namespace) -> int:
    """Describe a configuration or a study to an editor."""
    from fedcollm_secure.config.describe import configuration_schema, study_schema

    output.result(study_schema() if given.study else configuration_schema(), True, "")
    return 0
