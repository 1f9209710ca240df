"""The comprehensive test: checks registered models and writes what came out as Markdown."""

from tests.reports.check import CheckResult, Verification, check_model
from tests.reports.markdown import model_report, summary_report, write_reports

__all__ = [
    "CheckResult",
    "Verification",
    "check_model",
    "model_report",
    "summary_report",
    "write_reports",
]
