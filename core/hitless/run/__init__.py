"""The main job: a conversion log through domains of every vendor, with DMA in flight."""

from hitless.run.checking import Check
from hitless.run.images import plan_on_image
from hitless.run.plans import PlannedDomain, plan_conversions
from hitless.run.result import LogCounts, Row, RunResult
from hitless.run.runner import run_log
from hitless.run.world import MachineName

__all__ = [
    "Check",
    "LogCounts",
    "MachineName",
    "PlannedDomain",
    "Row",
    "RunResult",
    "plan_conversions",
    "plan_on_image",
    "run_log",
]
