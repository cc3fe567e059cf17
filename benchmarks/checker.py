"""Measures what the checker costs: one plan of many scattered conversions, and how the cost grows with their number.

The guest is shared and mapped by leaves of 1 GiB; pages of it turn private in one conversion, each at a random
place. Planning and checking are timed apart, in processor seconds, so that what else runs here matters little.
Checking is one pass over all interleavings with every rule.
"""

import gc
import random
import time

from benchmarks.guests import GIB, open_domain
from hitless.check import check
from hitless.check.stage import subject_of
from hitless.check.subject import Truth
from hitless.guest_memfd.backing import GUEST

PAGES = (1_000, 10_000, 100_000)


def scattered(gigabytes, count):
    """So many pages of a guest, in order."""
    chosen = random.Random(0).sample(range(gigabytes * GIB >> 12), count)
    return [(page << 12, page + 1 << 12) for page in sorted(chosen)]


def measure(name, gigabytes, count):
    """Seconds to plan and to check, steps and facts."""
    guest = open_domain(name, gigabytes)
    (domain,) = guest.notifiers
    ranges = scattered(gigabytes, count)
    gc.collect()
    begun = time.process_time()
    conversion = guest.conversion(ranges, GUEST)
    (prepared,) = guest.plan(ranges, GUEST)
    planned = time.process_time()
    truth = Truth.of(guest, domain.default_attrs, conversion.runs)
    report = check(subject_of(domain, truth, list(prepared.plan.steps())))
    checked = time.process_time()
    if report.violations:
        raise SystemExit(f"a right plan breaks a rule: {report.violations[0]}")
    return planned - begun, checked - planned, report


def main(gigabytes, counts=PAGES, name="amd"):
    """Measure, and print one line a number of pages."""
    print(
        f"{'vendor':<10}{'pages':>8}{'steps':>9}{'facts':>9}{'plan s':>9}{'check s':>9}{'us a page':>11}{'growth':>8}"
    )
    before = None
    for count in counts:
        plan, seconds, report = measure(name, gigabytes, count)
        growth = f"{seconds / before:.1f}x" if before else ""
        print(
            f"{name:<10}{count:>8,}{report.steps:>9,}{report.facts:>9,}{plan:>9.1f}{seconds:>9.2f}"
            f"{seconds / count * 1e6:>11.0f}{growth:>8}",
            flush=True,
        )
        before = seconds
