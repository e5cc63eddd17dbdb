"""Templates over columns: `{term}. Specialty:`. A placeholder is a column's name and nothing more."""

import string


def parts(template: str) -> list[tuple[str, str | None]]:
    """Return literal text and the column that follows it, in order; the last literal has none after it.

    Raises:
        ValueError: a brace is not closed, or a placeholder is no plain column.
    """
    found: list[tuple[str, str | None]] = []
    try:
        for literal, column, spec, conversion in string.Formatter().parse(template):
            if column is not None and (not column or spec or conversion):
                raise ValueError("expected plain {column} placeholders")
            found.append((literal, column))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}; write {{{{ and }}}} for braces") from error
    return found


def columns(template: str) -> tuple[str, ...]:
    """Return the columns that a template reads, each once, in order. Raises: ValueError."""
    return tuple(dict.fromkeys(column for _, column in parts(template) if column is not None))
