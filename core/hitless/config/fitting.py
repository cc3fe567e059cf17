"""Whether a vendor's formats and structures can hold what a configuration asks for: widths, nesting, PASIDs."""

from collections.abc import Iterator, Sequence

from attrs import define

from hitless.config.attaching import machines_of, places_of
from hitless.config.draft import Draft
from hitless.config.model import Config, DomainConfig, GuestConfig
from hitless.config.structure import Row, fault
from hitless.errors import HitlessError
from hitless.hardware.structures import BadStructure, Fetch, StageRoot, StructureEntry, Structures
from hitless.pagetable import PageFormat, WalkFault
from hitless.plugin import Vendor, VendorRegistry
from hitless.units import align_up, size_text

Ranges = Sequence[tuple[int, int]]


def inputs(draft: Draft, guest: GuestConfig, ioas: str) -> Ranges:
    """The IOVAs of an address space; of none, the guest's memory."""
    for row in draft.ioas:
        if ioas and row.value.name == ioas:
            return [(area.iova, area.iova + area.size) for area in row.value.area]
    return [(slot.gpa, slot.gpa + slot.size) for slot in guest.slots]


def input_faults(fmt: PageFormat, ranges: Ranges, what: str, path: str) -> Iterator[str]:
    """Addresses that a format cannot translate."""
    end = max((end for _, end in ranges), default=0)
    if end > 1 << fmt.iova_bits:
        yield fault(f"{what} ends at {end:#x}, {fmt.name} translates {fmt.iova_bits} bits", path)
        return
    edges = [edge for start, end in ranges for edge in (start, end - 1)]
    for edge in [edge for edge in edges if isinstance(fmt.start(0, edge), WalkFault)][:1]:
        problem = f"{what} at {edge:#x} is no input of {fmt.name}, whose {fmt.iova_bits} bits are extended upwards"
        yield fault(problem, path)


def page_faults(fmt: PageFormat, ranges: Ranges, what: str, path: str) -> Iterator[str]:
    """Ranges that are not made of a format's pages."""
    granule = 1 << fmt.levels[0].lo
    for start, _ in [each for each in ranges if (each[0] | each[1]) % granule][:1]:
        problem = f"the smallest page of {fmt.name} is {size_text(granule)}, {what} at {start:#x} is not made of such"
        yield fault(f"{problem} pages", path)


def stage1_faults(draft: Draft, row: Row[DomainConfig], vendor: Vendor, registry: VendorRegistry) -> Iterator[str]:
    """A guest's own tables: their format, and what stands below."""
    told, stage = row.value, row.value.stage1
    if stage is None:
        return
    path = f"{row.path}.stage1"
    names = registry.format_names(told.vendor, told.extensions)
    if stage.format not in names:
        yield fault(f"{told.vendor} has no format {stage.format!r}, it has {', '.join(names)}", f"{path}.format")
        return
    if vendor.page_format.stage != "2" or vendor.structures is None:
        why = "is no stage 2" if vendor.structures is not None else "comes without structures"
        yield fault(f"no guest's tables stand over {vendor.page_format.name}, which {why}", path)
        return
    upper = registry.resolve(told.vendor, stage.format, told.features, told.extensions).page_format
    if upper.stage != "1":
        first = [name for name in names if _stage(registry, told, name) == "1"]
        yield fault(f"{upper.name} is no stage 1, use {' or '.join(first) or 'another vendor'}", f"{path}.format")
        return
    if draft.guest is not None and draft.guest.value.slots:
        where = f"{path}.ioas" if stage.ioas else f"{path}.format"
        ranges = inputs(draft, draft.guest.value, stage.ioas)
        what = "an IOVA range" if stage.ioas else "guest memory"
        yield from input_faults(upper, ranges, what, where)
        yield from page_faults(upper, ranges, what, where)
        granule = upper.levels[0].lo
        for slot in draft.guest.value.slots:
            if slot.gpa + slot.size > 1 << upper.oa_bits:
                yield fault(f"guest memory ends beyond the {upper.oa_bits} bits of {upper.name}", f"{path}.format")
            elif stage.memory % (1 << granule):
                yield fault(f"must be a multiple of {size_text(1 << granule)}", f"{path}.memory")


def _stage(registry: VendorRegistry, told: DomainConfig, name: str) -> str:
    return registry.resolve(told.vendor, name, told.features, told.extensions).page_format.stage


# -- structures


@define
class _Nowhere:
    """Gives out addresses; nobody writes there."""

    at: int = 1 << 30

    def allocate(self, size_lg2: int = 12) -> int:
        pa = align_up(self.at, size_lg2)
        self.at = pa + (1 << size_lg2)
        return pa

    def store(self, gpa: int, word: int) -> None:
        """Nothing."""


def structure_faults(config: Config, paths: dict[str, str], registry: VendorRegistry) -> Iterator[str]:
    """Devices and PASIDs that a vendor's structures cannot be set up for, by trying it.

    Args:
        config: without other faults.
        paths: of the domains, by name.
        registry: has all of their plugins.
    """
    groups = machines_of(config.domains) if config.guest.together else [[each] for each in config.domains]
    for group in groups:
        vendors = {told.name: _resolved(registry, told, told.format) for told in group}
        places = places_of(config, group, lambda told: vendors[told.name])  # noqa: B023 - used at once
        entries: dict[str, list[StructureEntry]] = {}
        for told in group:
            vendor = vendors[told.name]
            for unit, tag, devices in places[told.name]:
                known = entries.setdefault(unit, [])
                known += [_entry(registry, told, vendor, tag, each.id, ats=each.ats) for each in devices]
                if vendor.structures is None:
                    if told.pasid is not None:
                        yield fault("its plugin declares no structures that know PASIDs", f"{paths[told.name]}.pasid")
                    continue
                if why := _unfit(vendor.structures, known):
                    yield fault(f"unit {unit} cannot be set up so: {why}", paths[told.name])
                    del known[-len(devices) :]


def _unfit(structures: Structures, entries: Sequence[StructureEntry]) -> str:
    """Why structures cannot be set up for all of these, or would refuse the last; empty: they can."""
    try:
        image = structures.setup(entries, _Nowhere(), _Nowhere())
    except HitlessError as error:
        return ": ".join([error.what, "; ".join(filter(None, (error.why, error.where, error.do, error.rule)))])
    words = {pa + 8 * i: word for pa, each in image.writes for i, word in enumerate(each)}
    last = entries[-1]
    at = structures.start(image.base, last.device, last.pasid)
    while isinstance(at, Fetch) and at.stage2 is None:
        at = structures.step(at, tuple(words.get(at.pa + 8 * i, 0) for i in range(at.words)))
    pasid = "" if last.pasid is None else f" with PASID {last.pasid:#x}"
    return f"requests of device {last.device:#x}{pasid} are refused: {at.why}" if isinstance(at, BadStructure) else ""


def _entry(
    registry: VendorRegistry, told: DomainConfig, vendor: Vendor, tag: int, device: int, *, ats: bool
) -> StructureEntry:
    """What the structures will have to say of a device."""
    own = StageRoot(vendor.page_format, 1 << 30, tag)
    if told.stage1 is not None and vendor.structures is not None:
        upper = vendor.structures.stage1_tag(tag, told.pasid or 0)
        root = StageRoot(_resolved(registry, told, told.stage1.format).page_format, 1 << 30, upper)
        return StructureEntry(device, told.pasid, root, own, upper, ats)
    if vendor.page_format.stage == "1":
        return StructureEntry(device, told.pasid, own, None, tag, ats)
    return StructureEntry(device, told.pasid, None, own, tag, ats)


def _resolved(registry: VendorRegistry, told: DomainConfig, name: str) -> Vendor:
    return registry.resolve(told.vendor, name, told.features, told.extensions)
