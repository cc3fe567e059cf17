"""From a unit's register to the address spaces of its devices."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from attrs import define, field

from hitless.bits import U64Array
from hitless.errors import BusError
from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    ImageStructures,
    Mode,
    StageRoot,
    Structures,
)
from hitless.hardware.walker import Refusal, Target, find, read_structure
from hitless.inspect.findings import Finding, Findings
from hitless.inspect.space import Readable
from hitless.pagetable import Position, WalkFault, walk
from hitless.units import PAGE, PAGE_LG2

MOST_DEVICES = 1 << 18
"""So many devices are looked up; a larger table needs ``--device``."""
_MOST_LOADS = 1 << 20
_UNREADABLE = 1 << 13
"""After so many structures that cannot be read the others are not tried."""


class SpaceKey(NamedTuple):
    """What makes an address space: tables, and the stage 2 that they lie in (stage 1 of a nested translation).

    ``rights`` are what the structures grant to those devices. Devices that share tables may have tags of their own.
    """

    root: StageRoot
    under: StageRoot | None
    rights: int

    @property
    def tables(self) -> tuple[object, ...]:
        """The same for devices that share tables, whatever their tags."""
        return (self.root[:2], self.under and self.under[:2], self.rights)


@define
class Sharing:
    """Devices that share tables, and their tags."""

    key: SpaceKey
    devices: list[int] = field(factory=list)
    tags: set[int] = field(factory=set)


@define
class UnitView:
    """What a unit's structures say of its devices.

    Args:
        spaces: devices that share tables, in the order of the first one.
        others: devices that bypass translation (``bypass``) or are refused on purpose (``abort``).
        absent: how many devices have no entry.
        looked_up: how many devices were looked up.
        pages: physical page numbers of the structures that were read.
    """

    spaces: dict[tuple[object, ...], Sharing] = field(factory=dict)
    others: dict[Mode, list[int]] = field(factory=dict)
    absent: int = 0
    looked_up: int = 0
    pages: set[int] = field(factory=set)


@define
class _Memo:
    """The sight of plain memory; a structure with words that were seen before leads to the same."""

    memory: Readable
    structures: Structures
    known: dict[tuple[object, ...], Fetch | Found | BadStructure] = field(factory=dict)
    pages: set[int] = field(factory=set)

    def structure(self, fetch: Fetch, pa: int | None) -> Fetch | Found | BadStructure | None:
        if pa is None:
            return None
        try:
            words = tuple(self.memory.view(pa, fetch.words).tolist())
        except BusError:
            return read_structure(self.memory.load, self.structures, fetch, pa)[1]
        self.pages.add(pa >> PAGE_LG2)
        key = (fetch.structure, fetch.context, words, fetch.stage2)
        answer = self.known.get(key)
        if answer is None:
            answer = self.known[key] = self.structures.step(fetch, words)
        return answer._replace(pa=fetch.pa) if isinstance(answer, BadStructure) else answer

    def begin(self, root: StageRoot, address: int, want: int, target: Target, *, nested: bool) -> Position | WalkFault:
        return root.page_format.start(root.root_pa, address)

    def entry(self, root: StageRoot, position: Position, pa: int, target: Target, *, nested: bool) -> object:
        try:
            return root.page_format.step(position, self.memory.load(pa))
        except BusError:
            return WalkFault(position.stage, position.level, position.iova, 0, "fetch")


def look_up(
    structures: ImageStructures,
    base: int,
    memory: Readable,
    findings: Findings,
    device: int | None = None,
    pasid: int | None = None,
) -> UnitView:
    """The address spaces of one device, or of all; a structure that hardware refuses is a finding."""
    sight = _Memo(memory, structures)
    view = UnitView()
    for each in [device] if device is not None else _devices(structures, base, memory.load, findings):
        if findings.counts["I1"] > _UNREADABLE:
            why = f"more than {_UNREADABLE:,} structures lie in no memory; from device {each:#x} on none is looked up"
            findings.add(Finding("I2", f"register {base:#x}", f"{base:#x}", why, "check its value, or use --device"))
            break
        view.looked_up += 1
        at = find(structures, base, each, pasid, sight)  # type: ignore[arg-type]
        if isinstance(at, Refusal):
            _refused(at, each, base, structures, sight, pasid, view, findings)
        elif at.mode != "translate":
            view.others.setdefault(at.mode if at.rights else "abort", []).append(each)
        else:
            for key in _keys(at):
                sharing = view.spaces.setdefault(key.tables, Sharing(key))
                sharing.devices.append(each)
                sharing.tags.add(key.root.tag)
    view.pages = sight.pages
    return view


def _keys(found: Found) -> Iterator[SpaceKey]:
    if found.stage1 is not None:
        yield SpaceKey(found.stage1, found.stage2, found.rights)
    if found.stage2 is not None:
        yield SpaceKey(found.stage2, None, found.rights)


def _refused(
    refusal: Refusal,
    device: int,
    base: int,
    structures: Structures,
    sight: _Memo,
    pasid: int | None,
    view: UnitView,
    findings: Findings,
) -> None:
    """Nothing there is normal; what is malformed, or cannot be read, is a finding."""
    if _absent(structures, base, device, pasid, sight):
        view.absent += 1
        return
    what = f"{refusal.structure or 'the register'} of device {device:#x} at {refusal.pa:#x}"
    rule = "I1" if refusal.kind == "fetch" else "W1"
    entry = " ".join(f"{word:#x}" for word in refusal.words)
    why = refusal.why or f"stage {refusal.stage} refuses its address: {refusal.kind}"
    do = "if the hardware has what this says it has not, say so with --set; else compare with what wrote it"
    findings.add(Finding(rule, what, entry, why, do))


def _absent(structures: Structures, base: int, device: int, pasid: int | None, sight: _Memo) -> bool:
    """Whether the refusal is that nothing stands there."""
    at: Fetch | Found | BadStructure | None = structures.start(base, device, pasid)
    while isinstance(at, Fetch):
        if at.stage2 is not None:
            return False
        at = sight.structure(at, at.pa)
    return isinstance(at, BadStructure) and at.absent


def _devices(structures: ImageStructures, base: int, load: Callable[[int], int], findings: Findings) -> Iterator[int]:
    """All devices that the structures have room for, up to a limit."""
    left, loads = MOST_DEVICES, _MOST_LOADS

    def counted(pa: int) -> int:
        nonlocal loads
        loads -= 1
        if loads < 0:
            raise BusError(pa, f"more than {_MOST_LOADS:,} words of structures")
        return load(pa)

    for each in structures.devices(base, counted):
        count = each.stop - each.start
        if count > left:
            yield from range(each.start, each.start + left)
            why = f"the structures have room for more than {MOST_DEVICES:,} devices; the others are not looked up"
            findings.add(Finding("I2", f"register {base:#x}", f"{base:#x}", why, "check its value, or use --device"))
            return
        left -= count
        yield from each
    if loads < 0:
        why = f"the structures have more than {_MOST_LOADS:,} descriptors; the others are not looked up"
        findings.add(Finding("I2", f"register {base:#x}", f"{base:#x}", why, "check its value, or use --device"))


@define
class GuestView:
    """Guest physical memory, read through the stage 2 that maps it: where the stage 1 tables of a nest lie."""

    memory: Readable
    stage2: StageRoot

    def _at(self, gpa: int) -> int:
        fmt = self.stage2.page_format
        found = walk(self.memory.load, fmt, fmt.start(self.stage2.root_pa, gpa))
        if isinstance(found, WalkFault):
            raise BusError(gpa, f"stage 2 does not map guest physical {gpa:#x}: {found.kind}")
        return found.oa + gpa - found.iova

    def load(self, pa: int) -> int:
        """The word at a guest physical address."""
        return self.memory.load(self._at(pa))

    def view(self, pa: int, count: int) -> U64Array:
        """Words of guest physical memory, page by page where there is more than one."""
        if pa % PAGE + 8 * count <= PAGE:
            return self.memory.view(self._at(pa), count)
        return np.concatenate([self.view(at, PAGE // 8) for at in range(pa, pa + 8 * count, PAGE)])
