"""Harmless changes of a plan: they cost something, and break nothing but rule E1."""

from collections.abc import Sequence
from typing import Any

import attrs

from hitless.bits import MASK64
from hitless.check.mutants import situations as at
from hitless.check.mutants.edits import Steps, changed, replaced, steps_of
from hitless.check.mutants.mutant import Harmless
from hitless.check.mutants.planning import encoding, with_recipe
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Barrier, Clean, Fill, FillRun, Invalidate, Section, Step, Store, Wait
from hitless.refresh.commands import Target, Words
from hitless.refresh.recipes import Recipe, Scope, break_before_make


def _twice(subject: Subject, *kinds: type) -> Subject | None:
    """Each step of some kinds is done twice."""
    steps: Steps = []
    for each in subject.steps:
        steps += [each, each] if isinstance(each[1], kinds) else [each]
    return changed(subject, steps)


def _after_each(subject: Subject, extra: Step) -> Subject | None:
    """A step more behind each store, fill and command."""
    steps: Steps = []
    for section, step in subject.steps:
        steps.append((section, step))
        if isinstance(step, Store | Fill | Invalidate):
            steps.append((section, extra))
    return changed(subject, steps)


def _wait_again(subject: Subject) -> Subject | None:
    """A wait more, before everything and behind everything."""
    unit = subject.units[0].name
    return changed(subject, [("isolate", Wait(unit)), *subject.steps, ("refresh", Wait(unit))])


def _cleaned(subject: Subject) -> Subject | None:
    """Every store and fill is pushed out of the CPU's cache, though walkers snoop."""
    steps: Steps = []
    for section, step in subject.steps:
        steps.append((section, step))
        if isinstance(step, Store):
            steps.append((section, Clean(step.pa, 8)))
        elif isinstance(step, Fill):
            steps.append((section, Clean(step.pa, 1 << step.size_lg2)))
    return changed(subject, steps)


def _single_words(_: Section, step: Step) -> Step:
    """A Fill word by word, last first."""
    if not isinstance(step, Fill):
        return step
    words = [
        (run.pa + 8 * i, (run.first + i * run.increment) & MASK64) for run in step.runs for i in range(run.entries)
    ]
    return attrs.evolve(step, runs=[], overrides=[*reversed(words), *reversed(step.overrides)])


def _halves(_: Section, step: Step) -> Step:
    """A Fill with each run in two, the second half first."""
    if not isinstance(step, Fill):
        return step
    runs: list[FillRun] = []
    for run in step.runs:
        half = run.entries // 2
        later = FillRun(
            run.pa + 8 * half, run.entries - half, (run.first + half * run.increment) & MASK64, run.increment
        )
        runs += [later, run._replace(entries=half)] if half else [run]
    return attrs.evolve(step, runs=runs[::-1])


def _reversed(subject: Subject, kind: type) -> Subject | None:
    """Neighbouring steps of a kind in the reverse order."""
    steps = steps_of(subject)
    at_step = 0
    while at_step < len(steps):
        end = at_step
        while end < len(steps) and isinstance(steps[end][1], kind):
            end += 1
        steps[at_step:end] = steps[at_step:end][::-1]
        at_step = max(end, at_step + 1)
    return changed(subject, steps)


def _whole_tag(commands: Any, target: Target, tag: int) -> Sequence[Words]:
    words: Sequence[Words] = commands.invalidate_tag(tag)
    return words


def _pointers_too(commands: Any, target: Target, tag: int) -> Sequence[Words]:
    words: Sequence[Words] = commands.invalidate(target._replace(tables=True, level=None), tag)
    return words


def _wide(commands: Any, target: Target, to: int) -> Sequence[Words]:
    """The naturally aligned range of twice the size."""
    size = (target.last - target.first + 1) * 2
    first = target.first // size * size
    words: Sequence[Words] = commands.invalidate_device(target._replace(first=first, last=first + size - 1), to)
    return words


def _one_store_replace(vendor: Vendor) -> str:
    if vendor.hardware.caches_not_present:
        return "the empty entry may be cached as well, and takes an invalidation more"
    replace = vendor.recipes.replace
    if isinstance(replace, Recipe) and len(replace.rounds) > 1:
        return "entries are broken before they are made here anyway"
    return ""


HARMLESS: tuple[Harmless, ...] = (
    Harmless(
        "harmless.whole-tag",
        "every command drops the whole tag",
        at.HIDE,
        planned_as=encoding(_whole_tag),
    ),
    Harmless(
        "harmless.wider-device-range",
        "commands to a device cover twice as much",
        at.HIDE_ATS,
        planned_as=encoding(None, _wide),
    ),
    Harmless(
        "harmless.pointers-after-cut",
        "cached pointers are invalidated too where leaves would do",
        at.HIDE,
        planned_as=encoding(_pointers_too),
    ),
    Harmless(
        "harmless.commands-twice",
        "each command is sent twice",
        at.HIDE_ATS,
        lambda subject: _twice(subject, Invalidate),
    ),
    Harmless("harmless.waits-twice", "each wait is made twice", at.HIDE_TWO_UNITS, lambda s: _twice(s, Wait)),
    Harmless("harmless.extra-wait", "a wait more stands before and behind the plan", at.HIDE, _wait_again),
    Harmless(
        "harmless.extra-barriers",
        "a barrier more stands behind each fill, store and command",
        at.HIDE,
        lambda subject: _after_each(subject, Barrier()),
    ),
    Harmless("harmless.extra-cleans", "everything that is stored is pushed out of the cache", at.HIDE, _cleaned),
    Harmless(
        "harmless.fill-word-by-word",
        "a table is filled word by word, last first",
        at.HIDE,
        lambda subject: replaced(subject, _single_words),
    ),
    Harmless(
        "harmless.fill-in-halves",
        "a table is filled in another order",
        at.HIDE_IN_LARGEST,
        lambda subject: replaced(subject, _halves),
    ),
    Harmless(
        "harmless.fills-in-another-order",
        "a table is filled before the one that it leads to",
        at.HIDE_IN_LARGEST,
        lambda subject: _reversed(subject, Fill),
    ),
    Harmless(
        "harmless.stores-in-another-order",
        "the stores of one round are made in another order",
        at.HIDE_TWO,
        lambda subject: _reversed(subject, Store),
    ),
    Harmless(
        "harmless.waits-in-another-order",
        "units are waited for in another order",
        at.HIDE_TWO_UNITS,
        lambda subject: _reversed(subject, Wait),
    ),
    Harmless(
        "harmless.converted-leaf-broken",
        "the converted leaf alone is broken before it is made: nobody is owed it meanwhile",
        at.HIDE,
        planned_as=with_recipe(replace=break_before_make(Scope.LEAF, "N1 is about neighbours")),
        why_not=_one_store_replace,
    ),
)
"""Core's harmless changes."""
