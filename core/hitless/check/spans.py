"""What a table says, as spans: leaves in a row, pointers, and holes. The walk itself is the format's step."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from hitless.bits import MASK64
from hitless.check.shadow import Group, Shadow
from hitless.pagetable import Leaf, PageFormat, Position, WalkFault


class Table(NamedTuple):
    """A table as a walk comes to it: its address and level, the first IOVA it translates, the rights so far."""

    pa: int
    level: int
    base: int
    rights: int


class LeafSpan(NamedTuple):
    """Entries in a row that say: ``[start, end)`` is part of leaves of one size, linear in address.

    The leaves themselves may reach further: an entry of a run says so for the whole run.
    """

    start: int
    end: int
    leaf_lg2: int
    level: int
    oa: int
    rights: int
    attrs: int
    stable: bool
    table_pa: int
    word: int

    def clip(self, start: int, end: int) -> "LeafSpan":
        """The part of it in a range."""
        a, b = max(start, self.start), min(end, self.end)
        return self if (a, b) == self[:2] else self._replace(start=a, end=b, oa=self.oa + a - self.start)


class PointerSpan(NamedTuple):
    """One pointer; ``child`` is the table as a walk comes to it."""

    start: int
    end: int
    entry_pa: int
    word: int
    child: Table


class FaultSpan(NamedTuple):
    """IOVAs whose walk ends here without a leaf; ``kind`` as :class:`hitless.pagetable.WalkFault` says it."""

    start: int
    end: int
    kind: str
    level: int
    table_pa: int
    word: int

    def clip(self, start: int, end: int) -> "FaultSpan":
        """The part of it in a range."""
        return self._replace(start=max(start, self.start), end=min(end, self.end))


Span: TypeAlias = LeafSpan | PointerSpan | FaultSpan


class Reader:
    """Reads tables of one format out of a shadow."""

    def __init__(self, fmt: PageFormat, shadow: Shadow) -> None:
        self._fmt = fmt
        self._shadow = shadow

    def entry(self, table: Table, index: int, word: int) -> Span:
        """What one word of a table says at an index."""
        return next(self._spans(table, Group(index, 1, word, 0)))

    def table(self, table: Table, start: int, end: int) -> Iterator[Span]:
        """The spans of a table that touch ``[start, end)``, in order, as memory stands."""
        level = self._fmt.levels[table.level]
        start, end = max(start, table.base), min(end, self.end(table))
        if start >= end:
            return
        first, last = (start - table.base) >> level.lo, (end - 1 - table.base) >> level.lo
        held: LeafSpan | None = None
        for group in self._shadow.groups(table.pa, level.table_lg2, first, last):
            for span in self._spans(table, group):
                joined = _joined(held, span)
                if joined is None and held is not None:
                    yield held
                held = joined or (span if isinstance(span, LeafSpan) else None)
                if held is None:
                    yield span
        if held is not None:
            yield held

    def below(self, table: Table, start: int, end: int) -> Iterator[tuple[Table, Span]]:
        """The spans that ``[start, end)`` touches in a table and in all tables below it, with the table of each."""
        for span in self.table(table, start, end):
            yield table, span
            if isinstance(span, PointerSpan):
                yield from self.below(span.child, start, end)
                beyond = self.end(span.child)  # a pointer that skips levels reaches less than its entry spans
                if beyond < min(span.end, end):
                    at = max(beyond, start)
                    yield table, FaultSpan(at, span.end, "range", table.level, table.pa, span.word)

    def end(self, table: Table) -> int:
        """The first IOVA beyond what a table translates."""
        level = self._fmt.levels[table.level]
        return table.base + (1 << level.lo + level.bits)

    def _spans(self, table: Table, group: Group) -> Iterator[Span]:
        fmt, level = self._fmt, self._fmt.levels[table.level]
        index, count, first, increment = group
        start = table.base + (index << level.lo)
        if count > 1:
            whole = self._row(table, group, start)
            if whole is not None:
                yield whole
                return
            for i in range(count):
                yield from self._spans(table, Group(index + i, 1, (first + i * increment) & MASK64, 0))
            return
        found = self._step(table, start, first)
        end = start + (1 << level.lo)
        match found:
            case WalkFault():
                yield FaultSpan(start, end, found.kind, table.level, table.pa, first)
            case Leaf():
                yield LeafSpan(
                    start,
                    end,
                    found.size_lg2,
                    table.level,
                    found.oa + start - found.iova,
                    found.rights,
                    found.attrs & ~fmt.hardware_set(table.level),
                    fmt.cacheable(first, table.level),
                    table.pa,
                    first,
                )
            case Position():
                child = Table(found.table_pa, found.level, start, found.rights)
                yield PointerSpan(start, end, table.pa + 8 * index, first, child)

    def _row(self, table: Table, group: Group, start: int) -> Span | None:
        """Several entries as one span; None if they have to be looked at one by one."""
        fmt, level = self._fmt, self._fmt.levels[table.level]
        _, count, first, increment = group
        end = start + (count << level.lo)
        last = (first + (count - 1) * increment) & MASK64
        one, other = self._step(table, start, first), self._step(table, end - (1 << level.lo), last)
        if isinstance(one, WalkFault) and isinstance(other, WalkFault):
            same = one.kind == other.kind == "not-present" and increment == 0
            return FaultSpan(start, end, one.kind, table.level, table.pa, first) if same else None
        if not (isinstance(one, Leaf) and isinstance(other, Leaf)):
            return None
        plain = one.size_lg2 == other.size_lg2 == level.lo
        linear = other.oa - one.oa == count - 1 << level.lo
        if not (plain and linear and one.attrs == other.attrs and one.rights == other.rights):
            return None
        attrs = one.attrs & ~fmt.hardware_set(table.level)
        stable = fmt.cacheable(first, table.level)
        return LeafSpan(start, end, level.lo, table.level, one.oa, one.rights, attrs, stable, table.pa, first)

    def _step(self, table: Table, iova: int, word: int) -> Position | Leaf | WalkFault:
        return self._fmt.step(Position(self._fmt.stage, table.level, table.pa, iova, table.rights), word)


def _joined(held: LeafSpan | None, span: Span) -> LeafSpan | None:
    """Two entries of one run as one span; None if they are not."""
    if held is None or not isinstance(span, LeafSpan) or held.end != span.start or held.leaf_lg2 != span.leaf_lg2:
        return None
    same_leaf = held.start >> held.leaf_lg2 == span.start >> span.leaf_lg2
    if not same_leaf or span.oa - span.start != held.oa - held.start or held[5:8] != span[5:8]:
        return None
    return held._replace(end=span.end)
