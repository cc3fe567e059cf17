"""Runs mutants and harmless changes: the right plan, the changed plan, and what broke."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
from attrs import define, field, frozen

from hitless.check.checking import check
from hitless.check.mutants.declared import Declared
from hitless.check.mutants.generic import generic_mutants
from hitless.check.mutants.harmless import harmless_changes
from hitless.check.mutants.mutant import Harmless, Mutant, truly
from hitless.check.mutants.situations import HIDE, Situation, Sizes
from hitless.check.report import Report
from hitless.check.stage import Stage
from hitless.check.subject import Subject
from hitless.errors import HitlessError, Refused
from hitless.hardware.vendor import Vendor
from hitless.plugin import VendorRegistry


@frozen
class Ground:
    """A vendor resolved for one set of features; ``changed``: those that differ from what was asked for."""

    vendor: Vendor
    changed: Mapping[str, Any] = field(factory=dict)


@define
class Grounds:
    """The features that were asked for, and every set that differs from them in one value, nearest first.

    A mistake may need hardware that was not asked for: a level of BBML, walkers that do not snoop. Where nothing
    can be set up with the features that were asked for, the first set with which something can takes their place.
    """

    registry: VendorRegistry
    name: str
    page_format: str
    features: Mapping[str, Any] = field(factory=dict)
    _found: list[Ground] = field(factory=list, init=False)
    _more: Iterator[Ground] | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Ground]:
        yield from self._found
        if self._more is None:
            self._more = self._resolved()
        for ground in self._more:
            self._found.append(ground)
            yield ground

    def _resolved(self) -> Iterator[Ground]:
        base: dict[str, Any] = {}
        first = self._usable(base)
        for change in self._changes() if first is None else ():
            first = self._usable(change)
            if first is not None:
                base = change
                break
        if first is None:
            return
        yield first
        for change in self._changes():
            if not change.keys() & base.keys():
                ground = self._usable({**base, **change})
                if ground is not None:
                    yield ground

    def _changes(self) -> Iterator[dict[str, Any]]:
        for info in self.registry.features(self.name):
            if info.formats and self.page_format not in info.formats:
                continue
            now = self.features.get(info.name, info.default)
            yield from ({info.name: value} for value in info.values if value != now)

    def _usable(self, change: Mapping[str, Any]) -> Ground | None:
        """A ground on which a guest can be set up at all."""
        try:
            vendor = self.registry.resolve(self.name, self.page_format, {**self.features, **change})
            if HIDE.why_not(vendor):
                return None
            with HIDE.opened(vendor):
                return Ground(vendor, dict(change))
        except (HitlessError, ValueError):  # a combination that does not exist, or addresses that it cannot hold
            return None


@frozen
class Trial:
    """One change on one ground.

    Args:
        twin: what broke in the right plan; None: it is refused.
        report: what broke in the changed plan.
        declared: what the expectation is decided from.
        told: what a teller made of the changed plan while its stage stood.
    """

    ground: Ground
    twin: Report | None
    report: Report
    declared: Declared
    told: Any = None


Teller: TypeAlias = Callable[[Subject, Report], Any]
"""Makes something of a changed plan and its report."""


def _untold(_subject: Subject, _report: Report) -> None:
    """No story."""


def trial_of(change: Mutant | Harmless, grounds: Grounds, tell: Teller = _untold) -> Trial | str:
    """A change on the nearest ground on which it can be made; else why it cannot."""
    why = ""
    for ground in grounds:
        found = change.why_not(ground.vendor) or change.situation.why_not(ground.vendor) or _try(change, ground, tell)
        if isinstance(found, Trial):
            return found
        why = why or found
    return why or "no guest can be set up with any features"


def _try(change: Mutant | Harmless, ground: Ground, tell: Teller) -> Trial | str:
    vendor = ground.vendor
    try:
        with change.situation.opened(vendor) as (stage, sizes):
            twin = _take(change.situation, stage, sizes)
            twin_report = None if twin is None else check(twin)
            planned = twin
            if change.planned_as is not truly:
                _plan_as(stage, change.planned_as(vendor))
                planned = _take(change.situation, stage, sizes)
            subject = None if planned is None else change.apply(planned)
            if subject is None or (twin is not None and list(subject.steps) == list(twin.steps)):
                return "the plan has no place for it"
            report = check(subject)
            return Trial(ground, twin_report, report, Declared(twin or subject), tell(subject, report))
    except HitlessError as error:
        return error.what


def _take(situation: Situation, stage: Stage, sizes: Sizes) -> Subject | None:
    """The plan of the last address space; None: it is refused."""
    try:
        return situation.take(stage, sizes)[-1]
    except Refused:
        return None


def _plan_as(stage: Stage, vendor: Vendor) -> None:
    """Let the planners of a stage take its vendor to be another."""
    for domain in stage.domains:
        assembler = domain.planner.assembler
        units = tuple(attrs.evolve(unit, encoder=vendor.commands) for unit in assembler.units)
        domain.planner.assembler = attrs.evolve(assembler, units=units, recipes=vendor.recipes)


# -- rows


@frozen
class MutantRow:
    """What became of one mutant.

    Args:
        features: those that had to differ from what was asked for, so that the mistake can be made.
        expected_rules, rules: what had to break, and what broke.
        twin_violations: what broke in the right plan: nothing may.
        report: all that broke.
        told: what the teller made of it.
    """

    id: str
    vendor: str
    format: str
    scenario: str
    features: Mapping[str, Any]
    expected_rules: tuple[str, ...]
    rules: tuple[str, ...]
    twin_violations: tuple[str, ...]
    report: Report = field(repr=False)
    told: Any = field(default=None, repr=False)

    @property
    def caught(self) -> bool:
        """Exactly the expected rules broke, and at least one."""
        return bool(self.rules) and self.rules == self.expected_rules

    def as_json(self) -> dict[str, Any]:
        """With the keys of schema check/1."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "format": self.format,
            "scenario": self.scenario,
            "features": dict(self.features),
            "expected_rules": list(self.expected_rules),
            "rules": list(self.rules),
            "caught": self.caught,
            "twin_violations": list(self.twin_violations),
        }


@frozen
class HarmlessRow:
    """What became of one harmless change."""

    id: str
    vendor: str
    format: str
    scenario: str
    features: Mapping[str, Any]
    rules: tuple[str, ...]
    report: Report = field(repr=False)

    @property
    def green(self) -> bool:
        """Nothing broke, but that a command may be larger than needed."""
        return set(self.rules) <= {"E1"}

    def as_json(self) -> dict[str, Any]:
        """With the keys of schema check/1."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "format": self.format,
            "scenario": self.scenario,
            "features": dict(self.features),
            "rules": list(self.rules),
        }


def all_mutants(vendor: Vendor) -> tuple[Mutant, ...]:
    """Core's mutants, then the vendor's own."""
    return (*generic_mutants(), *(each for each in vendor.mutants() if isinstance(each, Mutant)))


def run_mutants(
    registry: VendorRegistry,
    vendor: str,
    page_format: str = "",
    features: Mapping[str, Any] | None = None,
    *,
    chosen: Callable[[str], bool] = lambda _id: True,
    tell: Teller = _untold,
) -> Iterator[MutantRow]:
    """Every mutant that a vendor's format makes possible, core's and its own.

    Raises:
        PluginError: no such vendor or format, or features that are not usable.
    """
    asked = registry.resolve(vendor, page_format, features)
    name = asked.page_format.name
    grounds = Grounds(registry, vendor, name, features or {})
    for mutant in all_mutants(asked):
        trial = trial_of(mutant, grounds, tell) if chosen(mutant.id) else ""
        if isinstance(trial, Trial):
            yield MutantRow(
                mutant.id,
                vendor,
                name,
                mutant.situation.id,
                trial.ground.changed,
                tuple(sorted(mutant.expected(trial.declared))),
                trial.report.rules,
                () if trial.twin is None else trial.twin.rules,
                trial.report,
                trial.told,
            )


def run_harmless(
    registry: VendorRegistry, vendor: str, page_format: str = "", features: Mapping[str, Any] | None = None
) -> Iterator[HarmlessRow]:
    """Every harmless change that a vendor's format has a place for.

    Raises:
        PluginError: no such vendor or format, or features that are not usable.
    """
    asked = registry.resolve(vendor, page_format, features)
    name = asked.page_format.name
    grounds = Grounds(registry, vendor, name, features or {})
    own = (each for each in asked.mutants() if isinstance(each, Harmless))
    for change in (*harmless_changes(), *own):
        trial = trial_of(change, grounds)
        if isinstance(trial, Trial):
            changed, report = trial.ground.changed, trial.report
            yield HarmlessRow(change.id, vendor, name, change.situation.id, changed, report.rules, report)
