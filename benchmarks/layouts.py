"""Layouts of the benchmarks: memory that is contiguous but for ranges that lie elsewhere."""

import numpy as np

from hitless.refresh.target import Segments


def moved(ranges, pa, ranges_pa, attributes):
    """The layout of memory at IOVA + ``pa``, but of ranges at IOVA + ``ranges_pa`` (None: unmapped), in both forms.

    Args:
        ranges: columns; sorted, and none touches the next.
        pa: of IOVA 0.
        ranges_pa: the same for what lies in ranges.
        attributes: of all leaves.
    """
    edges = np.empty(2 * len(ranges) + 1, dtype=np.uint64)  # what begins at an odd index is a range
    edges[0] = 0
    edges[1::2] = ranges.start
    np.add(ranges.last, np.uint64(1), out=edges[2::2])

    def segments(start, end):
        first = int(np.searchsorted(edges, np.uint64(start), "right")) - 1
        stop = int(np.searchsorted(edges, np.uint64(end)))
        starts, lasts = edges[first:stop].copy(), np.empty(stop - first, dtype=np.uint64)
        starts[0] = start
        np.subtract(edges[first + 1 : stop], np.uint64(1), out=lasts[:-1])
        lasts[-1] = end - 1
        oas, attrs = starts + np.uint64(pa), np.full(len(starts), attributes, dtype=np.uint64)
        mapped, inside = np.ones(len(starts), dtype=bool), slice(1 - first % 2, None, 2)
        if ranges_pa is None:
            oas[inside], attrs[inside], mapped[inside] = 0, 0, False
        else:
            oas[inside] += np.uint64(ranges_pa - pa & (1 << 64) - 1)
        return Segments(starts, lasts, oas, attrs, mapped)

    def layout(start, end):
        return iter(segments(start, end))

    return layout, segments
