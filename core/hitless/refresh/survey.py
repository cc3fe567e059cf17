"""The survey: walk the tables that a conversion touches and say which entries have to change.

One algorithm for all vendors. From what memory maps and what the layout asks for, it finds the
fewest stores that lead from one to the other with the largest legal leaves; how each store is
made is the recipes' matter.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, cast

from attrs import evolve

from hitless.bits import MASK64, drop
from hitless.errors import HitlessError
from hitless.ownership import Follow
from hitless.pagetable import PageFormat, tables_below
from hitless.plan import Fold
from hitless.refresh.build import Builder, Laid
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Target
from hitless.refresh.grow import Planned
from hitless.refresh.merge import Merger, Outcome, carried
from hitless.refresh.recipes import Kind
from hitless.refresh.slots import Ranges, Slot, Table, joined_attrs, slots, without
from hitless.refresh.target import Piece, PlanRequest, Segment
from hitless.units import align_down, align_up

_UNCHANGED = Outcome()


class Entry(NamedTuple):
    """One entry of a leaf: what it holds, and what a cache may hold of the whole leaf."""

    pa: int
    iova: int
    word: int
    target: Target


class Survey:
    """Fills :class:`Changes` for one request; allocates tables, writes nothing.

    Args:
        in_place: runs are resized by rewriting their entries, not by swapping their table.
        joins: whether leaves may become runs again.
    """

    def __init__(
        self,
        fmt: PageFormat,
        memory: Planned,
        builder: Builder,
        request: PlanRequest,
        *,
        in_place: bool = False,
        joins: bool = True,
    ) -> None:
        self._fmt = fmt
        self._memory = memory
        self._builder = builder
        self._request = request
        self._in_place = in_place
        self._joins = joins
        self._plain = request.owners.plain
        self.changes = Changes()

    @cached_property
    def _merger(self) -> Merger:
        request = self._request
        return Merger(
            self._fmt,
            self._builder,
            self.changes,
            request.layout,
            request.owners,
            in_place=self._in_place,
            joins=self._joins,
        )

    def root(self, root_pa: int, ranges: Ranges) -> None:
        """Survey sorted ranges of IOVAs, none of which crosses a hole of a sign-extended space."""
        top = self._fmt.top
        span_lg2 = top.lo + top.bits
        by_base: dict[int, list[tuple[int, int]]] = {}
        for start, end in ranges:
            by_base.setdefault(start >> span_lg2 << span_lg2, []).append((start, end))
        for base, inside in by_base.items():
            self._table(Table(top, root_pa, base, self._memory, None), inside)

    def _table(self, table: Table, ranges: Ranges, *, swapped: bool = False) -> Outcome:
        """Survey ``ranges`` in one table; one that the plan puts in another's place is not merged in the same plan."""
        wipes = len(self.changes.wipe)
        after: dict[int, int] = {}
        mergeable: dict[int, Outcome] = {}
        found = slots(self._fmt, table, ranges)
        if table.parent is not None and (divided := self._divided_runs(table, found)):
            return Outcome(pointer=self._swap(table, table.parent, divided))
        for slot in found:
            if not slot.kind:
                self._lay_out(slot, slot.ranges, table, after)
            elif slot.kind == "leaf":
                self._leaf(slot, table, after)
            else:
                index = table.index_of(slot.iova)
                after[index], outcome = self._pointer(slot)
                if outcome.whole is not None:
                    after[index] = outcome.whole
                    if not outcome.merged:
                        mergeable[index] = outcome
        if not self._request.merge or swapped:
            if mergeable:
                self._merger.merge(table, mergeable)
            return _UNCHANGED
        outcome = self._merger.outcome(table, after, mergeable)
        if outcome.empty:
            del self.changes.wipe[wipes:]
        return outcome

    # -- one slot; each notes in ``after`` what the table's entries will hold

    def _lay_out(self, slot: Slot, ranges: Ranges, table: Table, after: dict[int, int]) -> None:
        """Map ``ranges`` of a slot that is empty by now: leaves where they fit, else new tables."""
        wanted = [s for start, end in ranges for s in self._request.layout(start, end) if s.oa is not None]
        pieces = [Piece(s.start, s.end, cast(int, s.oa), s.attrs, None, "") for s in wanted]
        number = slot.level.number
        rows, below = self._builder.split(number, pieces)
        for row in rows:
            for laid in self._builder.laid(row, slot.pa_of(row.iova)):
                for each in self._entries(laid):
                    change = Change("map", each.pa, number, each.iova, slot.word, each.word, each.target)
                    self.changes.place.append(change)
                    after[table.index_of(each.iova)] = each.word
        for iova, parts in below.items():
            known = len(self._builder.allocated)
            child, _ = self._builder.build(number - 1, iova, parts)
            self.changes.unplaced += self._builder.allocated[known:]
            one = slot._replace(pa=slot.pa_of(iova), iova=iova, end=iova + (1 << slot.level.lo))
            new = self._fmt.table(number, child)
            self.changes.place.append(Change("map", one.pa, number, iova, slot.word, new, one.target()))
            after[table.index_of(iova)] = new

    def _leaf(self, slot: Slot, table: Table, after: dict[int, int]) -> None:
        """Keep, replace, wipe, cut or resize a leaf."""
        first = table.index_of(slot.iova)
        single = slot.entries == 1
        words = [slot.word] if single else table.words[first : first + slot.entries].tolist()
        if self._request.remap:
            self._remap(slot, words, table, after)
            return
        pieces = self._pieces(slot, table)
        if self._divides(slot, pieces):
            if single:
                after[first] = self._cut(slot, pieces)
            else:
                self._resize(slot, words, pieces, table, after)
            return
        piece = pieces[0]
        if piece.change:
            size = self._fmt.leaf_size(slot.size_lg2)
            words = self._convert(Laid(slot.pa, slot.entries, size, slot.iova, slot.word, 0, piece), words)
        elif _inside(self._request.owed, slot.iova, slot.end):
            self.changes.owed.append(slot.target())
        after.update(enumerate(words, first))

    def _remap(self, slot: Slot, words: list[int], table: Table, after: dict[int, int]) -> None:
        """Clear a leaf before the owner change, and lay its whole span out again after it."""
        for i, word in enumerate(words):
            iova = slot.iova + (i << slot.level.lo)
            change = Change("wipe", slot.pa + 8 * i, slot.level.number, iova, word, 0, slot.target())
            self.changes.wipe.append(change)
            after[table.index_of(iova)] = 0
        self._lay_out(slot._replace(word=0), ((slot.iova, slot.end),), table, after)

    def _cut(self, slot: Slot, pieces: list[Piece]) -> int:
        """Put a table in place of a plain leaf; the pointer to it."""
        number = slot.level.number
        child, leaves = self._builder.build(
            number - 1, slot.iova, pieces, later=None if self._plain else self._together
        )
        new = self._fmt.table(number, child)
        fold = [(laid.entry_pa, laid.entries) for laid in leaves]
        cut = Change("cut", slot.pa, number, slot.iova, slot.word, new, slot.target(), fold)
        if not self._plain and self._together(slot.iova, pieces[0].oa, slot.size_lg2):
            cut.together = True
            self.changes.cut_together.append(cut)
        else:
            self.changes.cut.append(cut)
        if self._builder.later:
            self._cut_later()
        self._finish(leaves, slot)
        return new

    def _together(self, iova: int, pa: int, size_lg2: int) -> bool:
        """Whether an entry of the owner table has to change its size with a leaf that is cut."""
        return self._request.owners.follow(iova, pa, size_lg2, size_lg2 - 1) is not Follow.FREE

    def _cut_later(self) -> None:
        """The cuts of leaves that new tables hold only until an entry of the owner table changes along."""
        for entry_pa, number, iova, leaf, pointer, leaves in self._builder.later:
            lo = self._fmt.levels[number].lo
            target = Target(iova, iova + (1 << lo) - 1, lo, number, False)
            fold = [(laid.entry_pa, laid.entries) for laid in leaves]
            change = Change("cut", entry_pa, number, iova, leaf, pointer, target, fold, together=True)
            self.changes.cut_together.append(change)
        self._builder.later.clear()

    def _resize(self, slot: Slot, words: list[int], pieces: list[Piece], table: Table, after: dict[int, int]) -> None:
        """Take a run apart in its place; what needs a table below is a plain leaf first, and then cut."""
        level = slot.level
        rows, below = self._builder.split(level.number, pieces)
        leaves = [laid for row in rows for laid in self._builder.laid(row, slot.pa_of(row.iova))]
        new = {each.iova: each.word for laid in leaves for each in self._entries(laid)}
        for iova, parts in below.items():
            new[iova] = self._fmt.leaf(level.lo, pieces[0].oa + iova - slot.iova, parts[0].attrs)
        spread = [(slot.pa, slot.entries)]
        for i, old in enumerate(words):
            iova = slot.iova + (i << level.lo)
            change = Change("resize", slot.pa + 8 * i, level.number, iova, old, new[iova], slot.target())
            change.spread = spread
            self.changes.resize.append(change)
            after[table.index_of(iova)] = new[iova]
        for iova, parts in below.items():
            plain = Slot(level, slot.pa_of(iova), iova, iova + (1 << level.lo), new[iova], "leaf", slot.ranges)
            after[table.index_of(iova)] = self._cut(plain, parts)
        for laid in leaves:
            if laid.piece.change:
                after.update(enumerate(self._convert(laid), table.index_of(laid.iova)))
        self._finish([laid for laid in leaves if not laid.piece.change], slot)

    def _pointer(self, slot: Slot) -> tuple[int, Outcome]:
        """Descend; or unlink the table, where all that it translates goes. The word that the entry will hold."""
        number = slot.level.number
        if self._fmt.child_level(slot.word, number) != number - 1:
            raise HitlessError(
                "the planner changes only tables whose pointers lead one level down",
                where=f"{slot.level} iova {slot.iova:#x} entry {slot.word:#x}",
                do="unmap the range and map it again",
            )
        child = int(self._fmt.table_pa(slot.word))
        level = self._fmt.levels[number - 1]
        if slot.covered and all(s.oa is None for s in self._request.layout(slot.iova, slot.end)):
            outcome = Outcome(empty=True, tables=list(tables_below(self._fmt, self._memory, number - 1, child)))
        else:
            outcome = self._table(Table(level, child, slot.iova, self._memory, slot), slot.ranges)
        if outcome.empty:
            self.changes.unlinked += outcome.tables
            self.changes.wipe.append(
                Change("prune", slot.pa, number, slot.iova, slot.word, 0, slot.target(tables=True))
            )
            return 0, outcome
        return outcome.pointer or slot.word, outcome

    # -- runs, where a mix of forms is not allowed

    def _divided_runs(self, table: Table, found: list[Slot]) -> list[tuple[Slot, list[Piece]]]:
        """The runs of a table that cannot be taken apart in their place, and have to be."""
        if self._in_place or self._request.remap:
            return []
        if len(found) == 1 and found[0].entries == 1:
            return []
        runs = [(slot, self._pieces(slot, table)) for slot in found if slot.kind == "leaf" and slot.entries > 1]
        return [(slot, pieces) for slot, pieces in runs if self._divides(slot, pieces)]

    def _swap(self, table: Table, parent: Slot, divided: list[tuple[Slot, list[Piece]]]) -> int:
        """Build a table that says the same with smaller leaves, and swap the pointer; the pointer to it."""
        words = table.words.copy()
        for slot, _ in divided:
            first = table.index_of(slot.iova)
            words[first : first + slot.entries] = 0
        pieces = [piece for _, parts in divided for piece in parts]
        pa, leaves = self._builder.build(table.level.number, table.base, pieces, words, self._together)
        new = self._fmt.table(parent.level.number, pa)
        change = Change(
            "resize", parent.pa, parent.level.number, parent.iova, parent.word, new, parent.target(tables=True)
        )
        self.changes.resize.append(change)
        self.changes.swapped.append((table.pa, table.level.table_lg2))
        self.changes.swap_folds += carried(self._fmt, table.level, words, table.pa, pa)
        number = table.level.number
        hardware, clears = self._fmt.hardware_set(number), self._fmt.hardware_clears(number)
        for slot, _ in divided:
            self.changes.swap_folds += (
                Fold(laid.entry_pa, slot.pa, slot.entries, hardware & ~clears, laid.entries, clears=clears)
                for laid in leaves
                if slot.iova <= laid.iova < slot.end and hardware
            )
        self._finish(leaves, parent)
        self._cut_later()
        left = without(parent.ranges, [(slot.iova, slot.end) for slot, _ in divided])
        self._table(evolve(table, pa=pa, planned=words), left, swapped=True)
        return new

    # -- parts

    def _pieces(self, slot: Slot, table: Table) -> list[Piece]:
        """The leaf's span by what becomes of it; every edge is one that a leaf may not cross."""
        number, first = slot.level.number, table.index_of(slot.iova)
        old_oa = self._fmt.leaf_oa(slot.word, number)
        if slot.entries > 1:
            attrs = joined_attrs(self._fmt, table.words[first : first + slot.entries], number)
        else:
            attrs = self._fmt.attrs(slot.word, number)
        hardware = self._fmt.hardware_set(number)
        pieces: list[Piece] = []
        for segment in self._request.layout(slot.iova, slot.end):
            oa = old_oa + segment.start - slot.iova
            if segment.oa is None:
                change = "wipe"
            elif segment.oa == oa and drop(segment.attrs ^ attrs, hardware) == 0:
                change = ""
            else:
                change = "replace"
            if change == "wipe" and pieces and pieces[-1].change == "wipe":
                gone = pieces[-1]
                later = Segment(gone.start, segment.end, None, 0)
                pieces[-1] = gone._replace(end=segment.end, later=later)
            else:
                pieces.append(Piece(segment.start, segment.end, oa, attrs, segment if change else None, change))
        return pieces

    def _divides(self, slot: Slot, pieces: list[Piece]) -> bool:
        """Whether a leaf cannot stay whole until the refresh."""
        if len(pieces) > 1 or slot.size_lg2 > self._builder.largest_lg2:
            return True
        later = pieces[0].later.oa if pieces[0].later else None
        return later is not None and not self._builder.fits(slot.size_lg2, later, slot.iova)

    def _entries(self, laid: Laid, words: Sequence[int] | None = None) -> Iterator[Entry]:
        """The entries of leaves, with the words that they hold where those are known better."""
        lg2, number = laid.size.lg2, laid.size.level
        lo = self._fmt.levels[number].lo
        for i in range(laid.entries):
            iova = laid.iova + (i << lo)
            start = iova >> lg2 << lg2
            word = words[i] if words is not None else (laid.first + i * laid.increment) & MASK64
            yield Entry(laid.entry_pa + 8 * i, iova, word, Target(start, start + (1 << lg2) - 1, lg2, number, False))

    def _finish(self, leaves: Sequence[Laid], slot: Slot) -> None:
        """Convert the leaves of a new table whose pieces change; owe what the others owe."""
        owed = _inside(self._request.owed, slot.iova, slot.end)
        for laid in leaves:
            if laid.piece.change:
                self._convert(laid)
            elif owed:
                self._owe(laid, owed)

    def _convert(self, laid: Laid, words: Sequence[int] | None = None) -> list[int]:
        """Replace or wipe leaves; the words that their entries will hold."""
        number, later = laid.size.level, cast(Segment, laid.piece.later)
        new_words = []
        for each in self._entries(laid, words):
            old, new = each.word, 0 if later.oa is None else self._word(laid, later, each)
            if later.oa is None or self._request.wipe_first:
                self.changes.wipe.append(Change("wipe", each.pa, number, each.iova, old, 0, each.target))
                old = 0
            if later.oa is not None:
                kind: Kind = "replace" if old else "map"
                self.changes.place.append(Change(kind, each.pa, number, each.iova, old, new, each.target))
            new_words.append(new)
        return new_words

    def _word(self, laid: Laid, later: Segment, entry: Entry) -> int:
        """What an entry of a leaf will hold."""
        start, lg2 = entry.target.first, laid.size.lg2
        first = self._fmt.leaf(lg2, cast(int, later.oa) + start - later.start, later.attrs)
        if not laid.size.entries_lg2:
            return first
        index = (entry.iova - start) >> self._fmt.levels[laid.size.level].lo
        return (first + index * self._fmt.run_step(lg2)) & MASK64

    def _owe(self, laid: Laid, ranges: Ranges) -> None:
        """Owe an invalidation for unchanged leaves that the conversion touches."""
        lg2, number = laid.size.lg2, laid.size.level
        end = laid.iova + (laid.entries << self._fmt.levels[number].lo)
        for start, stop in _inside(ranges, align_down(laid.iova, lg2), align_up(end, lg2)):
            at, until = max(start, laid.iova) >> lg2 << lg2, min(-(-stop >> lg2) << lg2, end)
            if at < until:
                self.changes.owed.append(Target(at, until - 1, lg2, number, False))


def _inside(ranges: Ranges, start: int, end: int) -> Ranges:
    """The sorted ranges that touch ``[start, end)``."""
    first = bisect_right(ranges, start, key=lambda each: each[1])
    return ranges[first : bisect_left(ranges, end, first, key=lambda each: each[0])]
