"""What has to hold of a configuration and needs no plugin: memory, names, units and their devices."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hitless.config.draft import Draft
from hitless.config.model import GuestConfig, PluginConfig, UnitConfig
from hitless.config.spaces import space_faults
from hitless.config.structure import Row, fault, shown
from hitless.units import PAGE, SPACE, Range, size_text

_PAGES = (1 << 12, 1 << 14, 1 << 16)
_HUNKS = (1 << 12, 1 << 21, 1 << 30)
_DEVICE_IDS = 1 << 16
_TABLE_MEMORY_MAX = 1 << 39
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def rule_faults(draft: Draft) -> Iterator[str]:
    """Every fault that the tables have by themselves and with each other."""
    if draft.guest is not None:
        yield from _guest(draft.guest)
    elif "guest" not in draft.unread:
        yield "missing: give [guest] with memory = SIZE or [[guest.slot]] @ $.guest"
    if not draft.domains and "domain" not in draft.unread:
        yield "missing: give at least one [[domain]] with vendor = NAME @ $.domain"
    for rows in (draft.domains, draft.units, draft.ioas, draft.vendors, draft.extensions):
        yield from _names(rows)
    for row in draft.domains:
        if not 0 < row.value.table_memory <= _TABLE_MEMORY_MAX or row.value.table_memory % PAGE:
            yield f"must be a multiple of 4K from 4K to {size_text(_TABLE_MEMORY_MAX)} @ {row.path}.table_memory"
    for plugin in (*draft.vendors, *draft.extensions):
        yield from entry_faults(plugin, draft.folder)
    yield from _units(draft)
    yield from space_faults(draft)


def entry_faults(row: Row[PluginConfig], folder: str) -> Iterator[str]:
    """What is wrong with a plugin's entry, before anything is imported."""
    told = row.value
    if not _ENTRY.fullmatch(told.plugin):
        yield fault(f"expected 'module:object', not {shown(told.plugin)}", f"{row.path}.plugin")
    if told.path and not _is_folder(Path(folder, told.path)):
        yield fault(f"there is no folder {shown(told.path)}", f"{row.path}.path")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long a name, a NUL in it
        return False


# -- guest memory


def _guest(row: Row[GuestConfig]) -> Iterator[str]:
    guest = row.value
    if guest.hunk not in _HUNKS:
        yield f"must be 4K, 2M or 1G, not {size_text(guest.hunk)} @ $.guest.hunk"
    if guest.page_size not in _PAGES:
        yield f"must be 4K, 16K or 64K, not {size_text(guest.page_size)} @ $.guest.page_size"
    if row.dropped & {"memory", "slot"}:
        return
    if guest.memory is None and not guest.slot:
        yield "the guest has no memory: give memory = SIZE or [[guest.slot]] @ $.guest"
    elif guest.memory is not None and guest.slot:
        yield "give either memory or [[guest.slot]], not both @ $.guest.memory"
    elif guest.memory is not None and (not guest.memory or guest.memory % PAGE):
        yield f"must be a multiple of 4K above 0, not {size_text(guest.memory)} @ $.guest.memory"
    slots = [f"$.guest.slot[{index}]" for index in range(len(guest.slot))]
    bad = [path for path, each in zip(slots, guest.slot, strict=True) if _unusable(each.gpa, each.offset, each.size)]
    for path in bad:
        yield f"gpa, offset and size must be multiples of 4K, size above 0, both ends at most 2**64 @ {path}"
    if bad:
        return
    for what in ("gpa", "offset"):
        pieces = [Range(getattr(s, what), getattr(s, what) + s.size) for s in guest.slot]
        yield from _overlaps(pieces, slots, what)
    if not row.dropped & {"shared", "private"}:
        yield from _start_owners(guest)


def _unusable(gpa: int, offset: int, size: int) -> bool:
    return not size or bool((gpa | offset | size) % PAGE) or max(gpa, offset) + size > SPACE


def _overlaps(pieces: Sequence[Range], paths: Sequence[str], what: str) -> Iterator[str]:
    """Every piece that begins before an earlier one (by address) ends."""
    end, holder = 0, ""
    for piece, path in sorted(zip(pieces, paths, strict=True)):
        if piece.start < end:
            yield f"overlaps {holder} in {what} at {piece.start:#x} @ {path}"
        if piece.end > end:
            end, holder = piece.end, path


def _start_owners(guest: GuestConfig) -> Iterator[str]:
    """Ranges that start with an owner of their own are memory, and each has one owner."""
    memory = sorted((slot.gpa, slot.gpa + slot.size) for slot in guest.slots)
    pieces, paths = [], []
    for key, ranges in (("shared", guest.shared), ("private", guest.private)):
        for index, each in enumerate(ranges):
            piece, path = Range(each.start, each.start + each.size), f"$.guest.{key}[{index}]"
            if not each.size or (each.start | each.size) % PAGE:
                yield f"start and size must be multiples of 4K, size above 0 @ {path}"
            elif sum(max(0, min(b, piece.end) - max(a, piece.start)) for a, b in memory) != each.size:
                yield f"{piece} is not wholly the guest's memory @ {path}"
            else:
                pieces.append(piece)
                paths.append(path)
    yield from _overlaps(pieces, paths, "address")


# -- names


def _names(rows: Sequence[Row[Any]]) -> Iterator[str]:
    """A name belongs to one; it is not empty, unless the table has a default for it."""
    first: dict[str, str] = {}
    for row in rows:
        name = row.value.name
        if "name" in row.dropped:
            continue
        if not name:
            yield f"must not be empty @ {row.path}.name"
        elif name in first:
            yield fault(f"{shown(name)} is the name of {first[name]} already", f"{row.path}.name")
        first.setdefault(name, row.path)
        for key in ("units", "extensions"):
            values = getattr(row.value, key, ())
            for index, each in enumerate(values):
                if each in values[:index]:
                    yield fault(f"{shown(each)} stands here twice", f"{row.path}.{key}[{index}]")


# -- units


def _units(draft: Draft) -> Iterator[str]:
    """Units and the domains that list them fit together, and every device knows its domain."""
    units = {row.value.name: row.value for row in draft.units}
    used: dict[str, list[str]] = defaultdict(list)
    for row in draft.domains:
        for index, name in enumerate(row.value.units):
            path = f"{row.path}.units[{index}]"
            if name not in units:
                if "unit" not in draft.unread:
                    known = ", ".join(map(shown, units)) or "none"
                    yield fault(f"no [[unit]] is named {shown(name)}, there are {known}", path)
                continue
            if row.value.name not in used[name]:
                used[name].append(row.value.name)
            if units[name].vendor != row.value.vendor:
                yield fault(f"a unit of {shown(units[name].vendor)}, the domain is {shown(row.value.vendor)}'s", path)
            elif "device" not in _dropped(draft, name) and not units[name].devices_of(row.value.name):
                yield fault(f"no device of {shown(name)} is in this domain", path)
    domains_known = "domain" not in draft.unread and not any({"name", "units"} & r.dropped for r in draft.domains)
    pasids = {row.value.name: row.value.pasid for row in draft.domains}
    for unit in draft.units:
        domains = used.get(unit.value.name, [])
        if domains_known and not domains and unit.value.name:
            yield fault(f"no domain lists {shown(unit.value.name)} in its units", f"{unit.path}.name")
        if not unit.value.device and "device" not in unit.dropped:
            yield f"a unit has at least one [[unit.device]] @ {unit.path}"
        yield from _devices(unit, domains, domains_known, pasids)


def _dropped(draft: Draft, name: str) -> frozenset[str]:
    return next(row.dropped for row in draft.units if row.value.name == name)


def _devices(
    unit: Row[UnitConfig], domains: Sequence[str], domains_known: bool, pasids: Mapping[str, int | None]
) -> Iterator[str]:
    ids: dict[int, int] = {}
    for index, device in enumerate(unit.value.device):
        path = f"{unit.path}.device[{index}]"
        if not 0 <= device.id < _DEVICE_IDS:
            yield fault(f"must be 0 to {_DEVICE_IDS - 1:#x}, not {shown(device.id)}", f"{path}.id")
        elif device.id in ids:
            yield f"{device.id:#x} is the id of device[{ids[device.id]}] already @ {path}.id"
        ids.setdefault(device.id, index)
        if not domains_known:
            continue
        if device.domain and device.domain not in domains:
            yield fault(f"domain {shown(device.domain)} does not list this unit", f"{path}.domain")
        if not device.domain and len({pasids[name] for name in domains}) < len(domains):
            problem = f"missing: say which of {', '.join(map(shown, domains))} it is in, or give them different pasids"
            yield fault(problem, f"{path}.domain")
