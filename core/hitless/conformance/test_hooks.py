"""Hooks: the plugin loads, every hook answers, in the right form, with its sources."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from hitless.conformance.cases import Case
from hitless.conformance.failing import asked, fail, require
from hitless.conformance.kit import Kit
from hitless.conformance.rules import OWED, RULES
from hitless.hardware.facts import HardwareFacts
from hitless.hardware.vendor import Vendor
from hitless.ownership import Policy
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import KINDS, Impossible, Recipe, Recipes, SplitRules

_METHODS: Mapping[str, tuple[str, ...]] = {
    "commands": ("invalidate", "invalidate_tag", "invalidate_device", "wait", "describe", "decode"),
    "events": ("encode", "decode"),
    "ownership": ("verdict", "own", "initial"),
    "structures": ("start", "step", "stage1_tag", "setup", "change"),
}
_KNOWN = {
    "page_format": PageFormat,
    "split_rules": SplitRules,
    "recipes": Recipes,
    "hardware": HardwareFacts,
}
_MOST_WAIVED = 2
"""A capability may take out at most one half of the rules that are not owed."""


@pytest.mark.iommu("HOOK1", each="plugin")
def test_the_plugin_loads(kit: Kit, at: Case) -> None:
    """The object has the api number, implements what is required, and nothing that does not exist."""
    if kit.broken is not None:
        fail(
            f"{kit.vendor}: the plugin does not load: {kit.broken.cause}",
            do="mend what the sentence names; docs/authors-guide.md lists every hook with its arguments",
        )


@pytest.mark.iommu("HOOK2", each="asked")
def test_every_hook_answers(kit: Kit, at: Case) -> None:
    """Resolving each configuration raises nothing, and each answer is of the type that its hook's text names."""
    if at.configuration is None:
        fail(f"{at.name}: {at.value}")
    for field, kind in _KNOWN.items():
        value = getattr(at.vendor, field)
        require(
            isinstance(value, kind),
            f"{at.title}: hook {field} must answer a {kind.__name__}, not {type(value).__name__} {value!r:.80}",
        )
    for field, names in _METHODS.items():
        value = getattr(at.vendor, field)
        missing = [name for name in names if not callable(getattr(value, name, None))]
        require(
            not missing or value is None,
            f"{at.title}: what hook {field} answers ({type(value).__name__}) has no {', '.join(missing)}",
        )
    require(at.title.startswith(at.format.name), f"{at.title}: the format calls itself {at.format.name!r}")
    _check_numbers(at.title, at.vendor)


def _check_numbers(title: str, vendor: Vendor) -> None:
    """Attributes that core reads from the answers."""
    for strategy in ("commands", "events"):
        words = getattr(getattr(vendor, strategy), "words", None)
        require(type(words) is int and words > 0, f"{title}: {strategy}.words must be a number of words, not {words!r}")
    for name in ("atc_after_wait", "nested_after_wait"):
        value = getattr(vendor.commands, name, None)
        require(isinstance(value, bool), f"{title}: commands.{name} must be true or false, not {value!r}")
    ownership = vendor.ownership
    policies = ownership.policies
    legal = isinstance(policies, Mapping) and all(isinstance(each, Policy) for each in policies.values())
    require(legal and policies, f"{title}: ownership.policies must map names to policies, not {policies!r:.80}")
    chosen = ownership.default_policy
    require(chosen in policies, f"{title}: default_policy {chosen!r} is none of {', '.join(policies)}")


@pytest.mark.iommu("HOOK2", each="configuration")
def test_recipes_are_recipes(kit: Kit, at: Case) -> None:
    """Each kind of change has a recipe of one to three rounds, or is impossible; split rules name sizes there are."""
    for kind in KINDS:
        found = at.vendor.recipes.of(kind)
        require(
            isinstance(found, Recipe | Impossible),
            f"{at.title}: recipe {kind} must be a Recipe or Impossible, not {found!r:.80}",
        )
        if isinstance(found, Recipe):
            require(
                1 <= len(found.rounds) <= 3, f"{at.title}: recipe {kind} has {len(found.rounds)} rounds, not 1 to 3"
            )
    allowed, known = at.vendor.split_rules.leaf_lg2s, at.format.largest.leaf_lg2s  # the root may grow
    require(
        allowed and list(allowed) == sorted(set(allowed)), f"{at.title}: split_rules.leaf_lg2s must ascend: {allowed}"
    )
    strange = sorted(set(allowed) - set(known))
    require(
        not strange,
        f"{at.title}: split_rules allow leaves of 2**{strange[:1]} bytes, which the format cannot encode",
        do=f"name sizes of {known}",
    )


@pytest.mark.iommu("HOOK3", each="configuration")
def test_the_same_question_gets_the_same_answer(kit: Kit, at: Case) -> None:
    """Two records of one configuration lay out the same words and encode the same commands."""
    again = kit.registry.resolve(kit.vendor, at.format.name, at.configuration.features if at.configuration else {})
    one, two = _answers(at.vendor), _answers(again)
    for name in one:
        require(
            one[name] == two[name], f"{at.title}: asked twice, {name} differ: {one[name]!r:.120}, {two[name]!r:.120}"
        )


def _answers(vendor: Vendor) -> dict[str, Any]:
    from hitless.conformance.samples import page_target  # noqa: PLC0415 - keeps the module's head short

    fmt = vendor.page_format
    attributes = fmt.default_attrs(3)
    return {
        "leaf sizes": fmt.leaf_sizes,
        "leaves": [int(fmt.leaf(lg2, 0, attributes)) for lg2 in fmt.leaf_lg2s],
        "split rules": vendor.split_rules,
        "recipes": {kind: _words_of(vendor.recipes.of(kind)) for kind in KINDS},
        "hardware facts": vendor.hardware,
        "commands": [tuple(each) for each in vendor.commands.invalidate(page_target(fmt), 1)],
        "policies": dict(vendor.ownership.policies),
    }


def _words_of(recipe: Any) -> Any:
    """What a recipe stores for some pair of words."""
    if not isinstance(recipe, Recipe):
        return getattr(recipe, "reason", None)
    return [(each.word(0x1003, 0x2003), each.scope) for each in recipe.rounds]


@pytest.mark.iommu("HOOK4", each="configuration")
def test_declarations_name_their_source(kit: Kit, at: Case) -> None:
    """Format, split rules, recipes, hardware facts and features say what they rest on."""
    named = {
        "page_format.source": at.format.source,
        "split_rules.source": at.vendor.split_rules.source,
        "hardware.source": at.vendor.hardware.source,
        **{f"recipes.{kind}.source": getattr(at.vendor.recipes.of(kind), "source", "") for kind in KINDS},
    }
    for name, source in named.items():
        require(isinstance(source, str) and source.strip(), f"{at.title}: {name} is empty: name section or fact")
    for info in kit.registry.features(kit.vendor):
        told = info.sentence.strip() and info.source.strip()
        require(told, f"{at.title}: feature {info.name!r} needs a sentence and a source")


@pytest.mark.iommu("HOOK5", each="configuration")
def test_capabilities_are_honest(kit: Kit, at: Case) -> None:
    """Each capability names a clause and rules there are; together they do not waive most of the kit."""
    declared = asked(f"{at.title}: hook capabilities", lambda: kit.declared(at.vendor))
    most = (len(RULES) - len(OWED)) // _MOST_WAIVED
    waived: set[str] = set()
    for each in declared:
        told = each.name.strip() and each.clause.strip() and each.why.strip()
        require(told, f"{at.title}: capability {each.name!r} needs a name, a clause and a why: {attrs.asdict(each)}")
        if owed := sorted(set(each.rules) & set(OWED)):
            fail(
                f"{at.title}: capability {each.name!r} waives {', '.join(owed)}",
                why=f"every vendor owes {', '.join(OWED)}; what hardware cannot do it refuses, by a recipe Impossible",
            )
        unknown = sorted(set(each.rules) - RULES.keys())
        require(not unknown, f"{at.title}: capability {each.name!r} waives rules that do not exist: {unknown}")
        waived |= set(each.rules)
    require(len(waived) <= most, f"{at.title}: capabilities waive {len(waived)} rules, at most {most} may be")


def named_refusals(kit: Kit, vendor: Vendor) -> Sequence[str]:
    """Reasons of the refusals that a vendor declares."""
    impossible = [vendor.recipes.of(kind) for kind in (*KINDS, "resize")]
    return [
        *(each.reason for each in impossible if isinstance(each, Impossible)),
        *(each.name for each in kit.declared(vendor)),
    ]
