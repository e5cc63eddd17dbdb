"""One self-contained page about a run, a comparison or a study: for people who must be able to trust it."""

from fedcollm_secure.studies.report.compare_page import write_compare
from fedcollm_secure.studies.report.page import write_report
from fedcollm_secure.studies.report.study_page import write_study

__all__ = ["write_compare", "write_report", "write_study"]
