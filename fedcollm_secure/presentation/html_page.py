"""One self-contained HTML page from a template: no network, no script, no other file, and in place at once."""

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from fedcollm_crypto import durable
from fedcollm_secure.errors import RunError


def environment(package: str) -> Environment:
    """Return the templates of `package` and, behind them, those that all pages share (`base.html.j2`, `style.css`).

    Every value is escaped unless a template says otherwise.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("fedcollm_secure.presentation")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(page: str, path: Path) -> Path:
    """Put a page in place at once, so that a reader never sees half of it. Raises: RunError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; say --out") from error
    return path
