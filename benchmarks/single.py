"""One conversion alone: hitless beside the table work of one conversion in Python without anything around it.

That work is the job's base: from the root down to the page, tables cut on the way, each filled by one slice of an
array and linked by one store, and the page's entry stored. It knows one format (AMD v1) and nothing of ranges, plans,
commands, units, owners or errors.
"""

import statistics
import time

import numpy as np

from benchmarks.measure import Spread
from benchmarks.stage import GIB, GUEST_PA, Stage
from hitless.guest_memfd.backing import GUEST

CASES = ("1G", "2M", "split")
_BLOCK = 20
"""So many conversions of one side, then as many of the other: neither always runs in what the other left of a cache."""
_ADDRESS, _NEXT_LEVEL, _FLAGS = 0x000F_FFFF_FFFF_F000, 0xE00, 0x7000_0000_0000_0001
_POINTER = 0x6000_0000_0000_0001
_RAMPS = [np.arange(512, dtype=np.uint64) << np.uint64(12 + 9 * level) for level in range(3)]


class TableJob:
    """Tables of AMD v1 in one array, seen as a memoryview for single words.

    Args:
        gigabytes: at IOVA 0, mapped by leaves of ``leaf_lg2``.
        tables: how many may be cut; they are taken from a list.
    """

    def __init__(self, gigabytes, leaf_lg2, tables):
        below = gigabytes if leaf_lg2 == 21 else 0
        self._array = np.ones(512 * (2 + below + tables), dtype=np.uint64)  # touched, so that its pages are there
        self._words = memoryview(self._array).cast("B").cast("Q")
        self._free = [512 * (2 + below + i) for i in reversed(range(tables))]
        self._words[0] = 512 << 3 | 3 << 9 | _POINTER
        for i in range(gigabytes):
            pa = GUEST_PA + i * GIB
            if below:
                table = 512 * (2 + i)
                self._array[table : table + 512] = _RAMPS[1] + np.uint64(pa | _FLAGS)
                self._words[512 + i] = table << 3 | 2 << 9 | _POINTER
            else:
                self._words[512 + i] = pa | _FLAGS

    def refresh(self, iova, pa):
        """Bring one page to another address; whatever is larger is cut."""
        words = self._words
        at = iova >> 39 & 511
        for level, shift in ((2, 30), (1, 21), (0, 12)):
            at = (words[at] & _ADDRESS) >> 3 | iova >> shift & 511
            word = words[at]
            if level and not word & _NEXT_LEVEL:
                table = self._free.pop()
                self._array[table : table + 512] = _RAMPS[level - 1] + np.uint64(word)
                words[at] = table << 3 | level << 9 | _POINTER
        words[at] = pa | _FLAGS

    def translate(self, iova):
        """Where an IOVA leads."""
        at = iova >> 39 & 511
        for shift in (30, 21, 12):
            at = (self._words[at] & _ADDRESS) >> 3 | iova >> shift & 511
            word = self._words[at]
            if not word & _NEXT_LEVEL:
                return (word & _ADDRESS) + (iova & (1 << shift) - 1)
        raise AssertionError(f"entry {word:#x} of a table of pages is a pointer")

    @property
    def tables_left(self):
        """How many tables are free."""
        return len(self._free)


def _timed(job, *arguments):
    """Seconds of one call."""
    begun = time.perf_counter_ns()
    job(*arguments)
    return (time.perf_counter_ns() - begun) / 1e9


def measure(baseline, page_format, samples):
    """Conversions of one page, one by one, each beside one of the base: {case: (hitless, base)}.

    In a leaf of 1G that nobody has cut, one of 2M, and then the page beside that, in a leaf of 4K.
    """
    found = {}
    for case, leaf_lg2 in (("1G", 30), ("2M", 21)):
        stage = Stage(baseline, page_format, samples, leaf_lg2, 1 << 26)
        base = TableJob(samples, leaf_lg2, 2 * samples)
        for name, page in ((case, 7), ("split", 6)):
            hitless, bare = Spread(), Spread()
            iovas = [i * GIB + (i * 37 % 512 << 21) + (page << 12) for i in range(samples)]
            for first in range(0, samples, _BLOCK):
                block = iovas[first : first + _BLOCK]
                hitless.values += [_timed(stage.guest.convert, [(iova, iova + 4096)], GUEST) for iova in block]
                bare.values += [_timed(base.refresh, iova, iova + 2 * GUEST_PA) for iova in block]
            if name not in found:
                found[name] = (hitless, bare)
        stage.close()
    return found


def ratio(hitless, base):
    """Of the medians."""
    return statistics.median(hitless.values) / statistics.median(base.values)
