"""How far what was written is from what was wanted."""

from data_gen.report.drift import drift
from data_gen.report.page import write_report

__all__ = ["drift", "write_report"]
