"""Reading tables: where an entry lies, the walk, and all leaves of a table."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from hitless.bits import U64Array
from hitless.memory import PhysicalMemory
from hitless.pagetable.format import READ, WRITE, Leaf, Level, PageFormat, Position, WalkFault


def entry_pa(level: Level, table_pa: int, iova: int) -> int:
    """Address of the entry for an IOVA in a table of this level."""
    return table_pa + ((iova >> level.lo & (1 << level.bits) - 1) << 3)


def root_position(fmt: PageFormat, root_pa: int, iova: int) -> Position | WalkFault:
    """Where a walk starts; a fault if the IOVA is wider than the format's root can index."""
    if iova >> fmt.iova_bits:
        return WalkFault(fmt.stage, fmt.top.number, iova, 0, "range")
    return Position(fmt.stage, fmt.top.number, root_pa, iova, READ | WRITE)


def walk(load: Callable[[int], int], fmt: PageFormat, start: Position | WalkFault) -> Leaf | WalkFault:
    """Follow pure steps from a position to a leaf or a fault; ``load`` reads one word of memory."""
    at: Position | Leaf | WalkFault = start
    levels = fmt.levels
    while type(at) is Position:
        at = fmt.step(at, load(entry_pa(levels[at.level], at.table_pa, at.iova)))
    return at  # type: ignore[return-value]


def translate(memory: PhysicalMemory, fmt: PageFormat, root_pa: int, iova: int) -> int | None:
    """The output address of an IOVA as memory stands, or None."""
    found = walk(memory.load, fmt, root_position(fmt, root_pa, iova))
    return found.oa + iova - found.iova if isinstance(found, Leaf) else None


def _tables(memory: PhysicalMemory, fmt: PageFormat, root_pa: int) -> Iterator[tuple[Level, int, int, U64Array]]:
    """Every reachable table: its level, first IOVA, address and words."""
    pending = [(fmt.top.number, 0, root_pa)]
    while pending:
        number, iova, pa = pending.pop()
        level = fmt.levels[number]
        words = memory.view(pa, 1 << level.bits)
        yield level, iova, pa, words
        if number == 0:
            continue
        used = np.flatnonzero(words)
        for index, word in zip(used.tolist(), words[used].tolist(), strict=True):
            if fmt.present(word) and not fmt.is_leaf(word, number):
                pending.append((number - 1, iova + (index << level.lo), int(fmt.table_pa(word))))


def table_leaves(memory: PhysicalMemory, fmt: PageFormat, root_pa: int) -> Iterator[Leaf]:
    """Every leaf that a root reaches, table by table."""
    for level, base, _, words in _tables(memory, fmt, root_pa):
        for index in np.flatnonzero(words).tolist():
            word = int(words[index])
            if fmt.present(word) and fmt.is_leaf(word, level.number):
                iova = base + (index << level.lo)
                yield Leaf(
                    fmt.stage,
                    level.number,
                    iova,
                    level.lo,
                    fmt.leaf_oa(word, level.number),
                    fmt.rights(word, level.number),
                    fmt.attrs(word, level.number),
                    word,
                )


def count_leaves(memory: PhysicalMemory, fmt: PageFormat, root_pa: int) -> Counter[int]:
    """How many leaves of each size (log2) a root reaches; counted on arrays."""
    found: Counter[int] = Counter()
    for level, _, _, words in _tables(memory, fmt, root_pa):
        used = words[words != 0]
        leaves = np.logical_and(fmt.present(used), fmt.is_leaf(used, level.number))
        if count := int(np.count_nonzero(leaves)):
            found[level.lo] += count
    return found
