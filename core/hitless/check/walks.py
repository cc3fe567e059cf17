"""Walks as memory stands: quick where what is asked lies close to what was asked before."""

from collections.abc import Iterator
from typing import TypeAlias

from attrs import define, field

from hitless.check.spans import FaultSpan, LeafSpan, PointerSpan, Reader, Span, Table

End: TypeAlias = LeafSpan | FaultSpan
_MOST_KNOWN = 256


@define(eq=False)
class Walks:
    """Walks from one root.

    The tables that the last walk came through are kept, and what was found in single lowest tables: an owner
    change asks several times for the few ranges that it touches. :meth:`forget` has to be told of every change.

    Args:
        end: the first IOVA beyond what the format translates, when its root has grown.
    """

    reader: Reader
    root: Table
    end: int
    _path: list[Table] = field(init=False)
    _known: dict[tuple[int, int], list[End]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._path = [self.root]

    def walk(self, iova: int, level: int = 0) -> tuple[Table, Span]:
        """The table and entry where the walk of an IOVA ends, or that of a level."""
        table = self._around(iova, iova + 1, level)
        while True:
            span = next(self.reader.table(table, iova, iova + 1), None)
            if span is None:
                return table, FaultSpan(iova, iova + 1, "range", table.level, table.pa, 0)
            if not isinstance(span, PointerSpan) or table.level <= level:
                return table, span
            table = span.child

    def spans(self, start: int, end: int) -> Iterator[End]:
        """How the walks of a range end, in order, clipped to the range."""
        known = self._known.get((start, end))
        if known is None:
            table = self._around(start, end)
            found = self._below(table, start, end)
            if table.level:
                yield from found
                beyond = max(self.reader.end(self.root), start)
                if beyond < min(end, self.end):  # it has not grown yet
                    yield FaultSpan(beyond, end, "range", self.root.level, self.root.pa, 0)
                return
            if len(self._known) == _MOST_KNOWN:
                self._known.clear()
            known = self._known[start, end] = list(found)
        yield from known

    def begin_at(self, root: Table) -> None:
        """Walks begin at another root from now on."""
        self.root = root
        self._path = [root]
        self._known.clear()

    def forget(self, *, paths: bool = True) -> None:
        """A word has changed; ``paths``: a pointer, too."""
        self._known.clear()
        if paths:
            del self._path[1:]

    def _below(self, table: Table, start: int, end: int) -> Iterator[End]:
        for _, span in self.reader.below(table, start, end):
            if not isinstance(span, PointerSpan):
                yield span.clip(start, end)

    def _around(self, start: int, end: int, level: int = 0) -> Table:
        """The lowest table, of a level at least, that all walks of a range come through."""
        path, reader = self._path, self.reader
        while len(path) > 1 and (path[-1].level < level or path[-1].base > start or reader.end(path[-1]) < end):
            path.pop()
        while path[-1].level > level:
            span = next(reader.table(path[-1], start, start + 1), None)
            if not isinstance(span, PointerSpan) or span.child.level < level or reader.end(span.child) < end:
                break
            path.append(span.child)
        return path[-1]
