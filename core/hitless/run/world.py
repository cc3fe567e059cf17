"""A world: one guest, the domains that are its notifiers, their machine, and DMA in flight."""

import random
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import attrs
from attrs import define, field

from hitless.config import Config, DomainConfig
from hitless.config.check import GUEST_PA
from hitless.errors import PluginError
from hitless.guest_memfd.backing import make_backing
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.dma import DmaEngine, Lane, near
from hitless.hardware.unit import Unit
from hitless.iommufd import Domain, DomainSettings
from hitless.machine import Machine
from hitless.machine.qemu.boards import GUEST_PA as EMULATED_GUEST_PA
from hitless.machine.qemu.machine import QemuMachine, check_emulated, emulator_of
from hitless.pagetable import count_leaves
from hitless.plan import Step
from hitless.plugin import ConversionRecord, Vendor, VendorRegistry
from hitless.run.checking import Check, PlanChecker
from hitless.run.result import Row

MachineName: TypeAlias = Literal["memory", "qemu"]
_MANY_STEPS = 48
_DEVICE = 8


@define(eq=False)
class Station:
    """One domain of a world, with the DMA of its devices.

    Its burst runs before and after every step, and while a wait is polled.
    """

    domain: Domain
    machine: Machine
    engine: DmaEngine
    row: Row
    observers: Any
    checker: PlanChecker
    skip: int = 1
    _count: int = 0

    def between(self, step: Step | None) -> None:
        """DMA between two steps; of a plan with very many steps, between some of them."""
        self._count += 1
        if self._count % self.skip == 0:
            self.engine.burst()

    def begin(self, conversion: Conversion) -> None:
        """Check the plan, and aim DMA at what it changes."""
        self.checker.begin(conversion)
        prepared = self.domain.pending(conversion)
        changes = prepared.changes
        steps = sum(1 for _ in prepared.plan.steps())
        self.skip = max(1, steps // _MANY_STEPS)
        self.engine.rate = 12 if changes.cut or changes.resize else 1
        self.engine.begin(conversion, near(changes, self.domain.vendor.page_format))

    def finish(self) -> Row:
        """The row, with everything counted."""
        domain, row = self.domain, self.row
        row.dma, row.done = self.engine.counters, domain.executor.counters
        row.cuts, row.merges, row.fenced = domain.cuts, domain.merges, domain.fenced
        row.tables, row.tables_peak = self.machine.tables.used_pages, self.machine.tables.peak_pages
        row.leaves = dict(count_leaves(self.machine.arena, domain.vendor.page_format, domain.planner.root_pa))
        row.conflicts = sum(unit.conflicts for unit in domain.units)
        if isinstance(self.machine, QemuMachine):
            row.witnessed = attrs.asdict(self.machine.witnessed)
        row.freed_table_reads = sum(unit.freed_table_reads for unit in domain.units)
        return row


@define(eq=False)
class World:
    """One guest and its domains."""

    guest: GuestMemfd
    stations: list[Station] = field(factory=list)
    machines: list[Machine] = field(factory=list)

    def begin(self, conversion: Conversion) -> None:
        """A conversion starts: DMA turns to what its plans change."""
        for station in self.stations:
            station.begin(conversion)

    def end(self, conversion: Conversion) -> None:
        """Its refresh has returned: judge, and tell the observers."""
        names = tuple(notifier.name for notifier in self.guest.notifiers)
        outcome = "complete" if conversion.complete else "partial"
        record = ConversionRecord(conversion.ranges, conversion.owner, names, outcome)
        for station in self.stations:
            station.engine.end(conversion)
            if station.observers is not None:
                _tell(station, record)

    def close(self) -> None:
        """Give all memory back."""
        for machine in self.machines:
            machine.close()


def _tell(station: Station, record: ConversionRecord) -> None:
    """Call a station's observers; an exception in one is its plugin's fault, not a bug here."""
    try:
        station.observers(record=record)
    except Exception as error:
        raise PluginError(
            "hook conversion_done failed",
            who=station.row.vendor,
            why=f"{type(error).__name__}: {error}",
            do="mend the plugin or the extension that observes",
        ) from error


def open_guest(config: Config, base_pa: int = GUEST_PA) -> GuestMemfd:
    """The guest of a configuration, with its owners at the start and its memory from an address on."""
    told = config.guest
    slots = Slots([Slot(each.gpa, each.offset, each.size) for each in told.slots])
    hunk_lg2 = told.hunk.bit_length() - 1
    backing = make_backing(told.backing, base_pa, slots.size, hunk_lg2)
    guest = GuestMemfd(slots, backing, hunk_lg2, page_size=told.page_size)
    if told.owner == "shared":
        for slot in slots.slots:
            guest.set_owner(slot.gpa, slot.end, HOST)
    for ranges, owner in ((told.shared, HOST), (told.private, GUEST)):
        for each in ranges:
            guest.set_owner(each.start, each.start + each.size, owner)
    return guest


def open_world(
    config: Config,
    domains: Sequence[DomainConfig],
    registry: VendorRegistry,
    strategy: str,
    seed: int,
    check: Check = "none",
    machine: MachineName = "memory",
) -> World:
    """A guest with some of a configuration's domains, all mapped and with DMA ready; ``check``: which plans are."""
    world = World(open_guest(config) if machine == "memory" else open_guest(config, EMULATED_GUEST_PA))
    try:
        for told in domains:
            opened = _machine(registry, told, world.guest, seed, machine)
            world.machines.append(opened[1])
            world.stations.append(_open_station(config, told, registry, world.guest, strategy, check, *opened))
    except BaseException:
        world.close()
        raise
    world.guest.watchers.append(world)
    return world


def _machine(
    registry: VendorRegistry, told: DomainConfig, guest: GuestMemfd, seed: int, name: MachineName
) -> tuple[Vendor, Machine]:
    """A domain's machine, and its vendor with the features that units have there.

    Raises:
        HitlessError: there is no such machine for it.
    """
    vendor = registry.resolve(told.vendor, told.format, told.features, told.extensions)
    if name == "memory":
        return vendor, Machine(seed, table_bytes=told.table_memory)
    features = {**emulator_of(vendor).features, **told.features}
    vendor = registry.resolve(told.vendor, told.format, features, told.extensions)
    check_emulated(vendor)
    end = max(end for _, end, _ in guest.backing.pools())
    return vendor, QemuMachine.of(vendor, seed, table_bytes=told.table_memory, guest_bytes=end - EMULATED_GUEST_PA)


def _open_station(
    config: Config,
    told: DomainConfig,
    registry: VendorRegistry,
    guest: GuestMemfd,
    strategy: str,
    check: Check,
    vendor: Vendor,
    machine: Machine,
) -> Station:
    settings = DomainSettings(told.policy, told.trusted, told.merge, told.allow_break, strategy)
    attach = _attach(config, told, machine, vendor)
    domain = Domain.open(told.name, vendor, guest, machine.arena, machine.tables, attach, settings)
    guest.notifiers.append(domain)
    machine.tables.reset_peak()
    lanes = [Lane(unit, unit.attachments[device, None]) for unit, _, devices in attach for device, _ in devices]
    seen_attrs = None if isinstance(machine, QemuMachine) else domain.default_attrs
    engine = DmaEngine(
        guest,
        lanes,
        seen_attrs,
        random.Random(machine.rng.random()),
        domain.policy.maps_private,
        maps_shared=domain.policy.maps_shared,
    )
    row = Row(
        told.name,
        vendor.name,
        vendor.page_format.name,
        attrs.asdict(vendor.features),
        guest.backing.name,
        domain.policy.name,
        machine.name,
        len(attach),
        strategy,
    )
    hook = registry.manager(told.vendor, told.extensions).hook.conversion_done
    observers = hook if hook.get_hookimpls() else None
    station = Station(domain, machine, engine, row, observers, PlanChecker(domain, row, check))
    domain.executor.between = station.between
    for unit in domain.units:
        unit.idle = engine.one
    return station


def _attach(
    config: Config, told: DomainConfig, machine: Machine, vendor: Vendor
) -> list[tuple[Unit, int, list[tuple[int, bool]]]]:
    """The units of a domain, each with its tag and devices; one unit with one device if none is named."""
    units = {unit.name: unit for unit in config.units}
    behind = [(name, [(d.id, d.ats) for d in units[name].devices_of(told.name)]) for name in told.units]
    found = []
    for name, devices in behind or [(f"{told.name}-iommu0", [(_DEVICE, False)])]:
        placed = machine.place([device for device, _ in devices])
        ats = [each for _, each in devices]
        found.append((machine.add_unit(name, vendor, placed), 1, list(zip(placed, ats, strict=True))))
    return found
