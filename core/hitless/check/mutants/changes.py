"""Generic mutants of how entries change: recipes, owners, and plans that stop half way."""

import attrs

from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import LEFT, Declared, Rules, checks_owners, harms, one_round, own_drops
from hitless.check.mutants.edits import Steps, changed, is_a, moved, replaced, steps_of, stores, without
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.planning import with_recipe
from hitless.check.mutants.waits import nothing_before
from hitless.check.stage import mutated
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Barrier, Clean, Fill, FillRun, Invalidate, Own, Section, Step, Store, Wait
from hitless.refresh.recipes import Impossible, Kind, Recipe, Scope, break_before_make, one_store

_MISTAKE = "a mistake"


# -- sizes and addresses


def _sizes_conflict(vendor: Vendor, kind: Kind) -> str:
    if not vendor.hardware.size_conflict:
        cut = vendor.recipes.cut
        return f"cached leaves of different size for one address do not conflict ({cut.source})"
    recipe = vendor.recipes.of(kind)
    return f"it is refused here ({recipe.reason})" if isinstance(recipe, Impossible) else ""


def _addresses_conflict(vendor: Vendor) -> str:
    if vendor.hardware.address_conflict:
        return ""
    return f"one store may give a live leaf another address ({vendor.recipes.replace.source})"


def _breaks(vendor: Vendor) -> str:
    if why := _addresses_conflict(vendor):
        return why
    replace = vendor.recipes.replace
    if isinstance(replace, Recipe) and len(replace.rounds) > 1:
        return ""
    return "no entry is broken before it is made here"


def _both_conflict(vendor: Vendor) -> str:
    hardware = vendor.hardware
    if not one_round(vendor, "cut"):
        return "a cut takes several rounds, and the first one sees to it that the old leaf does not conflict"
    if hardware.address_conflict or hardware.size_address_conflict:
        return ""
    return f"leaves that differ in size and address may be cached together ({hardware.source})"


def _make_early(subject: Subject) -> Subject | None:
    """The second round's store before the first one's wait."""
    steps = steps_of(subject)
    makes = [i for i, step in stores(subject, "replace") if step.what.endswith("-2")]
    if not makes:
        return None
    wait = max(i for i in range(makes[0]) if isinstance(steps[i][1], Wait))
    chosen = {id(steps[i][1]) for i in makes}
    return changed(subject, moved(steps, lambda _, step: id(step) in chosen, wait))


def _cut_and_replace(subject: Subject) -> Subject | None:
    """The new table holds the converted page's new address already."""
    run, fmt = subject.truth.converting[0], subject.vendor.page_format
    found = next(((i, step) for i, step in stores(subject, "wipe", "replace")), None)
    if found is None:
        return None
    entry = found[1]
    word = fmt.leaf(fmt.levels[entry.level].lo, run.new_pa, fmt.attrs(entry.expected, entry.level))

    def filled(_: Section, step: Step) -> Step:
        if isinstance(step, Fill) and any(each.pa == entry.pa for each in step.runs):
            runs = [FillRun(each.pa, each.entries, word, 0) if each.pa == entry.pa else each for each in step.runs]
            return attrs.evolve(step, runs=runs)
        if isinstance(step, Store) and step.pa == entry.pa and entry.what.startswith("wipe"):
            return attrs.evolve(step, expected=word)
        return step

    new = replaced(subject, filled)
    if new is None or entry.what.startswith("wipe"):
        return new
    if subject.vendor.ownership.invalidate_after:
        return without(new, lambda _, step: isinstance(step, Store) and step.pa == entry.pa)
    return without(new, lambda section, _: section == "refresh")


# -- merges


def _unequal(subject: Subject) -> Subject | None:
    """The merge comes before what makes the leaves equal."""
    merge = next((i for i, _ in stores(subject, "merge")), None)
    if merge is None:
        return None
    steps = steps_of(subject)
    return changed(subject, [each for i, each in enumerate(steps) if each[0] != "refresh" or i >= merge])


def _unequal_rules(declared: Declared) -> Rules:
    old_enters = declared.moves and declared.enters(declared.converting.old_pa, declared.page_lg2, after=True)
    if not old_enters or not one_round(declared.vendor, "merge"):
        return {"M1"}
    return {"M1"} | declared.conflict(size=True, address=True)


# -- owners


def _own_first(subject: Subject) -> Subject | None:
    own = [each for each in subject.steps if each[0] == "own"]
    rest = [each for each in subject.steps if each[0] not in ("prepare", "own")]
    return changed(subject, [*(each for each in subject.steps if each[0] == "prepare"), *own, *rest])


def _no_owner_before(vendor: Vendor) -> str:
    if why := nothing_before(vendor):
        return why
    if not checks_owners(vendor):
        return "no owner table is consulted with these features, and no step of the plan changes one"
    return ""


def _own_early(declared: Declared) -> Rules:
    rules = declared.old_at_owner_change()
    if declared.vendor.ownership.invalidate_after:
        rules |= {"E1"}  # the cut's command covers what is owed, and is sent again
    run = declared.converting
    neighbour = run.old_pa ^ 1 << declared.page_lg2
    return rules | (set() if declared.verdict(neighbour, declared.large_lg2, after=True).ok else {"N1"})


def _refresh_first(subject: Subject) -> Subject | None:
    mine: Steps = [("isolate", step) for section, step in subject.steps if section == "refresh"]
    rest = [each for each in subject.steps if each[0] != "refresh"]
    to = next((i for i, each in enumerate(rest) if each[0] == "own"), len(rest))
    return changed(subject, [*rest[:to], *mine, *rest[to:]])


def _own_quietly(subject: Subject) -> Subject | None:
    return replaced(subject, lambda _, step: attrs.evolve(step, drops="none") if isinstance(step, Own) else step)


def _harms(vendor: Vendor) -> str:
    return "" if harms(vendor) else "an access that the owner does not grant is a safe fault"


def _owes(vendor: Vendor) -> str:
    ownership = vendor.ownership
    if ownership.invalidate_after and ownership.cached and checks_owners(vendor) and not own_drops(vendor):
        return ""
    if ownership.cached and checks_owners(vendor):
        return "the owner change brings its own invalidation (generic.owner-keeps-verdicts)"
    return "no verdict is cached with a translation, so that nothing is owed where no entry changes"


def _brings_its_own(vendor: Vendor) -> str:
    ownership = vendor.ownership
    if not (ownership.cached and checks_owners(vendor)):
        return "no verdict is cached with a translation"
    if not own_drops(vendor):
        return "an owner change invalidates nothing by itself (generic.owner-without-invalidation)"
    return "an invalidation follows every owner change anyway" if ownership.invalidate_after else ""


# -- half a plan, and two writers


def _map_beside(subject: Subject) -> Subject | None:
    """Somebody maps the page before the plan does."""
    found = [step for _, step in stores(subject, "replace", "map")]
    if not found:
        return None
    early = attrs.evolve(found[-1], expected=found[0].expected, what="map", fold=[])
    extra: Steps = [("isolate", early)]
    if not subject.vendor.hardware.coherent:
        extra.append(("isolate", Clean(early.pa, 8)))
    return changed(subject, [*extra, ("isolate", Barrier()), *subject.steps])


def _map_beside_rules(declared: Declared) -> Rules:
    old_enters = not declared.wipes and declared.enters(declared.converting.old_pa, declared.page_lg2, after=False)
    rules = {"A1"} | ({"C2"} if declared.wipes else set())
    return rules | declared.conflict(address=old_enters)


def _caches_not_present(vendor: Vendor) -> str:
    if vendor.hardware.caches_not_present:
        return ""
    return f"not-present entries are not cached ({vendor.hardware.source})"


RECIPE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.cut-by-break",
        (7,),
        "a leaf is cut by break-before-make while its neighbours are live",
        at.HIDE,
        lambda d: {"N1"} | (LEFT if d.hardware.caches_not_present else set()),
        planned_as=with_recipe(cut=break_before_make(Scope.LEAF, _MISTAKE)),
    ),
    Mutant(
        "generic.cut-in-one-store",
        (6, 7),
        "a leaf is cut by one store where leaves of different size conflict",
        at.HIDE,
        lambda d: d.conflict(size=True),
        planned_as=with_recipe(cut=one_store(Scope.LEAF, _MISTAKE)),
        why_not=lambda vendor: _sizes_conflict(vendor, "cut"),
    ),
    Mutant(
        "generic.merge-in-one-store",
        (6, 7),
        "a table is merged by one store where leaves of different size conflict",
        at.MERGE,
        lambda d: d.conflict(size=True),
        planned_as=with_recipe(merge=one_store(Scope.TABLE, _MISTAKE)),
        why_not=lambda vendor: _sizes_conflict(vendor, "merge"),
    ),
    Mutant(
        "generic.live-address",
        (9,),
        "a live leaf gets another address by one store",
        at.HIDE_TRUSTED,
        lambda d: d.conflict(address=d.moves),
        planned_as=with_recipe(replace=one_store(Scope.LEAF, _MISTAKE)),
        why_not=_addresses_conflict,
    ),
    Mutant(
        "generic.make-before-break-waited",
        (27,),
        "the new entry is stored before the wait behind the break",
        at.HIDE_TRUSTED,
        lambda d: d.conflict(address=d.moves),
        _make_early,
        why_not=_breaks,
    ),
    Mutant(
        "generic.cut-and-replace",
        (33,),
        "one store cuts a leaf and gives one of its pages another address",
        at.HIDE,
        lambda d: d.conflict(size=True, address=d.enters(d.converting.new_pa, d.page_lg2, after=False)),
        _cut_and_replace,
        why_not=_both_conflict,
    ),
    Mutant(
        "generic.merge-of-unequal",
        (20,),
        "a table is merged while one of its leaves differs from the others",
        at.MERGE,
        _unequal_rules,
        _unequal,
    ),
)
"""Mutants that change entries in a way that the hardware does not take."""


OWNER_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.owner-before-isolate",
        (12, 14),
        "owners change, and the hunk is split, before the mapping was isolated",
        at.HIDE_IN_PLACE,
        _own_early,
        _own_first,
        why_not=_no_owner_before,
    ),
    Mutant(
        "generic.owner-after-refresh",
        (13,),
        "a page is mapped before it is the host's again",
        at.SHOW_IN_PLACE,
        lambda _: {"C1"},
        _refresh_first,
        why_not=_harms,
    ),
    Mutant(
        "generic.owner-without-invalidation",
        (24,),
        "nothing is invalidated after the owner change, because no entry changed",
        at.HIDE_CUT_IN_PLACE,
        lambda _: LEFT | {"F1"},
        lambda subject: without(subject, is_a(Invalidate, section="refresh")),
        why_not=_owes,
    ),
    Mutant(
        "generic.owner-keeps-verdicts",
        (21,),
        "the owner change does without its own invalidation",
        at.HIDE_CUT_IN_PLACE,
        lambda _: LEFT | {"F1"},
        _own_quietly,
        why_not=_brings_its_own,
    ),
    Mutant(
        "generic.not-present-stays-cached",
        (31,),
        "nothing is invalidated after an entry became present, where not-present entries are cached",
        at.MAP,
        lambda _: LEFT | {"F1"},
        lambda subject: without(subject, is_a(Invalidate, section="refresh")),
        why_not=_caches_not_present,
    ),
    Mutant(
        "generic.truncate-as-refresh",
        (23,),
        "a truncated range is refreshed from what the tables hold, instead of unmapped",
        at.REVOKE,
        lambda d: {"C2"} | ({"B1"} if d.bounded else set()),
        lambda subject: mutated(subject, []),
    ),
    Mutant(
        "generic.half-a-plan",
        (15,),
        "the plan stops half way, after the owner change",
        at.SHOW,
        lambda _: {"C2"},
        lambda subject: without(subject, lambda section, _: section == "refresh"),
    ),
    Mutant(
        "generic.map-beside",
        (17,),
        "somebody maps the page while it is refreshed",
        at.SHOW,
        _map_beside_rules,
        _map_beside,
    ),
)
"""Mutants of what has to stand before and after an owner change."""
