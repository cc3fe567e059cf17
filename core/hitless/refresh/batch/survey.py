"""The survey of many ranges at once: what :class:`hitless.refresh.survey.Survey` finds, on columns."""

from collections.abc import Iterator

import numpy as np
from attrs import define, field

from hitless.bits import BoolArray, U64Array
from hitless.columns import Blocks, Ranges
from hitless.memory import PhysicalMemory
from hitless.pagetable import Level, PageFormat
from hitless.plan import Fills
from hitless.refresh.batch import NotBatched
from hitless.refresh.batch.changes import BatchChanges, ChangeBatch, Targets, no_blocks
from hitless.refresh.batch.cutting import Cutting
from hitless.refresh.batch.leaves import Changed, Leaves, divided, pieces_of
from hitless.refresh.batch.mapping import Mapping, map_gaps
from hitless.refresh.batch.spans import u64
from hitless.refresh.batch.tables import Tier, allocate, fills_of
from hitless.refresh.batch.walk import Found, tables_under, walk
from hitless.refresh.batch.words import leaf_words
from hitless.refresh.build import Tables
from hitless.refresh.recipes import SplitRules
from hitless.refresh.target import PlanRequest, Segments, SegmentSource


@define(eq=False)
class Layout:
    """The layout that a request asks for, as columns, asked once where that is enough."""

    source: SegmentSource
    start: int
    last: int
    _segments: Segments | None = None

    def over(self, start: int, last: int) -> Segments:
        """Segments over ``[start, last]`` at least, those that map nothing joined."""
        if self._segments is None or start < self.start or last > self.last:
            self.start, self.last = min(start, self.start), max(last, self.last)
            self._segments = _joined(self.source(self.start, self.last + 1))
        return self._segments

    def unmapped(self, start: U64Array, last: U64Array) -> BoolArray:
        """Which spans shall map nothing."""
        segments = self.over(int(start[0]), int(last[-1]))
        at = np.searchsorted(segments.last, start, side="left")
        return ~segments.mapped[at] & (segments.last[at] >= last)


def _joined(segments: Segments) -> Segments:
    """Segments with adjacent ones that map nothing as one."""
    gone = ~segments.mapped
    more = np.zeros(len(gone), dtype=bool)
    more[1:] = gone[1:] & gone[:-1]
    if not more.any():
        return segments
    heads = np.flatnonzero(~more)
    found = segments.take(heads)
    found.last = segments.last[np.append(heads[1:], len(segments)) - 1]
    return found


@define(eq=False)
class BatchSurvey:
    """Surveys many ranges at once; allocates tables, writes nothing.

    Attributes:
        changes: what it found.
        fills: what fills the new tables.
        allocated: these, in order of allocation.
    """

    fmt: PageFormat
    rules: SplitRules
    memory: PhysicalMemory
    tables: Tables
    request: PlanRequest
    changes: BatchChanges = field(factory=BatchChanges)
    fills: list[Fills] = field(factory=list)
    allocated: Blocks = field(factory=no_blocks)

    def run(self, root_pa: int, ranges: Ranges, source: SegmentSource) -> None:
        """Survey sorted, joined ranges.

        Raises:
            NotBatched: nothing is allocated then.
            OutOfTableMemory: nor then.
        """
        layout = Layout(source, int(ranges.start[0]), int(ranges.last[-1]))
        found = walk(self.fmt, self.memory, root_pa, ranges, layout.unmapped)
        leaves = Leaves.of(self.fmt, found.leaves)
        segments = layout.over(
            min([layout.start, *(int(leaf) for leaf in leaves.iova[:1])]),
            max([layout.last, *(int(leaf) for leaf in leaves.last[-1:])]),
        )
        owed = _ranges(self.request.owed)
        kept, cutting = self._judge(leaves, segments)
        allowed = frozenset(self.rules.leaf_lg2s)
        mapping = map_gaps(self.fmt, allowed, found.gaps, segments)
        cutting.lay_out()
        self._prune(found)
        if self.request.merge and self._merges(found, layout):
            raise NotBatched
        self._build(cutting, mapping)
        targets = [*self._keep(kept, owed), *cutting.owed(owed)] if len(owed) else []
        self.changes.owed = Targets.all_of(targets)

    def _merges(self, found: Found, layout: Layout) -> bool:
        """Whether a table could be one leaf, or nothing, after the plan: then it goes entry by entry."""
        if self.changes.wipe.batches or any(gaps.level is not self.fmt.top for gaps in found.gaps):
            return True
        for pointers in found.pointers:
            ones = u64((1 << pointers.level.lo) - 1)
            if not len(pointers.iova) or pointers.level.lo not in self.rules.leaf_lg2s:
                continue
            start, last = pointers.iova, pointers.iova | ones
            segments = layout.over(int(start[0]), int(last[-1]))
            at = np.searchsorted(segments.last, start, side="left")
            oa = segments.oa[at] + (start - segments.start[at])
            whole = segments.mapped[at] & (segments.start[at] <= start) & (segments.last[at] >= last)
            if (whole & ((oa & ones) == 0)).any():
                return True
        return False

    def _judge(self, leaves: Leaves, segments: Segments) -> tuple[Leaves, Cutting]:
        """The leaves that stay as they are, and those that are cut."""
        pieces = pieces_of(self.fmt, leaves, segments)
        cut = divided(leaves, pieces, self.rules)
        cutting = Cutting(self.fmt, frozenset(self.rules.leaf_lg2s), leaves.take(cut), pieces.of(cut))
        if cut.all():
            return leaves.take(~cut), cutting
        whole, stays = leaves.take(~cut), ~cut
        changed = pieces.of(stays).changed
        for number in whole.numbers:
            mine = changed.take(whole.number[changed.leaf] == u64(number))
            self._convert(self.fmt.levels[number], mine, whole.pa[mine.leaf], whole.word[mine.leaf])
        kept = np.ones(len(whole), dtype=bool)
        kept[changed.leaf] = False
        return whole.take(kept), cutting

    def _convert(self, level: Level, changed: Changed, pa: U64Array, old: U64Array) -> None:
        """Replace or wipe leaves, one a row; they stand in the entries at ``pa``."""
        every = changed.mapped.all()
        if self.request.wipe_first or not every:
            gone = ~changed.mapped
            if self.request.wipe_first:
                gone[:] = True
            iova = changed.start[gone]
            self.changes.wipe.add(ChangeBatch("wipe", level, pa[gone], iova, old[gone], np.zeros_like(iova)))
        if not every:
            pa, old, changed = pa[changed.mapped], old[changed.mapped], changed.take(changed.mapped)
        new = leaf_words(self.fmt, level.lo, changed.later_oa, changed.later_attrs)
        if self.request.wipe_first:
            self.changes.place.add(ChangeBatch("map", level, pa, changed.start, np.zeros_like(new), new))
        else:
            self.changes.place.add(ChangeBatch("replace", level, pa, changed.start, old, new))

    def _keep(self, leaves: Leaves, owed: Ranges) -> Iterator[Targets]:
        """What has to be invalidated of leaves that stay as they are."""
        for number in leaves.numbers:
            mine = leaves.number == u64(number)
            start, last = leaves.iova[mine], leaves.last[mine]
            at = np.searchsorted(owed.last, start, side="left")
            near = at < len(owed)
            near[near] = owed.start[at[near]] <= last[near]
            lo = self.fmt.levels[number].lo
            yield Targets.uniform(start[near], last[near], lo, number, tables=False)

    def _prune(self, found: Found) -> None:
        """Unlink tables that map nothing any more."""
        parts = []
        for gone in found.pruned:
            self.changes.wipe.add(
                ChangeBatch("prune", gone.level, gone.pa, gone.iova, gone.word, np.zeros_like(gone.word), tables=True)
            )
            parts.append(tables_under(self.fmt, self.memory, gone))
        if parts:
            iova, number, pa = (np.concatenate([part[i] for part in parts]) for i in range(3))
            order = np.lexsort((-number.astype(np.int64), iova))
            sizes = np.array([level.table_lg2 for level in self.fmt.levels], dtype=np.uint64)
            self.changes.unlinked = Blocks(pa[order], sizes[number.astype(np.intp)][order])

    def _build(self, cutting: Cutting, mapping: Mapping) -> None:
        """Allocate all tables, and say what they hold and what links them."""
        tiers = [*cutting.tiers, *mapping.tiers]
        if any(len(tier.base) for tier in tiers):
            self.allocated = allocate(tiers, self.tables)
        for family, rows in ((cutting.tiers, [*map(cutting.rows, cutting.tiers)]), (mapping.tiers, mapping.rows)):
            below: list[Tier | None] = [*family[1:], None]
            for tier, held, under in zip(family, rows, below, strict=False):
                self.fills.append(fills_of(self.fmt, tier, held, under))
        for batch in cutting.links():
            self.changes.cut.add(batch)
        for batch in (*mapping.placed, *mapping.link(self.fmt)):
            self.changes.place.add(batch)
        if mapping.tiers:
            ours = np.zeros(len(self.allocated), dtype=bool)
            for tier in mapping.tiers:
                ours[tier.rank] = True
            self.changes.unplaced = self.allocated if ours.all() else self.allocated.take(ours)
        for tier, changed in cutting.changed():
            self._convert(tier.level, changed, tier.pa_of(changed.start), cutting.old_words(tier, changed))


def _ranges(ranges: "tuple[tuple[int, int], ...] | Ranges") -> Ranges:
    """Ranges as columns."""
    return (ranges if isinstance(ranges, Ranges) else Ranges.of(ranges)).joined()


__all__ = ["BatchSurvey", "NotBatched"]
