"""What `inventory` found, for a person."""

from collections.abc import Mapping
from typing import cast

Json = Mapping[str, object]


def inventory_words(found: Json) -> list[str]:
    """Say the same to a person, a line a part."""
    lines = [f"read {file}: {how}" for file, how in cast(Mapping[str, str], found["read"]).items()]
    lines += [
        f"{name}: {_part_words(part)}{_silo_words(part)}"
        for name, part in cast(Mapping[str, Json], found["silos"]).items()
    ]
    for name in ("auxiliary", "test"):
        lines.append(f"{name}: {_part_words(cast(Json, found[name]))}")
    if found["unused"]:
        share = 100 * cast(int, found["unused"]) / cast(int, found["source"])
        lines.append(
            f"unused: {found['unused']:,} of {found['source']:,} records of data.source ({share:.0f} %) are nobody's"
        )
    if found["in_several_silos"]:
        lines.append(f"doubles: {found['in_several_silos']:,} records lie in several silos")
    if in_auxiliary := cast(Json, found["test"])["in_auxiliary"]:
        lines.append(f"doubles: {in_auxiliary:,} test records lie in the auxiliary data too, which teach the pair")
    return [*lines, "(these are figures of private data: they are for whoever holds them)"]


def _part_words(part: Json) -> str:
    tokens = cast(Mapping[str, int], part["tokens"])
    labels = f", {part['labels']} labels" if part["labels"] else ""
    cut = f", {part['cut']:,} prompts lose their beginning" if part["cut"] else ""
    return (
        f"{part['records']:,} records{labels}; tokens: median {tokens['median']}, 95 % up to {tokens['p95']}, longest "
        f"{tokens['longest']}{cut}"
    )


def _silo_words(part: Json) -> str:
    said = [
        f"{part[key]:,} {what}"
        for key, what in (
            ("kept_apart", "kept apart"),
            ("duplicates", "double"),
            ("in_test", "test records among them"),
            ("unknown_labels", "left out"),
        )
        if part[key]
    ]
    return f"; {', '.join(said)}" if said else ""
