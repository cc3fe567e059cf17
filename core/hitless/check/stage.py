"""A stage: one guest, its address spaces and their units, without DMA. Plans are made on it to be checked."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import attrs
from attrs import define, field, frozen

from hitless.check.roots import roots_of
from hitless.check.shadow import Words
from hitless.check.subject import CheckUnit, Subject, Truth
from hitless.errors import HitlessError, Refused
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.conversion import ChangeRun
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.vendor import Vendor
from hitless.iommufd import Area, Domain, DomainSettings, GuestPages, GuestStage, Ioas, build_stage
from hitless.iommufd.live import attached, own_tag
from hitless.machine import Machine
from hitless.machine.qemu.errors import EmulatorError, NoEmulator
from hitless.ownership import OwnerTable
from hitless.pagetable import PageFormat
from hitless.plan import Section, Step, StoreStructure
from hitless.units import PAGE_LG2, align_down

_GUEST_LG2, _TABLES_LG2 = 41, 40
TABLE_BYTES = 1 << 26
_MOST_LEAVES = 1 << 16
_EDGE_LG2 = 21
_GUEST_TABLES = 16 << 20


class Unfit(HitlessError):
    """A configuration that a stage cannot be set up on: no room for the guest, or no such attachment."""


@frozen
class Setting:
    """How a stage is set up.

    Args:
        backing: ``in-place``, ``separate`` or ``scattered``.
        memory, gpa, hunk_lg2: bytes of the guest, where they begin, and log2 of the folios behind it.
        units: for each unit its tags, and for each tag the devices with ATS behind it.
        trusted, policy, merge, allow_break: as a domain's configuration says them.
        spaces: address spaces that map the guest, each a domain of its own.
        nested: the devices are attached through tables of the guest's own.
    """

    backing: str = "separate"
    memory: int = 2 << 30
    gpa: int = 0
    hunk_lg2: int = 30
    units: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...] = (((1, ()),),)
    trusted: bool = False
    policy: str = ""
    merge: str = "never"
    allow_break: bool = False
    spaces: int = 1
    nested: bool = False


@define(eq=False)
class Stage:
    """One set-up guest; close it, or use it as a context."""

    space_lg2: ClassVar[int] = 8
    """Tags and devices of one address space and the next lie so far apart."""

    vendor: Vendor
    setting: Setting
    guest: GuestMemfd
    machine: Machine
    upper: PageFormat | None = None
    domains: list[Domain] = field(factory=list)

    @classmethod
    @contextmanager
    def open(cls, vendor: Vendor, setting: Setting | None = None, upper: PageFormat | None = None) -> Iterator["Stage"]:
        """A stage with all that its policy maps; ``upper``: the format of a guest's own tables, if it is nested.

        Raises:
            Unfit: it cannot be set up.
        """
        setting = setting or Setting()
        fmt = vendor.page_format.largest
        if setting.gpa < 0 or fmt.canonical(setting.gpa + setting.memory - 1) >> fmt.iova_bits:
            raise Unfit(f"the address space of {fmt.name} has {fmt.iova_bits} bits, the guest needs more")
        if setting.backing == "scattered" and fmt.leaf_lg2s[0] > PAGE_LG2:
            raise Unfit(f"scattered memory lies in pages of 4K, those of {fmt.name} have {1 << fmt.leaf_lg2s[0]:#x}")
        leaves = setting.memory >> vendor.split_rules.leaf_lg2s[-1]
        if leaves > _MOST_LEAVES:
            raise Unfit(
                f"{leaves:,} leaves of the largest size laid out would map this guest; smaller guests show the same"
            )
        slots = Slots([Slot(setting.gpa, 0, setting.memory)])
        hunk_lg2, oa_bits = setting.hunk_lg2, vendor.page_format.oa_bits
        backing = make_backing(setting.backing, cls._guest_pa(oa_bits), slots.size, hunk_lg2)
        if max(end for _, end, _ in backing.pools()) > 1 << oa_bits:
            raise Unfit(f"addresses of {oa_bits} bits are too narrow for this guest's memory")
        guest = GuestMemfd(slots, backing, hunk_lg2)
        machine = cls._machine(vendor, max(end for _, end, _ in backing.pools()))
        stage = cls(vendor, setting, guest, machine, upper)
        for start_pa, end_pa, _ in backing.pools() if setting.nested else ():
            machine.add_memory(start_pa, end_pa)  # the guest's tables have bytes
        try:
            stage._fill(setting)
            yield stage
        finally:
            machine.close()

    @classmethod
    def _guest_pa(cls, oa_bits: int) -> int:
        """Where guest memory begins."""
        return 1 << min(_GUEST_LG2, oa_bits - 2)

    @classmethod
    def _machine(cls, vendor: Vendor, guest_end: int) -> Machine:
        """Tables and units for a guest whose memory ends there."""
        return Machine(base_pa=1 << min(_TABLES_LG2, vendor.page_format.oa_bits - 3), table_bytes=TABLE_BYTES)

    def _device(self, unit: int, tag: int, space: int) -> int:
        """The device without ATS behind a unit and a tag of it."""
        return 0x800 + (unit << 4) + tag + (space << self.space_lg2)

    def _behind(self, unit: int) -> list[int]:
        """Such devices of all address spaces."""
        return [
            self._device(unit, tag, each) for each in range(self.setting.spaces) for tag, _ in self.setting.units[unit]
        ]

    def _fill(self, setting: Setting) -> None:
        """Open every address space.

        Raises:
            Unfit: hardware cannot be attached in this special way.
        """
        try:
            for number in range(setting.spaces):
                self._add_space(number)
        except (Refused, NoEmulator, EmulatorError):
            raise
        except HitlessError as error:
            if setting.units == Setting().units and setting.spaces == 1 and not setting.nested:
                raise
            raise Unfit(f"{error.what} ({error.rule or error.do})") from error

    def _add_space(self, number: int) -> None:
        attach = []
        for i, tags in enumerate(self.setting.units):
            name, shift = f"iommu{i}", number << self.space_lg2
            unit = self.machine.units.get(name) or self.machine.add_unit(name, self.vendor, self._behind(i))
            for tag, devices in tags:
                plain = self._device(i, tag, number)
                attach.append((unit, tag + shift, [(plain, False), *((device + shift, True) for device in devices)]))
        said = self.setting
        settings = DomainSettings(said.policy, said.trusted, said.merge, said.allow_break)
        name = "domain" if not number else f"domain{number}"
        domain = Domain.open(
            name,
            self.vendor,
            self.guest,
            self.machine.arena,
            self.machine.tables,
            attach,
            settings,
            ioas=self._both_halves(),
            stage1=self._stage1() if said.nested else None,
        )
        self.guest.notifiers.append(domain)
        self.domains.append(domain)

    def _both_halves(self) -> Ioas | None:
        """The guest's memory in each half, where one table holds both; None: an IOVA is a guest physical address.

        Raises:
            Unfit: a half is too small for it, or the guest shall have tables of its own.
        """
        ownership, slots = self.vendor.ownership, self.guest.slots.slots
        policy = ownership.policies.get(self.setting.policy or ownership.default_policy)
        edge = None if policy is None else policy.private_below
        if edge is None:
            return None
        if self.setting.nested:
            raise Unfit("no guest's tables stand over a table that holds both halves")
        end, iova_bits = slots[-1].end, self.vendor.page_format.largest.iova_bits
        if end > edge or edge + end > 1 << iova_bits:
            raise Unfit(f"a guest's memory up to {end:#x} does not fit the halves below and above {edge:#x}")
        return Ioas(Area(half + slot.gpa, slot.gpa, slot.size) for half in (0, edge) for slot in slots)

    def _stage1(self) -> GuestStage:
        """A guest's own tables, in the last of its memory, that lead everywhere else.

        Raises:
            Unfit: the vendor has no format for them.
        """
        if self.upper is None:
            raise Unfit(f"no format of this vendor stands over {self.vendor.page_format.name}")
        end = self.guest.slots.slots[-1].end
        self.guest.set_owner(end - _GUEST_TABLES, end, HOST)
        pages = GuestPages(self.guest, self.machine.memory, end - _GUEST_TABLES, end)
        return build_stage(self.upper, pages, Ioas.identity(self.guest.slots), space=5)

    # -- addresses

    def range(self, start: int, end: int) -> tuple[int, int]:
        """A range that is thought of in pages of 4K, in pages of the smallest leaf: distances from 2 MiB edges grow."""
        return self._grown(start), self._grown(end)

    def _grown(self, address: int) -> int:
        page_lg2 = self.vendor.page_format.leaf_lg2s[0]
        edge = align_down(address + (1 << _EDGE_LG2 - 1), _EDGE_LG2)
        return align_down(edge, page_lg2) + ((address - edge) << page_lg2 - PAGE_LG2)

    def ranges(self, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The same for several."""
        return [self.range(start, end) for start, end in ranges]

    # -- plans

    def plans(self, ranges: Sequence[tuple[int, int]], owner: int) -> list[Subject]:
        """The plans of a conversion, one an address space, ready to be checked; nothing is changed.

        Raises:
            Refused, OutOfTableMemory: from a prepare.
        """
        conversion = self.guest.conversion(ranges, owner)
        if conversion is None:
            return []
        prepared = self.guest.plan(ranges, owner)
        return [
            self.subject(domain, self.truth(domain, conversion.runs), list(each.plan.steps()))
            for domain, each in zip(self.domains, prepared, strict=True)
        ]

    def truth(self, domain: Domain, changes: Iterable[ChangeRun] = ()) -> Truth:
        """What the guest holds now, and after some changes."""
        return Truth.of(self.guest, domain.default_attrs, changes)

    def subject(
        self,
        domain: Domain,
        truth: Truth,
        steps: Sequence[tuple[Section, Step]],
        *,
        memory: Words | None = None,
        owners: OwnerTable | None = None,
    ) -> Subject:
        """Steps on an address space as it stands now, or as it stood when they began."""
        return subject_of(domain, truth, steps, memory=memory, owners=owners)

    def convert(self, ranges: Sequence[tuple[int, int]], owner: int) -> None:
        """Carry a conversion out: how a scenario gets to where its plan begins.

        Nobody looks at it, so what could be done only with a break is done.
        """
        with self._at_rest():
            self.guest.convert(ranges, owner)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """No device does DMA meanwhile."""
        before = [(domain.settings, domain.planner.assembler.allow_break) for domain in self.domains]
        for domain in self.domains:
            domain.settings = attrs.evolve(domain.settings, allow_break=True)
            domain.planner.assembler = attrs.evolve(domain.planner.assembler, allow_break=True)
        try:
            yield
        finally:
            for domain, (settings, allow_break) in zip(self.domains, before, strict=True):
                domain.settings = settings
                domain.planner.assembler = attrs.evolve(domain.planner.assembler, allow_break=allow_break)

    @property
    def private_half(self) -> bool:
        """Whether devices reach private pages only."""
        return not self.domains[0].policy.maps_shared

    def turned(self, owner: int) -> int:
        """The owner that means to devices what ``owner`` means where they reach shared pages."""
        return (GUEST if owner == HOST else HOST) if self.private_half else owner

    def share_all(self) -> None:
        """Let devices reach all of the guest's memory: it turns shared, but in a private half, where it is private."""
        if not self.private_half:
            self.convert([(slot.gpa, slot.end) for slot in self.guest.slots.slots], HOST)

    def share(self, start: int, size: int = 4096) -> None:
        """Let devices reach a range, in pages as :meth:`range` takes them: it turns shared (private half: private)."""
        self.convert([self.range(start, start + size)], self.turned(HOST))

    def hide(self, start: int, size: int = 4096) -> None:
        """The reverse of :meth:`share`."""
        self.convert([self.range(start, start + size)], self.turned(GUEST))


def subject_of(
    domain: Domain,
    truth: Truth,
    steps: Sequence[tuple[Section, Step]],
    *,
    memory: Words | None = None,
    owners: OwnerTable | None = None,
) -> Subject:
    """Steps on a domain's address space as it stands now, or as it stood when they began.

    ``truth`` is told by guest physical address; the subject has it by IOVA. Where the steps change structures, these
    say themselves which root stands before, and which format reads the last.
    """
    vendor, units = domain.vendor, check_units(domain)
    root_pa, root_level = domain.planner.root_pa, -1
    if any(isinstance(step, StoreStructure) for _, step in steps):
        units = with_structures(domain, units)
        roots = roots_of(vendor, units, memory or domain.memory, steps)
        if roots:
            root_pa, root_level = roots[0].root_pa, roots[0].page_format.top.number
            largest = max((each.page_format for each in roots), key=lambda fmt: len(fmt.levels))
            vendor = attrs.evolve(vendor, page_format=largest)
    return Subject(
        vendor,
        memory or domain.memory,
        root_pa,
        units,
        (owners or domain.owners).copy(),
        truth if domain.ioas is None else truth.through(domain.ioas.areas),
        domain.policy,
        domain.settings.trusted,
        steps,
        domain.name,
        in_use=[each for unit in domain.units for each in (*unit.reads, *unit.writes)],
        root_level=root_level,
    )


def with_structures(domain: Domain, units: tuple[CheckUnit, ...]) -> tuple[CheckUnit, ...]:
    """The same places, with the registers of their units and all that is attached."""
    bases = {unit.name: unit.requests.base for unit in domain.units}
    behind: dict[tuple[str, int], list[tuple[int, int | None]]] = {}
    for unit, attachment in attached(domain):
        key = unit.name, own_tag(domain, attachment)
        behind.setdefault(key, []).append((attachment.device, attachment.pasid))
    return tuple(
        attrs.evolve(each, base=bases[each.name], requesters=tuple(behind.get((each.name, each.tag), ())))
        for each in units
    )


def check_units(domain: Domain) -> tuple[CheckUnit, ...]:
    """Where a domain's translations may be cached."""
    structures, stage1 = domain.vendor.structures, domain.stage1
    return tuple(
        CheckUnit(
            port.name,
            port.tag,
            port.devices,
            structures.stage1_tag(port.tag, stage1.space) if structures is not None and stage1 is not None else None,
            port.pasid,
        )
        for port in domain.planner.assembler.units
    )


def mutated(subject: Subject, steps: Sequence[tuple[Section, Step]]) -> Subject:
    """The same address space and truth with other steps."""
    return attrs.evolve(subject, steps=list(steps))
