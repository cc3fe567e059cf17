"""What has to hold of address spaces, PASIDs and a guest's own tables, and needs no plugin."""

from collections.abc import Iterator

from hitless.config.draft import Draft
from hitless.config.model import DomainConfig, IoasConfig
from hitless.config.structure import Row, fault, shown
from hitless.units import PAGE, SPACE, Range, size_text

_PASIDS = 1 << 20


def space_faults(draft: Draft) -> Iterator[str]:
    """Every fault of ``[[ioas]]``, and of what domains say of address spaces."""
    for row in draft.ioas:
        yield from _areas(draft, row)
    used = set()
    for domain in draft.domains:
        told, stage1 = domain.value, domain.value.stage1
        for name, path in (
            (told.ioas, f"{domain.path}.ioas"),
            (stage1.ioas if stage1 else "", _stage1(domain, "ioas")),
        ):
            used.add(name)
            if name and name not in {row.value.name for row in draft.ioas} and "ioas" not in draft.unread:
                known = ", ".join(shown(row.value.name) for row in draft.ioas) or "none"
                yield fault(f"no [[ioas]] is named {shown(name)}, there are {known}", path)
        yield from _domain(draft, domain)
    if "domain" not in draft.unread and not any({"ioas", "stage1"} & row.dropped for row in draft.domains):
        for row in draft.ioas:
            if row.value.name and row.value.name not in used:
                problem = f"no domain names {shown(row.value.name)}: give ioas to a domain, or to its stage1"
                yield fault(problem, f"{row.path}.name")


def _stage1(row: Row[DomainConfig], key: str) -> str:
    return f"{row.path}.stage1.{key}"


def _areas(draft: Draft, row: Row[IoasConfig]) -> Iterator[str]:
    """Areas are of whole pages, lead to guest memory, and no IOVA leads to two places."""
    areas = row.value.area
    if not areas and "area" not in row.dropped:
        yield f"an address space has at least one [[ioas.area]] @ {row.path}"
    known = draft.guest is not None and not draft.guest.dropped & {"memory", "slot"}
    slots = draft.guest.value.slots if draft.guest is not None else ()
    end, holder = 0, ""
    for index, area in sorted(enumerate(areas), key=lambda each: each[1].iova):
        path = f"{row.path}.area[{index}]"
        if not area.size or (area.iova | area.gpa | area.size) % PAGE or max(area.iova, area.gpa) + area.size > SPACE:
            yield f"iova, gpa and size must be multiples of 4K, size above 0, both ends at most 2**64 @ {path}"
            continue
        inside = sum(
            max(0, min(slot.gpa + slot.size, area.gpa + area.size) - max(slot.gpa, area.gpa)) for slot in slots
        )
        if known and inside != area.size:
            yield f"{Range(area.gpa, area.gpa + area.size)} is not wholly the guest's memory @ {path}.gpa"
        if area.iova < end:
            yield f"overlaps {holder} in iova at {area.iova:#x} @ {path}"
        if area.iova + area.size > end:
            end, holder = area.iova + area.size, path


def _domain(draft: Draft, row: Row[DomainConfig]) -> Iterator[str]:
    """A domain's PASID, and the memory of the guest's own tables."""
    told = row.value
    if told.pasid is not None and not 0 <= told.pasid < _PASIDS:
        yield fault(f"must be 0 to {_PASIDS - 1:#x}, not {shown(told.pasid)}", f"{row.path}.pasid")
    if told.stage1 is None:
        return
    if told.ioas:
        yield fault(
            "a table under a guest's own maps guest physical addresses: give ioas to stage1 instead",
            f"{row.path}.ioas",
        )
    memory, path = told.stage1.memory, _stage1(row, "memory")
    if not memory or memory % PAGE:
        yield f"must be a multiple of 4K above 0, not {size_text(memory)} @ {path}"
    elif draft.guest is not None and draft.guest.value.slots and not draft.guest.dropped & {"memory", "slot"}:
        last = max(draft.guest.value.slots, key=lambda slot: slot.gpa)
        tables = sum(each.value.stage1.memory for each in draft.domains if each.value.stage1 is not None)
        if tables >= last.size:
            problem = f"the guest's last slot has {size_text(last.size)}, its own tables would take {size_text(tables)}"
            yield fault(f"{problem}: give less memory to them", path)
