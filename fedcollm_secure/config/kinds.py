"""Two kinds of YAML files: a configuration is one job, a study sweeps the keys of one. Each command reads one kind."""

from collections.abc import Mapping
from pathlib import Path

from fedcollm_secure.errors import ConfigError

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq", ".txt", ".xlsx", ".xls", ".arrow", ".feather")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_OF_A_STUDY = ("config", "sweep", "seeds", "set")
_OF_A_CONFIGURATION = ("models", "data", "rounds", "silo", "distill", "aggregation", "privacy", "splits")


def require_settings(path: Path) -> None:
    """Raise ConfigError for a file of records: nothing of it may be read as settings, or shown."""
    if path.suffix.lower() in (*_TABLES, *_PACKED):
        raise ConfigError(
            str(path),
            f"is a file of records by its name ({path.suffix}), where a YAML configuration is expected: name it there, "
            f"data: {{source: {{path: {path.name}}}}}",
        )


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
    _require_some(tree, path, ("name", *_OF_A_CONFIGURATION), "a configuration has name, models, data, rounds and more")


def require_study(tree: Mapping[str, object], path: Path) -> None:
    """Raise ConfigError for a configuration, and say which commands read it."""
    if named := [key for key in _OF_A_CONFIGURATION if key in tree]:
        command = "compare" if "splits" in tree else "run"
        raise ConfigError(
            str(path),
            f"this is a configuration (it has {', '.join(named)}), where a study is expected: config, and sweep with "
            f"lists of values. Use it with fedcollm-secure {command} {path}; check and audit read it too",
        )
    _require_some(tree, path, ("name", *_OF_A_STUDY), "a study has config and sweep")


def _require_some(tree: Mapping[str, object], path: Path, keys: tuple[str, ...], what: str) -> None:
    """Refuse a map of something else, whose keys are not shown: they may be a record's."""
    if tree and len([key for key in keys if key in tree]) < 2:
        raise ConfigError(str(path), f"its {len(tree)} keys are not those of settings: {what}. Is it another file?")
