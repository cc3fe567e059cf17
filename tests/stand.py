"""A test stand: one guest, one domain of a vendor, its units, and DMA that tells what devices saw."""

import importlib
import random
from typing import Any

from attrs import define, field

from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.dma import DmaEngine, Lane
from hitless.iommufd import Domain, DomainSettings, GuestPages, Ioas, build_stage
from hitless.machine import Machine
from hitless.pagetable import count_leaves
from hitless.plan import Plan
from hitless.plugin import PluginSource, VendorRegistry
from hitless.units import lg2_text
from installed import OWN

G, M, K = 1 << 30, 1 << 20, 1 << 10
PAGE = 4 * K
MODULES = {"amd": "hitless_amd", "intel": "hitless_intel", "arm_smmu": "hitless_arm_smmu", "riscv": "hitless_riscv"}


def registry(*names: str) -> VendorRegistry:
    """The in-tree vendors, loaded without entry points."""
    return VendorRegistry(
        PluginSource(name, "hitless", "0", f"{MODULES[name]}:plugin", importlib.import_module(MODULES[name]).plugin)
        for name in names or OWN
    )


@define(eq=False)
class Stand:
    """See the module; ``mutate`` changes a plan between prepare and isolate: how a mistake gets in.

    ``stage1`` names a page format of the vendor's: then the guest has tables of its own in its last 2 MiB, which are
    shared, and ``ioas`` is what they map; else it is what the domain maps.
    """

    vendor_name: str
    backing: str = "separate"
    features: dict[str, Any] = field(factory=dict)
    memory: int = 4 * G
    slots: list[Slot] | None = None
    hunk_lg2: int = 30
    units: int = 1
    devices: int = 1
    ats: bool = False
    seed: int = 0
    settings: dict[str, Any] = field(factory=dict)
    rate: int = 24
    mutate: Any = None
    ioas: Ioas | None = None
    stage1: str = ""
    page_format: str = ""
    registry: VendorRegistry | None = None
    guest: GuestMemfd = field(init=False)
    machine: Machine = field(init=False)
    domain: Domain = field(init=False)
    engine: DmaEngine = field(init=False)

    def __attrs_post_init__(self) -> None:
        slots = Slots(self.slots or [Slot(0, 0, self.memory)])
        self.guest = GuestMemfd(slots, make_backing(self.backing, 1 << 41, slots.size, self.hunk_lg2), self.hunk_lg2)
        vendors = self.registry or registry(self.vendor_name)
        vendor = vendors.resolve(self.vendor_name, self.page_format, self.features)
        self.machine = Machine(self.seed, table_bytes=1 << 28)
        stage1 = self._stage1(vendors) if self.stage1 else None
        attach = [
            (self.machine.add_unit(f"iommu{i}", vendor), 1, [(8 + i + d, self.ats) for d in range(self.devices)])
            for i in range(self.units)
        ]
        self.domain = Domain.open(
            "domain",
            vendor,
            self.guest,
            self.machine.arena,
            self.machine.tables,
            attach,
            DomainSettings(**self.settings),
            ioas=None if stage1 else self.ioas,
            stage1=stage1,
        )
        self.guest.notifiers.append(self.domain)
        self.guest.watchers.append(self)
        lanes = [Lane(unit, unit.attachments[d, None]) for unit, _, devices in attach for d, _ in devices]
        self.engine = DmaEngine(
            self.guest,
            lanes,
            self.domain.default_attrs,
            random.Random(self.seed),
            self.domain.policy.maps_private,
            self.rate,
            self.domain.view and self.domain.view.points,
            stage1 and stage1.attrs,
            maps_shared=self.domain.policy.maps_shared,
        )
        self.domain.executor.between = lambda step: self.engine.burst()
        for unit in self.domain.units:
            unit.idle = self.engine.one

    def _stage1(self, vendors: VendorRegistry) -> Any:
        """The guest's tables in its last 2 MiB."""
        end = self.guest.slots.slots[-1].end
        self.guest.set_owner(end - 2 * M, end, HOST)
        for start_pa, end_pa, _ in self.guest.backing.pools():
            self.machine.add_memory(start_pa, end_pa)
        pages = GuestPages(self.guest, self.machine.memory, end - 2 * M, end)
        fmt = vendors.resolve(self.vendor_name, self.stage1, self.features).page_format
        return build_stage(fmt, pages, self.ioas or Ioas.identity(self.guest.slots), space=5)

    def begin(self, conversion: Conversion) -> None:
        prepared = self.domain.pending(conversion)
        fmt = (prepared.grown or self.domain.root).page_format
        near = [(c.iova, c.iova + (1 << fmt.levels[c.level].lo)) for c in prepared.changes.all()]
        near += [(a >> 21 << 21, (a >> 21 << 21) + 2 * M) for a, _ in conversion.ranges]
        self.engine.begin(conversion, [gpas for span in near for gpas in self.domain.gpas(*span)])
        if self.mutate is not None:
            self.mutate(prepared.plan)

    def end(self, conversion: Conversion) -> None:
        self.engine.end(conversion)
        for _ in range(20):
            self.engine.burst()

    # -- what tests say

    @property
    def fmt(self) -> Any:
        return self.domain.vendor.page_format

    @property
    def seen(self) -> Any:
        return self.engine.counters

    def share(self, start: int, size: int = PAGE) -> Conversion | None:
        return self.guest.convert([(start, start + size)], HOST)

    def hide(self, start: int, size: int = PAGE) -> Conversion | None:
        return self.guest.convert([(start, start + size)], GUEST)

    def plan(self, start: int, size: int = PAGE, owner: int = HOST) -> Plan:
        return self.guest.plan([(start, start + size)], owner)[0].plan

    def leaves(self) -> dict[str, int]:
        found = count_leaves(self.machine.arena, self.fmt, self.domain.planner.root_pa)
        return {lg2_text(lg2): count for lg2, count in sorted(found.items())}

    def warm(self, bursts: int = 40) -> None:
        """DMA without a conversion: caches fill."""
        for _ in range(bursts):
            self.engine.burst()

    def violations(self) -> dict[str, int]:
        s = self.seen
        found = {
            "N1": s.neighbour_faults,
            "N2": s.neighbour_misrouted,
            "C1": s.converted_misrouted + s.machine_checks,
            "F1": s.stale,
            "K1": sum(unit.conflicts for unit in self.domain.units),
            "R1": sum(unit.freed_table_reads for unit in self.domain.units),
        }
        return {rule: count for rule, count in found.items() if count}
