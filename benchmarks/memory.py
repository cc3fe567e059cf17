"""Peak memory: each figure from a process of its own, in which one side does one job in memory that nobody touched.

``python -m benchmarks.memory JOB FORMAT CASE SIDE GIGABYTES CONVERSIONS`` prints one number, in bytes.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.baseline import Baseline
from benchmarks.jobs import SIZES, Map, Refresh
from benchmarks.stage import Stage, room

FIGURES = (
    ("refresh-tables", "1G", 64, 100_000),
    ("refresh", "1G", 64, 100_000),
    ("map", "4K", 64, 0),
)
"""(job, case, GiB of guest memory, conversions)."""


def _status(key):
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def grown(job, page_format, case, side, gigabytes, conversions):
    """How much more memory this process had at its peak, tables included, than before one side did a job."""
    bytes_ = room(gigabytes, SIZES[case], conversions)
    stage = Stage(Baseline.load(), page_format, gigabytes, SIZES[case], bytes_, empty=job == "map")
    if job == "map":
        made = Map(stage, job, case, gigabytes)
    else:
        made = Refresh(stage, job, case, conversions, complete=job == "refresh")
    made.reset()
    before = _status("VmRSS")
    getattr(made, side)()
    return _status("VmHWM") - before


def figures(page_format):
    """A row of ``memory`` in results.json for each figure."""
    return [
        {
            "job": job,
            "case": case,
            "format": page_format,
            "gib": gigabytes,
            "conversions": conversions,
            "hitless_bytes": _apart(job, page_format, case, "hitless", gigabytes, conversions),
            "c_bytes": _apart(job, page_format, case, "c", gigabytes, conversions),
        }
        for job, case, gigabytes, conversions in FIGURES
    ]


def _apart(*arguments):
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own module
    return int(done.stdout)


def starting(baseline, page_format, gigabytes=16 << 10):
    """What a guest of 16 TiB in leaves of 1G takes to open: a row of ``memory`` in results.json."""
    stage = Stage(baseline, page_format, gigabytes, SIZES["1G"], room(gigabytes, SIZES["1G"], 0))
    begun = time.process_time()
    stage.open()
    seconds = time.process_time() - begun
    tables = stage.domain.tables.used_bytes
    stage.close()
    return {"job": "start", "case": "1G", "format": page_format, "gib": gigabytes, "seconds": seconds, "bytes": tables}


if __name__ == "__main__":
    job_, format_, case_, side_, *numbers = sys.argv[1:]
    print(grown(job_, format_, case_, side_, *map(int, numbers)))
