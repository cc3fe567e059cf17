"""A world: one guest, the domains that are its notifiers, their machine, and DMA in flight."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs
from attrs import define, field

from hitless.config import Config, DomainConfig, StageConfig
from hitless.config.attaching import Place, machines_of, places_of
from hitless.config.check import GUEST_PA
from hitless.errors import PluginError
from hitless.guest_memfd.backing import make_backing
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.dma import DmaEngine, Lane
from hitless.iommufd import Area, Domain, DomainSettings, GuestPages, GuestStage, Ioas, build_stage
from hitless.iommufd.attach import Behind
from hitless.iommufd.live import attached
from hitless.machine import Machine
from hitless.memory import PageAllocator
from hitless.pagetable import count_leaves
from hitless.plan import Step
from hitless.plugin import ConversionRecord, Vendor, VendorRegistry
from hitless.run.checking import Check, PlanChecker
from hitless.run.result import Row

_MANY_STEPS = 48
_NEAR_SPANS = 8


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
        levels = (prepared.grown or self.domain.root).page_format.levels
        near = []
        for change in [*changes.resize, *changes.cut, *changes.merge, *changes.wipe, *changes.place][:_NEAR_SPANS]:
            level = levels[change.level]
            lo = level.lo if change.kind in ("cut", "merge", "resize") or (change.old and change.kind == "wipe") else 0
            lo = lo if lo > levels[0].lo else level.lo + level.bits
            near.append((change.iova >> lo << lo, (change.iova >> lo << lo) + (1 << lo)))
        for target in changes.owed[:_NEAR_SPANS]:
            lo = max(target.leaf_lg2, levels[0].lo + levels[0].bits)
            near.append((target.first >> lo << lo, (target.first >> lo << lo) + (1 << lo)))
        steps = sum(1 for _ in prepared.plan.steps())
        self.skip = max(1, steps // _MANY_STEPS)
        self.engine.rate = 12 if changes.cut or changes.resize else 1
        self.engine.begin(conversion, [gpas for span in near for gpas in self.domain.gpas(*span)])

    def finish(self) -> Row:
        """The row, with everything counted."""
        domain, row = self.domain, self.row
        row.dma, row.done = self.engine.counters, domain.executor.counters
        row.cuts, row.merges, row.fenced = domain.cuts, domain.merges, domain.fenced
        row.tables, row.tables_peak = self.tables.used_pages, self.tables.peak_pages
        row.leaves = dict(count_leaves(self.machine.arena, domain.vendor.page_format, domain.planner.root_pa))
        row.conflicts = sum(unit.conflicts for unit in domain.units)
        row.freed_table_reads = sum(unit.freed_table_reads for unit in domain.units)
        return row


@define(eq=False)
class World:
    """One guest and its domains."""

    guest: GuestMemfd
    stations: list[Station] = field(factory=list)

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
        for machine in {id(station.machine): station.machine for station in self.stations}.values():
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


def open_guest(config: Config) -> GuestMemfd:
    """The guest of a configuration, with its owners at the start."""
    told = config.guest
    slots = Slots([Slot(each.gpa, each.offset, each.size) for each in told.slots])
    hunk_lg2 = told.hunk.bit_length() - 1
    backing = make_backing(told.backing, GUEST_PA, slots.size, hunk_lg2)
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
) -> World:
    """A guest with some of a configuration's domains, all mapped and with DMA ready; ``check``: which plans are."""
    world = World(open_guest(config))
    for group in machines_of(domains):
        for each in _Opening(config, group, registry, world.guest, strategy, seed, check).stations():
            world.stations.append(each)
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
    _vendors: dict[str, Vendor] = field(factory=dict)
    _engines: dict[str, list[DmaEngine]] = field(factory=dict)

    def stations(self) -> Iterator[Station]:
        """The stations, each with its domain attached and mapped."""
        for told in self.domains:
            self._vendors[told.name] = self.registry.resolve(told.vendor, told.format, told.features, told.extensions)
        places = places_of(self.config, self.domains, lambda told: self._vendors[told.name])
        machine = Machine(self.seed, table_bytes=sum(told.table_memory for told in self.domains))
        tables = machine.split_tables([told.table_memory for told in self.domains])
        nested = [told for told in self.domains if told.stage1 is not None]
        for start_pa, end_pa, _ in self.guest.backing.pools() if nested else ():
            machine.add_memory(start_pa, end_pa)  # the guest's tables have bytes
        end = self.guest.slots.slots[-1].end
        for told, own_tables in zip(self.domains, tables, strict=True):
            stage1 = None
            if told.stage1 is not None:
                stage1 = self._stage1(told, told.stage1, machine, end)
                end -= told.stage1.memory
            yield self._station(told, machine, own_tables, places[told.name], stage1)

    def _stage1(self, told: DomainConfig, stage: StageConfig, machine: Machine, end: int) -> GuestStage:
        """The guest's own tables, in shared memory below ``end``."""
        start = end - stage.memory
        self.guest.set_owner(start, end, HOST)
        fmt = self.registry.resolve(told.vendor, stage.format, told.features, told.extensions).page_format
        view = ioas_of(self.config, stage.ioas) or Ioas.identity(self.guest.slots)
        return build_stage(fmt, GuestPages(self.guest, machine.memory, start, end), view, told.pasid or 0)

    def _station(
        self,
        told: DomainConfig,
        machine: Machine,
        tables: PageAllocator,
        places: Sequence[Place],
        stage1: GuestStage | None,
    ) -> Station:
        vendor, guest = self._vendors[told.name], self.guest
        units = [machine.units.get(place.unit) or machine.add_unit(place.unit, vendor) for place in places]
        attach = [
            (unit, place.tag, [(each.id, each.ats) for each in place.devices])
            for unit, place in zip(units, places, strict=True)
        ]
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
        engine = self._engine(domain, machine, attach, stage1)
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

    def _engine(
        self, domain: Domain, machine: Machine, attach: Sequence[Behind], stage1: GuestStage | None
    ) -> DmaEngine:
        """The DMA of a domain's devices; while a wait is polled, that of all domains behind the unit goes on."""
        lanes = [Lane(unit, each) for unit, each in attached(domain)]
        engine = DmaEngine(
            self.guest,
            lanes,
            domain.default_attrs,
            random.Random(machine.rng.random()),
            domain.policy.maps_private,
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
