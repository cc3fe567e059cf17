"""Conversions: every rule, in every scenario, over every interleaving that the checker knows."""

from collections.abc import Mapping

import pytest

from hitless.check.checking import check
from hitless.check.mutants.running import Tried, nearby_of, try_nearby
from hitless.check.mutants.situations import SITUATIONS
from hitless.check.scenarios import Ground, Scenario
from hitless.check.stage import Unfit, mutated
from hitless.check.suite import Broken, Row, check_on
from hitless.conformance.cases import KINDS, Case
from hitless.conformance.claims import effect_text, hiding
from hitless.conformance.failing import asked, fail, require
from hitless.conformance.kit import Kit
from hitless.conformance.test_hooks import named_refusals
from hitless.errors import Refused


def _row(kit: Kit, at: Case) -> Row:
    """The scenario on the configuration, checked once for all rules."""
    scenario: Scenario = at.value
    features = at.configuration.features if at.configuration else {}
    return kit.remembered(
        (at.title, scenario.id),
        lambda: asked(f"{at.title}: {scenario.title}", lambda: check_on(_ground(kit, at), features, scenario)),
    )


def _ground(kit: Kit, at: Case) -> Ground:
    assert at.configuration is not None
    return kit.ground(at.configuration)


@pytest.mark.iommu("conversion", each="conversion")
def test_conversions(kit: Kit, at: Case) -> None:
    """In no interleaving does a plan of the scenario break the rule; what is refused breaks one when it is done."""
    row = _row(kit, at)
    limits: Mapping[str, str] = getattr(at.vendor.features, "cannot_hold", dict)()
    if at.rule in limits:
        pytest.skip(limits[at.rule])
    for each in row.violations:
        if each.violation.rule == at.rule:
            _tell(at, row, each)
    undeclared = [each for each in row.refusals if each.reason not in named_refusals(kit, at.vendor)]
    if undeclared:
        pytest.skip(f"refused: {undeclared[0].reason} (HOOK6)")
    if not row.plans + row.trials + len(row.refusals):
        pytest.skip(row.reason or "no plan of the scenario has anything to do here")
    if row.refusals and not _judged(row):
        refusal = row.refusals[0]
        pytest.skip(f"refused: {refusal.reason} ({_clause(kit, at, refusal.reason)})")


def _judged(row: Row) -> bool:
    """Something was planned without being forced."""
    return row.plans + row.trials > row.forced


def _clause(kit: Kit, at: Case, reason: str) -> str:
    """The clause that a refusal stands on."""
    for each in kit.declared(at.vendor):
        if each.name == reason:
            return each.clause
    for kind in ("cut", "merge", "replace", "wipe", "map", "prune", "resize"):
        recipe = at.vendor.recipes.of(kind)
        if getattr(recipe, "reason", None) == reason:
            return str(getattr(recipe, "source", ""))
    return "no clause"


def _tell(at: Case, row: Row, broken: Broken) -> None:
    violation = broken.violation
    facts = [violation.seen, f"held: {violation.held}" if violation.held else "", violation.why]
    if violation.where == "flight":
        wait = at.vendor.commands.wait(0x1000, 1)
        drains = "; ".join(map(effect_text, at.vendor.commands.decode(wait)))
        facts.append(f"the request was in flight, and a wait {drains}")
    again = f"hitless check --vendor {row.vendor} --format {row.format} --scenario {row.scenario}"
    fail(
        f"{at.title}: {row.scenario}, {broken.note}: {at.rule} breaks at step {violation.step}"
        f" [{violation.start:#x}, {violation.end:#x}): {violation.what}",
        why="; ".join(filter(None, facts)),
        do=f"{violation.do}; {again}".removeprefix("; "),
    )


@pytest.mark.iommu("HOOK6", each="refusing")
def test_refusals_are_declared(kit: Kit, at: Case) -> None:
    """What is refused is an impossible recipe, or a capability; and doing it all the same breaks a rule."""
    row = _row(kit, at)
    declared = named_refusals(kit, at.vendor)
    for each in row.refusals:
        require(
            each.reason in declared,
            f"{at.title}: {row.scenario} is refused: {each.reason}, which nothing declares",
            why=each.text.splitlines()[0],
            do="make the recipe Impossible with its source, or declare a Capability of that name with its clause",
        )
    if row.outcome == "violated" and not row.violations:
        fail(f"{at.title}: {row.scenario}: {row.reason}", do="do it, or declare what the hardware would suffer")


# -- mistakes that have to be noticed


def _tried(kit: Kit, at: Case) -> Tried:
    """What became of a plan with the case's mistake, in the configuration or one near it that lets it happen."""
    features = at.configuration.features if at.configuration else {}
    _, nearby = kit.remembered(
        ("nearby", at.title), lambda: nearby_of(kit.registry, kit.vendor, at.format.name, features)
    )
    tried = asked(f"{at.title}: {at.value.id}", lambda: try_nearby(at.value, nearby))
    if not isinstance(tried, Tried):
        pytest.skip(tried)
    return tried


@pytest.mark.iommu("MUT1", each="mutant")
def test_mutants_are_caught(kit: Kit, at: Case) -> None:
    """A plan with the mistake breaks exactly the rules that it has to, where the hardware can be harmed by it."""
    tried = _tried(kit, at)
    if tried.twin is not None and tried.twin.rules:
        fail(f"{at.title}: the right plan of {at.value.id} breaks {', '.join(tried.twin.rules)} already")
    if tried.report.rules == tried.expected and tried.expected:
        return
    broke, due = ", ".join(tried.report.rules) or "nothing", ", ".join(tried.expected) or "a rule"
    fail(
        f"{at.title}: {at.value.sentence} ({at.value.id}): must break {due}, breaks {broke}",
        why=f"what hides it: {'; '.join(hiding(tried.vendor)[:6]) or 'no single claim'}",
        do="look for the claim that is not the hardware's; docs/mistakes.md says what the mistake is",
    )


@pytest.mark.iommu("MUT2", each="harmless")
def test_harmless_changes_stay_harmless(kit: Kit, at: Case) -> None:
    """A plan that costs more than needed breaks nothing but E1."""
    tried = _tried(kit, at)
    worse = sorted(set(tried.report.rules) - {"E1"})
    require(not worse, f"{at.title}: {at.value.sentence} ({at.value.id}) harms nobody, and breaks {', '.join(worse)}")


@pytest.mark.iommu("MUT3", each="deletion")
def test_no_kind_of_step_is_idle(kit: Kit, at: Case) -> None:
    """Without all stores, barriers, commands or waits of a plan the checker objects, in one situation or another."""
    kind, tried, claims = at.value, 0, ["no plan has any"]
    for situation in SITUATIONS if kit.suite == "full" else SITUATIONS[:3]:
        if situation.why_not(at.vendor):
            continue
        try:
            with situation.opened(at.vendor) as (stage, sizes):
                subject = situation.take(stage, sizes)
                kept = [each for each in subject.steps if not isinstance(each[1], KINDS[kind])]
                if len(kept) == len(subject.steps):
                    continue
                tried += 1
                if check(mutated(subject, kept)).rules:
                    return
                claims = hiding(at.vendor, [step for _, step in kept]) or ["no single claim"]
        except (Refused, Unfit):
            continue
    if not tried:
        pytest.skip(f"no plan of this configuration has {kind}")
    fail(
        f"{at.title}: nothing breaks in any of {tried} plans without their {kind}",
        why=f"what hides it: {'; '.join(claims[:6])}",
        do="if the hardware does not need them, the recipes should not make them; else mend the claim",
    )
