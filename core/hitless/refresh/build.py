"""Tables built off-line: no walker can reach them until one store links them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from hitless.bits import MASK64, U64Array
from hitless.columns import Blocks
from hitless.errors import HitlessError
from hitless.pagetable import LeafSize, Level, PageFormat
from hitless.plan import Fill, FillRun
from hitless.refresh.recipes import SplitRules
from hitless.refresh.target import Piece
from hitless.units import lg2_text


class Tables(Protocol):
    """Where table memory comes from."""

    def allocate(self, size_lg2: int = 12) -> int:
        """Address of a zeroed, naturally aligned block; raises OutOfTableMemory."""

    def allocate_many(self, count: int, size_lg2: int = 12) -> U64Array:
        """The blocks that as many calls of :meth:`allocate` would give, in that order; none if it raises."""

    def free(self, pa: int, size_lg2: int = 12) -> None:
        """Give a block back."""

    def free_many(self, pas: U64Array, size_lg2: int = 12) -> None:
        """Give blocks of one size back, one after the other."""


def free_blocks(tables: Tables, blocks: Blocks) -> None:
    """Give blocks back, one after the other."""
    if len(set(blocks.size_lg2.tolist())) == 1:
        tables.free_many(blocks.pa, int(blocks.size_lg2[0]))
        return
    for pa, size_lg2 in blocks:
        tables.free(pa, size_lg2)


class Laid(NamedTuple):
    """Adjacent entries that hold leaves of one size: words ``first``, ``first + increment``, ..."""

    entry_pa: int
    entries: int
    size: LeafSize
    iova: int
    first: int
    increment: int
    piece: Piece


class Row(NamedTuple):
    """Adjacent leaves of one size that a piece gets in one table."""

    iova: int
    size: LeafSize
    leaves: int
    piece: Piece


class Later(NamedTuple):
    """A leaf of a new table that a store of its own cuts once the table is linked: its entry, and the pointer."""

    entry_pa: int
    level: int
    iova: int
    leaf: int
    pointer: int
    leaves: list[Laid]


class Builder:
    """Lays out pieces, and builds the tables of one plan: allocates them, and says how to fill them.

    ``sizes``: what earlier plans with the same format and rules have found out about leaves, by level.
    """

    def __init__(
        self, fmt: PageFormat, rules: SplitRules, tables: Tables, sizes: dict[int, list[LeafSize]] | None = None
    ) -> None:
        self._fmt = fmt
        self._allowed = rules.leaf_lg2s
        self.largest_lg2 = rules.leaf_lg2s[-1]
        self._sizes = {} if sizes is None else sizes
        self.tables = tables
        self.fills: list[Fill] = []
        self.allocated: list[tuple[int, int]] = []
        self.later: list[Later] = []

    def fits(self, lg2: int, oa: int, iova: int, later_oa: int | None = None) -> bool:
        """Whether a leaf of this size may map ``iova`` to ``oa`` (and then to ``later_oa``)."""
        if lg2 not in self._allowed:
            return False
        ones = (1 << lg2) - 1
        return not ((oa ^ iova) & ones or (later_oa is not None and (later_oa ^ iova) & ones))

    def runs(self, level: int) -> list[LeafSize]:
        """The runs that may be laid out in a table of this level, largest first."""
        return [size for size in self._at(level) if size.entries_lg2]

    def only_plain(self, level: int) -> bool:
        """Whether a table of this level may hold plain leaves, and no runs."""
        sizes = self._at(level)
        return len(sizes) == 1 and not sizes[0].entries_lg2

    def allocate(self, level: Level) -> int:
        """Address of an empty table; raises OutOfTableMemory."""
        pa = self.tables.allocate(level.table_lg2)
        self.allocated.append((pa, level.table_lg2))
        return pa

    def _at(self, level: int) -> list[LeafSize]:
        """The leaves that may be laid out in a table of this level, largest first."""
        found = self._sizes.get(level)
        if found is None:
            allowed = self._allowed
            found = [size for size in reversed(self._fmt.leaf_sizes) if size.level == level and size.lg2 in allowed]
            self._sizes[level] = found
        return found

    # -- laying out

    def split(self, number: int, pieces: Sequence[Piece]) -> tuple[list[Row], dict[int, list[Piece]]]:
        """The largest leaves that a table of level ``number`` may hold for pieces, and what is left.

        What is left is by the first IOVA of the entry that has to lead to a table below.
        """
        rows: list[Row] = []
        below: dict[int, list[Piece]] = {}
        lo = self._fmt.levels[number].lo
        for piece in pieces:
            start, end, oa, attrs, later, change = piece
            low = high = end
            if sizes := self._usable(number, piece):
                smallest = sizes[-1].lg2
                first, stop = -(-start >> smallest) << smallest, end >> smallest << smallest
                if first < stop:
                    low, high = first, stop
                    if len(sizes) == 1:
                        rows.append(Row(low, sizes[0], (high - low) >> smallest, piece))
                    else:
                        rows += [Row(at, size, leaves, piece) for at, size, leaves in _greedy(low, high, sizes)]
            for begin, until in ((start, low), (high, end)):
                at = begin
                while at < until:
                    entry = at >> lo << lo
                    stop = min(until, entry + (1 << lo))
                    part = Piece(at, stop, oa + at - start, attrs, later, change)
                    below.setdefault(entry, []).append(part)
                    at = stop
        if below and not number:
            raise HitlessError(
                f"{self._fmt.name}: no leaf that may be laid out is small enough",
                where=f"iova {min(below):#x}",
                do=f"map multiples of {lg2_text(min(self._allowed))}, aligned to it",
            )
        return rows, below

    def _usable(self, number: int, piece: Piece) -> list[LeafSize]:
        """Sizes of a level that a piece's addresses allow, largest first."""
        start, _, oa, _, later, _ = piece
        apart = oa ^ start
        if later is not None and later.oa is not None:
            apart |= later.oa + start - later.start ^ start
        sizes = self._at(number)
        if not apart or not sizes or not apart & (1 << sizes[0].lg2) - 1:
            return sizes
        return [size for size in sizes if not apart & (1 << size.lg2) - 1]

    def laid(self, row: Row, entry_pa: int) -> list[Laid]:
        """A row as entries from ``entry_pa`` on: one stretch if its words rise evenly, else one a leaf."""
        fmt, (iova, size, leaves, piece) = self._fmt, row
        lg2, oa = size.lg2, piece.oa + iova - piece.start
        base = fmt.leaf_base(lg2, piece.attrs)
        if base is not None and not oa + (leaves << lg2) - 1 >> fmt.oa_bits:
            return [Laid(entry_pa, leaves, size, iova, base | oa, 1 << lg2 if leaves > 1 else 0, piece)]
        return list(self._uneven(row, entry_pa, oa))

    def _uneven(self, row: Row, entry_pa: int, oa: int) -> Iterator[Laid]:
        """The same for runs, and for words that an address does not stand in as it is."""
        fmt, (iova, size, leaves, piece) = self._fmt, row
        step = fmt.run_step(size.lg2)
        first = fmt.leaf(size.lg2, oa, piece.attrs)
        increment = (fmt.leaf(size.lg2, oa + (1 << size.lg2), piece.attrs) - first) & MASK64 if leaves > 1 else 0
        if size.entries_lg2 and leaves > 1 and increment != step << size.entries_lg2 & MASK64:
            for i in range(leaves):
                yield from self.laid(
                    Row(iova + (i << size.lg2), size, 1, piece), entry_pa + (8 * i << size.entries_lg2)
                )
            return
        if leaves > 2 and fmt.leaf(size.lg2, oa + (leaves - 1 << size.lg2), piece.attrs) != (
            (first + (leaves - 1) * increment) & MASK64
        ):  # an address in two fields does not rise evenly
            half = leaves // 2
            yield from self.laid(row._replace(leaves=half), entry_pa)
            rest = Row(iova + (half << size.lg2), size, leaves - half, piece)
            yield from self.laid(rest, entry_pa + (8 * half << size.entries_lg2))
            return
        entries = leaves << size.entries_lg2
        yield Laid(entry_pa, entries, size, iova, first, step if size.entries_lg2 else increment, piece)

    # -- building

    def build(
        self,
        number: int,
        base: int,
        pieces: Sequence[Piece],
        under: U64Array | None = None,
        later: Callable[[int, int, int], bool] | None = None,
    ) -> tuple[int, list[Laid]]:
        """A table of level ``number`` whose first IOVA is ``base``, with all tables below it.

        Where no piece lies it holds the words of ``under``. ``later`` says of a block, by IOVA, address and size, that
        it stays one leaf until a store of its own cuts it; such are noted in :attr:`later`. Returns the table's
        address, and its leaves by piece. Raises OutOfTableMemory.
        """
        fmt = self._fmt
        level = fmt.levels[number]
        pa = self.allocate(level)
        rows, below = self.split(number, pieces)
        leaves: list[Laid] = []
        for row in rows:
            leaves += self.laid(row, pa + 8 * ((row.iova - base) >> level.lo))
        runs = _even(leaves) if under is None else [*_compressed(pa, under), *_even(leaves)]
        fill = Fill(pa, level.table_lg2, runs)
        for iova in sorted(below):
            child, found = self.build(number - 1, iova, below[iova], later=later)
            entry_pa, word = pa + 8 * ((iova - base) >> level.lo), fmt.table(number, child)
            if later is not None:
                first = below[iova][0]
                if later(iova, first.oa, level.lo):
                    leaf = fmt.leaf(level.lo, first.oa, first.attrs)
                    self.later.append(Later(entry_pa, number, iova, leaf, word, found))
                    word = leaf
            fill.overrides.append((entry_pa, word))
            leaves += found
        self.fills.append(fill)
        return pa, leaves


def _even(leaves: Sequence[Laid]) -> list[FillRun]:
    """The words of leaves, adjacent ones that rise on evenly as one run, whatever becomes of them later."""
    runs: list[FillRun] = []
    pa = entries = first = increment = 0
    for each in leaves:
        if entries and each.entry_pa == pa + 8 * entries:
            rise = (each.first - first - (entries - 1) * increment) & MASK64
            if (entries == 1 or rise == increment) and (each.entries == 1 or rise == each.increment):
                increment = rise
                entries += each.entries
                runs[-1] = FillRun(pa, entries, first, increment)
                continue
        pa, entries, _, _, first, increment, _ = each
        runs.append(FillRun(pa, entries, first, increment))
    return runs


def _greedy(start: int, end: int, sizes: Sequence[LeafSize]) -> Iterator[tuple[int, LeafSize, int]]:
    """``[start, end)`` as leaves, each the largest that is aligned and still fits: (first IOVA, size, how many)."""
    if len(sizes) == 1:
        yield start, sizes[0], (end - start) >> sizes[0].lg2
        return
    at = start
    while at < end:
        which, lg2 = next(
            (i, each.lg2)
            for i, each in enumerate(sizes)
            if not at & ((1 << each.lg2) - 1) and at + (1 << each.lg2) <= end
        )
        stop = end >> lg2 << lg2
        if which:
            larger = 1 << sizes[which - 1].lg2
            boundary = -(-at // larger) * larger
            if boundary + larger <= end:
                stop = boundary
        yield at, sizes[which], (stop - at) >> lg2
        at = stop


def _compressed(pa: int, words: U64Array) -> Iterator[FillRun]:
    """The words that are not 0, as runs that rise evenly."""
    first, entries, increment, at = 0, 0, 0, 0
    for index, word in enumerate(words.tolist()):
        if not word:
            continue
        adjacent = entries and index == at + entries
        rise = (word - first - (entries - 1) * increment) & MASK64
        if adjacent and (entries == 1 or rise == increment):
            increment, entries = rise, entries + 1
            continue
        if entries:
            yield FillRun(pa + 8 * at, entries, first, increment if entries > 1 else 0)
        first, entries, increment, at = word, 1, 0, index
    if entries:
        yield FillRun(pa + 8 * at, entries, first, increment if entries > 1 else 0)
