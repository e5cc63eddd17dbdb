"""Two kinds of YAML files: a configuration is one job, a study sweeps the keys of one. Each command reads one kind."""

from collections.abc import Mapping
from pathlib import Path

from fedcollm_secure.errors import ConfigError

_OF_A_STUDY = ("config", "sweep", "seeds", "set")
_OF_A_CONFIGURATION = ("models", "data", "rounds", "silo", "distill", "aggregation", "privacy", "splits")


def require_configuration(tree: Mapping[str, object], path: Path) -> None:
    """Raise ConfigError for a study, and say which command reads it."""
    if named := [key for key in _OF_A_STUDY if key in tree]:
        base = tree.get("config")
        instead = f"; its configuration is {path.parent / base}" if isinstance(base, str) else ""
        raise ConfigError(
            str(path),
            f"this is a study (it has {', '.join(named)}), where a configuration is expected. Run it with "
            f"fedcollm-secure study {path}{instead}",
        )


def require_study(tree: Mapping[str, object], path: Path) -> None:
    """Raise ConfigError for a configuration, and say which commands read it."""
    if named := [key for key in _OF_A_CONFIGURATION if key in tree]:
        command = "compare" if "splits" in tree else "run"
        raise ConfigError(
            str(path),
            f"this is a configuration (it has {', '.join(named)}), where a study is expected: config, and sweep with "
            f"lists of values. Use it with fedcollm-secure {command} {path}; check and audit read it too",
        )
