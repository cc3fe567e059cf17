"""Measuring: both sides in turn in one process, in processor seconds, and the bandwidth of memory beside them."""

import gc
import statistics
import time

from attrs import define, field

RAMP_WORDS = 1 << 21
"""Of one measurement of bandwidth: 16 MiB, as many pages of 4K as 4,096 tables."""


@define
class Spread:
    """Many measurements of one thing, in seconds or GB/s."""

    values: list = field(factory=list)

    @property
    def median(self):
        """The middle one."""
        return statistics.median(self.values)

    @property
    def quartiles(self):
        """A quarter of them lies below the first, another above the second."""
        ordered, quarter = sorted(self.values), len(self.values) // 4
        return ordered[quarter], ordered[-quarter - 1]


@define
class Measured:
    """What one job took, each side, and how fast memory was meanwhile."""

    hitless: Spread = field(factory=Spread)
    c: Spread = field(factory=Spread)
    ramp: Spread = field(factory=Spread)
    differences: list = field(factory=list)

    @property
    def ratio(self):
        """How many times C's time hitless took, of the medians."""
        return self.hitless.median / self.c.median


def seconds(job):
    """Processor seconds of one call: what else runs on the machine does not count, but for the memory that it uses."""
    begun = time.process_time_ns()
    job()
    return (time.process_time_ns() - begun) / 1e9


def bandwidth(baseline, words):
    """GB/s at which C fills memory with a ramp, as tables are filled."""
    return words.nbytes / 1e9 / seconds(lambda: baseline.ramp(words))


def in_turn(job, repetitions, budget):
    """Measure a job: one pass to warm up, then both sides in turn, each other pass C first.

    Args:
        job: see :class:`benchmarks.jobs.Job`.
        repetitions: at most; at least 3.
        budget: seconds, everything included, after which no pass is begun.
    """
    baseline, words = job.stage.baseline, job.stage.spare(RAMP_WORDS)
    found = Measured()
    until = time.monotonic() + budget
    for number in range(repetitions + 1):
        if number > 3 and time.monotonic() > until:
            break
        job.reset()
        gc.collect()
        sides = [(job.hitless, found.hitless), (job.c, found.c)]
        for run, spread in sides if number % 2 else reversed(sides):
            taken = seconds(run)
            if number:
                spread.values.append(taken)
        found.ramp.values.append(bandwidth(baseline, words))
        found.differences = found.differences or job.differences()
    return found
