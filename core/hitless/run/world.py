"""A world: one guest, the domains that are its notifiers, their machine, and DMA in flight."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import attrs
from attrs import define, field

from hitless.config import Config, DomainConfig, StageConfig
from hitless.config.attaching import Place, machines_of, places_of
from hitless.config.check import GUEST_PA
from hitless.errors import HitlessError, PluginError
from hitless.guest_memfd.backing import make_backing
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.dma import DmaEngine, Lane, near
from hitless.iommufd import Area, Domain, DomainSettings, GuestPages, GuestStage, Ioas, build_stage
from hitless.iommufd.attach import Behind
from hitless.iommufd.live import attached
from hitless.machine import Machine
from hitless.machine.qemu.boards import GUEST_PA as EMULATED_GUEST_PA
from hitless.memory import PageAllocator
from hitless.pagetable import count_leaves
from hitless.plan import Step
from hitless.plugin import ConversionRecord, Vendor, VendorRegistry
from hitless.run.checking import Check, PlanChecker
from hitless.run.result import Row

MachineName: TypeAlias = Literal["memory", "qemu"]
_MANY_STEPS = 48


@define(eq=False)
class Station:
    """One domain of a world, with the DMA of its devices.

    Its burst runs before and after every step, and while a wait is polled.
    """

    domain: Domain
    machine: Machine
    tables: PageAllocator
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
        spans = near(changes, (prepared.grown or self.domain.root).page_format)
        self.engine.begin(conversion, [gpas for span in spans for gpas in self.domain.gpas(*span)])

    def finish(self) -> Row:
        """The row, with everything counted."""
        domain, row = self.domain, self.row
        row.dma, row.done = self.engine.counters, domain.executor.counters
        row.cuts, row.merges, row.fenced = domain.cuts, domain.merges, domain.fenced
        row.tables, row.tables_peak = self.tables.used_pages, self.tables.peak_pages
        row.leaves = dict(count_leaves(self.machine.arena, domain.vendor.page_format, domain.planner.root_pa))
        row.conflicts = sum(unit.conflicts for unit in domain.units)
        row.witnessed = self.machine.tally
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
        for group in machines_of(domains) if machine == "memory" else [[told] for told in domains]:
            opening = _Opening(config, group, registry, world.guest, strategy, seed, check, machine)
            world.machines.append(opening.machine)
            world.stations.extend(opening.stations())
    except BaseException:
        world.close()
        raise
    world.guest.watchers.append(world)
    return world


@define(eq=False)
class _Opening:
    """Opens the domains of one machine: those that share units, or one."""

    config: Config
    domains: Sequence[DomainConfig]
    registry: VendorRegistry
    guest: GuestMemfd
    strategy: str
    seed: int
    check: Check
    name: MachineName
    machine: Machine = field(init=False)
    _vendors: dict[str, Vendor] = field(factory=dict, init=False)
    _engines: dict[str, list[DmaEngine]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for told in self.domains:
            self._vendors[told.name] = self.registry.resolve(told.vendor, told.format, told.features, told.extensions)
        table_bytes = sum(told.table_memory for told in self.domains)
        if self.name == "memory":
            self.machine = Machine(self.seed, table_bytes=table_bytes)
        else:
            self.machine = self._emulated(table_bytes)

    def _emulated(self, table_bytes: int) -> Machine:
        """The machine of one domain, whose vendor gets the features that units have there.

        Raises:
            HitlessError: there is no such machine for it.
        """
        from hitless.machine.qemu.machine import QemuMachine, check_emulated, emulator_of  # noqa: PLC0415 - seldom used

        (told,) = self.domains
        if told.stage1 is not None or told.pasid is not None:
            raise HitlessError(
                "the emulated machine has devices without PASIDs, and no guests' own tables",
                who=told.name,
                do="run this domain on the machine in memory",
            )
        features = {**emulator_of(self._vendors[told.name]).features, **told.features}
        vendor = self.registry.resolve(told.vendor, told.format, features, told.extensions)
        check_emulated(vendor)
        self._vendors[told.name] = vendor
        end = max(end for _, end, _ in self.guest.backing.pools())
        return QemuMachine.of(vendor, self.seed, table_bytes=table_bytes, guest_bytes=end - EMULATED_GUEST_PA)

    def stations(self) -> Iterator[Station]:
        """The stations, each with its domain attached and mapped."""
        machine = self.machine
        places = places_of(self.config, self.domains, lambda told: self._vendors[told.name])
        tables = machine.split_tables([told.table_memory for told in self.domains])
        nested = [told for told in self.domains if told.stage1 is not None]
        for start_pa, end_pa, _ in self.guest.backing.pools() if nested else ():
            machine.add_memory(start_pa, end_pa)  # the guest's tables have bytes
        end = self.guest.slots.slots[-1].end
        for told, own_tables in zip(self.domains, tables, strict=True):
            stage1 = None
            if told.stage1 is not None:
                stage1 = self._stage1(told, told.stage1, end)
                end -= told.stage1.memory
            yield self._station(told, own_tables, places[told.name], stage1)

    def _stage1(self, told: DomainConfig, stage: StageConfig, end: int) -> GuestStage:
        """The guest's own tables, in shared memory below ``end``."""
        start = end - stage.memory
        self.guest.set_owner(start, end, HOST)
        fmt = self.registry.resolve(told.vendor, stage.format, told.features, told.extensions).page_format
        view = ioas_of(self.config, stage.ioas) or Ioas.identity(self.guest.slots)
        return build_stage(fmt, GuestPages(self.guest, self.machine.memory, start, end), view, told.pasid or 0)

    def _station(
        self,
        told: DomainConfig,
        tables: PageAllocator,
        places: Sequence[Place],
        stage1: GuestStage | None,
    ) -> Station:
        vendor, guest, machine = self._vendors[told.name], self.guest, self.machine
        attach = [self._attach(place, vendor) for place in places]
        domain = Domain.open(
            told.name,
            vendor,
            guest,
            machine.arena,
            tables,
            attach,
            DomainSettings(told.policy, told.trusted, told.merge, told.allow_break, self.strategy),
            ioas=ioas_of(self.config, told.ioas),
            stage1=stage1,
            pasid=told.pasid,
        )
        guest.notifiers.append(domain)
        tables.reset_peak()
        engine = self._engine(domain, attach, stage1)
        row = Row(
            told.name,
            vendor.name,
            vendor.page_format.name,
            attrs.asdict(vendor.features),
            guest.backing.name,
            domain.policy.name,
            machine.name,
            len(attach),
            self.strategy,
            told.ioas or (told.stage1.ioas if told.stage1 else ""),
            told.pasid,
            stage1.page_format.name if stage1 else "",
        )
        hook = self.registry.manager(told.vendor, told.extensions).hook.conversion_done
        observers = hook if hook.get_hookimpls() else None
        station = Station(domain, machine, tables, engine, row, observers, PlanChecker(domain, row, self.check))
        domain.executor.between = station.between
        return station

    def _attach(self, place: Place, vendor: Vendor) -> Behind:
        """A unit, which other domains may be behind already, with this one's tag and devices."""
        devices = self.machine.place([each.id for each in place.devices])
        unit = self.machine.units.get(place.unit) or self.machine.add_unit(place.unit, vendor, devices)
        ats = [each.ats for each in place.devices]
        return unit, place.tag, list(zip(devices, ats, strict=True))

    def _engine(self, domain: Domain, attach: Sequence[Behind], stage1: GuestStage | None) -> DmaEngine:
        """The DMA of a domain's devices; while a wait is polled, that of all domains behind the unit goes on."""
        lanes = [Lane(unit, each) for unit, each in attached(domain)]
        engine = DmaEngine(
            self.guest,
            lanes,
            None if self.name == "qemu" else domain.default_attrs,
            random.Random(self.machine.rng.random()),
            domain.policy.maps_private,
            maps_shared=domain.policy.maps_shared,
            private_below=domain.policy.private_below,
            iovas=None if domain.view is None else domain.view.points,
            stage1_attrs=None if stage1 is None else stage1.attrs,
        )
        for unit, _, _ in attach:
            engines = self._engines.setdefault(unit.name, [])
            engines.append(engine)
            unit.idle = engine.one if len(engines) == 1 else partial(_all_of, engines)
        return engine


def _all_of(engines: Sequence[DmaEngine]) -> None:
    for engine in engines:
        engine.one()


def ioas_of(config: Config, name: str) -> Ioas | None:
    """An address space of a configuration; None: IOVAs are guest physical addresses."""
    told = config.ioas_named(name)
    return None if told is None else Ioas(Area(each.iova, each.gpa, each.size) for each in told.area)
