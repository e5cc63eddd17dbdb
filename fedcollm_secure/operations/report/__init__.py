"""One self-contained page about one run: for people who must be able to trust it."""

from fedcollm_secure.operations.report.report_page import write_report

__all__ = ["write_report"]
