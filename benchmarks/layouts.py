"""Layouts of the benchmarks: memory that is contiguous but for ranges that lie elsewhere."""

import numpy as np

from hitless.refresh.target import Segments


def moved(ranges, size, pa, ranges_pa, attributes):
    """The layout of ``[0, size)``: IOVA + ``pa``, in ranges IOVA + ``ranges_pa`` (None: unmapped), in both forms."""
    edges = np.empty(2 * len(ranges) + 1, dtype=np.uint64)
    edges[0], edges[1::2], edges[2::2] = 0, ranges.start, ranges.last + np.uint64(1)
    inside = np.zeros(len(edges), dtype=bool)
    inside[1::2] = True

    def segments(start, end):
        first = max(int(np.searchsorted(edges, np.uint64(start), "right")) - 1, 0)
        stop = int(np.searchsorted(edges, np.uint64(end), "left"))
        starts, here = edges[first:stop].copy(), inside[first:stop]
        lasts = np.append(edges[first + 1 : stop], np.uint64(end)) - np.uint64(1)
        starts[0] = start
        mapped = ~here if ranges_pa is None else np.ones(len(here), dtype=bool)
        oas = starts + np.where(here, np.uint64(ranges_pa or 0), np.uint64(pa))
        whole = starts <= lasts  # two ranges may touch, or one begin at 0
        found = (
            starts,
            lasts,
            np.where(mapped, oas, np.uint64(0)),
            np.where(mapped, np.uint64(attributes), np.uint64(0)),
        )
        return Segments(*(each[whole] for each in found), mapped[whole])

    def layout(start, end):
        return iter(segments(start, end))

    return layout, segments
