"""Scenarios carried out on an emulated unit that nobody here wrote, with DMA before, between and after all steps.

An emulator is a witness, not the judge: what it cannot show is told as None, never as 0.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import attrs
from attrs import define, field, frozen

from hitless.check.scenarios import Ground, Scenario
from hitless.check.stage import TABLE_BYTES, Setting, Stage, Unfit
from hitless.errors import Refused
from hitless.guest_memfd.conversion import Conversion
from hitless.hardware.dma import DmaCounters, DmaEngine, Lane, near
from hitless.hardware.vendor import Vendor
from hitless.iommufd import Domain
from hitless.machine import Machine
from hitless.machine.qemu.boards import GUEST_PA
from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.machine import QemuMachine
from hitless.machine.qemu.unit import QemuUnit, Witnessed
from hitless.pagetable import PageFormat
from hitless.plan import Step

_RATE = 3
_FIRST_SLOT = 5
_SLOTS = 24
_AFTER = 6

NOT_SHOWN: Mapping[str, str] = {
    "hung-unit": "an emulated unit always answers",
    "raced-ad": "no device of QEMU's sets A and D at a chosen moment",
    "allocation-failure": "nothing reaches a unit",
    "two-plans": "its orders are thought through, not carried out",
    "plan-beside-map": "its orders are thought through, not carried out",
}
"""Scenarios that no emulator can show, and why."""

_COUNTED: Mapping[str, Sequence[str]] = {
    "N1": ("neighbour_faults",),
    "N2": ("neighbour_misrouted",),
    "C1": ("converted_misrouted",),
    "F1": ("stale",),
}
"""Rules that DMA can show to be broken, with the counters that tell. All others it cannot."""


@define
class Seen:
    """What was seen of one scenario.

    Args:
        conversions: carried out.
        dma: what devices saw.
        witnessed: how.
    """

    conversions: int = 0
    dma: DmaCounters = field(factory=DmaCounters)
    witnessed: Witnessed = field(factory=Witnessed)

    def add(self, dma: DmaCounters, witnessed: Witnessed) -> None:
        """Take what one engine and its unit saw."""
        for mine, more in ((self.dma, dma), (self.witnessed, witnessed)):
            for each in attrs.fields(type(mine)):
                setattr(mine, each.name, getattr(mine, each.name) + getattr(more, each.name))


@frozen
class WitnessRow:
    """One scenario on one vendor's emulated unit.

    ``outcome``: ``ok``, ``violated``, ``refused`` or ``not_applicable``, with the reason. ``broken`` counts by rule.
    """

    vendor: str
    format: str
    scenario: str
    features: Mapping[str, object]
    seen: Seen
    outcome: str
    reason: str
    broken: Mapping[str, int]


@define(eq=False)
class WitnessStage(Stage):
    """A stage on the QEMU machine, whose conversions are carried out while its devices do DMA."""

    space_lg2: ClassVar[int] = 4  # an emulator may not have all bits of a tag

    seen: Seen = field(factory=Seen)
    _engines: dict[str, DmaEngine] = field(factory=dict)

    @classmethod
    def _guest_pa(cls, oa_bits: int) -> int:
        return GUEST_PA

    @classmethod
    def _machine(cls, vendor: Vendor, guest_end: int) -> Machine:
        return QemuMachine.of(vendor, table_bytes=TABLE_BYTES, guest_bytes=guest_end - GUEST_PA)

    def _device(self, unit: int, tag: int, space: int) -> int:
        slot = space * len(self.setting.units[unit]) + [each for each, _ in self.setting.units[unit]].index(tag)
        if slot >= _SLOTS:
            raise Unfit("so many devices have no place on a board")
        return _FIRST_SLOT + slot << 3

    def watch(self, seen: Seen) -> None:
        """Let the devices do DMA from now on."""
        self.seen = seen
        for domain in self.domains:
            lanes = [
                Lane(unit, each)
                for unit in domain.units
                for each in unit.attachments.values()
                if any(each is mine for mine in domain.attachments)
            ]
            engine = DmaEngine(self.guest, lanes, None, random.Random(0), domain.policy.maps_private, _RATE)
            self._engines[domain.name] = engine
            domain.executor.between = partial(_burst, engine)
            for unit in domain.units:
                unit.idle = engine.one
        self.guest.watchers.append(self)

    def begin(self, conversion: Conversion) -> None:
        """A conversion starts: DMA turns to what its plans change."""
        for domain, engine in self._each():
            engine.begin(conversion, near(domain.pending(conversion).changes, domain.vendor.page_format))

    def end(self, conversion: Conversion) -> None:
        """Its refresh has returned: old memory must be out of reach."""
        self.seen.conversions += 1
        for _, engine in self._each():
            engine.end(conversion)
            for _ in range(_AFTER):
                engine.burst()

    def _each(self) -> Iterator[tuple[Domain, DmaEngine]]:
        for domain in self.domains:
            yield domain, self._engines[domain.name]

    def convert(self, ranges: Sequence[tuple[int, int]], owner: int) -> None:
        """Carry a conversion out, with no break that was not asked for: devices go on meanwhile."""
        self.guest.convert(ranges, owner)

    def finish(self) -> None:
        """Add up what was seen."""
        for _, engine in self._each():
            self.seen.add(engine.counters, Witnessed())
        for unit in self.machine.units.values():
            if isinstance(unit, QemuUnit):
                self.seen.add(DmaCounters(), unit.witnessed)


def _burst(engine: DmaEngine, _step: Step | None) -> None:
    engine.burst()


@contextmanager
def _witnessed(
    seen: Seen, vendor: Vendor, setting: Setting | None = None, upper: PageFormat | None = None
) -> Iterator[Stage]:
    """A stage whose devices are watched until it is closed."""
    with WitnessStage.open(vendor, setting, upper) as stage:
        assert isinstance(stage, WitnessStage)  # noqa: S101 - open makes its own class
        stage.watch(seen)
        try:
            yield stage
        finally:
            stage.finish()


def witness(ground: Ground, features: Mapping[str, object], scenario: Scenario) -> WitnessRow:
    """Carry one scenario out; each of its attempts has a QEMU of its own.

    Raises:
        NoEmulator: there is no QEMU, or it cannot show this format.
    """
    seen, vendor, refused, reason = Seen(), ground.vendor, "", NOT_SHOWN.get(scenario.id) or scenario.without(ground)
    ground = attrs.evolve(ground, stage=partial(_witnessed, seen))
    for attempt in () if reason else scenario.attempts:
        try:
            for _ in attempt(ground):
                pass
        except Refused as refusal:
            refused = refusal.reason
        except Unfit as unfit:
            reason = unfit.what
    counts = {rule: sum(getattr(seen.dma, name) for name in names) for rule, names in _COUNTED.items()}
    broken = Counter({rule: count for rule, count in counts.items() if count})
    outcome = "violated" if broken else "refused" if refused else "ok" if seen.conversions else "not_applicable"
    if outcome == "not_applicable":
        reason = reason or "nothing is carried out"
    told = ", ".join(sorted(broken)) or refused or ("" if outcome == "ok" else reason)
    return WitnessRow(vendor.name, vendor.page_format.name, scenario.id, dict(features), seen, outcome, told, broken)


__all__ = ["NOT_SHOWN", "NoEmulator", "Seen", "WitnessRow", "WitnessStage", "witness"]
