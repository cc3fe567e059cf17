"""One leaf's worth of IOVAs, inside one leaf: what :class:`hitless.refresh.survey.Survey` finds, found directly.

Nearly every single conversion is of this kind. Each of its tables holds one plain leaf beside the other, but for one
entry, so that nothing is laid out piece by piece. What is of another kind is left to the survey.
"""

from typing import NamedTuple

from hitless.pagetable import Level, PageFormat
from hitless.plan import Fill, FillRun
from hitless.refresh.build import Builder
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Target
from hitless.refresh.grow import Planned
from hitless.refresh.slots import Ranges
from hitless.refresh.target import PlanRequest, Segment


class _Leaf(NamedTuple):
    """A plain leaf: its level, its entry, the first IOVA that it translates, and its word."""

    level: Level
    pa: int
    iova: int
    word: int

    def target(self) -> Target:
        """What a cache may hold of it."""
        level, _, iova, _ = self
        return Target(iova, iova + (1 << level.lo) - 1, level.lo, level.number, False)


def carve(
    fmt: PageFormat, memory: Planned, builder: Builder, request: PlanRequest, root_pa: int, ranges: Ranges
) -> Changes | None:
    """What a request changes; None: it is of another kind, and nothing is allocated.

    Raises:
        OutOfTableMemory.
    """
    if len(ranges) != 1 or request.merge or request.remap or not request.owners.plain:
        return None
    start, end = ranges[0]
    level = _level(fmt, start, end)
    leaf = None if level is None else _find(fmt, memory, root_pa, start, level.lo)
    if level is None or leaf is None or (request.owed and request.owed != ((start, end),)):
        return None
    number, changes = leaf.level.number, Changes()
    oa, attrs = fmt.leaf_oa(leaf.word, number), fmt.attrs(leaf.word, number)
    later, stands, alone = _wanted(fmt, request, leaf, oa, attrs, start, end)
    if later is None or leaf.level.lo > builder.largest_lg2:
        return None
    if alone and stands:
        if request.owed:
            changes.owed.append(leaf.target())
        return changes
    if alone is not (leaf.level is level) or (later.oa is not None and (later.oa ^ start) & (1 << level.lo) - 1):
        return None
    if alone:
        entry = leaf
    else:
        levels = _below(fmt, builder, leaf, level, oa, attrs)
        if levels is None:
            return None
        entry = _cut(fmt, builder, changes, leaf, levels, start, oa)
    if not stands:
        _convert(fmt, changes, entry, later, wipe_first=request.wipe_first)
    elif request.owed:
        changes.owed.append(entry.target())
    return changes


def _level(fmt: PageFormat, start: int, end: int) -> Level | None:
    """The level whose plain leaves are as large as a range, and aligned as it is."""
    size = end - start
    for level in fmt.levels:
        if size >> level.lo <= 1:
            return level if size == 1 << level.lo and not start & size - 1 else None
    return None


def _find(fmt: PageFormat, memory: Planned, root_pa: int, start: int, size_lg2: int) -> _Leaf | None:
    """The plain leaf around a block, through pointers that lead to more than the block."""
    table_pa, level = root_pa, fmt.top
    while True:
        pa = table_pa + ((start >> level.lo & (1 << level.bits) - 1) << 3)
        word = memory.load(pa)
        below = fmt.table_below(word, level.number)
        if below is None:
            break
        if level.lo <= size_lg2:
            return None
        table_pa, level = below, fmt.levels[level.number - 1]
    number, lo = level.number, level.lo
    if not fmt.present(word) or not fmt.is_leaf(word, number) or fmt.leaf_lg2(word, number) != lo:
        return None
    return _Leaf(level, pa, start >> lo << lo, word)


def _wanted(
    fmt: PageFormat, request: PlanRequest, leaf: _Leaf, oa: int, attrs: int, start: int, end: int
) -> tuple[Segment | None, bool, bool]:
    """What the layout asks for in the range; whether that stands already; whether it is one with the rest of the leaf.

    None: something else in the leaf changes too, or a leaf may not reach over another edge.
    """
    first, stop = leaf.iova, leaf.iova + (1 << leaf.level.lo)
    hardware = fmt.hardware_set(leaf.level.number)
    later, stands, alone = None, True, False
    for each in request.layout(first, stop):
        a, b, to, others = each
        same = to == oa + a - first and not (others ^ attrs) & ~hardware
        alone = a == first and b == stop
        if alone or (a == start and b == end):
            later, stands = each, same
        elif not same or a not in (first, end) or b not in (start, stop):
            return None, False, False
    return later, stands, alone


def _below(
    fmt: PageFormat, builder: Builder, leaf: _Leaf, level: Level, oa: int, attrs: int
) -> list[tuple[Level, int, int]] | None:
    """The levels of the tables that take a leaf apart, from above, each with the ramp of its words."""
    if oa + (1 << leaf.level.lo) - 1 >> fmt.oa_bits:
        return None
    found = []
    for number in range(leaf.level.number - 1, level.number - 1, -1):
        below = fmt.levels[number]
        if not builder.only_plain(number) or (ramp := fmt.leaf_ramp(below.lo, attrs)) is None:
            return None
        found.append((below, *ramp))
    return found


def _cut(
    fmt: PageFormat,
    builder: Builder,
    changes: Changes,
    leaf: _Leaf,
    levels: list[tuple[Level, int, int]],
    start: int,
    oa: int,
) -> _Leaf:
    """Put tables in place of a leaf, down to one that has an entry for the range; that entry."""
    level, entry_pa, iova, word = leaf
    fold: list[tuple[int, int]] = []
    fills: list[Fill] = []
    above, above_pa, pointers = level.number, entry_pa, list[int]()
    for below, zero, rise in levels:
        pa = builder.allocate(below)
        pointer = fmt.table(above, pa)
        pointers.append(pointer)
        if fills:
            fills[-1].overrides.append((above_pa, pointer))
        entries, lo = 1 << below.bits, below.lo
        index = start >> lo & entries - 1
        first = zero + ((oa + start - iova >> lo) - index) * rise
        above, above_pa = below.number, pa + 8 * index
        last = below is levels[-1][0]
        runs = []
        for at, count in ((0, index), (index, 1 if last else 0), (index + 1, entries - 1 - index)):
            if count:
                runs.append(FillRun(pa + 8 * at, count, first + at * rise, rise if count > 1 else 0))
        fills.append(Fill(pa, below.table_lg2, runs))
        fold += [run[:2] for run in runs]
    builder.fills += reversed(fills)
    changes.cut.append(Change("cut", entry_pa, level.number, iova, word, pointers[0], leaf.target(), fold))
    below, zero, rise = levels[-1]
    return _Leaf(below, above_pa, start, zero + (oa + start - iova >> below.lo) * rise)


def _convert(fmt: PageFormat, changes: Changes, leaf: _Leaf, later: Segment, *, wipe_first: bool) -> None:
    """Replace or wipe a leaf."""
    level, pa, iova, old = leaf
    number, target = level.number, leaf.target()
    if later.oa is None or wipe_first:
        changes.wipe.append(Change("wipe", pa, number, iova, old, 0, target))
        old = 0
    if later.oa is not None:
        new = fmt.leaf(level.lo, later.oa, later.attrs)
        changes.place.append(Change("replace" if old else "map", pa, number, iova, old, new, target))
