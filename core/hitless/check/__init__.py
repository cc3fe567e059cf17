"""The exhaustive checker: every interleaving of DMA, walks, caches and commands with a plan. See docs/checker.md."""

from hitless.check.observe import Observation, observe
from hitless.check.subject import CheckUnit, Subject, Truth, TruthRun

__all__ = ["CheckUnit", "Observation", "Subject", "Truth", "TruthRun", "observe"]
