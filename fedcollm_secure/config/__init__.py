"""What a user writes: the `Config` tree, its strict loader and its writer.

YAML goes in, a frozen `Config` that has passed every check comes out, or a `ConfigError` that names the key.
Alternatives (aggregation, privacy, data source …) are one-key maps in YAML and unions of dataclasses here, so that an
impossible combination cannot be written.
"""

from fedcollm_secure.config.load import load, parse, read_map, resolved
from fedcollm_secure.config.schema import Config

__all__ = ["Config", "load", "parse", "read_map", "resolved"]
