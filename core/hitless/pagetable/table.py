"""Reading tables: where an entry lies, the walk, and all leaves of a table."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from hitless.bits import U64Array
from hitless.memory import PhysicalMemory
from hitless.pagetable.format import Leaf, Level, PageFormat, Position, WalkFault


def entry_pa(level: Level, table_pa: int, iova: int) -> int:
    """Address of the entry for an IOVA in a table of this level."""
    return table_pa + ((iova >> level.lo & (1 << level.bits) - 1) << 3)


def walk(load: Callable[[int], int], fmt: PageFormat, start: Position | WalkFault) -> Leaf | WalkFault:
    """Follow pure steps from a position to a leaf or a fault; ``load`` reads one word of memory."""
    at: Position | Leaf | WalkFault = start
    levels = fmt.levels
    while type(at) is Position:
        at = fmt.step(at, load(entry_pa(levels[at.level], at.table_pa, at.iova)))
    return at  # type: ignore[return-value]


def translate(memory: PhysicalMemory, fmt: PageFormat, root_pa: int, iova: int) -> int | None:
    """The output address of an IOVA as memory stands, or None."""
    found = walk(memory.load, fmt, fmt.start(root_pa, iova))
    return found.oa + iova - found.iova if isinstance(found, Leaf) else None


def tables(
    memory: PhysicalMemory, fmt: PageFormat, root_pa: int, start: int = 0, end: int | None = None
) -> Iterator[tuple[Level, int, int, U64Array]]:
    """Every table that a root reaches: its level, first IOVA, address and words.

    With ``start`` and ``end`` only those that translate a part of ``[start, end)``. First IOVAs are
    canonical.
    """
    pending = [(fmt.top.number, 0, root_pa)]
    while pending:
        number, base, pa = pending.pop()
        level = fmt.levels[number]
        words = memory.view(pa, 1 << level.bits)
        yield level, base, pa, words
        if number == 0:
            continue
        used = np.flatnonzero(words)
        for index, word in zip(used.tolist(), words[used].tolist(), strict=True):
            if fmt.present(word) and not fmt.is_leaf(word, number):
                iova = fmt.canonical(base + (index << level.lo))
                if end is None or (iova < end and start < iova + (1 << level.lo)):
                    pending.append((fmt.child_level(word, number), iova, int(fmt.table_pa(word))))


def table_leaves(
    memory: PhysicalMemory, fmt: PageFormat, root_pa: int, start: int = 0, end: int | None = None
) -> Iterator[Leaf]:
    """Every leaf that a root reaches (and that maps a part of ``[start, end)``), table by table; a run once."""
    for level, base, _, words in tables(memory, fmt, root_pa, start, end):
        number, last = level.number, (-1, -1)
        for index in np.flatnonzero(words).tolist():
            word = int(words[index])
            if fmt.present(word) and fmt.is_leaf(word, number):
                lg2 = int(fmt.leaf_lg2(word, number))
                iova = fmt.canonical(base + (index << level.lo)) >> lg2 << lg2
                wanted = end is None or (iova < end and start < iova + (1 << lg2))
                if wanted and (iova, lg2) != last:
                    oa, rights = fmt.leaf_oa(word, number), fmt.rights(word, number)
                    yield Leaf(fmt.stage, number, iova, lg2, oa, rights, fmt.attrs(word, number), word)
                    last = (iova, lg2)


def count_leaves(memory: PhysicalMemory, fmt: PageFormat, root_pa: int) -> Counter[int]:
    """How many leaves of each size (log2) a root reaches; counted on arrays, a run as one."""
    found: Counter[int] = Counter()
    for level, _, _, words in tables(memory, fmt, root_pa):
        used = words[words != 0]
        leaves = used[np.logical_and(fmt.present(used), fmt.is_leaf(used, level.number))]
        if not leaves.size:
            continue
        sizes = np.broadcast_to(fmt.leaf_lg2(leaves, level.number), leaves.shape)
        for lg2, count in zip(*(each.tolist() for each in np.unique(sizes, return_counts=True)), strict=True):
            found[lg2] += count >> max(0, lg2 - level.lo)
    return found


class Words(Protocol):
    """Memory that is only read, many words at once."""

    def view(self, pa: int, count: int) -> U64Array:
        """The words from an address on."""
        ...


def tables_below(fmt: PageFormat, memory: Words, number: int, pa: int) -> Iterator[tuple[int, int]]:
    """A table of level ``number`` and all below it, as (address, size_lg2), itself first."""
    level = fmt.levels[number]
    yield pa, level.table_lg2
    if number:
        words = memory.view(pa, 1 << level.bits)
        for word in words[words != 0].tolist():
            if fmt.present(word) and not fmt.is_leaf(word, number):
                yield from tables_below(fmt, memory, fmt.child_level(word, number), int(fmt.table_pa(word)))
