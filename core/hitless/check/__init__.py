"""The exhaustive checker: every interleaving of DMA, walks, caches and commands with a plan. See docs/checker.md."""

from hitless.check.checking import check
from hitless.check.observe import Observation, observe
from hitless.check.report import Report, Violation
from hitless.check.subject import CheckUnit, Subject, Truth, TruthRun

__all__ = ["CheckUnit", "Observation", "Report", "Subject", "Truth", "TruthRun", "Violation", "check", "observe"]
