"""Fills of many tables at once, as fast as memory takes them."""

from itertools import pairwise

import numpy as np

from hitless.bits import U64Array
from hitless.memory import PhysicalMemory
from hitless.plan import Fills
from hitless.refresh.batch.spans import repeated, u64

_BLOCK = 1 << 15
"""Words that are written before they are added to: what a core's own cache holds."""
_FEW = 64
_CHUNK = 1 << 20


def fill(memory: PhysicalMemory, step: Fills) -> None:
    """Do what every Fill of it would do."""
    words = 1 << step.size_lg2 - 3
    whole = step.run_entries == u64(words)
    if whole.all():
        _whole(memory, step.run_pa, step.run_first, step.run_increment, words)
    else:
        _whole(memory, step.run_pa[whole], step.run_first[whole], step.run_increment[whole], words)
        part = ~whole
        _parts(memory, step.run_pa[part], step.run_entries[part], step.run_first[part], step.run_increment[part])
    if len(step.override_pa):
        memory.scatter(step.override_pa, step.override_word)


def _whole(memory: PhysicalMemory, pa: U64Array, first: U64Array, increment: U64Array, words: int) -> None:
    """Tables that are one ramp each: those that lie side by side, and rise alike, in blocks."""
    if not len(pa):
        return
    apart = (pa[1:] - pa[:-1] != u64(8 * words)) | (increment[1:] != increment[:-1])
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(pa)]
    index, many = np.arange(words, dtype=np.uint64), max(1, _BLOCK // words)
    known, ramp = -1, index
    for start, stop in pairwise(edges):
        step = int(increment[start])
        if step != known:
            known, ramp = step, index * u64(step)
        view = memory.view(int(pa[start]), (stop - start) * words).reshape(-1, words)
        column = first[start:stop, None]
        for at in range(0, stop - start, many):
            rows = view[at : at + many]
            rows[:] = column[at : at + many]
            rows += ramp


def _parts(memory: PhysicalMemory, pa: U64Array, entries: U64Array, first: U64Array, increment: U64Array) -> None:
    """Runs that do not fill a table: long ones one by one, short ones word by word, many at once."""
    long = entries > u64(_FEW)
    columns = (pa[long], entries[long], first[long], increment[long])
    for at, count, word, step in zip(*(each.tolist() for each in columns), strict=True):
        view = memory.view(at, count)
        view[:] = np.arange(count, dtype=np.uint64) * u64(step) + u64(word)
    pa, entries, first, increment = (each[~long] for each in (pa, entries, first, increment))
    for begin in range(0, len(pa), _CHUNK // _FEW):
        chunk = slice(begin, begin + _CHUNK // _FEW)
        which, step = repeated(entries[chunk])
        words = first[chunk][which] + step * increment[chunk][which]
        memory.scatter(pa[chunk][which] + (step << u64(3)), words)


__all__ = ["fill"]
