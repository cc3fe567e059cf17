"""guest_memfd: slots, owners, physicals, and the protocol that keeps all notifiers in line with them."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TypeAlias

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.columns import Ranges
from hitless.errors import BadInput, HitlessError, OwnerChangeRefused
from hitless.guest_memfd import many
from hitless.guest_memfd.backing import GUEST, HOST, Backing
from hitless.guest_memfd.conversion import ChangeRun, Conversion
from hitless.guest_memfd.intervals import IntervalMap
from hitless.guest_memfd.notifier import Notifier, Prepared, Watcher
from hitless.guest_memfd.runs import GuestRun, GuestRuns
from hitless.guest_memfd.slots import Slots
from hitless.units import PAGE, PAGE_LG2, align_down, align_up, joined, size_text

RangesLike: TypeAlias = Iterable[tuple[int, int]] | U64Array
"""Half-open ranges, or an array with a row (start, end) for each."""
MANY = 16
"""From so many ranges, or pieces of one, on, a conversion is worked out as columns."""


def near(ranges: Sequence[tuple[int, int]], start: int, end: int) -> Iterable[tuple[int, int]]:
    """Sorted ranges without those that, among many, lie outside of a range."""
    if type(ranges) is not Ranges or start >= end:
        return ranges
    first = int(np.searchsorted(ranges.last, np.uint64(start)))
    return ranges[first : int(np.searchsorted(ranges.start, np.uint64(end - 1), "right"))]


def _parts(start: int, end: int, conversion: Conversion) -> list[tuple[int, int, int | None]]:
    """A GPA range by the owner that a conversion gives it; None: it leaves it alone."""
    parts: list[tuple[int, int, int | None]] = []
    at = start
    for a, b in near(conversion.ranges, start, end):
        if a >= end:
            break
        if b <= at:
            continue
        if at < a:
            parts.append((at, a, None))
            at = a
        stop = min(b, end)
        parts.append((at, stop, conversion.owner))
        at = stop
    if at < end:
        parts.append((at, end, None))
    return parts


def _agree(conversion: Conversion) -> None:
    """The owner change of a host that never refuses."""


@define(eq=False)
class GuestMemfd:
    """A confidential guest's memory.

    Args:
        slots: where it is mapped.
        backing: physicals by offset and owner.
        hunk_lg2: log2 of the folio size that backs it.
        page_size: of the guest: conversions are multiples of it.
        authority: the host's owner change; raises OwnerChangeRefused with what was done before it stopped.
        notifiers: in the order in which they are called.
        watchers: told when a conversion begins and has ended; they change nothing.
        held: old memory that is never freed, because a unit did not answer.
    """

    slots: Slots
    backing: Backing
    hunk_lg2: int
    authority: Callable[[Conversion], None] = _agree
    notifiers: list[Notifier] = field(factory=list)
    watchers: list[Watcher] = field(factory=list)
    held: list[ChangeRun] = field(factory=list)
    page_size: int = PAGE
    _owners: IntervalMap = field(init=False)
    _entered: int = 0
    _gate: threading.Condition = field(factory=threading.Condition)
    _busy: list[tuple[int, int]] = field(factory=list)
    _numbers: Iterator[int] = field(factory=lambda: count(1))

    def __attrs_post_init__(self) -> None:
        self._owners = IntervalMap(GUEST, max(align_up(self.slots.size, PAGE_LG2) >> PAGE_LG2, 1))

    # -- what is where

    def set_owner(self, start: int, end: int, owner: int) -> None:
        """Enter an owner without a conversion: the state at the guest's start."""
        self._entered += 1
        for a, b, offset in self.slots.inside(start, end):
            self._owners.set(offset >> PAGE_LG2, offset + b - a >> PAGE_LG2, owner)

    def owner(self, gpa: int) -> int | None:
        """Who owns a page; None outside every slot."""
        offset = self.slots.offset(gpa)
        return None if offset is None else self._owners.get(offset >> PAGE_LG2)

    def pa(self, gpa: int) -> int | None:
        """Where a guest physical address lies now; None outside every slot."""
        offset = self.slots.offset(gpa)
        return None if offset is None else self.backing.pa(offset, self._owners.get(offset >> PAGE_LG2))

    def nearest(self, gpa: int, owner: int, start: int, end: int) -> tuple[int, int] | None:
        """A run of pages with an owner, near a GPA, inside ``[start, end)`` of the GPA's slot."""
        offset = self.slots.offset(gpa)
        for low, high, first in self.slots.inside(start, end) if offset is not None else ():
            if low <= gpa < high:
                shift = low - first
                found = self._owners.nearest(
                    gpa - shift >> PAGE_LG2, owner, first >> PAGE_LG2, high - shift >> PAGE_LG2
                )
                return (found[0] * PAGE + shift, found[1] * PAGE + shift) if found else None
        return None

    def runs(self, start: int, end: int, conversion: Conversion | None = None) -> Iterator[GuestRun]:
        """Guest memory of a GPA range, in order; as it will be after a conversion, if one is given."""
        return self._runs(((start, end, None),) if conversion is None else _parts(start, end, conversion))

    def _runs(self, parts: Iterable[tuple[int, int, int | None]]) -> Iterator[GuestRun]:
        """Guest memory of GPA ranges (start, end, owner that it shall have; None: that it has)."""
        backed, owners, inside = self.backing.runs, self._owners.runs, self.slots.inside
        for start, end, owner in parts:
            for a, b, offset in inside(start, end):
                shift = a - offset
                first, last = offset >> PAGE_LG2, -(-(offset + b - a) >> PAGE_LG2)
                for x, y, who in owners(first, last) if owner is None else ((first, last, owner),):
                    for s, e, pa in backed(x << PAGE_LG2, y << PAGE_LG2, who):
                        yield GuestRun(s + shift, e + shift, who, pa)

    def columns(self, start: int, end: int, conversion: Conversion | None = None) -> GuestRuns:
        """What :meth:`runs` gives of a range of whole pages, as columns."""
        owners = self._owners
        if conversion is not None:
            after = conversion.after
            owners = self._after(Ranges.each(conversion.ranges), conversion.owner) if after is None else after
        return many.runs(self.slots, self.backing, owners, start, end)

    def _after(self, ranges: Ranges, owner: int) -> IntervalMap:
        after = self._owners.copy()
        many.enter(after, self.slots, ranges, owner)
        return after

    # -- conversions

    def convert(self, ranges: RangesLike, owner: int) -> Conversion | None:
        """Convert GPA ranges to an owner, in all notifiers; None if nothing had to change.

        Raises:
            BadInput: a range is unaligned, or not wholly memory.
            OutOfTableMemory, Pinned, Refused: from a prepare; nothing has changed.
            OwnerChangeRefused: not all owners changed; every mapping follows the present owners.
        """
        wanted = self._checked(ranges)
        prepared = self._admit(wanted, owner)
        if prepared is None:
            return None
        conversion, span = prepared
        try:
            self._carry_out(conversion)
        finally:
            with self._gate:
                self._busy.remove(span)
                self._gate.notify_all()
        return conversion

    def plan(self, ranges: RangesLike, owner: int) -> list[Prepared]:
        """The plans that a conversion would carry out; changes nothing."""
        conversion = self._conversion(self._checked(ranges), owner)
        if conversion is None:
            return []
        prepared = self._prepare(conversion)
        for notifier in reversed(self.notifiers):
            notifier.cancel(conversion)
        return prepared

    def conversion(self, ranges: RangesLike, owner: int) -> Conversion | None:
        """What a conversion would change: owners and physicals; None if nothing."""
        return self._conversion(self._checked(ranges), owner)

    def revoke(self, start: int, end: int) -> None:
        """Truncate: no notifier maps the range any more."""
        with self.quiet(start, end):
            for notifier in self.notifiers:
                notifier.revoke(start, end)

    @contextmanager
    def quiet(self, start: int = 0, end: int = 0) -> Iterator[None]:
        """Owners stand still, and no conversion is under way in the range: for map, unmap and merge beside them."""
        with self._gate:
            while self._is_busy(start, end):
                self._gate.wait()
            yield

    def _is_busy(self, start: int, end: int) -> bool:
        """Whether a conversion under way stores to an entry that translates some of the range."""
        return bool(self._busy) and any(a < end and start < b for a, b in self._busy)

    def _checked(self, ranges: RangesLike) -> Sequence[tuple[int, int]]:
        if type(ranges) is Ranges or isinstance(ranges, np.ndarray):
            columns = Ranges.each(ranges)
            if len(columns) >= MANY:
                return self._checked_columns(columns.ordered())
            ranges = list(columns)
        found = sorted(ranges)
        if len(found) >= MANY and all(start < end for start, end in found):
            return self._checked_columns(Ranges.of(found))
        for start, end in found:
            if start >= end or (start | end) % self.page_size:
                raise BadInput(f"range [{start:#x}, {end:#x}) is not one of whole {size_text(self.page_size)} pages")
            if not self.slots.contains(start, end):
                raise BadInput(
                    f"range [{start:#x}, {end:#x}) reaches beyond the guest's memory",
                    where=", ".join(f"slot [{s.gpa:#x}, {s.end:#x})" for s in self.slots.slots),
                    do="convert what lies inside one slot, or in adjacent ones",
                )
        return found

    def _checked_columns(self, ranges: Ranges) -> Ranges:
        wrong = many.unfit(self.slots, ranges, self.page_size)
        if len(wrong):
            self._checked([ranges[int(wrong[0])]])
        return ranges.joined()

    def _in_pieces(self, ranges: Iterable[tuple[int, int]]) -> bool:
        """Whether ranges, few as they are, have many owners or lie in many places."""
        pieces = 0
        for start, end in ranges:
            if end - start >= MANY * PAGE:
                if self.backing.pieces(HOST) is None:
                    return True
                for a, b, offset in self.slots.inside(start, end):
                    pieces += self._owners.count(offset >> PAGE_LG2, offset + b - a >> PAGE_LG2)
        return pieces >= MANY

    def _conversion(self, ranges: Sequence[tuple[int, int]], owner: int) -> Conversion | None:
        """Owners and physicals of what really changes."""
        if type(ranges) is Ranges or self._in_pieces(ranges):
            changes = many.changes(self.slots, self.backing, self._owners, Ranges.each(ranges).joined(), owner)
            if changes is None:
                return None
            changed, found = changes
            after = self._after(changed, owner)
            return Conversion(next(self._numbers), changed, owner, found, after=after, entered=self._entered)
        runs = []
        for start, end in ranges:
            for old in self._runs(((start, end, None),)):
                if old.owner == owner:
                    continue
                shift = old.pa - old.start
                for a, b, _, pa in self._runs(((old.start, old.end, owner),)):
                    runs.append(ChangeRun(a, b, old.owner, owner, a + shift, pa))
        if not runs:
            return None
        spans = tuple(joined([(run.start, run.end) for run in runs]) if len(runs) > 1 else [runs[0][:2]])
        return Conversion(next(self._numbers), spans, owner, tuple(runs))

    def _admit(self, ranges: Sequence[tuple[int, int]], owner: int) -> tuple[Conversion, tuple[int, int]] | None:
        """Prepare, as soon as no conversion under way stores to a common entry."""
        with self._gate:
            while True:
                conversion = self._conversion(ranges, owner)
                if conversion is None:
                    return None
                prepared = self._prepare(conversion)
                span = self._span(conversion, prepared)
                if not self._is_busy(*span):
                    self._busy.append(span)
                    return conversion, span
                for notifier in reversed(self.notifiers):
                    notifier.cancel(conversion)
                self._gate.wait()

    def _prepare(self, conversion: Conversion) -> list[Prepared]:
        """Prepare all notifiers; the failure of one cancels those before it, last first."""
        done: list[Notifier] = []
        prepared = []
        try:
            for notifier in self.notifiers:
                prepared.append(notifier.prepare(conversion))
                done.append(notifier)
        except HitlessError:
            for notifier in reversed(done):
                notifier.cancel(conversion)
            raise
        return prepared

    def _span(self, conversion: Conversion, prepared: Sequence[Prepared]) -> tuple[int, int]:
        start = align_down(conversion.ranges[0][0], self.hunk_lg2)
        end = align_up(conversion.ranges[-1][1], self.hunk_lg2)
        for each in prepared:
            start, end = min(start, each.span[0]), max(end, each.span[1])
        return start, end

    def _change_owners(self, conversion: Conversion) -> None:
        """Raises OwnerChangeRefused: the host, or a notifier's firmware, has not done all of it."""
        if conversion.refused:
            raise OwnerChangeRefused(conversion.refused[0])
        self.authority(conversion)
        conversion.done = conversion.ranges

    def _enter(self, conversion: Conversion) -> None:
        """Enter the owners of what is done."""
        after, conversion.after = conversion.after, None
        if after is not None and conversion.complete:
            if conversion.entered == self._entered:
                self._owners = after  # nothing else has changed meanwhile
            else:
                many.enter(self._owners, self.slots, Ranges.each(conversion.ranges), conversion.owner)
            self._entered += 1
            return
        for start, end in conversion.done:
            self.set_owner(start, end, conversion.owner)

    def _carry_out(self, conversion: Conversion) -> None:
        """Isolate everywhere; change owners; refresh everywhere, whatever the owner change did."""
        for watcher in self.watchers:
            watcher.begin(conversion)
        for notifier in self.notifiers:
            notifier.isolate(conversion)
        refusal: OwnerChangeRefused | None = None
        try:
            self._change_owners(conversion)
        except OwnerChangeRefused as error:
            refusal = error
            conversion.done = tuple(joined(error.done))
        with self._gate:
            self._enter(conversion)
        for notifier in self.notifiers:
            notifier.own(conversion)
        for notifier in self.notifiers:
            notifier.refresh(conversion)
        for watcher in self.watchers:
            watcher.end(conversion)
        if conversion.fenced:
            self.held += conversion.runs
        if refusal is not None:
            raise refusal


__all__ = ["GUEST", "HOST", "GuestMemfd", "GuestRun"]
