"""What can be typed of a consortium on its members' own machines: `consortium …`, `serve` and `silo`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fedcollm_secure.cli import pilot_commands as commands


class Subparsers(Protocol):
    """What `add_subparsers` returns, as far as it is used."""

    def add_parser(self, name: str, *, help: str, description: str, epilog: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's word
        """Add a command."""
        ...


Function = Callable[[argparse.Namespace], int]
AddCommand = Callable[[Subparsers, str, str, str, Function], argparse.ArgumentParser]


def add(subparsers: Subparsers, command: AddCommand, add_config: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the commands, by the parser's own way to add one."""
    _add_consortium(subparsers, command, add_config)
    serve = command(
        subparsers,
        "serve",
        "run a plan as a consortium's coordinator",
        "fedcollm-secure serve coordinator coordinator/plans/PLAN.json job.yaml",
        commands.serve_command,
    )
    serve.add_argument("folder", type=Path, help="the coordinator's folder")
    serve.add_argument("plan", type=Path, help="the plan, as consortium plan wrote it")
    add_config(serve)
    _add_passphrase(serve)
    serve.add_argument("--resume", action="store_true", help="go on with the plan's session")
    serve.add_argument("--quiet", action="store_true", help="say nothing but the result, and errors")
    silo = command(
        subparsers,
        "silo",
        "take part in a plan with this silo's own records",
        "fedcollm-secure silo north PLAN.json --dry-run",
        commands.silo_command,
    )
    silo.add_argument("folder", type=Path, help="the silo's folder")
    silo.add_argument("plan", type=Path, help="the plan, as the coordinator gave it")
    silo.add_argument("--dry-run", action="store_true", help="say line by line what it would agree to, and do nothing")
    _add_passphrase(silo)
    silo.add_argument(
        "--show-values", action="store_true", help="where a cell does not fit, print what stands there: it is private"
    )


def _add_consortium(
    subparsers: Subparsers, command: AddCommand, add_config: Callable[[argparse.ArgumentParser], None]
) -> None:
    group = subparsers.add_parser(
        "consortium",
        help="keys, invitations, roster and plans of a consortium",
        description="Keys, invitations, roster and plans of a consortium.",
        epilog="Example: fedcollm-secure consortium init icd10-pilot --in coordinator --address 127.0.0.1:7400",
    )
    parts = group.add_subparsers(required=True, metavar="STEP")
    init = command(
        parts,
        "init",
        "found a consortium: the coordinator's folder and keys",
        "fedcollm-secure consortium init icd10-pilot --in coordinator --address 127.0.0.1:7400",
        commands.init_command,
    )
    init.add_argument("name", help="the consortium's name")
    init.add_argument("--address", required=True, metavar="HOST:PORT", help="where silos reach the coordinator")
    init.add_argument("--post-quantum", action="store_true", help="give every member an ML-DSA-44 key as well")
    example = "fedcollm-secure consortium invite north --in coordinator"
    invite = command(parts, "invite", "invite a silo", example, commands.invite_command)
    invite.add_argument("member", help="the silo's name")
    example = "fedcollm-secure consortium join north.json --in north"
    join = command(parts, "join", "take an invitation: make this silo's keys", example, commands.join_command)
    join.add_argument("invitation", type=Path, help="the invitation, as the coordinator gave it")
    _add_roster(parts, command)
    example = "fedcollm-secure consortium plan job.yaml --in coordinator"
    plan = command(parts, "plan", "make the plan of a configuration", example, commands.plan_command)
    add_config(plan)
    for parser in (init, invite, join, plan):
        _add_folder(parser)
        _add_passphrase(parser)


def _add_roster(parts: Subparsers, command: AddCommand) -> None:
    group = parts.add_parser(
        "roster",
        help="draft, sign and close the list of members",
        description="Draft, sign and close the list of members.",
        epilog="Example: fedcollm-secure consortium roster add north/member.json --in coordinator",
    )
    steps = group.add_subparsers(required=True, metavar="STEP")
    example = "fedcollm-secure consortium roster add north/member.json --in coordinator"
    add_ = command(steps, "add", "draft the roster with these members' cards", example, commands.roster_add_command)
    add_.add_argument("cards", type=Path, nargs="+", help="members' cards, as consortium join wrote them")
    example = "fedcollm-secure consortium roster sign roster-draft.json --in north"
    sign = command(steps, "sign", "sign a draft as a member", example, commands.roster_sign_command)
    sign.add_argument("draft", type=Path, help="the draft, as the coordinator gave it")
    example = "fedcollm-secure consortium roster close north/roster-signature.json --in coordinator"
    close = command(steps, "close", "close the draft with all signatures", example, commands.roster_close_command)
    close.add_argument("signatures", type=Path, nargs="+", help="members' signatures")
    for parser in (add_, sign, close):
        _add_folder(parser)
        _add_passphrase(parser)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in", dest="folder", type=Path, required=True, metavar="FOLDER", help="this party's folder")


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="a file whose first line encrypts this party's keys"
    )
