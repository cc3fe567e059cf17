"""Dirty tracking: which pages a domain's devices have written to, while its guest goes on converting.

Hardware marks leaves, so that leaves are cut to the size that is asked about, and joined again afterwards.
"""

from collections.abc import Iterator

import attrs
import numpy as np
from attrs import define, field

from hitless.bits import U64Array, keep
from hitless.errors import HitlessError
from hitless.guest_memfd.conversion import Conversion
from hitless.iommufd.domain import Domain
from hitless.pagetable import Level, tables
from hitless.refresh.assemble import Assembler
from hitless.refresh.changes import Change
from hitless.refresh.commands import Target
from hitless.units import joined

Ranges = tuple[tuple[int, int], ...]


@define(eq=False)
class DirtyTracker:
    """Tracks one domain; make it with :meth:`start`.

    A page that is converted is reported too: it is another page, or was given another key.
    """

    domain: Domain
    _whole: Assembler
    _converted: list[tuple[int, int]] = field(factory=list)

    @classmethod
    def start(cls, domain: Domain, size_lg2: int) -> "DirtyTracker":
        """Cut every leaf that is larger than asked for; what was written before is forgotten.

        Raises:
            HitlessError: hardware marks no writes, or there is no so small a leaf.
            Refused, OutOfTableMemory: leaves cannot be cut; nothing is tracked then.
        """
        fmt, whole = domain.vendor.page_format, domain.planner.assembler
        sizes = tuple(lg2 for lg2 in whole.rules.leaf_lg2s if lg2 <= size_lg2)
        if not sizes or not any(any(fmt.dirty_bits(size.level)) for size in fmt.leaf_sizes):
            raise HitlessError(
                "hardware does not tell which pages were written to",
                who=fmt.name,
                do="track no smaller size than a leaf may have, with features that let hardware mark pages",
            )
        tracker = cls(domain, whole)
        domain.planner.assembler = attrs.evolve(whole, rules=attrs.evolve(whole.rules, leaf_lg2s=sizes))
        try:
            for slot in domain.guest.slots.slots:
                domain.cut(slot.gpa, slot.end)
        except HitlessError:
            domain.planner.assembler = whole
            raise
        domain.guest.watchers.append(tracker)
        tracker.read()
        return tracker

    def read(self) -> Ranges:
        """The IOVA ranges that were written to since the last read; they are clean from then on.

        A write that comes while it reads is in this answer, or marked for the next one.
        """
        domain = self.domain
        slots = domain.guest.slots.slots
        with domain.guest.quiet(slots[0].gpa, slots[-1].end):
            changes = list(self._marked())
            domain.executor.run(domain.planner.assembler.clean(changes))
            found = [(change.target.first, change.target.last + 1) for change in changes] + self._converted
            self._converted = []
        return tuple(joined(found))

    def stop(self) -> None:
        """Leaves join again as far as they may."""
        self.domain.planner.assembler = self._whole
        self.domain.guest.watchers.remove(self)
        for slot in self.domain.guest.slots.slots:
            self.domain.merge(slot.gpa, slot.end)

    # -- as a watcher

    def begin(self, conversion: Conversion) -> None:
        """Nothing yet."""

    def end(self, conversion: Conversion) -> None:
        """What converted counts as written to."""
        self._converted += self.domain.iovas(conversion.ranges)

    # -- inside

    def _marked(self) -> Iterator[Change]:
        """For each marked entry, the change that takes the mark away; of a run, of all its entries."""
        fmt = self.domain.vendor.page_format
        for level, base, pa, words in tables(self.domain.memory, fmt, self.domain.planner.root_pa):
            ones, zeros = fmt.dirty_bits(level.number)
            for index in np.flatnonzero(self._leaves(level, words.copy(), ones, zeros)).tolist():
                iova, word = base + (index << level.lo), int(words[index])
                lg2 = int(fmt.leaf_lg2(word, level.number))
                first = fmt.canonical(iova) >> lg2 << lg2
                target = Target(first, first + (1 << lg2) - 1, lg2, level.number, False)
                clean = word & ~ones | zeros
                yield Change("clean", pa + 8 * index, level.number, fmt.canonical(iova), word, clean, target)

    def _leaves(self, level: Level, words: U64Array, ones: int, zeros: int) -> U64Array:
        """Which entries of a table are leaves that hold the mark of a write."""
        fmt = self.domain.vendor.page_format
        marked = np.logical_or(keep(words, ones) != 0, keep(words, zeros) != np.uint64(zeros))
        leaf = np.logical_and(fmt.present(words), fmt.is_leaf(words, level.number))
        found: U64Array = np.logical_and(leaf, marked)
        return found


__all__ = ["DirtyTracker"]
