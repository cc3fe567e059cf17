"""Measures single refreshes beside a bare table job, in turn in one run, and prints ratios.

The bare job is what no implementation can go below in Python: two tables filled by slices of a
memoryview and linked by one store each. hitless does that, and plans, orders, encodes commands,
runs them through the queue of the in-memory machine, and waits. No DMA, no checks.
"""

import argparse
import random
import statistics
import time
from array import array

from benchmarks import checker
from benchmarks.guests import GIB, open_domain
from hitless.guest_memfd.backing import GUEST, HOST


def bare_job():
    """Cut 1G -> 2M -> 4K with nothing around it."""
    memory = memoryview(bytearray(1 << 16)).cast("Q")
    rows = [array("Q", range(base, base + 512 * step, step)) for base, step in ((0, 1 << 21), (0, 1 << 12))]

    def job():
        memory[512:1024] = memoryview(rows[0])
        memory[1024:1536] = memoryview(rows[1])
        memory[512] = 1024
        memory[0] = 512
        memory[1025] = 7

    return job


def timed(job, *arguments):
    """Nanoseconds of one call."""
    begun = time.perf_counter_ns()
    job(*arguments)
    return time.perf_counter_ns() - begun


def refreshes(gigabytes):
    """Measure single refreshes, and print one line a vendor and case."""
    rng, bare = random.Random(0), bare_job()
    for _ in range(1000):
        bare()
    print(f"{'vendor':<10}{'case':<8}{'samples':>8}{'median us':>11}{'bare us':>9}{'ratio':>7}{'spread of ratio':>18}")
    for name in ("amd", "intel", "arm_smmu"):
        guest = open_domain(name, gigabytes)
        pages = [i * GIB + rng.randrange(GIB >> 12) * 4096 for i in range(gigabytes)]
        for case, owner in (("1G", GUEST), ("split", HOST)):
            pairs = [(timed(guest.convert, [(page, page + 4096)], owner), timed(bare)) for page in pages]
            base = statistics.median(b for _, b in pairs)
            ratios = sorted(a / base for a, _ in pairs)
            median = statistics.median(a for a, _ in pairs)
            quarter = len(ratios) // 4
            spread = f"{ratios[quarter]:.0f} to {ratios[-quarter - 1]:.0f}"
            print(
                f"{name:<10}{case:<8}{len(pairs):>8}{median / 1e3:>11.1f}{base / 1e3:>9.2f}"
                f"{statistics.median(ratios):>7.0f}{spread:>18}"
            )


def main():
    """Measure what was asked for: all of it, if nothing was."""
    parser = argparse.ArgumentParser(description="Measures refreshes and the checker.")
    parser.add_argument("only", nargs="*", metavar="refresh|checker", help="only these (default: both)")
    parser.add_argument("--gigabytes", type=int, default=64, help="size of the guest; leaves of 1 GiB to cut")
    parser.add_argument("--pages", type=int, nargs="*", default=checker.PAGES, help="conversions in plans to check")
    asked = parser.parse_args()
    if not asked.only or "refresh" in asked.only:
        refreshes(asked.gigabytes)
    if not asked.only or "checker" in asked.only:
        checker.main(asked.gigabytes, asked.pages)


if __name__ == "__main__":
    main()
