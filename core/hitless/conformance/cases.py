"""What each test of the kit is run for: every configuration, level, leaf size, scenario, mutant, example."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

from hitless.check.mutants.running import all_harmless, all_mutants
from hitless.check.scenarios import SCENARIOS, Scenario
from hitless.conformance.kit import Configuration, Kit
from hitless.conformance.words import LeafWord, SpecWord, SpecWords
from hitless.hardware.vendor import Vendor
from hitless.ownership import Boundary
from hitless.pagetable import PageFormat
from hitless.plan import Barrier, Invalidate, Store, Wait
from hitless.units import lg2_text


@frozen
class Case:
    """One row of the report.

    Args:
        rule: that it is about.
        configuration: None: it is about the plugin as a whole.
        name: level, size, scenario or mutant, as reports show it.
        value: the same, as the test takes it.
    """

    rule: str
    configuration: Configuration | None
    name: str = ""
    value: Any = field(default=None, repr=False)

    @property
    def vendor(self) -> Vendor:
        """The vendor's record in this configuration."""
        if self.configuration is None:
            raise ValueError(f"{self.rule} is about the plugin as a whole")
        return self.configuration.vendor

    @property
    def format(self) -> PageFormat:
        """The page format in this configuration."""
        return self.vendor.page_format

    @property
    def title(self) -> str:
        """The configuration's name."""
        return self.configuration.name if self.configuration else "plugin"

    @property
    def id(self) -> str:
        """The end of a test's name."""
        return "-".join(filter(None, (self.rule, self.title, self.name))).replace(" ", ",")


_LARGE_LG2 = 20
Cases: TypeAlias = Callable[[Kit, str], Iterator[Case]]

GENERAL = ("N1", "N2", "C1", "C2", "F1", "F2", "K1", "R1", "W1", "H1", "E1", "T1", "A1")
"""Rules that every plan is judged by, whatever the vendor demands."""

SPECIAL: Mapping[str, tuple[str, ...]] = {
    "allocation-failure": ("A1",),
    "hung-unit": ("H1",),
    "raced-ad": ("D1",),
}
"""Scenarios that are run, and judged by what they leave behind."""

JOINING = ("merge", "prune", "revoke", "runs", "caching-mode")
"""Scenarios whose plans merge leaves."""

FEW = ("one-page-in-2m", "one-page-in-1g", "merge", "ats", "allocation-failure", "hung-unit")
"""Scenarios of a smoke test."""

ELSEWHERE = (
    *("one-page-in-1g", "one-page-in-2m", "small-space", "range-2m", "last-page", "merge", "runs", "no-snoop"),
    *("caching-mode", "wipe-policy", "ats", "trusted-page", "owner-partial", "revoke", "nested"),
)
"""Scenarios for configurations other than a format's first one."""

SMALL = ("small-space", "one-page-in-2m", "scattered", "allocation-failure")
"""Scenarios with little memory, for hardware that maps it in small leaves only: tables for 2 GiB take minutes."""

KINDS = {"stores": Store, "barriers": Barrier, "commands": Invalidate, "waits": Wait}
"""Steps that a plan cannot do without."""


def _plugin(kit: Kit, rule: str) -> Iterator[Case]:
    yield Case(rule, None)


def _configurations(kit: Kit, rule: str) -> Iterator[Case]:
    for each in kit.configurations:
        yield Case(rule, each)


def _formats(kit: Kit, rule: str) -> Iterator[Case]:
    """Each format once, in its first configuration."""
    for each in kit.configurations:
        if each.default:
            yield Case(rule, each)


def _asked(kit: Kit, rule: str) -> Iterator[Case]:
    """Every configuration that was asked for, whether it could be resolved or not."""
    for name, fault in kit.faults.items():
        yield Case(rule, None, name, fault)
    yield from _configurations(kit, rule)


def _levels(kit: Kit, rule: str) -> Iterator[Case]:
    for each in kit.configurations:
        for level in each.vendor.page_format.levels:
            yield Case(rule, each, str(level), level)


def _tables(kit: Kit, rule: str) -> Iterator[Case]:
    """The levels whose tables hold pointers."""
    for case in _levels(kit, rule):
        if case.value.number and case.format.layout("table", case.value.number) is not None:
            yield case


def _sizes(kit: Kit, rule: str) -> Iterator[Case]:
    for each in kit.configurations:
        for size in each.vendor.page_format.leaf_sizes:
            yield Case(rule, each, lg2_text(size.lg2), size)


def _runs(kit: Kit, rule: str) -> Iterator[Case]:
    return (case for case in _sizes(kit, rule) if case.value.entries_lg2)


# -- examples of the specification


def _holding(kit: Kit, rule: str, kind: str) -> Iterator[tuple[Configuration, SpecWord]]:
    """Each example in the configurations that it is about."""
    words = kit.words
    for configuration in kit.configurations:
        vendor = configuration.vendor
        for word in getattr(words, kind) if isinstance(words, SpecWords) else ():
            if word.holds(vendor.page_format.name, vendor.features):
                yield configuration, word


def _leaf_words(kit: Kit, rule: str) -> Iterator[Case]:
    """Each example of a leaf; a size without one is tried with the features of one, else it is a case of its own."""
    seen: set[tuple[str, int]] = set()
    for configuration, word in _holding(kit, rule, "leaf"):
        fmt = configuration.vendor.page_format
        if word.lg2 in fmt.leaf_lg2s:  # type: ignore[attr-defined]
            seen.add((fmt.name, word.lg2))  # type: ignore[attr-defined]
            yield Case(rule, configuration, f"{word.size} {word.rights}", word)  # type: ignore[attr-defined]
    for configuration in kit.configurations:
        fmt = configuration.vendor.page_format
        for lg2 in fmt.leaf_lg2s:
            if (fmt.name, lg2) not in seen:
                seen.add((fmt.name, lg2))
                near = next(_near(kit, configuration, lg2), None)
                yield Case(rule, *near) if near else Case(rule, configuration, lg2_text(lg2), None)


def _near(kit: Kit, configuration: Configuration, lg2: int) -> Iterator[tuple[Configuration, str, LeafWord]]:
    """Examples of a size, each with the configuration changed to have the features that it is about."""
    fmt = configuration.vendor.page_format
    for word in kit.words.leaf if isinstance(kit.words, SpecWords) else ():
        if word.lg2 == lg2 and (not word.formats or fmt.name in word.formats):
            changed = kit.changed(configuration, word.features)
            if changed is not None and lg2 in changed.vendor.page_format.leaf_lg2s:
                yield changed, f"{word.size} {word.rights}", word


def _pointer_words(kit: Kit, rule: str) -> Iterator[Case]:
    """Each example of a pointer; and each format with several levels that has none."""
    seen = set()
    for configuration, word in _holding(kit, rule, "pointer"):
        fmt = configuration.vendor.page_format
        if any(level.spec_level == word.level for level in fmt.levels):  # type: ignore[attr-defined]
            seen.add(fmt.name)
            yield Case(rule, configuration, f"level {word.level}", word)  # type: ignore[attr-defined]
    for case in _formats(kit, rule):
        if len(case.format.levels) > 1 and case.format.name not in seen:
            yield Case(rule, case.configuration)


def _command_words(kit: Kit, rule: str) -> Iterator[Case]:
    """Each example of a command, where the format has the level that it names."""
    for number, (configuration, word) in enumerate(_holding(kit, rule, "command")):
        known = {level.spec_level for level in configuration.vendor.page_format.levels}
        named = {call["level"] for call in word.call.values() if "level" in call}  # type: ignore[attr-defined]
        if named <= known:
            yield Case(rule, configuration, f"{word.name} {number}", word)  # type: ignore[attr-defined]


def _examples(kind: str, name: Callable[[Any], str]) -> Cases:
    def cases(kit: Kit, rule: str) -> Iterator[Case]:
        for number, (configuration, word) in enumerate(_holding(kit, rule, kind)):
            yield Case(rule, configuration, f"{name(word)} {number}", word)

    return cases


# -- scenarios and mistakes


def _scenario_rules(scenario: Scenario, vendor: Vendor) -> tuple[str, ...]:
    """The rules that a scenario's plans are judged by."""
    if scenario.id in SPECIAL:
        return SPECIAL[scenario.id]
    rules = list(GENERAL)
    if any(policy.boundary is not Boundary.NONE for policy in vendor.ownership.policies.values()):
        rules.append("B1")
    if vendor.ownership.size_classes:
        rules.append("S1")
    if scenario.id in JOINING:
        rules.append("M1")
    return (*rules, *(make().id for make in vendor.rules()))


def _wanted(kit: Kit, configuration: Configuration, scenario: Scenario) -> bool:
    """Whether a suite has a scenario for a configuration."""
    if max(configuration.vendor.split_rules.leaf_lg2s) < _LARGE_LG2:
        return scenario.id in SMALL
    if kit.suite == "smoke":
        return scenario.id in FEW
    return configuration.default or scenario.id in ELSEWHERE


def _conversions(kit: Kit, rule: str) -> Iterator[Case]:
    """Every rule in every scenario that applies."""
    for each in kit.configurations:
        for scenario in SCENARIOS:
            if _wanted(kit, each, scenario) and not scenario.without(kit.ground(each)):
                for one in _scenario_rules(scenario, each.vendor):
                    yield Case(one, each, scenario.id, scenario)


def _refusing(kit: Kit, rule: str) -> Iterator[Case]:
    """Every scenario once, whatever its rules."""
    seen = set()
    for case in _conversions(kit, rule):
        if (case.title, case.name) not in seen:
            seen.add((case.title, case.name))
            yield Case(rule, case.configuration, case.name, case.value)


def _mutants(kit: Kit, rule: str) -> Iterator[Case]:
    for case in _formats(kit, rule):
        for mutant in all_mutants(case.vendor):
            if kit.suite == "full" or mutant.id in SMOKE_MUTANTS:
                yield Case(rule, case.configuration, mutant.id, mutant)


SMOKE_MUTANTS = frozenset(
    f"generic.{name}" for name in ("no-wait", "link-before-fill", "reserved-bit", "cut-shifted", "release-before-wait")
)


def _harmless(kit: Kit, rule: str) -> Iterator[Case]:
    for case in _formats(kit, rule):
        for change in all_harmless(case.vendor) if kit.suite == "full" else ():
            yield Case(rule, case.configuration, change.id, change)


def _deletions(kit: Kit, rule: str) -> Iterator[Case]:
    """Every kind of step; in one situation that every vendor can be in, and in all of them together."""
    for case in _formats(kit, rule):
        for kind in KINDS:
            yield Case(rule, case.configuration, f"plans without {kind}", kind)


def _emulated(kit: Kit, rule: str) -> Iterator[Case]:
    """Each format, where emulated units are asked for; those that are not emulated are skipped with the reason."""
    return _formats(kit, rule) if kit.machine == "qemu" else iter(())


def _carried_out(kit: Kit, rule: str) -> Iterator[Case]:
    """Of each such format every scenario, in a smoke test few."""
    for case in _emulated(kit, rule):
        for scenario in SCENARIOS:
            if kit.suite == "full" or scenario.id in FEW:
                yield Case(rule, case.configuration, scenario.id, scenario)


CASES: Mapping[str, Cases] = {
    "plugin": _plugin,
    "asked": _asked,
    "configuration": _configurations,
    "format": _formats,
    "level": _levels,
    "table": _tables,
    "size": _sizes,
    "run": _runs,
    "leaf word": _leaf_words,
    "pointer word": _pointer_words,
    "command word": _command_words,
    "structure word": _examples("structure", lambda word: word.name),
    "chain": _examples("chain", lambda word: "-".join(each.structure for each in word.read) or "register"),
    "event word": _examples("event", lambda word: word.event),
    "conversion": _conversions,
    "refusing": _refusing,
    "mutant": _mutants,
    "harmless": _harmless,
    "deletion": _deletions,
    "emulated": _emulated,
    "carried out": _carried_out,
}
"""By the name that the mark ``iommu`` gives as ``each``."""
