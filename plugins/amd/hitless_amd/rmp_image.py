"""The RMP in a memory image: raw entries of a processor family, which are not architectural.

Spec: APM volume 2, 15.36; the raw entry of family 19h as Linux reads it. Facts: AMD-RMP-1, AMD-RMP-2, AMD-RMP-20.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hitless.bits import U64Array, get
from hitless.bits import test as is_set
from hitless.errors import BusError
from hitless.hardware.structures import OwnerRun
from hitless.ownership import HOST
from hitless_amd.rmp import FAMILY_19H, SCRATCH

FIRMWARE = 1 << 16
"""The owner that stands for firmware: no ASID is so large."""
_AT_ONCE = 1 << 17


def read_rmp(base: int, beside: Mapping[str, int], view: Callable[[int, int], U64Array]) -> Iterator[OwnerRun]:
    """The runs of one owner, from RMP_BASE, and RMP_END in ``beside``; a 2M entry decides for all of its pages."""
    start = base + SCRATCH
    if beside["rmp_end"] < start:
        raise BusError(start, f"RMP_END {beside['rmp_end']:#x} is below it: the table has no entry")
    count = beside["rmp_end"] + 1 - start >> 4
    for first in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - first)
        low = view(start + 16 * first, 2 * size)[::2]
        owners = _owners(low)
        edges = np.flatnonzero(np.diff(owners)) + 1
        for at, end in zip([0, *edges.tolist()], [*edges.tolist(), size], strict=True):
            if owners[at] != HOST:
                yield OwnerRun(first + at << 12, first + end << 12, int(owners[at]))


def _owners(low: U64Array) -> U64Array:
    """The owner of each page; both a block of entries and the table begin at a 2M boundary."""
    large = is_set(low[::512], FAMILY_19H["pagesize"])
    heads = np.repeat(np.arange(0, len(low), 512), 512)[: len(low)]
    by_large = np.repeat(large, 512)[: len(low)]
    decides = np.where(by_large, low[heads], low)
    asids = get(decides, FAMILY_19H["asid"])
    owners = np.where(asids == 0, np.uint64(FIRMWARE), asids)
    return np.where(is_set(decides, FAMILY_19H["assigned"]), owners, np.uint64(HOST))
