"""The plan of a conversion on tables that an image holds; the image is only read."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from attrs import define, evolve, field

from hitless.bits import U64Array
from hitless.check import Truth
from hitless.columns import Ranges, words
from hitless.errors import BadInput, Refused
from hitless.guest_memfd.conversion import ChangeRun
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.inspect.entries import Kind
from hitless.inspect.opening import Space
from hitless.inspect.owners import Owners
from hitless.inspect.ranges import Range as MappedRange
from hitless.inspect.ranges import ranges as mapped_ranges
from hitless.inspect.space import Image
from hitless.iommufd import Domain, DomainSettings
from hitless.machine import Machine
from hitless.memory import JoinedMemory, PageAllocator, PhysicalMemory
from hitless.plugin import Vendor
from hitless.run.checking import check_plan
from hitless.run.plans import PlannedDomain
from hitless.units import Range, align_down, align_up

_HUNK_LG2 = 30
_TABLES = 1 << 26


@define
class ImageBacking:
    """Memory that stays where it is: each offset has one physical address, as the tables in the image say.

    Args:
        parts: (first offset, end, physical address), sorted.
    """

    parts: Sequence[tuple[int, int, int]]
    name: str = "image"

    def pa(self, offset: int, owner: int) -> int:
        return next(pa + offset - start for start, end, pa in self.parts if start <= offset < end)

    def runs(self, start: int, end: int, owner: int) -> Iterator[tuple[int, int, int]]:
        for low, high, pa in self.parts:
            a, b = max(low, start), min(high, end)
            if a < b:
                yield a, b, pa + a - low

    def pas(self, offsets: U64Array, owners: U64Array) -> U64Array:
        pieces = self.pieces(0)
        part = np.searchsorted(pieces.last, offsets)
        return words(pa for _, _, pa in self.parts)[part] + (offsets - pieces.start[part])

    def pieces(self, owner: int) -> Ranges:
        return Ranges.of((start, end) for start, end, _ in self.parts)

    def pools(self) -> list[tuple[int, int, int]]:
        return [(pa, pa + end - start, -1) for start, end, pa in self.parts]


class _TableMemory(PageAllocator):
    """Memory for new tables; what is asked for first, the root, is there already."""

    root: int | None = None

    def allocate(self, size_lg2: int = 12) -> int:
        if self.root is not None:
            root, self.root = self.root, None
            return root
        return super().allocate(size_lg2)


@define(eq=False)
class ImageDomain(Domain):
    """A domain whose tables are there already: nothing is mapped when it opens.

    ``attrs``: what the leaves have that are to be converted, and what their neighbours keep.
    """

    attrs: int = field(default=0)

    @property
    def default_attrs(self) -> int:
        return self.attrs

    def _start(self) -> None:
        """Enter the owners; the tables stay as they are."""
        for slot in self.guest.slots.slots:
            for run in self.guest.runs(slot.gpa, slot.end):
                if run.owner != HOST:
                    end = run.pa + run.end - run.start
                    self.vendor.ownership.initial(self.owners, run.pa, end, GUEST, self.guest.hunk_lg2)


def plan_on_image(
    image: Image,
    space: Space,
    vendor: Vendor,
    wanted: Sequence[tuple[Range, str]],
    owners: Owners | None = None,
    *,
    allow_break: bool = False,
) -> list[PlannedDomain]:
    """The plan of each conversion, each from the tables as they stand, checked over every interleaving.

    Args:
        image: holds the tables.
        space: the address space; IOVAs are what ranges are given in.
        vendor: resolved for the format of the space.
        wanted: ranges, and ``shared`` or ``private``.
        owners: of physical memory; None: the range and what is mapped around it have the other owner, as far as
            the vendor's policy maps memory of that owner.
        allow_break: plan what is not hitless, too.

    Raises:
        BadInput: a range is not mapped, or by leaves of several kinds.
    """
    mapped = list(mapped_ranges(space.reader.chunks()))
    return [_one(image, space, vendor, mapped, each, owner, owners, allow_break) for each, owner in wanted]


def _one(
    image: Image,
    space: Space,
    vendor: Vendor,
    mapped: Sequence[MappedRange],
    wanted: Range,
    owner: str,
    owners: Owners | None,
    allow_break: bool,
) -> PlannedDomain:
    kind = _kind(space, mapped, wanted)
    guest = _guest(space, mapped, wanted)
    to = HOST if owner == "shared" else GUEST
    policy = vendor.ownership.policies[vendor.ownership.default_policy]
    for slot in guest.slots.slots:
        guest.set_owner(slot.gpa, slot.end, GUEST if to == HOST and policy.maps_private else HOST)
    if owners is not None:
        _set_owners(guest, owners)
    machine = Machine(base_pa=_free(image, vendor), table_bytes=_TABLES)
    try:
        domain = _domain(image, space, vendor, guest, machine, kind, allow_break=allow_break)
        ranges = [(wanted.start, wanted.end)]
        planned = PlannedDomain(domain.name, vendor, owner, (wanted,), None, None)
        try:
            prepared = guest.plan(ranges, to)
        except Refused as error:
            return evolve(planned, refusal=error)
        conversion = guest.conversion(ranges, to)
        if not prepared or conversion is None:
            return planned
        truth = _truth(space, mapped, guest, domain, conversion.runs)
        report, story = check_plan(domain, conversion, prepared[0].plan, truth=truth)
        return evolve(planned, plan=prepared[0].plan, report=report, story=story)
    finally:
        machine.close()


def _domain(
    image: Image,
    space: Space,
    vendor: Vendor,
    guest: GuestMemfd,
    machine: Machine,
    kind: Kind,
    *,
    allow_break: bool,
) -> ImageDomain:
    """The tables of the image as a domain of a machine, behind one unit."""
    unit = machine.add_unit("iommu0", vendor)
    tag = space.key.root.tag if space.key is not None else 1
    devices = [(device, False) for device in space.devices[:1]] or [(8, False)]
    tables = _TableMemory(machine.arena, machine.tables.base, machine.tables.size)
    tables.root = space.reader.root_pa
    domain = ImageDomain.open(
        "image",
        vendor,
        guest,
        JoinedMemory([machine.arena, cast(PhysicalMemory, image)]),
        tables,
        [(unit, tag, devices)],
        DomainSettings(allow_break=allow_break),
    )
    assert isinstance(domain, ImageDomain)  # noqa: S101 - `open` makes what it is called on
    domain.attrs = kind.attrs
    guest.notifiers.append(domain)
    return domain


def _kind(space: Space, mapped: Sequence[MappedRange], wanted: Range) -> Kind:
    """The rights and attributes of the range's leaves, whatever their sizes."""
    inside = [each for each in mapped if each.iova < wanted.end and wanted.start < each.iova + each.size]
    covered = sum(min(each.iova + each.size, wanted.end) - max(each.iova, wanted.start) for each in inside)
    kinds = {space.reader.entries.kinds[each.kind]._replace(leaf_lg2=0) for each in inside}
    if covered != wanted.size:
        raise BadInput(
            f"{wanted} is not mapped throughout in the image",
            why="only what the tables map has a physical address here",
            do="look at the space with hitless inspect, and name a range that is mapped",
        )
    if len(kinds) > 1:
        raise BadInput(f"{wanted} is mapped by leaves of {len(kinds)} kinds", do="convert them one by one")
    return kinds.pop()


def _truth(
    space: Space, mapped: Sequence[MappedRange], guest: GuestMemfd, domain: Domain, changes: Sequence[ChangeRun]
) -> Truth:
    """What shall hold: each range keeps the attributes that it has."""
    truth = Truth.of(guest, domain.default_attrs, changes)
    starts = [each.iova for each in mapped]
    kinds = [space.reader.entries.kinds[mapped[bisect_right(starts, run.start) - 1].kind] for run in truth.runs]
    runs = [run._replace(attrs=kind.attrs) for run, kind in zip(truth.runs, kinds, strict=True)]
    return Truth(runs, truth.attrs)


def _guest(space: Space, mapped: Sequence[MappedRange], wanted: Range) -> GuestMemfd:
    """Guest memory: what is mapped in the hunks, or larger leaves, around the range."""
    inside = [each for each in mapped if each.iova < wanted.end and wanted.start < each.iova + each.size]
    lg2 = max(_HUNK_LG2, *(space.reader.entries.kinds[each.kind].leaf_lg2 for each in inside))
    start, end = align_down(wanted.start, lg2), align_up(wanted.end, lg2)
    slots, parts, offset = [], [], 0
    for each in mapped:
        a, b = max(each.iova, start), min(each.iova + each.size, end)
        if a < b:
            slots.append(Slot(a, offset, b - a))
            parts.append((offset, offset + b - a, each.pa + a - each.iova))
            offset += b - a
    return GuestMemfd(Slots(slots), ImageBacking(parts), _HUNK_LG2)


def _set_owners(guest: GuestMemfd, owners: Owners) -> None:
    for slot in guest.slots.slots:
        for run in list(guest.runs(slot.gpa, slot.end)):
            at = run.pa
            end = run.pa + run.end - run.start
            while at < end:
                edge = min(owners.edge_after(at), end)
                gpa = run.start + at - run.pa
                guest.set_owner(gpa, gpa + edge - at, min(owners.owner(at), GUEST))
                at = edge


def _free(image: Image, vendor: Vendor) -> int:
    """Physical memory for new tables that the image does not hold."""
    top = vendor.page_format.oa_bits
    for lg2 in range(min(40, top - 2), top):
        if not any(each.end > 1 << lg2 and each.start < (1 << lg2) + (1 << 30) for each in image.segments):
            return 1 << lg2
    raise BadInput("the image leaves no physical memory for new tables")
