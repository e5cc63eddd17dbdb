"""Write `report.html`: one page about one run that needs no network, no script and no other file.

run directory → Record → what the page says (`report_content.py`, `run_outcome.py`, `round_curves.py`,
`log_state_and_limits.py`) → template → report.html
"""

from pathlib import Path

from fedcollm_secure.operations.report import log_state_and_limits, report_content
from fedcollm_secure.operations.report.round_curves import curves
from fedcollm_secure.operations.report.run_outcome import outcome
from fedcollm_secure.operations.report.run_record import read_record
from fedcollm_secure.presentation.html_page import environment, write_page


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory, by default `RUN/report.html`, and return where it lies.

    A killed run gets a page as well, which says what is missing.
    Raises: RunError where `run` is no run directory or a file in it has the wrong shape.
    """
    record = read_record(run)
    page = (
        environment("fedcollm_secure.operations.report")
        .get_template("report.html.j2")
        .render(
            record=record,
            outcome=outcome(record),
            key_figures=report_content.key_figures(record),
            curves=curves(record),
            bars=report_content.budget_bars(record),
            guarantees=report_content.guarantees(record),
            warnings=report_content.warnings(record),
            sight=report_content.visible_to(record),
            phases=report_content.phases(record),
            rounds=report_content.round_rows(record),
            log=log_state_and_limits.log_state(run, record),
            limits=log_state_and_limits.limits(record),
        )
    )
    return write_page(page, out or run / "report.html")
