"""A stage: one guest, its address spaces and their units, without DMA. Plans are made on it to be checked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
from attrs import define, field, frozen

from hitless.check.subject import CheckUnit, Subject, Truth
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.vendor import Vendor
from hitless.iommufd import Domain, DomainSettings
from hitless.machine import Machine
from hitless.plan import Section, Step

GUEST_PA = 1 << 41
_TABLES = 1 << 26


@frozen
class Setting:
    """How a stage is set up.

    Args:
        backing: ``in-place``, ``separate`` or ``scattered``.
        memory, hunk_lg2: bytes of the guest, and log2 of the folios behind it.
        units: for each unit its tags, and for each tag the devices with ATS behind it.
        trusted, policy, merge, allow_break: as a domain's configuration says them.
        spaces: address spaces that map the guest, each a domain of its own.
    """

    backing: str = "separate"
    memory: int = 2 << 30
    hunk_lg2: int = 30
    units: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...] = (((1, ()),),)
    trusted: bool = False
    policy: str = ""
    merge: str = "never"
    allow_break: bool = False
    spaces: int = 1


@define(eq=False)
class Stage:
    """One set-up guest; close it, or use it as a context."""

    vendor: Vendor
    setting: Setting
    guest: GuestMemfd
    machine: Machine
    domains: list[Domain] = field(factory=list)

    @classmethod
    @contextmanager
    def open(cls, vendor: Vendor, setting: Setting | None = None) -> Iterator["Stage"]:
        """A stage with all that its policy maps."""
        setting = setting or Setting()
        slots = Slots([Slot(0, 0, setting.memory)])
        hunk_lg2 = setting.hunk_lg2
        guest = GuestMemfd(slots, make_backing(setting.backing, GUEST_PA, slots.size, hunk_lg2), hunk_lg2)
        machine = Machine(table_bytes=_TABLES)
        stage = cls(vendor, setting, guest, machine)
        try:
            for number in range(setting.spaces):
                stage._add_space(number)
            yield stage
        finally:
            machine.close()

    def _add_space(self, number: int) -> None:
        attach = []
        for i, tags in enumerate(self.setting.units):
            unit = self.machine.units.get(f"iommu{i}") or self.machine.add_unit(f"iommu{i}", self.vendor)
            for tag, devices in tags:
                shift = number << 8
                plain = 0x800 + (i << 4) + tag + shift
                attach.append((unit, tag + shift, [(plain, False), *((device + shift, True) for device in devices)]))
        said = self.setting
        settings = DomainSettings(said.policy, said.trusted, said.merge, said.allow_break)
        name = "domain" if not number else f"domain{number}"
        domain = Domain.open(name, self.vendor, self.guest, self.machine.arena, self.machine.tables, attach, settings)
        self.guest.notifiers.append(domain)
        self.domains.append(domain)

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
            self.subject(domain, conversion, list(each.plan.steps()))
            for domain, each in zip(self.domains, prepared, strict=True)
        ]

    def subject(self, domain: Domain, conversion: Conversion | None, steps: Sequence[tuple[Section, Step]]) -> Subject:
        """A plan on an address space as it stands now."""
        return subject_of(domain, Truth.of(self.guest, domain.default_attrs, conversion), steps)

    def convert(self, ranges: Sequence[tuple[int, int]], owner: int) -> None:
        """Carry a conversion out: how a scenario gets to where its plan begins."""
        self.guest.convert(ranges, owner)

    def share(self, start: int, size: int = 4096) -> None:
        """Make a range shared."""
        self.convert([(start, start + size)], HOST)

    def hide(self, start: int, size: int = 4096) -> None:
        """Make a range private."""
        self.convert([(start, start + size)], GUEST)


def subject_of(domain: Domain, truth: Truth, steps: Sequence[tuple[Section, Step]]) -> Subject:
    """A plan on a domain's address space as it stands now."""
    return Subject(
        domain.vendor,
        domain.memory,
        domain.planner.root_pa,
        check_units(domain),
        domain.owners.copy(),
        truth,
        domain.policy,
        domain.settings.trusted,
        steps,
        domain.name,
    )


def check_units(domain: Domain) -> tuple[CheckUnit, ...]:
    """Where a domain's translations may be cached."""
    return tuple(CheckUnit(port.name, port.tag, port.devices) for port in domain.planner.assembler.units)


def mutated(subject: Subject, steps: Sequence[tuple[Section, Step]]) -> Subject:
    """The same address space and truth with other steps."""
    return attrs.evolve(subject, steps=list(steps))
