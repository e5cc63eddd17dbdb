"""The command line: read arguments, call one function of `studies`, print. Errors are caught here, once.

Exit codes: 0 done or verified · 1 what was checked failed · 2 usage or configuration, nothing started ·
3 incomplete, resumable · 4 refused by a privacy budget or a silo's policy.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from fedcollm_secure.errors import ConfigError, FedCoLLMError

Json = Mapping[str, object]


class Commands(Protocol):
    """What `add_subparsers` returns, as far as it is used; argparse has no public name for it."""

    def add_parser(self, name: str, *, help: str, description: str, epilog: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's word
        """Add a command."""
        ...


def entry() -> None:
    """Leave with the command's exit code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    _quiet_libraries()
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except FedCoLLMError as error:
        return _fail(error.diagnostics(), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; complete rounds are kept, go on with --resume", 3)
    except Exception as error:
        if code := _room_exit_code(error):
            return _fail(str(error), code)
        raise


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        prog="fedcollm-secure",
        description="Co-tune a server's LLM and its silos' small models without seeing any silo's update.",
        epilog="Example: fedcollm-secure run examples/dp_config.yaml",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_compare(commands)
    _add_study(commands)
    _add_report(commands)
    _add_verify(commands)
    _add_budget(commands)
    _add_attack(commands)
    _add_audit(commands)
    _add_bench(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = _command(commands, "run", "run the co-tuning job", "fedcollm-secure run examples/dp_config.yaml", _run)
    _add_config(run)
    run.add_argument("--out", type=Path, help="run directory (default: runs/NAME-TIME)")
    run.add_argument("--resume", action="store_true", help="go on with the run in --out")


def _add_check(commands: Commands) -> None:
    example = "fedcollm-secure check examples/dp_config.yaml --set rounds=3"
    _add_config(_command(commands, "check", "validate a configuration and say what it would do", example, _check))


def _add_compare(commands: Commands) -> None:
    example = "fedcollm-secure compare examples/compare.yaml --out runs/compare"
    compare = _command(commands, "compare", "run the paper's baselines and ablations side by side", example, _compare)
    _add_config(compare)
    compare.add_argument("--out", type=Path, help="folder; an earlier comparison there is continued")
    compare.add_argument("--seeds", type=int, default=3, help="seeds (default 3)")


def _add_study(commands: Commands) -> None:
    example = "fedcollm-secure study examples/frontier.yaml --out runs/frontier"
    study = _command(commands, "study", "sweep keys of a configuration over seeds", example, _study)
    study.add_argument("study", type=Path, help="YAML study: config, seeds, sweep")
    study.add_argument("--out", type=Path, help="folder; an earlier study there is continued")
    study.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of every point")


def _add_report(commands: Commands) -> None:
    report = _command(commands, "report", "write report.html of a run", "fedcollm-secure report runs/demo", _report)
    report.add_argument("run", type=Path, help="run directory")
    report.add_argument("--out", type=Path, help="file (default: RUN/report.html)")
    report.add_argument("--evidence", type=Path, metavar="DIR", help="write the whole pack for an auditor to DIR")


def _add_verify(commands: Commands) -> None:
    verify = _command(
        commands,
        "verify",
        "check a run, a log, a round or a ledger offline",
        "fedcollm-secure verify runs/demo | verify log runs/demo/audit/log.jsonl --head 19:ab… | "
        "verify budget LEDGER | verify round 2 runs/demo --recompute | verify equivocation runs/demo journal.jsonl | "
        "verify inclusion 7.tlog-proof runs/demo",
        _verify,
    )
    forms = "RUN | PACK | log FILE | budget FILE | round N [RUN] | equivocation A B | inclusion PROOF [RUN]"
    verify.add_argument("what", nargs="+", metavar=forms, help="what to check")
    verify.add_argument("--recompute", action="store_true", help="add up an archived round once more (verify round)")
    verify.add_argument("--log", type=Path, help="the log that commits to a ledger, if not the one of its run")
    verify.add_argument("--head", help="SIZE:ROOT that you hold from elsewhere")
    verify.add_argument("--key", help="the log keeper's public key from elsewhere: hexadecimal, or a file with it")


def _add_budget(commands: Commands) -> None:
    example = "fedcollm-secure budget runs/demo/silos/north/ledger.jsonl"
    budget = _command(commands, "budget", "show ε spent and left, by round", example, _budget)
    budget.add_argument("ledger", type=Path, help="a silo's ledger.jsonl")


def _add_attack(commands: Commands) -> None:
    example = "fedcollm-secure attack A3 A11"
    attack = _command(commands, "attack", "attack a known-bad twin and this program, side by side", example, _attack)
    attack.add_argument("ids", nargs="*", metavar="A1 A2 …", help="which attacks (default: all)")


def _add_audit(commands: Commands) -> None:
    example = "fedcollm-secure audit examples/dp_config.yaml --claimed 2"
    audit = _command(commands, "audit", "test the DP mechanism and prove a lower bound on ε", example, _audit)
    _add_config(audit)
    audit.add_argument("--claimed", type=float, required=True, metavar="E", help="ε to audit; σ is calibrated to it")
    audit.add_argument(
        "--sabotage",
        type=_names,
        default=(),
        metavar="S,…",
        help="break training on purpose: nonoise, noclip, hfloss, skipempty",
    )


def _add_bench(commands: Commands) -> None:
    example = "fedcollm-secure bench masking --silos 10 --parameters 294912 | bench dpsgd | bench log"
    does = "measure the masked sum, or steps of DP-SGD, beside their peers, or the log"
    bench = _command(commands, "bench", does, example, _bench)
    bench.description = f"{bench.description} A hundred silos with 3145728 parameters only where either is asked for."
    measured = ["masking", "dpsgd", "log"]
    bench.add_argument("what", nargs="?", choices=measured, default="masking", help="default: masking")
    bench.add_argument("--silos", type=_numbers, metavar="N,…", help="numbers of silos (default 3,10,30,100)")
    bench.add_argument("--parameters", type=_numbers, metavar="D,…", help="vector lengths (default 294912,3145728)")
    bench.add_argument("--dropouts", type=_numbers, metavar="P,…", help="per cent of the silos lost (default 0,10)")
    bench.add_argument("--entries", type=_numbers, metavar="N,…", help="lengths of logs (default 1000,10000,100000)")
    bench.add_argument("--every-silo", action="store_true", help="reckon no silo of a peer from others; takes long")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command(
    commands: Commands,
    name: str,
    does: str,
    example: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=does, description=does.capitalize() + ".", epilog=f"Example: {example}")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.set_defaults(command=function)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="YAML configuration")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, e.g. privacy.record_dp.epsilon=3",
    )


def _run(given: argparse.Namespace) -> int:
    from fedcollm_secure import config  # what is heavy is imported by the command that needs it
    from fedcollm_secure.config.protection import NonPrivate
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.studies.live import make_show
    from fedcollm_secure.studies.run import run
    from fedcollm_secure.studies.words import run_words

    settings = config.load(given.config, given.set)
    if given.resume and given.out is None:
        raise ConfigError("--resume", "name the run directory with --out")
    out = given.out or Path("runs") / f"{settings.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    budget = None if isinstance(settings.privacy, NonPrivate) else settings.privacy.epsilon
    quiet()
    summary = run(settings, out, resuming=given.resume, show=make_show(settings.rounds, budget))
    _print(summary, given.json, run_words(summary, out))
    return 0


def _check(given: argparse.Namespace) -> int:
    from fedcollm_secure import config
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.studies.check import check
    from fedcollm_secure.studies.words import check_words

    quiet()
    found = check(config.load(given.config, given.set))
    _print(found, given.json, check_words(found))
    return 0


def _compare(given: argparse.Namespace) -> int:
    from fedcollm_secure import config
    from fedcollm_secure.studies.compare import compare
    from fedcollm_secure.studies.words import compare_words

    if given.seeds < 1:
        raise ConfigError("--seeds", f"expected 1 or more, got {given.seeds}")
    settings = config.load(given.config, given.set)
    out = given.out or Path("runs") / f"compare-{settings.name}"
    found = compare(settings, out, seeds=given.seeds, say=lambda text: print(text, file=sys.stderr, flush=True))
    _print(found, given.json, compare_words(found, out))
    return 0


def _study(given: argparse.Namespace) -> int:
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.studies import study as studied

    sweep = studied.Sweep.load(given.study, given.set)
    out = given.out or Path("runs") / f"study-{sweep.name}"
    quiet()
    found = studied.study(sweep, out, say=lambda text: print(text, file=sys.stderr, flush=True))
    _print(found, given.json, studied.study_words(found, out))
    return 0


def _report(given: argparse.Namespace) -> int:
    from fedcollm_secure.studies.report import write_report

    if given.evidence is not None:
        from fedcollm_secure.studies.evidence.pack import write_pack

        pack = write_pack(given.run, given.evidence)
        _print({"evidence": str(pack)}, given.json, f"Evidence: {pack}\nCheck it with the line in {pack}/README.md")
        return 0
    path = write_report(given.run, given.out)
    _print({"report": str(path)}, given.json, f"Report: {path}")
    return 0


def _verify(given: argparse.Namespace) -> int:
    from fedcollm_secure.studies import verify

    held, key = verify.parse_head(given.head), verify.parse_key(given.key)
    match given.what:
        case ["log", file]:
            code, found = verify.verify_log(Path(file), held, key)
        case ["budget", file]:
            code, found = verify.verify_budget(Path(file), given.log)
        case ["round", number, *runs] if number.isdecimal() and len(runs) <= 1:
            if not given.recompute:
                raise ConfigError("verify round", "expected --recompute: it adds the archived round up once more")
            code, found = verify.verify_round(int(number), Path(runs[0] if runs else "."), key)
        case ["equivocation", one, other]:
            code, found = verify.verify_equivocation(Path(one), Path(other))
        case ["inclusion", proof, *runs] if len(runs) <= 1:
            code, found = verify.verify_inclusion(Path(proof), Path(runs[0]) if runs else None, key)
        case [folder]:
            code, found = verify.verify_directory(Path(folder), held, key)
        case _:
            raise ConfigError("verify", "expected RUN, or log, budget, round, equivocation or inclusion with its files")
    _print(found, given.json, verify.as_text(found))
    return code


def _budget(given: argparse.Namespace) -> int:
    from fedcollm_secure.studies.verify import budget
    from fedcollm_secure.studies.words import budget_words

    found = budget(given.ledger)
    _print(found, given.json, budget_words(found))
    return 0


def _bench(given: argparse.Namespace) -> int:
    from fedcollm_secure.studies import bench as measured

    if given.what == "log":
        from fedcollm_secure.studies.bench import log

        rows = log.bench_log(given.entries or log.ENTRIES, lambda text: print(text, file=sys.stderr, flush=True))
        _print({"rows": rows}, given.json, log.log_words(rows))
        return 0
    if given.what == "dpsgd":
        steps = measured.bench_dpsgd(say=lambda text: print(text, file=sys.stderr, flush=True))
        _print(steps, given.json, measured.dpsgd_words(steps))
        return 0
    sizes = measured.Sizes(
        silos=given.silos or measured.SILOS,
        parameters=given.parameters or measured.PARAMETERS,
        dropout_percent=given.dropouts or measured.DROPOUT_PERCENT,
        long_cases=bool(given.silos or given.parameters),
        every_silo=given.every_silo,
    )
    flower = measured.find_flower((Path.cwd(), measured.CHECKOUT))
    found = measured.bench(sizes, flower, say=lambda text: print(text, file=sys.stderr, flush=True))
    _print(found, given.json, measured.bench_words(found))
    return 0


def _attack(given: argparse.Namespace) -> int:
    from fedcollm_secure.studies.attacks import suite

    findings = suite.run(suite.choose(given.ids), lambda text: print(text, file=sys.stderr, flush=True))
    _print(suite.document(findings), given.json, suite.words(findings))
    return suite.exit_code(findings)


def _audit(given: argparse.Namespace) -> int:
    from fedcollm_secure import config
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.studies import audit as audited

    settings = config.load(given.config, given.set)
    quiet()
    found = audited.audit(
        settings, given.claimed, given.sabotage, say=lambda text: print(text, file=sys.stderr, flush=True)
    )
    _print(found, given.json, audited.audit_words(found))
    return audited.exit_code(found)


def _print(document: Json, as_json: bool, words: str) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2) if as_json else words)


def _fail(text: str, code: int) -> int:
    print(f"fedcollm-secure: {text}", file=sys.stderr)
    return code


def _room_exit_code(error: Exception) -> int:
    """Return the exit code of an error of the crypto or privacy room, 0 for anything else."""
    from fedcollm_crypto.errors import CryptoError
    from fedcollm_privacy.errors import BudgetExhausted, PrivacyError

    if isinstance(error, BudgetExhausted):
        return 4
    return 1 if isinstance(error, CryptoError | PrivacyError) else 0


def _quiet_libraries() -> None:
    """Keep other libraries' progress bars and notices out of our stderr, and idle threads off a shared machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
