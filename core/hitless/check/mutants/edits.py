"""Small changes of a plan's steps: what mutants are made of."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import attrs

from hitless.check.stage import mutated
from hitless.check.subject import Subject
from hitless.hardware.facts import Drops
from hitless.plan import Barrier, Fill, FillRun, Invalidate, Release, Section, Step, Store, Wait, effects_of
from hitless.refresh.commands import Words

Steps: TypeAlias = list[tuple[Section, Step]]
Choice: TypeAlias = Callable[[Section, Step], bool]


def steps_of(subject: Subject) -> Steps:
    """The steps of a plan, to be changed."""
    return list(subject.steps)


def changed(subject: Subject, steps: Sequence[tuple[Section, Step]]) -> Subject | None:
    """The subject with other steps; None if they are the same."""
    return None if list(steps) == list(subject.steps) else mutated(subject, steps)


def without(subject: Subject, gone: Choice) -> Subject | None:
    """The plan without some of its steps."""
    return changed(subject, [each for each in subject.steps if not gone(*each)])


def replaced(subject: Subject, change: Callable[[Section, Step], Step]) -> Subject | None:
    """The plan with each step put through ``change``."""
    return changed(subject, [(section, change(section, step)) for section, step in subject.steps])


def recoded(subject: Subject, code: Callable[[Invalidate], Sequence[Words]]) -> Subject | None:
    """The plan with other words for each command: as many commands as ``code`` gives."""
    steps: Steps = []
    for section, step in subject.steps:
        if isinstance(step, Invalidate):
            steps += [(section, attrs.evolve(step, words=words)) for words in code(step)]
        else:
            steps.append((section, step))
    return changed(subject, steps)


def is_a(*kinds: type, section: Section | None = None) -> Choice:
    """Steps of some kinds, in one section or in any."""
    return lambda where, step: isinstance(step, kinds) and section in (None, where)


def stores(subject: Subject, *what: str) -> Iterator[tuple[int, Store]]:
    """The stores of some kinds of change, with their numbers."""
    for i, (_, step) in enumerate(subject.steps):
        if isinstance(step, Store) and step.what.split("-")[0] in what:
            yield i, step


def first(steps: Sequence[tuple[Section, Step]], kind: type, after: int = -1) -> int | None:
    """The number of the first step of a kind behind one."""
    return next((i for i in range(after + 1, len(steps)) if isinstance(steps[i][1], kind)), None)


def to_device(subject: Subject, step: Step, device: int | None = None) -> bool:
    """Whether a step is a command to a device (to a certain one)."""
    if not isinstance(step, Invalidate):
        return False
    effects = subject.vendor.commands.decode(step.words)
    found = [each.device for each in effects if isinstance(each, Drops) and each.device is not None]
    return bool(found) and (device is None or device in found)


def links(subject: Subject) -> Iterator[tuple[int, Store]]:
    """The stores that link tables which the plan fills."""
    fmt = subject.vendor.page_format
    filled = {step.pa for _, step in subject.steps if isinstance(step, Fill)}
    for i, (_, step) in enumerate(subject.steps):
        if not isinstance(step, Store) or not fmt.present(step.new) or fmt.is_leaf(step.new, step.level):
            continue
        if int(fmt.table_pa(step.new)) in filled:
            yield i, step


def moved(steps: Steps, chosen: Choice, to: int) -> Steps:
    """Some steps moved, in their order, to stand before step number ``to`` of those that stay, in its section."""
    section = steps[min(to, len(steps) - 1)][0]
    mine = [(section, step) for where, step in steps if chosen(where, step)]
    before = [each for each in steps[:to] if not chosen(*each)]
    behind = [each for each in steps[to:] if not chosen(*each)]
    return [*before, *mine, *behind]


def rounds(steps: Steps) -> Iterator[tuple[int, int]]:
    """The rounds of a plan as ranges of numbers: stores, what orders and closes them, waits."""
    at = 0
    while at < len(steps):
        if not isinstance(steps[at][1], Store):
            at += 1
            continue
        end = at
        while end < len(steps) and not isinstance(steps[end][1], Fill | Release):
            closes = isinstance(steps[end][1], Barrier | Invalidate | Wait)
            if not closes and end > at and isinstance(steps[end - 1][1], Barrier | Invalidate | Wait):
                break
            end += 1
        yield at, end
        at = end


def refilled(subject: Subject, change: Callable[[FillRun], FillRun]) -> Subject | None:
    """The plan with each run of a Fill put through ``change``."""

    def each(_: Section, step: Step) -> Step:
        return attrs.evolve(step, runs=[change(run) for run in step.runs]) if isinstance(step, Fill) else step

    return replaced(subject, each)


def neighbours(subject: Subject) -> Iterator[FillRun]:
    """The runs of new tables that hold leaves which no store of the plan reaches."""
    touched = {step.pa for step in effects_of(step for _, step in subject.steps) if isinstance(step, Store)}
    for _, step in subject.steps:
        for run in step.runs if isinstance(step, Fill) else ():
            if not any(run.pa <= pa < run.pa + 8 * run.entries for pa in touched):
                yield run
