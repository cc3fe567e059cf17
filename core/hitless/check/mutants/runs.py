"""Generic mutants of runs, and of the marks that hardware leaves: accessed and dirty."""

import attrs

from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import LEFT, Declared, Rules, one_round, ranged
from hitless.check.mutants.edits import Steps, changed, replaced
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.planning import with_recipe
from hitless.check.mutants.words import entry_of
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Release, Section, Step, Store
from hitless.refresh.recipes import Recipe, Scope, one_store


def _lays_out_runs(vendor: Vendor) -> str:
    fmt, allowed = vendor.page_format, vendor.split_rules.leaf_lg2s
    if any(size.entries_lg2 and size.lg2 in allowed for size in fmt.leaf_sizes):
        return ""
    return f"no runs are laid out here ({vendor.split_rules.source})"


def _may_not_mix(vendor: Vendor) -> str:
    if why := _lays_out_runs(vendor):
        return why
    resize = vendor.recipes.resize
    if isinstance(resize, Recipe):
        return f"entries of a run may be rewritten one by one, to the same translation ({resize.source})"
    return "entries of a run may be rewritten one by one here" if vendor.page_format.run_mix else ""


def _marks(vendor: Vendor) -> str:
    fmt = vendor.page_format
    if any(fmt.hardware_set(size.level) for size in fmt.leaf_sizes):
        return ""
    return f"hardware marks nothing in leaves of {fmt.name} with these features ({fmt.source})"


def _marks_runs(vendor: Vendor) -> str:
    return _lays_out_runs(vendor) or _marks(vendor)


def _one_entry(subject: Subject) -> Subject | None:
    """The run is not taken apart: its one entry is replaced, or wiped, as it stands."""
    steps: Steps = []
    where: dict[int, int] = {}
    taken_apart = False
    for section, step in subject.steps:
        if isinstance(step, Store) and step.what.startswith("resize"):
            taken_apart = True
        if not isinstance(step, Store) or step.what.split("-")[0] not in ("replace", "wipe", "map"):
            if section in ("own", "refresh") or where:
                steps.append((section, step))
            continue
        pa, word, _ = entry_of(subject, step.iova)
        expected = step.expected if step.iova in where else word
        where[step.iova] = pa
        steps.append((section, attrs.evolve(step, pa=pa, expected=expected)))
    return changed(subject, steps) if taken_apart and where else None


def _one_entry_rules(declared: Declared) -> Rules:
    """The run stands still when owners change, and one entry of it leads elsewhere.

    An entry that is emptied first takes the cached run with it, unless a command for one page spares that.
    """
    subject, run = declared.subject, declared.converting
    _, word, level = entry_of(subject, run.start)
    spared = subject.vendor.page_format.leaf_lg2(word, level) in ranged(subject.vendor, 0).whole_lg2s
    beside = declared.moves and declared.new_enters and (spared or one_round(subject.vendor, "replace"))
    rules = {"W1"} | ({"B1"} if declared.bounded else set()) | ({"F1", *LEFT} if spared else set())
    return rules | (declared.conflict(size=True, address=True) if beside else set())


def _unmarked(subject: Subject, *, spread: bool) -> Subject | None:
    """Marks go nowhere when an entry is replaced; with ``spread``: those of the other copies do not."""

    def each(_: Section, step: Step) -> Step:
        if isinstance(step, Store):
            nowhere = [(pa, 0) for pa, _ in step.fold]  # they do not go into the new word either
            return attrs.evolve(step, spread=[]) if spread else attrs.evolve(step, fold=nowhere)
        return attrs.evolve(step, fold=[]) if isinstance(step, Release) else step

    return replaced(subject, each)


RUN_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.run-entry-replaced",
        (8,),
        "one entry of a run is replaced while the others stay",
        at.HIDE_IN_RUN,
        _one_entry_rules,
        _one_entry,
        why_not=_lays_out_runs,
    ),
    Mutant(
        "generic.run-rewritten-in-place",
        (8,),
        "the entries of a run are rewritten one by one where a mix of forms is not allowed",
        at.HIDE_IN_RUN,
        lambda _: {"W1"},
        planned_as=with_recipe(resize=one_store(Scope.LEAF, "a mistake")),
        why_not=_may_not_mix,
    ),
    Mutant(
        "generic.marks-lost-in-cut",
        (11,),
        "marks that hardware sets in a leaf while it is cut are not folded into the new table",
        at.HIDE,
        lambda _: {"D1"},
        lambda subject: _unmarked(subject, spread=False),
        why_not=_marks,
        raced=0,
    ),
    Mutant(
        "generic.marks-lost-in-merge",
        (11,),
        "marks that hardware sets in leaves until the merge's wait are not folded into the leaf",
        at.MERGE,
        lambda _: {"D1"},
        lambda subject: _unmarked(subject, spread=False),
        why_not=_marks,
        raced=0,
    ),
    Mutant(
        "generic.marks-not-expected",
        (11,),
        "a store does not know which bits hardware may set, and gives up when it finds them",
        at.HIDE,
        lambda _: {"A1"},
        lambda subject: replaced(
            subject, lambda _, step: attrs.evolve(step, hardware=0) if isinstance(step, Store) else step
        ),
        why_not=_marks,
        raced=0,
    ),
    Mutant(
        "generic.marks-not-spread",
        (34,),
        "a mark in one copy of a run is not spread over the leaves that the run becomes",
        at.HIDE_IN_RUN,
        lambda _: {"D1"},
        lambda subject: _unmarked(subject, spread=True),
        why_not=_marks_runs,
        raced=1,
    ),
)
"""Mutants of runs and marks."""
