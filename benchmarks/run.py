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

from hitless.config import open_registry
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.iommufd import Domain
from hitless.machine import Machine

GIB = 1 << 30


def open_domain(name, gigabytes):
    """A guest in place (Intel: shared at the start, so that there is something to cut) with one domain."""
    vendor = open_registry(None, [name]).resolve(name)
    size = gigabytes * GIB
    guest = GuestMemfd(Slots([Slot(0, 0, size)]), make_backing("separate", 1 << 41, size, 30), 30)
    guest.set_owner(0, size, HOST)
    machine = Machine(0, table_bytes=1 << 30)
    unit = machine.add_unit("iommu0", vendor)
    domain = Domain.open(name, vendor, guest, machine.arena, machine.tables, [(unit, 1, [(8, False)])])
    guest.notifiers.append(domain)
    return guest


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


def main():
    """Measure, and print one line a vendor and case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=int, default=64, help="leaves of 1 GiB to cut, one a sample")
    gigabytes = parser.parse_args().gigabytes
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


if __name__ == "__main__":
    main()
