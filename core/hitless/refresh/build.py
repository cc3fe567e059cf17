"""Tables built off-line: no walker can reach them until one store links them."""

from typing import NamedTuple, Protocol

from hitless.bits import MASK64
from hitless.pagetable import PageFormat
from hitless.plan import Fill, FillRun
from hitless.refresh.recipes import SplitRules
from hitless.refresh.target import Piece


class Tables(Protocol):
    """Where table memory comes from."""

    def allocate(self, size_lg2: int = 12) -> int:
        """Address of a zeroed, naturally aligned block; raises OutOfTableMemory."""

    def free(self, pa: int, size_lg2: int = 12) -> None:
        """Give a block back."""


class LeafRun(NamedTuple):
    """Consecutive leaves that a new table holds for one piece."""

    entry_pa: int
    entries: int
    level: int
    iova: int
    first: int
    increment: int
    piece: Piece


class Builder:
    """Builds the tables of one plan: allocates them, and says how to fill them."""

    def __init__(self, fmt: PageFormat, rules: SplitRules, tables: Tables) -> None:
        self._fmt = fmt
        self._sizes = frozenset(rules.leaf_lg2s)
        self._tables = tables
        self.fills: list[Fill] = []
        self.allocated: list[tuple[int, int]] = []

    def fits(self, level: int, oa: int, iova: int, later_oa: int | None = None) -> bool:
        """Whether a leaf of this level may map ``iova`` to ``oa`` (and then to ``later_oa``)."""
        lo = self._fmt.levels[level].lo
        if lo not in self._sizes:
            return False
        ones = (1 << lo) - 1
        return not ((oa ^ iova) & ones or (later_oa is not None and (later_oa ^ iova) & ones))

    def build(self, number: int, base: int, pieces: list[Piece]) -> tuple[int, list[LeafRun]]:
        """A table of level ``number`` whose first IOVA is ``base``, with all tables below it.

        Returns its address, and its leaves by piece. Raises OutOfTableMemory.
        """
        level = self._fmt.levels[number]
        pa = self._tables.allocate(level.table_lg2)
        self.allocated.append((pa, level.table_lg2))
        fill = Fill(pa, level.table_lg2)
        leaves: list[LeafRun] = []
        below: dict[int, list[Piece]] = {}
        for piece in pieces:
            self._lay(number, base, pa, piece, fill, leaves, below)
        for index in sorted(below):
            child, found = self.build(number - 1, base + (index << level.lo), below[index])
            fill.overrides.append((pa + 8 * index, self._fmt.table(number, child)))
            leaves += found
        self.fills.append(fill)
        return pa, leaves

    def _lay(
        self,
        number: int,
        base: int,
        pa: int,
        piece: Piece,
        fill: Fill,
        leaves: list[LeafRun],
        below: dict[int, list[Piece]],
    ) -> None:
        """Put one piece into a table: a run of leaves in the middle, the rest to tables below."""
        lo = self._fmt.levels[number].lo
        size = 1 << lo
        later_oa = (
            piece.later.oa + piece.start - piece.later.start if piece.later and piece.later.oa is not None else None
        )
        start, end = -(-piece.start // size) * size, piece.end // size * size
        if start < end and self.fits(number, piece.oa, piece.start, later_oa):
            index, count = (start - base) >> lo, (end - start) >> lo
            oa = piece.oa + start - piece.start
            first = self._fmt.leaf(lo, oa, piece.attrs)
            step = (self._fmt.leaf(lo, oa + size, piece.attrs) - first) & MASK64 if count > 1 else 0
            fill.runs.append(FillRun(pa + 8 * index, count, first, step))
            leaves.append(LeafRun(pa + 8 * index, count, number, start, first, step, piece))
            edges = [(piece.start, min(start, piece.end)), (max(end, piece.start), piece.end)]
        else:
            edges = [(piece.start, piece.end)]
        for a, b in edges:
            at = a
            while at < b:
                index = (at - base) >> lo
                stop = min(b, base + (index + 1 << lo))
                part = piece._replace(start=at, end=stop, oa=piece.oa + at - piece.start)
                below.setdefault(index, []).append(part)
                at = stop
