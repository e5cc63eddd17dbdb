"""What can be typed: every command with its arguments and an example. Nothing heavy is imported for it."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from fedcollm_secure.cli import commands, pilot_parser
from fedcollm_secure.cli.failure import UsageError

VERIFY_FORMS = """\
  RUN                    a run directory: its log, checkpoints and ledgers
  PACK                   an evidence pack, as report --evidence writes it
  log FILE               a log with its checkpoints
  budget FILE            a ledger: ε recomputed, and what the log commits to
  round N [RUN]          an archived round, added up once more
  equivocation A B       two views of one log: logs, checkpoints or journals
  inclusion PROOF [RUN]  that one entry is in the log
  gain FILE RUN          a silo's released score, against its run"""
VERIFY_EXAMPLES = """fedcollm-secure verify runs/demo
  fedcollm-secure verify log runs/demo/audit/log.jsonl --head 19:ab…
  fedcollm-secure verify round 2 runs/demo
  fedcollm-secure verify inclusion 7.tlog-proof runs/demo
  fedcollm-secure verify gain gain-release.json runs/demo"""


class Commands(Protocol):
    """What `add_subparsers` returns, as far as it is used; argparse has no public name for it."""

    def add_parser(self, name: str, *, help: str, description: str, epilog: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's word
        """Add a command."""
        ...


class Parser(argparse.ArgumentParser):
    """argparse's parser, which raises where argparse prints and leaves: under `--json` a usage error is JSON too."""

    def error(self, message: str) -> NoReturn:
        """Raise: UsageError."""
        named = message.removeprefix("argument ").partition(":")[0] if message.startswith("argument ") else ""
        raise UsageError(message, self.format_usage(), named)


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option_string: str | None = None
    ) -> None:
        """Print one line and leave with 0; a checkout that is not installed has no version."""
        from importlib import metadata

        try:
            version = metadata.version("fedcollm-secure")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"fedcollm-secure {version}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; nothing heavy is imported for it."""
    parser = Parser(
        prog="fedcollm-secure",
        description="Co-tune a server's LLM and its silos' small models without seeing any silo's update.",
        epilog="Example: fedcollm-secure run examples/dp_config.yaml",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(subparsers)
    _add_check(subparsers)
    _add_compare(subparsers)
    _add_study(subparsers)
    _add_report(subparsers)
    _add_verify(subparsers)
    _add_budget(subparsers)
    _add_gain(subparsers)
    _add_try(subparsers)
    _add_attack(subparsers)
    _add_audit(subparsers)
    _add_bench(subparsers)
    pilot_parser.add(subparsers, _command, _add_config)
    _add_schema(subparsers)
    _add_examples(subparsers)
    return parser


def _add_run(subparsers: Commands) -> None:
    run = _command(
        subparsers, "run", "run the co-tuning job", "fedcollm-secure run examples/dp_config.yaml", commands.run_command
    )
    _add_config(run)
    run.add_argument("--out", type=Path, help="run directory (default: runs/NAME-TIME)")
    run.add_argument("--resume", action="store_true", help="go on with the run in --out")
    run.add_argument("--quiet", action="store_true", help="say nothing but the result, and errors")


def _add_check(subparsers: Commands) -> None:
    example = "fedcollm-secure check examples/dp_config.yaml --set rounds=3"
    check = _command(
        subparsers, "check", "validate a configuration and say what it would do", example, commands.check_command
    )
    _add_config(check)
    check.add_argument(
        "--shape",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="hold it to the models' config.json alone, without weights or data; of FOLDER/NAME, or the models' own",
    )
    check.add_argument("--measure", action="store_true", help="time a few passes: seconds and memory of a run")


def _add_compare(subparsers: Commands) -> None:
    example = "fedcollm-secure compare examples/compare.yaml --out runs/compare"
    compare = _command(
        subparsers, "compare", "run the paper's baselines and ablations side by side", example, commands.compare_command
    )
    _add_config(compare)
    compare.add_argument("--out", type=Path, help="folder; an earlier comparison there is continued")
    compare.add_argument("--seeds", type=int, default=3, help="seeds (default 3)")


def _add_study(subparsers: Commands) -> None:
    example = "fedcollm-secure study examples/frontier.yaml --out runs/frontier"
    study = _command(subparsers, "study", "sweep keys of a configuration over seeds", example, commands.study_command)
    study.add_argument("study", type=Path, help="YAML study: config, seeds, sweep")
    study.add_argument("--out", type=Path, help="folder; an earlier study there is continued")
    study.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of every point")


def _add_report(subparsers: Commands) -> None:
    report = _command(
        subparsers, "report", "write report.html of a run", "fedcollm-secure report runs/demo", commands.report_command
    )
    report.add_argument("run", type=Path, help="run directory")
    report.add_argument("--out", type=Path, help="file (default: RUN/report.html)")
    report.add_argument("--evidence", type=Path, metavar="DIR", help="write the whole pack for an auditor to DIR")


def _add_verify(subparsers: Commands) -> None:
    verify = _command(
        subparsers,
        "verify",
        "check a run, a log, a round or a ledger offline",
        VERIFY_EXAMPLES,
        commands.verify_command,
    )
    verify.usage = "fedcollm-secure verify WHAT [--head SIZE:ROOT] [--key KEY] [--log LOG] [--json]"
    verify.description = f"{verify.description} WHAT is one of:\n\n{VERIFY_FORMS}"
    verify.formatter_class = argparse.RawDescriptionHelpFormatter
    verify.add_argument("what", nargs="+", metavar="WHAT", help="see above")
    verify.add_argument("--recompute", action="store_true", help="what verify round does, said aloud")
    verify.add_argument("--log", type=Path, help="the log that commits to a ledger, if not the one of its run")
    verify.add_argument("--head", metavar="SIZE:ROOT", help="a log's head that you hold from elsewhere")
    verify.add_argument("--key", help="the log keeper's public key from elsewhere: hexadecimal, or a file with it")


def _add_budget(subparsers: Commands) -> None:
    example = "fedcollm-secure budget runs/demo/silos/north/ledger.jsonl"
    budget = _command(subparsers, "budget", "show ε spent and left, by round", example, commands.budget_command)
    budget.add_argument("ledger", type=Path, help="a silo's ledger.jsonl")


def _add_gain(subparsers: Commands) -> None:
    example = "fedcollm-secure gain runs/demo north | gain runs/demo north --release 0.5"
    gain = _command(
        subparsers, "gain", "ask whether a silo gained, on records it kept apart", example, commands.gain_command
    )
    gain.add_argument("run", type=Path, help="run directory of a run with evaluate.own above 0")
    gain.add_argument("silo", help="which silo asks; all files stay in its own folder")
    gain.add_argument(
        "--release", type=float, metavar="EPSILON", help="a differentially private answer that may be told to others"
    )


def _add_try(subparsers: Commands) -> None:
    example = 'fedcollm-secure try runs/demo "chest pain on exertion" --model llm'
    tried = _command(subparsers, "try", "ask a model that a run tuned", example, commands.try_command)
    tried.add_argument("run", type=Path, help="run directory")
    tried.add_argument(
        "text", nargs="+", help="what the prompt's column holds; of several columns COLUMN=TEXT for each"
    )
    tried.add_argument(
        "--model", choices=["slm", "llm"], default="slm", help="the silos' model (default) or the server's"
    )
    tried.add_argument(
        "--choice", action="append", default=[], metavar="TEXT", help="multiple choice: one of the answers"
    )
    tried.add_argument("--tokens", type=int, default=64, help="free text: at most so many tokens (default 64)")


def _add_attack(subparsers: Commands) -> None:
    example = "fedcollm-secure attack A3 A11"
    attack = _command(
        subparsers, "attack", "attack a known-bad twin and this program, side by side", example, commands.attack_command
    )
    attack.add_argument("ids", nargs="*", metavar="A1 A2 …", help="which attacks (default: all)")


def _add_audit(subparsers: Commands) -> None:
    example = "fedcollm-secure audit examples/dp_config.yaml --claimed 2"
    audit = _command(
        subparsers, "audit", "test the DP mechanism and prove a lower bound on ε", example, commands.audit_command
    )
    _add_config(audit)
    audit.add_argument("--claimed", type=float, required=True, metavar="E", help="ε to audit; σ is calibrated to it")
    audit.add_argument(
        "--sabotage",
        type=_names,
        default=(),
        metavar="S,…",
        help="break the mechanism on purpose: nonoise, layernonoise, halfnoise, optimizernonoise, laterounds, "
        "othersilo, noclip, groupclip, recordunit, hfloss, duplicates, smallshare, redraw, … (any other word "
        "lists all)",
    )


def _add_bench(subparsers: Commands) -> None:
    example = (
        "fedcollm-secure bench masking --silos 10 --parameters 294912 | bench he | bench dpsgd | bench log | "
        "bench scoring --config FILE"
    )
    bench = _command(
        subparsers,
        "bench",
        "measure the masked or encrypted sum, steps of DP-SGD, the log, or scoring, beside their peers",
        example,
        commands.bench_command,
    )
    bench.description = f"{bench.description} A hundred silos with 3145728 parameters only where either is asked for."
    kinds = ["masking", "he", "dpsgd", "log", "scoring"]
    bench.usage = f"fedcollm-secure bench [{'|'.join(kinds)}] [--json] [options, see below]"
    bench.add_argument("what", nargs="?", choices=kinds, default="masking", help="default: masking")
    bench.add_argument(
        "--silos", type=_numbers, metavar="N,…", help="numbers of silos (default 3,10,30,100; he: 4,10,100)"
    )
    bench.add_argument("--parameters", type=_numbers, metavar="D,…", help="vector lengths (default 294912,3145728)")
    bench.add_argument("--dropouts", type=_numbers, metavar="P,…", help="per cent of the silos lost (default 0,10)")
    bench.add_argument("--entries", type=_numbers, metavar="N,…", help="lengths of logs (default 1000,10000,100000)")
    bench.add_argument("--config", type=Path, help="scoring: the configuration whose test and models are measured")
    bench.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="scoring: override a key of it")
    bench.add_argument("--every-silo", action="store_true", help="reckon no silo of a peer from others; takes long")


def _add_schema(subparsers: Commands) -> None:
    example = (
        "fedcollm-secure schema > schema.json, and # yaml-language-server: $schema=schema.json in a file's first line"
    )
    schema = _command(
        subparsers,
        "schema",
        "print the JSON Schema by which editors check a configuration",
        example,
        commands.schema_command,
    )
    schema.add_argument("--study", action="store_true", help="that of a study instead")


def _add_examples(subparsers: Commands) -> None:
    example = "fedcollm-secure examples my-examples"
    examples = _command(
        subparsers, "examples", "write the shipped configurations into a folder", example, commands.examples_command
    )
    examples.add_argument("folder", nargs="?", type=Path, default=Path("examples"), help="default: examples")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command(
    subparsers: Commands,
    name: str,
    does: str,
    example: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        name, help=does, description=does[0].upper() + does[1:], epilog=f"Example: {example}"
    )
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
    parser.add_argument(
        "--show-values", action="store_true", help="where a cell does not fit, print what stands there: it is private"
    )
