"""placeholder"""
from naught.lint.engine import check_source
from naught.lint.finding import RULES, Finding
__all__ = ["RULES", "Finding", "check_source"]
