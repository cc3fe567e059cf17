"""Runs mutants and harmless changes: the right plan, the changed plan, and what broke."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
from attrs import define, field, frozen

from hitless.check.checking import check
from hitless.check.mutants.declared import Declared
from hitless.check.mutants.generic import GENERIC_MUTANTS
from hitless.check.mutants.harmless import HARMLESS
from hitless.check.mutants.mutant import Harmless, Mutant, as_set, truly
from hitless.check.mutants.racing import raced
from hitless.check.mutants.rows import HarmlessRow, MutantRow
from hitless.check.mutants.situations import HIDE, Situation, Sizes
from hitless.check.report import Report
from hitless.check.stage import Stage
from hitless.check.subject import Subject
from hitless.errors import HitlessError, PluginError, Refused
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plugin import VendorRegistry


@define
class Nearby:
    """The vendor with the features that were asked for, and with every set that differs in one value, nearest first.

    A mistake may need hardware that was not asked for: a level of BBML, walkers that do not snoop. A value that no
    hardware has without another one brings that along. Where nothing can be set up with what was asked for, the first
    set with which something can takes its place.
    """

    registry: VendorRegistry
    name: str
    page_format: str
    features: Mapping[str, Any] = field(factory=dict)
    _found: list[Vendor] = field(factory=list, init=False)
    _more: Iterator[Vendor] | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Vendor]:
        yield from self._found
        if self._more is None:
            self._more = self._resolved()
        for vendor in self._more:
            self._found.append(vendor)
            yield vendor

    def with_features(self, features: Mapping[str, Any]) -> Iterator[Vendor]:
        """The vendor with certain features besides, if that can be; without any: all sets."""
        first = next(iter(self), None)
        if not features or first is None:
            yield from self
        elif (vendor := self._usable({**self.differing(first), **features})) is not None:
            yield vendor

    def differing(self, vendor: Vendor) -> dict[str, Any]:
        """The features of a vendor that differ from those asked for."""
        asked = {info.name: self.features.get(info.name, info.default) for info in self.registry.features(self.name)}
        return {name: now for name, value in asked.items() if (now := getattr(vendor.features, name)) != value}

    def upper(self, vendor: Vendor) -> PageFormat | None:
        """A format of a guest's own tables over a vendor's; None: there is none."""
        for name in self.registry.format_names(self.name):
            found = self.registry.resolve(self.name, name, attrs.asdict(vendor.features)).page_format
            if found.stage == "1":
                return found
        return None

    def _resolved(self) -> Iterator[Vendor]:
        changes = list(self._changes())
        base, first = next(
            ((change, vendor) for change in ({}, *changes) if (vendor := self._usable(change)) is not None), ({}, None)
        )
        if first is None:
            return
        yield first
        for change in changes:
            if change.keys() & base.keys():
                continue
            wanted = {**base, **change}
            others = ({**wanted, **other} for other in changes if not other.keys() & wanted.keys())
            alone = self._possible(wanted)
            yield from filter(None, [self._usable(wanted)] if alone else [self._first(others)])

    def _first(self, sets: Iterator[dict[str, Any]]) -> Vendor | None:
        return next((vendor for each in sets if self._possible(each) and (vendor := self._usable(each))), None)

    def _changes(self) -> Iterator[dict[str, Any]]:
        for info in self.registry.features(self.name):
            if info.formats and self.page_format not in info.formats:
                continue
            now = self.features.get(info.name, info.default)
            yield from ({info.name: value} for value in info.values if value != now)

    def _possible(self, change: Mapping[str, Any]) -> bool:
        features = {**self.features, **change}
        return not self.registry.feature_faults(self.name, features, page_format=self.page_format)

    def _usable(self, change: Mapping[str, Any]) -> Vendor | None:
        """The vendor, if a guest can be set up at all, and no rule is declared to be out of its reach."""
        try:
            vendor = self.registry.resolve(self.name, self.page_format, {**self.features, **change})
            limits: Mapping[str, str] = getattr(vendor.features, "cannot_hold", dict)()
            if not limits and not HIDE.why_not(vendor):
                with HIDE.opened(vendor):
                    return vendor
        except (HitlessError, ValueError):  # a combination that does not exist, or addresses that it cannot hold
            pass
        return None


@frozen
class Tried:
    """One change on one vendor.

    Args:
        twin: what broke in the right plan; None: it is refused.
        report: what broke in the changed plan.
        expected: the rules that have to break; of a harmless change: none.
        told: what a teller made of the changed plan.
    """

    vendor: Vendor
    twin: Report | None
    report: Report
    expected: tuple[str, ...]
    told: Any = None


Teller: TypeAlias = Callable[[Subject, Report], Any]
"""Makes something of a changed plan and its report, while the stage stands."""


def _untold(_subject: Subject, _report: Report) -> None:
    """No story."""


def try_nearby(change: Mutant | Harmless, nearby: Nearby, tell: Teller = _untold) -> Tried | str:
    """A change on the nearest hardware on which it can be made; else why it cannot."""
    why = ""
    for vendor in nearby.with_features(change.features):
        not_here = change.why_not(vendor) or change.situation.why_not(vendor)
        upper = nearby.upper(vendor) if change.situation.setting.nested and not not_here else None
        found = not_here or try_on(change, vendor, tell, upper)
        if isinstance(found, Tried):
            return found
        why = why or found
    return why or "no guest can be set up with the features that it takes"


def try_on(
    change: Mutant | Harmless, vendor: Vendor, tell: Teller = _untold, upper: PageFormat | None = None
) -> Tried | str:
    """A change on one vendor; else why it cannot be made. ``upper``: the format of a guest's own tables."""
    staged_as = change.staged_as if isinstance(change, Mutant) else as_set
    try:
        with change.situation.opened(vendor, upper=upper) as (stage, sizes):
            twin = _take(change.situation, stage, sizes)
            twin_report = check(twin) if isinstance(twin, Subject) else None
            if staged_as is as_set:
                return _on_stage(change, stage, sizes, twin, twin_report=twin_report, tell=tell)
        with change.situation.opened(vendor, staged_as, upper) as (stage, sizes):
            return _on_stage(change, stage, sizes, twin_report=twin_report, tell=tell)
    except HitlessError as error:
        return error.what


def _on_stage(
    change: Mutant | Harmless,
    stage: Stage,
    sizes: Sizes,
    twin: Subject | Refused | None = None,
    *,
    twin_report: Report | None,
    tell: Teller = _untold,
) -> Tried | str:
    """A change on a stage, where the right plan may have been taken already."""
    planned = twin
    if planned is None or change.planned_as is not truly:
        _plan_as(stage, change.planned_as(stage.vendor))
        planned = _take(change.situation, stage, sizes)
    if isinstance(planned, Refused):
        return f"{planned.what} ({planned.reason})"
    right = twin if isinstance(twin, Subject) else None
    subject = change.apply(planned)
    if subject is None or (right is not None and _same(subject, right)):
        return "the plan has no place for it"
    if not isinstance(change, Mutant):
        return Tried(stage.vendor, twin_report, check(subject), ())
    expected = tuple(sorted(change.expected(Declared(right or subject))))
    if change.raced is None:
        report = check(subject)
        return Tried(stage.vendor, twin_report, report, expected, tell(subject, report))
    twin_report = raced(change, stage.vendor, mutated=False)
    return Tried(stage.vendor, twin_report, raced(change, stage.vendor, mutated=True), expected)


def _same(subject: Subject, right: Subject) -> bool:
    """Whether nothing was changed: neither a step, nor how waits are encoded."""
    return subject.vendor.commands is right.vendor.commands and list(subject.steps) == list(right.steps)


def _take(situation: Situation, stage: Stage, sizes: Sizes) -> Subject | Refused:
    """The plan, unless it is refused."""
    try:
        return situation.take(stage, sizes)
    except Refused as refused:
        return refused


def _plan_as(stage: Stage, vendor: Vendor) -> None:
    """Let the planners of a stage take its vendor to be another."""
    for domain in stage.domains:
        assembler = domain.planner.assembler
        units = tuple(attrs.evolve(unit, encoder=vendor.commands) for unit in assembler.units)
        domain.planner.assembler = attrs.evolve(assembler, units=units, recipes=vendor.recipes)
        domain.choreography = vendor.ownership


# -- all of a vendor's


def all_mutants(vendor: Vendor) -> tuple[Mutant, ...]:
    """Core's mutants, then the vendor's own."""
    return (*GENERIC_MUTANTS, *(each for each in vendor.mutants() if isinstance(each, Mutant)))


def all_harmless(vendor: Vendor) -> tuple[Harmless, ...]:
    """Core's harmless changes, then the vendor's own."""
    return (*HARMLESS, *(each for each in vendor.mutants() if isinstance(each, Harmless)))


def nearby_of(
    registry: VendorRegistry, vendor: str, page_format: str, features: Mapping[str, Any] | None
) -> tuple[Vendor, Nearby]:
    """A vendor's record, for what does not depend on features, and the hardware near what is asked for.

    Raises:
        PluginError: no such vendor or format.
    """
    features = features or {}
    name = page_format or registry.format_names(vendor)[0]
    nearby = Nearby(registry, vendor, name, features)
    record = next(iter(nearby), None)
    if record is None:
        raise PluginError(f"nothing can be set up with {name}", who=vendor, do="ask for other features")
    return record, nearby


def run_mutants(
    registry: VendorRegistry,
    vendor: str,
    page_format: str = "",
    features: Mapping[str, Any] | None = None,
    *,
    chosen: Callable[[str], bool] = lambda _id: True,
    tell: Teller = _untold,
) -> Iterator[MutantRow]:
    """Every mutant whose id is ``chosen`` and that a vendor's format makes possible, core's and its own.

    Raises:
        PluginError: no such vendor or format, or features that are not usable.
    """
    record, nearby = nearby_of(registry, vendor, page_format, features)
    for mutant in all_mutants(record):
        tried = try_nearby(mutant, nearby, tell) if chosen(mutant.id) else ""
        if isinstance(tried, Tried):
            yield MutantRow(
                mutant.id,
                vendor,
                nearby.page_format,
                mutant.situation.id,
                nearby.differing(tried.vendor),
                tried.expected,
                tried.report.rules,
                () if tried.twin is None else tried.twin.rules,
                tried.report,
                tried.told,
            )


def run_harmless(
    registry: VendorRegistry, vendor: str, page_format: str = "", features: Mapping[str, Any] | None = None
) -> Iterator[HarmlessRow]:
    """Every harmless change that a vendor's format has a place for.

    Raises:
        PluginError: no such vendor or format, or features that are not usable.
    """
    record, nearby = nearby_of(registry, vendor, page_format, features)
    for change in all_harmless(record):
        tried = try_nearby(change, nearby)
        if isinstance(tried, Tried):
            changed, scenario = nearby.differing(tried.vendor), change.situation.id
            rules = tried.report.rules
            yield HarmlessRow(change.id, vendor, nearby.page_format, scenario, changed, rules, tried.report)
