"""Scenarios carried out on an emulated unit that nobody here wrote, with DMA before, between and after all steps.

An emulator is a witness, not the judge: what it cannot show is told as None, never as 0.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, TypeAlias

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
from hitless.machine.qemu.compare import compare
from hitless.machine.qemu.machine import QemuMachine, emulator_of
from hitless.machine.qemu.unit import Witnessed
from hitless.pagetable import PageFormat
from hitless.plan import Step
from hitless.plugin import VendorRegistry
from hitless.units import lg2_text

Features: TypeAlias = Mapping[str, Any]

_RATE = 3
_MANY_STEPS = 48
_COMPARED_BYTES = 8 << 30
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
"""Rules that DMA can show to be broken, with the counters that tell."""

UNSEEN = ("C2", "F2", "B1", "S1", "K1", "R1", "W1", "A1", "D1", "M1", "H1", "E1", "T1")
"""Rules that it cannot."""


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

    def add(self, dma: DmaCounters) -> None:
        """Take what one engine saw."""
        for each in attrs.fields(DmaCounters):
            setattr(self.dma, each.name, getattr(self.dma, each.name) + getattr(dma, each.name))


@frozen
class WitnessRow:
    """One scenario on one vendor's emulated unit.

    Args:
        outcome: ``ok``, ``violated``, ``refused`` or ``not_applicable``, with the reason.
        rules: how often each rule was seen to break; None: this cannot be seen.
    """

    vendor: str
    format: str
    scenario: str
    features: Features
    outcome: str
    reason: str
    rules: Mapping[str, int | None]
    seen: Seen

    def as_json(self) -> dict[str, Any]:
        """With the keys of schema check/1."""
        place = {"vendor": self.vendor, "format": self.format, "scenario": self.scenario}
        told = {"features": dict(self.features), "outcome": self.outcome, "reason": self.reason}
        figures = {"conversions": self.seen.conversions, **attrs.asdict(self.seen.witnessed)}
        return {**place, **told, **figures, "rules": dict(self.rules)}


@frozen
class ComparisonRow:
    """A vendor's format, compared with QEMU's walk of it.

    Args:
        version: QEMU's.
        asked, by_dma, by_trace, refused, sizes: as in :class:`hitless.machine.qemu.compare.Comparison`.
        excused: known deviations: id, count, and what was seen.
        faults: what nothing explains.
    """

    vendor: str
    format: str
    features: Features
    version: str
    asked: int
    by_dma: int
    by_trace: int
    refused: int
    sizes: Mapping[str, int]
    excused: tuple[tuple[str, int, str], ...]
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """With the keys of schema check/1."""
        excused = [{"deviation": name, "count": count, "seen": seen} for name, count, seen in self.excused]
        figures = {each.name: getattr(self, each.name) for each in attrs.fields(ComparisonRow)}
        return {**figures, "features": dict(self.features), "excused": excused, "faults": list(self.faults)}


@define(eq=False)
class WitnessStage(Stage):
    """A stage on the QEMU machine, whose conversions are carried out while its devices do DMA."""

    space_lg2: ClassVar[int] = 4  # an emulator may not have all bits of a tag

    seen: Seen = field(factory=Seen)
    _engines: dict[str, DmaEngine] = field(factory=dict)
    _steps: int = 0
    _skip: int = 1

    @classmethod
    def _guest_pa(cls, oa_bits: int) -> int:
        return GUEST_PA

    @classmethod
    def _machine(cls, vendor: Vendor, guest_end: int) -> Machine:
        return QemuMachine.of(vendor, table_bytes=TABLE_BYTES, guest_bytes=guest_end - GUEST_PA)

    def _device(self, unit: int, tag: int, space: int) -> int:
        tags = [each for each, _ in self.setting.units[unit]]
        number = space * len(tags) + tags.index(tag)
        return self.machine.place(range(number + 1))[number]

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
            engine = DmaEngine(
                self.guest,
                lanes,
                None,
                random.Random(0),
                domain.policy.maps_private,
                _RATE,
                None if domain.ioas is None else domain.ioas.points,
                private_below=domain.policy.private_below,
            )
            self._engines[domain.name] = engine
            domain.executor.between = partial(self._between, engine)
            for unit in domain.units:
                unit.idle = engine.one
        self.guest.watchers.append(self)

    def begin(self, conversion: Conversion) -> None:
        """A conversion starts: DMA turns to what its plans change."""
        for domain, engine in self._each():
            prepared = domain.pending(conversion)
            self._skip = max(1, sum(1 for _ in prepared.plan.steps()) // _MANY_STEPS)
            engine.begin(conversion, near(prepared.changes, domain.vendor.page_format))

    def _between(self, engine: DmaEngine, _step: Step | None) -> None:
        """DMA between two steps; of a plan with very many steps, between some of them."""
        self._steps += 1
        if self._steps % self._skip == 0:
            engine.burst()

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
            self.seen.add(engine.counters)
        if isinstance(self.machine, QemuMachine):
            self.seen.witnessed.add(self.machine.witnessed)


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


def emulated_features(registry: VendorRegistry, vendor: str, page_format: str, given: Features) -> dict[str, Any]:
    """The features that a vendor's emulation has, and what is given besides.

    Raises:
        NotEmulated: there is no emulation.
    """
    return {**emulator_of(registry.resolve(vendor, page_format)).features, **given}


def witness(ground: Ground, features: Features, scenario: Scenario) -> WitnessRow:
    """Carry one scenario out; each of its attempts has a QEMU of its own.

    Raises:
        NotEmulated: QEMU cannot show this format.  NoEmulator: it is not installed.
    """
    vendor, seen, refused = ground.vendor, Seen(), ""
    reason = NOT_SHOWN.get(scenario.id) or scenario.without(ground)
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
    if broken := [rule for rule, count in counts.items() if count]:
        outcome, reason = "violated", ", ".join(sorted(broken))
    elif refused:
        outcome, reason = "refused", refused
    elif seen.conversions:
        outcome, reason = "ok", ""
    else:
        outcome, reason = "not_applicable", reason or "nothing is carried out"
    shown = outcome != "not_applicable"
    rules = {rule: count if shown else None for rule, count in counts.items()} | dict.fromkeys(UNSEEN)
    return WitnessRow(vendor.name, vendor.page_format.name, scenario.id, dict(features), outcome, reason, rules, seen)


def compare_with(vendor: Vendor, features: Features, count: int) -> ComparisonRow:
    """QEMU's walk beside ours.

    Raises:
        NotEmulated, NoEmulator: as :func:`witness`.
    """
    machine = QemuMachine.of(vendor, guest_bytes=_COMPARED_BYTES)
    try:
        unit = machine.add_unit("iommu0", vendor)
        found = compare(machine, vendor, unit, count)
        seen = {each.id: each.seen for each in unit.emulator.deviations}
        version = "{}.{}".format(*unit.registers.qemu.version)
    finally:
        machine.close()
    excused = tuple((name, number, seen[name]) for name, number in sorted(found.excused.items()))
    sizes = {lg2_text(lg2): found.sizes[lg2] for lg2 in sorted(found.sizes)}
    figures = (found.asked, found.by_dma, found.by_trace, found.refused)
    place = (vendor.name, vendor.page_format.name, dict(features), version)
    return ComparisonRow(*place, *figures, sizes, excused, tuple(found.faults))
