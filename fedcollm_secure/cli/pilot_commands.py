"""What the commands of a consortium do: read what was typed, call one function of a room, print."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from fedcollm_secure.cli import output
from fedcollm_secure.errors import ConfigError


def init_command(given: argparse.Namespace) -> int:
    """Found a consortium."""
    from fedcollm_secure.operations.consortium_command import init

    password = _passphrase(given)
    return _told(given, init(given.name, given.folder, given.address, password, post_quantum=given.post_quantum))


def invite_command(given: argparse.Namespace) -> int:
    """Invite a silo."""
    from fedcollm_secure.operations.consortium_command import invite

    return _told(given, invite(given.member, given.folder, _passphrase(given)))


def join_command(given: argparse.Namespace) -> int:
    """Take an invitation."""
    from fedcollm_secure.operations.consortium_command import join

    return _told(given, join(given.invitation, given.folder, _passphrase(given)))


def roster_add_command(given: argparse.Namespace) -> int:
    """Draft the roster."""
    from fedcollm_secure.operations.consortium_command import roster_add

    return _told(given, roster_add(given.cards, given.folder))


def roster_sign_command(given: argparse.Namespace) -> int:
    """Sign a draft."""
    from fedcollm_secure.operations.consortium_command import roster_sign

    return _told(given, roster_sign(given.draft, given.folder, _passphrase(given)))


def roster_close_command(given: argparse.Namespace) -> int:
    """Close a draft."""
    from fedcollm_secure.operations.consortium_command import roster_close

    return _told(given, roster_close(given.signatures, given.folder, _passphrase(given)))


def plan_command(given: argparse.Namespace) -> int:
    """Make a plan."""
    from fedcollm_secure import config

    settings = config.load(given.config, given.set)
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.operations.pilot_command import make_plan

    quiet()
    return _told(given, make_plan(settings, given.folder, _passphrase(given)))


def serve_command(given: argparse.Namespace) -> int:
    """Coordinate a plan."""
    from fedcollm_secure import config
    from fedcollm_secure.config.protection import NonPrivate

    settings = config.load(given.config, given.set)
    budget = None if isinstance(settings.privacy, NonPrivate) else settings.privacy.epsilon
    from fedcollm_secure.operations.live_progress import make_show

    with make_show(settings.rounds, budget, quiet=given.quiet) as show:
        from fedcollm_secure.learning.models import quiet
        from fedcollm_secure.operations.pilot_command import serve
        from fedcollm_secure.operations.run_summary import run_words

        quiet()
        summary, out = serve(
            given.folder,
            given.plan,
            settings,
            _passphrase(given),
            resuming=given.resume,
            show=show,
            say=output.say,
        )
    output.result(summary, given.json, run_words(summary, out))
    return 0


def silo_command(given: argparse.Namespace) -> int:
    """Take part in a plan, or say whether one would."""
    from fedcollm_secure.learning.models import quiet
    from fedcollm_secure.operations import pilot_command

    quiet()
    if given.dry_run:
        agrees, found = pilot_command.dry_run(given.folder, given.plan)
        output.result(found, given.json, pilot_command.dry_run_words(found))
        return 0 if agrees else 4
    return _told(given, pilot_command.silo(given.folder, given.plan, _passphrase(given), say=output.say))


def _told(given: argparse.Namespace, found: Mapping[str, object]) -> int:
    from fedcollm_secure.operations.consortium_command import words

    output.result(found, given.json, words(found))
    return 0


def _passphrase(given: argparse.Namespace) -> bytes | None:
    path: Path | None = given.passphrase_file
    if path is None:
        return None
    try:
        first = path.read_bytes().split(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise ConfigError("--passphrase-file", f"{path} cannot be read ({error.strerror})") from error
    if not first:
        raise ConfigError("--passphrase-file", f"expected a passphrase in the first line of {path}, got an empty one")
    return first
