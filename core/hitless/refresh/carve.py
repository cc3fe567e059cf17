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
        bases = _bases(fmt, builder, leaf, level, oa, attrs)
        if bases is None:
            return None
        entry = _cut(fmt, builder, changes, leaf, bases, start, oa)
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
    lo, first = leaf.level.lo, leaf.iova
    hardware = fmt.hardware_set(leaf.level.number)
    segments = list(request.layout(first, first + (1 << lo)))
    alone = len(segments) == 1
    later, stands = None, True
    for each in segments:
        a, b, to, others = each
        same = to == oa + a - first and not (others ^ attrs) & ~hardware
        if alone or (a == start and b == end):
            later, stands = each, same
        elif not same or a not in (first, end) or b not in (start, first + (1 << lo)):
            return None, False, False
    return later, stands, alone


def _bases(
    fmt: PageFormat, builder: Builder, leaf: _Leaf, level: Level, oa: int, attrs: int
) -> list[tuple[Level, int]] | None:
    """The levels of the tables that take a leaf apart, from above, each with what its leaves hold beside an address."""
    if oa + (1 << leaf.level.lo) - 1 >> fmt.oa_bits:
        return None
    found = []
    for number in range(leaf.level.number - 1, level.number - 1, -1):
        if not builder.only_plain(number) or (base := fmt.leaf_base(fmt.levels[number].lo, attrs)) is None:
            return None
        found.append((fmt.levels[number], base))
    return found


def _cut(
    fmt: PageFormat,
    builder: Builder,
    changes: Changes,
    leaf: _Leaf,
    bases: list[tuple[Level, int]],
    start: int,
    oa: int,
) -> _Leaf:
    """Put tables in place of a leaf, down to one that has an entry for the range; that entry."""
    level, entry_pa, iova, word = leaf
    fold: list[tuple[int, int]] = []
    fills: list[Fill] = []
    above, above_pa, pointers = level.number, entry_pa, list[int]()
    for below, base in bases:
        pa = builder.allocate(below)
        pointer = fmt.table(above, pa)
        pointers.append(pointer)
        if fills:
            fills[-1].overrides.append((above_pa, pointer))
        entries, lo = 1 << below.bits, below.lo
        index = start >> lo & entries - 1
        first = oa + (start >> lo << lo) - iova - (index << lo)
        fills.append(Fill(pa, below.table_lg2, [FillRun(pa, entries, base | first, 1 << lo)]))
        above, above_pa = below.number, pa + 8 * index
        last = below is bases[-1][0]
        parts = ((pa, index), (above_pa, 1 if last else 0), (above_pa + 8, entries - 1 - index))
        fold += [part for part in parts if part[1]]
    builder.fills += reversed(fills)
    changes.cut.append(Change("cut", entry_pa, level.number, iova, word, pointers[0], leaf.target(), fold))
    below, base = bases[-1]
    return _Leaf(below, above_pa, start, base | oa + start - iova)


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
