"""The suite: every scenario on every vendor, format and configuration."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any, TypeAlias

import attrs
from attrs import define, field, frozen

from hitless.check.checking import check
from hitless.check.report import Violation
from hitless.check.scenarios import SCENARIOS, Case, Ground, Scenario, Trial
from hitless.check.stage import Unfit
from hitless.check.subject import Subject
from hitless.errors import Refused
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plugin import FeatureInfo, VendorRegistry
from hitless.plugin.features import impossible, impossible_for

Features: TypeAlias = Mapping[str, Any]
_Pair: TypeAlias = tuple[tuple[str, Any], tuple[str, Any]]


@frozen
class Broken:
    """A violation, with the plan (or trial) that it was found in.

    ``forced``: of a plan that is refused. ``story``: what the row's teller made of it while its stage stood.
    """

    violation: Violation
    note: str
    story: Any = None
    forced: bool = False


Teller: TypeAlias = Callable[[Subject | None, Violation, str], Any]
"""Makes something of a violation, its subject (None: of a trial) and the note of its case."""


@frozen
class Refusal:
    """A refusal, and the rule that breaks if it is done all the same; empty: none does."""

    reason: str
    text: str
    forced_rule: str


@define
class Row:
    """One scenario on one configuration.

    ``outcome``: ``ok``, ``violated``, ``refused`` or ``not_applicable``, with the reason. ``forced``: how many of the
    plans and trials were made only because they had been refused.
    """

    vendor: str
    format: str
    scenario: str
    features: dict[str, Any]
    plans: int = 0
    trials: int = 0
    forced: int = 0
    steps: int = 0
    facts: int = 0
    outcome: str = "ok"
    reason: str = ""
    broken: list[Broken] = field(factory=list)
    refusals: list[Refusal] = field(factory=list)

    @property
    def violations(self) -> list[Broken]:
        """What breaks a rule without having been forced."""
        return [each for each in self.broken if not each.forced]


def _untold(_subject: Subject | None, _violation: Violation, _note: str) -> None:
    """No story."""


def check_row(registry: VendorRegistry, vendor: str, page_format: str, features: Features, scenario: Scenario) -> Row:
    """One scenario on one configuration, each attempt by itself."""
    return check_on(ground_of(registry, vendor, page_format, features), features, scenario)


def ground_of(
    registry: VendorRegistry,
    vendor: str,
    page_format: str,
    features: Features,
    extensions: Sequence[str] = (),
    fixed: Mapping[str, Any] | None = None,
) -> Ground:
    """The ground of a configuration; what stands over its format is found when somebody asks."""

    def upper() -> PageFormat | None:
        for name in registry.format_names(vendor, extensions):
            found = registry.resolve(vendor, name, features, extensions).page_format
            if found.stage == "1":
                return found
        return None

    record = registry.resolve(vendor, page_format, features, extensions)
    return Ground(record, upper=upper if record.page_format.stage == "2" else lambda: None, fixed=fixed or {})


def check_on(ground: Ground, features: Features, scenario: Scenario, tell: Teller = _untold) -> Row:
    """One scenario on a ground, whose vendor was resolved for some features."""
    record = ground.vendor
    row = Row(record.name, record.page_format.name, scenario.id, dict(features))
    row.reason = scenario.without(ground)
    if row.reason:
        row.outcome = "not_applicable"
        return row
    for attempt in scenario.attempts:
        try:
            _judge(row, attempt(ground), tell, forced=False)
        except Refused as refusal:
            _force(row, refusal, attempt(attrs.evolve(ground, forced=True)), tell)
        except Unfit as unfit:
            row.reason = unfit.what
    _conclude(row, record)
    return row


def _judge(row: Row, cases: Iterable[Case | Trial], tell: Teller, *, forced: bool) -> None:
    for case in cases:
        row.plans += isinstance(case, Case)
        row.trials += isinstance(case, Trial)
        row.forced += forced
        report = case.report if isinstance(case, Trial) else check(case.subject)
        row.steps += report.steps
        row.facts += report.facts
        subject = case.subject if isinstance(case, Case) else None
        for each in report.shortest:
            row.broken.append(Broken(each, case.note, tell(subject, each, case.note), forced))


def _force(row: Row, refusal: Refused, cases: Iterable[Case | Trial], tell: Teller) -> None:
    """A refusal is right if doing it all the same breaks a rule."""
    before, plans = len(row.broken), row.plans
    try:
        _judge(row, cases, tell, forced=True)
    except Refused as again:
        row.refusals.append(Refusal(again.reason, str(again), ""))
        return
    rules = [each.violation.rule for each in row.broken[before:]]
    if not rules and row.plans == plans:
        return  # nothing was planned that could have shown why
    row.refusals.append(Refusal(refusal.reason, str(refusal), rules[0] if rules else ""))


def _conclude(row: Row, record: Vendor) -> None:
    """The row's outcome: what breaks a rule comes first, then what is refused."""
    limits: Mapping[str, str] = getattr(record.features, "cannot_hold", dict)()
    if row.violations:
        rules = {each.violation.rule for each in row.violations}
        if rules <= set(limits):
            row.outcome, row.reason = "not_applicable", limits[min(rules)]
            row.broken = [each for each in row.broken if each.forced]
        else:
            row.outcome, row.reason = "violated", ", ".join(sorted(rules))
    elif not row.plans and not row.trials and not row.refusals:
        row.outcome = "not_applicable"
    elif row.refusals:
        # Where a device may reach none of the neighbours, nobody notices a break: another attempt has to show it.
        shown = {each.reason for each in row.refusals if each.forced_rule}
        idle = [each for each in row.refusals if each.reason not in shown]
        row.refusals = [each for each in row.refusals if each.forced_rule] + idle
        if idle:
            row.outcome, row.reason = "violated", f"{idle[0].reason} is refused though nothing breaks when it is done"
        else:
            row.outcome, row.reason = "refused", row.refusals[0].reason


# -- configurations


def feature_sets(
    registry: VendorRegistry, vendor: str, page_format: str, *, every: bool = False
) -> list[dict[str, Any]]:
    """Configurations of a format: the default one, then so many that each pair of values occurs; or all.

    Features that do not matter to the format keep their defaults; combinations that no hardware has are left out.
    """
    infos = [
        info for info in registry.features(vendor) if info.values and (not info.formats or page_format in info.formats)
    ]
    possible = _Possible(type(registry.resolve(vendor).features), page_format)
    if every:
        names = [info.name for info in infos]
        found = (dict(zip(names, values, strict=True)) for values in product(*(info.values for info in infos)))
        return [each for each in found if possible(each)]
    return list(_pairwise(infos, possible))


@define
class _Possible:
    """Whether a configuration can be: what the vendor declares impossible cannot."""

    features: Callable[..., Any]
    page_format: str

    def __call__(self, features: Features) -> bool:
        chosen = self.features(**features)
        return impossible(chosen) is None and impossible_for(chosen, self.page_format) is None


def _pairwise(infos: Sequence[FeatureInfo], possible: Callable[[Features], bool]) -> Iterator[dict[str, Any]]:
    """A base configuration, then greedily what covers the most pairs of values that are still missing."""
    base = _repaired({}, {info.name: info.default for info in infos}, infos, possible)
    if base is None:
        return
    yield base
    if len(infos) == 1:
        others = ({infos[0].name: value} for value in infos[0].values)
        yield from (each for each in others if each != base and possible(each))
        return
    missing = {((a.name, x), (b.name, y)) for a, b in combinations(infos, 2) for x in a.values for y in b.values}
    missing -= _pairs(base, infos)
    for pair in sorted(missing, key=repr):
        if pair in missing:
            best = _complete(dict(pair), base, infos, missing, possible)
            if best is not None:  # else no hardware has these two together
                yield best
                missing -= _pairs(best, infos)


def _pairs(features: Features, infos: Sequence[FeatureInfo]) -> set[_Pair]:
    chosen = [(info.name, features[info.name]) for info in infos]
    return set(combinations(chosen, 2))


def _complete(
    pair: dict[str, Any],
    base: dict[str, Any],
    infos: Sequence[FeatureInfo],
    missing: set[_Pair],
    possible: Callable[[Features], bool],
) -> dict[str, Any] | None:
    """Two values made into a configuration that can be, with as many missing pairs as are to be had."""
    found = _repaired(pair, base, infos, possible)
    if found is None:
        return None
    chosen = {name: value for name, value in found.items() if name in pair or value != base[name]}
    for info in infos:
        if info.name in chosen:
            continue

        def gain(value: Any, name: str = info.name) -> int:
            return sum(
                1 for held in chosen.items() if ((name, value), held) in missing or (held, (name, value)) in missing
            )

        ranked = sorted(info.values, key=lambda value: (-gain(value), value != base[info.name]))
        chosen[info.name] = next(value for value in ranked if possible(found | chosen | {info.name: value}))
        found = found | chosen
    return found


def _repaired(
    chosen: dict[str, Any], base: dict[str, Any], infos: Sequence[FeatureInfo], possible: Callable[[Features], bool]
) -> dict[str, Any] | None:
    """Some values with a base that can be: as few others of it changed as it takes, two at most."""
    others = [info for info in infos if info.name not in chosen]
    for count in (0, 1, 2):
        for group in combinations(others, count):
            for values in product(*(info.values for info in group)):
                features = base | chosen | {info.name: value for info, value in zip(group, values, strict=True)}
                if possible(features):
                    return features
    return None


def scenario_named(scenario_id: str) -> Scenario | None:
    """The scenario of an id."""
    return next((each for each in SCENARIOS if each.id == scenario_id), None)
