"""DMA in flight: devices that go on while a conversion runs, and what they must see.

The truth is guest_memfd's: never a page table's. Requests are issued before, between and after
all steps; each completes now or later, and is judged when it completes.
"""

import random
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import NamedTuple

from attrs import define, field

from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd
from hitless.hardware.caches import CachedLeaf
from hitless.hardware.translator import Attachment, Translated
from hitless.hardware.unit import Request, Unit
from hitless.pagetable import PageFormat
from hitless.refresh.changes import Stages

_LATER = 0.3
_NEAR = 0.7
_FAMILIAR = 256
_NEAR_SPANS = 8


@define
class DmaCounters:
    """What devices saw.

    Args:
        near: requests to neighbours under the leaf, or the table, that the running plan changes.
        neighbour: all requests to neighbours, near ones included.
        neighbour_faults, neighbour_misrouted: those that faulted (N1), or went elsewhere (N2).
        converted: requests to pages in conversion, or just converted.
        converted_misrouted: those that reached neither the old nor the new page (C1).
        machine_checks: unsafe outcomes of any request (C1).
        stale: requests after refresh had returned that saw anything but what is owned now (F1, C2).
    """

    near: int = 0
    neighbour: int = 0
    neighbour_faults: int = 0
    neighbour_misrouted: int = 0
    converted: int = 0
    converted_misrouted: int = 0
    machine_checks: int = 0
    stale: int = 0


class Lane(NamedTuple):
    """One device behind one unit, as the engine drives it."""

    unit: Unit
    attachment: Attachment


def near(changes: Stages, fmt: PageFormat) -> list[tuple[int, int]]:
    """The spans of the leaves and tables that a plan changes first, where DMA is most likely to notice."""
    levels, found = fmt.levels, []
    stages = (changes.resize, changes.cut, changes.merge, changes.wipe, changes.place)
    for change in islice(chain.from_iterable(stages), _NEAR_SPANS):
        level = levels[change.level]
        lo = level.lo if change.kind in ("cut", "merge", "resize") or (change.old and change.kind == "wipe") else 0
        lo = lo if lo > levels[0].lo else level.lo + level.bits
        found.append((change.iova >> lo << lo, (change.iova >> lo << lo) + (1 << lo)))
    for target in changes.owed[:_NEAR_SPANS]:
        lo = max(target.leaf_lg2, levels[0].lo + levels[0].bits)
        found.append((target.first >> lo << lo, (target.first >> lo << lo) + (1 << lo)))
    return found


@define(eq=False)
class DmaEngine:
    """Drives the devices of one domain.

    Args:
        guest: the truth.
        lanes: devices.
        attrs: the attributes that every mapping of the domain has (rule N2); None: nobody can see them.
        maps_private: whether a trusted device of the domain may reach guest-owned pages here.
        maps_shared: whether any device may reach the host's pages here.
        rate: requests per burst.
        iovas: the IOVAs at which devices reach a page, given its guest physical address; None: that address.
        stage1_attrs: the attributes of every mapping of the guest's own stage 1; None: it has none.
        private_below: IOVAs below it reach guest-owned pages alone, all others the host's; None: an IOVA reaches both.

    Pages are chosen, and judged, by guest physical address, whatever IOVAs lead there.
    """

    guest: GuestMemfd
    lanes: list[Lane]
    attrs: int | None
    rng: random.Random
    maps_private: bool = True
    rate: int = 2
    iovas: Callable[[int], Sequence[int]] | None = None
    stage1_attrs: int | None = None
    maps_shared: bool = True
    private_below: int | None = None
    counters: DmaCounters = field(factory=DmaCounters)
    _running: Conversion | None = None
    _near: list[tuple[int, int]] = field(factory=list)
    _shared: list[int] = field(factory=list)

    # -- what runs

    def begin(self, conversion: Conversion, near: list[tuple[int, int]]) -> None:
        """A conversion starts; ``near`` are the spans (GPA) of the leaves and tables that its plan changes."""
        self._running = conversion
        self._near = [span for span in near if span[1] - span[0] > 4096]

    def end(self, conversion: Conversion) -> None:
        """Its refresh has returned: from now on only the present owners' view is right."""
        self._running = None
        if conversion.owner == (HOST if self.maps_shared else GUEST):
            self._shared += [start for start, _ in conversion.done]
            del self._shared[:-_FAMILIAR]
        for lane in self.lanes:
            for start, end in conversion.done or conversion.ranges:
                for gpa in {start, end - 4096, start + self._below(end - start >> 12) * 4096}:
                    self._converted(lane, gpa)
            for request in list(lane.unit.in_flight):
                if self.rng.random() < 0.5:
                    lane.unit.in_flight.remove(request)
                    request.finish(request)

    def one(self) -> None:
        """One request: the machine goes on while a wait is polled."""
        self._burst(1)

    def burst(self) -> None:
        """A few requests from random devices; units go on too."""
        self._burst(self.rate)

    def _burst(self, count: int) -> None:
        for _ in range(count):
            lane = self.lanes[self._below(len(self.lanes))]
            lane.unit.tick()
            if self._running is not None and self.rng.random() < 0.2:
                ranges = self._running.ranges
                start, end = ranges[self._below(len(ranges))]
                self._converted(lane, start + self._below(end - start >> 12) * 4096)
            else:
                self._neighbour(lane)
            if lane.unit.in_flight and self.rng.random() < _LATER:
                request = lane.unit.in_flight.pop(self._below(len(lane.unit.in_flight)))
                request.finish(request)

    def _below(self, count: int) -> int:
        return int(self.rng.random() * count)

    # -- requests

    def _neighbour(self, lane: Lane) -> None:
        near = bool(self._near) and self.rng.random() < _NEAR
        gpa = self._pick(self._near[self._below(len(self._near))], lane) if near else None
        if gpa is None:
            near = False
            gpa = self._familiar(lane)
        if gpa is None:
            slots = self.guest.slots.slots
            slot = slots[self._below(len(slots))]
            gpa = self._pick((slot.gpa, slot.end), lane)
        iova = None if gpa is None else self._address(gpa, self.guest.owner(gpa))
        if gpa is None or iova is None:
            return
        self.counters.near += near
        self.counters.neighbour += 1
        write = self.rng.random() < 0.5
        translated = lane.unit.translate(lane.attachment, iova, write)
        if isinstance(translated, str):
            if translated == "machine-check":
                self.counters.machine_checks += 1
            if translated != "blocked":
                self.counters.neighbour_faults += 1
            return
        self._issue(lane, iova, gpa, write, translated, self._judge_neighbour)

    def _converted(self, lane: Lane, gpa: int) -> None:
        iova = self._address(gpa)
        if iova is None:
            return
        self.counters.converted += 1
        write = self.rng.random() < 0.5
        translated = lane.unit.translate(lane.attachment, iova, write)
        if isinstance(translated, str):
            if translated == "machine-check":
                self.counters.machine_checks += 1
            if self._running is None and translated != "blocked" and self._reachable(lane.attachment, gpa, iova):
                self.counters.stale += 1
            return
        self._issue(lane, iova, gpa, write, translated, self._judge_converted)

    def _address(self, gpa: int, owner: int | None = None) -> int | None:
        """One of the IOVAs that lead to a page, or may while it has an owner; None: there is none."""
        if self.iovas is None:
            return gpa if owner is None or self._in_half(owner, gpa) else None
        found = self.iovas(gpa)
        if owner is not None and self.private_below is not None:
            found = [iova for iova in found if self._in_half(owner, iova)]
        return found[self._below(len(found))] if found else None

    def _issue(
        self, lane: Lane, iova: int, gpa: int, write: bool, translated: Translated, judge: Callable[[Request], None]
    ) -> None:
        request = Request(lane.attachment, iova, write, translated, judge, None, gpa)
        if self.rng.random() < _LATER and lane.unit.completes_later and not lane.unit.fenced:
            lane.unit.in_flight.append(request)
        else:
            request.finish(request)

    # -- what they must see

    def _judge_neighbour(self, request: Request) -> None:
        """Its own page, with its own rights and attributes; or, if it converted meanwhile, as that is judged."""
        if self._is_converting(request.gpa):
            self._judge_converted(request)
        elif not self._right(request):
            self.counters.neighbour_misrouted += 1

    def _judge_converted(self, request: Request) -> None:
        if self._is_converting(request.gpa):
            if not self._old_or_new(request):
                self.counters.converted_misrouted += 1
        elif not self._right(request):
            self.counters.stale += 1

    def _is_converting(self, gpa: int) -> bool:
        running = self._running
        if running is None:
            return False
        for start, end in running.ranges:  # noqa: SIM110 - a generator would cost three times as much
            if start <= gpa < end:
                return True
        return False

    def _old_or_new(self, request: Request) -> bool:
        for run in self._running.runs if self._running else ():
            if run.start <= request.gpa < run.end:
                offset = request.gpa - run.start
                return request.translated.pa in (run.old_pa + offset, run.new_pa + offset)
        return False

    def _right(self, request: Request) -> bool:
        """Whether a completed request reached what the present owners grant, and nothing else."""
        if not self._reachable(request.attachment, request.gpa, request.iova):
            return _turned_away(request)
        right_place = request.translated.pa == self.guest.pa(request.gpa)
        return right_place and self._right_attrs(request.translated.entry)

    def _right_attrs(self, entry: CachedLeaf) -> bool:
        if self.attrs is None:
            return True
        if entry.lower is None:
            return entry.attrs == self.attrs
        return entry.lower.attrs == self.attrs and entry.attrs == self.stage1_attrs

    def _reachable(self, attachment: Attachment, gpa: int, iova: int | None = None) -> bool:
        """Whether a device may reach a page now: at an IOVA, or at any."""
        owner = self.guest.owner(gpa)
        return self._grants(owner, attachment) and (iova is None or self._in_half(owner, iova))

    def _in_half(self, owner: int | None, iova: int) -> bool:
        """Whether an IOVA lies in the half of the address space that holds an owner's pages."""
        return self.private_below is None or (owner == GUEST) == (iova < self.private_below)

    def _grants(self, owner: int | None, attachment: Attachment) -> bool:
        if owner == HOST:
            return self.maps_shared
        return owner == GUEST and attachment.trusted and self.maps_private

    def _familiar(self, lane: Lane) -> int | None:
        """A page that was shared not long ago, if it still is: devices come back to the same buffers."""
        if not self._shared or self.rng.random() < 0.1:
            return None
        gpa = self._shared[self._below(len(self._shared))]
        return gpa if self._reachable(lane.attachment, gpa) and not self._is_converting(gpa) else None

    def _pick(self, span: tuple[int, int], lane: Lane) -> int | None:
        """A random page of a span that this device may reach, outside the ranges in conversion."""
        start, end = span
        for _ in range(3):
            gpa = start + self._below(end - start >> 12) * 4096
            owner = self.guest.owner(gpa)
            if owner is None:
                continue
            if not self._grants(owner, lane.attachment):
                run = self.guest.nearest(gpa, HOST if self.maps_shared else GUEST, start, end)
                if run is None:
                    return None
                gpa = run[0] + self._below(run[1] - run[0] >> 12) * 4096
            if not self._is_converting(gpa):
                return gpa
        return None


def _turned_away(request: Request) -> bool:
    """Whether a request that was translated in time fails safely on arrival: its owner check is made there."""
    attachment, entry = request.attachment, request.translated.entry
    if attachment.ownership.cached:
        return False
    leaf_lg2 = (entry.lower or entry).leaf_lg2
    verdict = attachment.ownership.verdict(attachment.owners, request.translated.pa, leaf_lg2, attachment.trusted)
    return not verdict.ok and verdict.outcome == "owner"


__all__ = ["DmaCounters", "DmaEngine", "Lane", "Translated"]
