"""The main job: a conversion log through domains of every vendor, with DMA in flight.

Plans that are only thought through are in :mod:`hitless.run.plans` and :mod:`hitless.run.images`: they need the checker
and the reader of images, which a run without ``--check`` does not load.
"""

from hitless.run.checking import Check
from hitless.run.result import LogCounts, Row, RunResult
from hitless.run.runner import run_log
from hitless.run.world import MachineName

__all__ = [
    "Check",
    "LogCounts",
    "MachineName",
    "Row",
    "RunResult",
    "run_log",
]
