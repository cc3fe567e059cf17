"""What is checked: an address space as it stands, the plan, and the truth that guest_memfd holds."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from attrs import define, field, frozen

from hitless.check.shadow import Words
from hitless.guest_memfd.conversion import ChangeRun
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd
from hitless.hardware.vendor import Vendor
from hitless.ownership import OwnerTable, Policy
from hitless.pagetable import READ, WRITE, PageFormat, Position, WalkFault
from hitless.plan import Section, Step
from hitless.units import SPACE


@frozen
class CheckUnit:
    """One unit under one tag.

    Args:
        name: the unit; two tags of one unit are two of these with one name.
        tag: what it files the address space under.
        devices: attached devices with ATS; one without is always there.
        nested: what results of a guest's stage 1 over this address space are filed under; None: there is none.
        pasid: of the devices' requests.
        base: the register that leads to the unit's structures.
        requesters: (device, PASID) of all that is attached, where structures say so.
    """

    name: str
    tag: int
    devices: tuple[int, ...] = ()
    nested: int | None = None
    pasid: int | None = None
    base: int = 0
    requesters: tuple[tuple[int, int | None], ...] = ()


NOBODY = -1
"""The owner of what is truncated: nobody may reach it any more."""


class TruthRun(NamedTuple):
    """Guest memory ``[start, end)``, physically contiguous.

    ``converts``: it is in conversion, whatever comes of it. ``attrs``: what its mappings have; None: what all have.
    """

    start: int
    end: int
    old_owner: int
    new_owner: int
    old_pa: int
    new_pa: int
    converts: bool = False
    attrs: int | None = None


@define
class Truth:
    """What guest_memfd holds before and after: never a page table's word.

    Args:
        runs: all guest memory, sorted and disjoint.
        varied: some runs have attributes of their own.
        attrs: the attributes that every mapping of the address space shall have, where a run has none of its own.
    """

    runs: list[TruthRun]
    attrs: int
    varied: bool = field(init=False)
    _starts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._starts = [run.start for run in self.runs]
        self.varied = any(run.attrs is not None for run in self.runs)

    @classmethod
    def of(cls, guest: GuestMemfd, attrs: int, conversion: Iterable[ChangeRun] = ()) -> "Truth":
        """The truth of a guest as it stands, with the changes of conversions that are about to happen."""
        changes = {(run.start, run.end): run for run in conversion}
        cuts = sorted({edge for pair in changes for edge in pair})
        runs = []
        for slot in guest.slots.slots:
            for old in guest.runs(slot.gpa, slot.end):
                edges = [old.start, *cuts[bisect_right(cuts, old.start) : _below(cuts, old.end)], old.end]
                for start, end in pairwise(edges):
                    pa, change = old.pa + start - old.start, changes.get((start, end))
                    if change is None:
                        runs.append(TruthRun(start, end, old.owner, old.owner, pa, pa))
                    else:
                        pas = change.old_pa, change.new_pa
                        runs.append(TruthRun(start, end, old.owner, change.new_owner, *pas, converts=True))
        return cls(runs, attrs)

    def through(self, areas: Iterable[tuple[int, int, int]]) -> "Truth":
        """The truth by IOVA, where areas (IOVA, GPA, size) lead to guest memory."""
        runs = [
            run._replace(start=run.start + iova - gpa, end=run.end + iova - gpa)
            for iova, gpa, size in sorted(areas)
            for run in self.inside(gpa, gpa + size)
        ]
        return Truth(runs, self.attrs)

    def attrs_at(self, address: int) -> int:
        """The attributes that a mapping there shall have."""
        run = next(self.inside(address, address + 1), None)
        return self.attrs if run is None or run.attrs is None else run.attrs

    def without(self, start: int, end: int) -> "Truth":
        """The truth if a range is truncated: nobody may reach it afterwards."""
        return self._changed(start, end, lambda run: run._replace(new_owner=NOBODY, converts=True))

    def kept(self, start: int, end: int) -> "Truth":
        """The truth if the owner change leaves out a range that is in conversion."""
        return self._changed(
            start, end, lambda run: run._replace(new_owner=run.old_owner, new_pa=run.old_pa) if run.converts else run
        )

    def _changed(self, start: int, end: int, change: Callable[[TruthRun], TruthRun]) -> "Truth":
        runs = [*self.inside(0, start), *map(change, self.inside(start, end)), *self.inside(end, SPACE)]
        return Truth(runs, self.attrs)

    @property
    def converting(self) -> list[TruthRun]:
        """The runs that get another owner."""
        return [run for run in self.runs if run.converts]

    def inside(self, start: int, end: int) -> Iterator[TruthRun]:
        """The parts of runs in a range, in order."""
        at = max(bisect_right(self._starts, start) - 1, 0)
        while at < len(self.runs) and self.runs[at].start < end:
            run = self.runs[at]
            at += 1
            a, b = max(run.start, start), min(run.end, end)
            if a >= b:
                continue
            shift = a - run.start
            if (a, b) != run[:2]:
                run = run._replace(start=a, end=b, old_pa=run.old_pa + shift, new_pa=run.new_pa + shift)
            yield run


def _below(cuts: list[int], end: int) -> int:
    """How many cuts lie below an end."""
    at = bisect_right(cuts, end)
    return at - 1 if at and cuts[at - 1] == end else at


def begin(fmt: PageFormat, root_pa: int, root_level: int, iova: int) -> Position | WalkFault:
    """Where a walk begins: at a root of the format's top level (-1), or at a smaller one that has not grown yet."""
    if root_level in (-1, fmt.top.number):
        return fmt.start(root_pa, iova)
    level = fmt.levels[root_level]
    if iova >> level.lo + level.bits:
        return WalkFault(fmt.stage, root_level, iova, 0, "range")
    return Position(fmt.stage, root_level, root_pa, iova, READ | WRITE)


@define(eq=False)
class Subject:
    """One plan on one address space.

    Args:
        vendor: formats, commands and declared hardware.
        memory: as it is before the plan; it is only read.
        root_pa: the root table before the plan.
        root_level: its level, where the plan lets it grow: then the vendor's format is the larger one; -1: the top.
        units: where the address space may be cached.
        owners: the owner table before the plan; a copy is changed.
        truth: what guest_memfd holds.
        policy, trusted: what the device may reach.
        steps: everything that the plan does, in order, with its section.
        name: for people.
        together: the steps are those of several plans, interleaved.
        in_use: physical ranges that units use beside tables: queues, fault records, structures.
    """

    vendor: Vendor
    memory: Words
    root_pa: int
    units: tuple[CheckUnit, ...]
    owners: OwnerTable
    truth: Truth
    policy: Policy
    trusted: bool
    steps: Sequence[tuple[Section, Step]]
    name: str = ""
    together: bool = False
    in_use: Sequence[tuple[int, int]] = ()
    root_level: int = -1

    def begin(self, iova: int) -> Position | WalkFault:
        """Where a walk begins before the plan."""
        return begin(self.vendor.page_format, self.root_pa, self.root_level, iova)

    def grants(self, owner: int, iova: int | None = None) -> bool:
        """Whether the device may reach a page with an owner, in this address space, at an IOVA or at any."""
        if owner == GUEST:
            return self.trusted and self.policy.maps(owner, iova)
        return owner == HOST and self.policy.maps(owner, iova)
