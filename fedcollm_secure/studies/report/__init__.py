"""One self-contained page about a run, and one about a comparison: for people who must be able to trust it."""

from fedcollm_secure.studies.report.compare_page import write_compare
from fedcollm_secure.studies.report.page import write_report

__all__ = ["write_compare", "write_report"]
