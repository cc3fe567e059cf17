"""The RMP in a memory image: raw entries of a processor family, which are not architectural.

Spec: APM volume 2, 15.36; the raw entry of family 19h as Linux reads it. Facts: AMD-RMP-1, AMD-RMP-2, AMD-RMP-20.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hitless.bits import Field, Layout, U64Array, bit, get, ignored, reserved
from hitless.bits import test as is_set
from hitless.errors import BusError
from hitless.hardware.structures import OwnerRun
from hitless.ownership import HOST

RMP_ENTRY = Layout(
    "raw RMP entry, family 19h",
    "APM 15.36; not architectural",
    (
        bit("assigned", 0, "a guest's or firmware's"),
        bit("pagesize", 1, "2M: decides for all 512 pages"),
        bit("immutable", 2, "cannot be changed by the hypervisor"),
        reserved(11, 3),
        Field("GPA", 50, 12, "guest page", unit=1 << 12),
        Field("ASID", 60, 51, "whose"),
        bit("VMSA", 61, "holds a VMSA"),
        bit("validated", 62, "the guest accepted it"),
        reserved(63, 63),
        ignored(127, 64, "VMPL permissions, and what is internal"),
    ),
    128,
)
FIRMWARE = 1 << 16
"""The owner that stands for firmware: no ASID is so large."""
_BOOKKEEPING = 16 << 10
_AT_ONCE = 1 << 17


def read_rmp(base: int, beside: Mapping[str, int], view: Callable[[int, int], U64Array]) -> Iterator[OwnerRun]:
    """The runs of one owner, from RMP_BASE, and RMP_END in ``beside``; a 2M entry decides for all of its pages."""
    start = base + _BOOKKEEPING
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
    large = is_set(low[::512], RMP_ENTRY["pagesize"])
    heads = np.repeat(np.arange(0, len(low), 512), 512)[: len(low)]
    by_large = np.repeat(large, 512)[: len(low)]
    decides = np.where(by_large, low[heads], low)
    asids = get(decides, RMP_ENTRY["ASID"])
    owners = np.where(asids == 0, np.uint64(FIRMWARE), asids)
    return np.where(is_set(decides, RMP_ENTRY["assigned"]), owners, np.uint64(HOST))
