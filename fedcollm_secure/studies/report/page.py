"""Write `report.html`: one page about one run that needs no network, no script and no other file.

run directory → Record → the page's parts (`parts.py`, `curves.py`, `standing.py`) → template → report.html
"""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedcollm_crypto import durable
from fedcollm_secure.errors import RunError
from fedcollm_secure.studies.report import parts, standing
from fedcollm_secure.studies.report.curves import curves
from fedcollm_secure.studies.report.record import read_record


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory, by default `RUN/report.html`, and return where it lies.

    A killed run gets a page as well, which says what is missing.
    Raises: RunError where `run` is no run directory or a file in it has the wrong shape.
    """
    record = read_record(run)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            outcome=parts.outcome(record),
            key_figures=parts.key_figures(record),
            curves=curves(record),
            bars=parts.budget_bars(record),
            guarantees=parts.guarantees(record),
            warnings=parts.warnings(record),
            sight=parts.visible_to(record),
            phases=parts.phases(record),
            rounds=parts.round_rows(record),
            log=standing.log_state(run, record),
            limits=standing.limits(record),
        )
    )
    return write_page(page, out or run / "report.html")


def environment() -> Environment:
    """Return the templates, with every value escaped unless a template says otherwise."""
    return Environment(
        loader=PackageLoader("fedcollm_secure.studies.report"),
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
