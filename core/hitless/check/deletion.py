"""The deletion test: a step of a right plan is left out, and the checker has to object, or the step is superfluous."""

from collections.abc import Iterator

from attrs import frozen

from hitless.check.checking import check
from hitless.check.stage import mutated
from hitless.check.subject import Subject
from hitless.plan import Barrier, Call, Clean, Invalidate, Section, Step, Store, StoreStructure, Wait, format_step

MANY = 200
"""Of a plan with more steps to leave out than this, the first, middle and last of each kind are."""


@frozen
class Deletion:
    """One step that was left out.

    Args:
        step: its number in the plan.
        section: where it stands.
        text: the step, in the text form of plans.
        rules: what broke without it.
        of: how many steps of its kind and section it stands for; 1: for itself alone.
    """

    step: int
    section: Section
    text: str
    rules: tuple[str, ...]
    of: int = 1

    @property
    def outcome(self) -> str:
        """``caught``, or ``superfluous``: nothing breaks without it."""
        return "caught" if self.rules else "superfluous"


def run_deletions(subject: Subject) -> Iterator[Deletion]:
    """Leave out each store, barrier, clean, command, wait and call of a plan, one at a time."""
    steps = list(subject.steps)
    for number, of in _chosen(subject):
        section, step = steps[number]
        report = check(mutated(subject, steps[:number] + steps[number + 1 :]))
        yield Deletion(number, section, format_step(step), report.rules, of)


def _chosen(subject: Subject) -> Iterator[tuple[int, int]]:
    """The steps to leave out, each with how many it stands for."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    for number, (section, step) in enumerate(subject.steps):
        if isinstance(step, Store | StoreStructure | Barrier | Clean | Invalidate | Wait | Call):
            kinds.setdefault((section, *_kind(step)), []).append(number)
    if sum(map(len, kinds.values())) <= MANY:
        yield from sorted((number, 1) for numbers in kinds.values() for number in numbers)
        return
    sampled = {}
    for numbers in kinds.values():
        for number in (numbers[0], numbers[len(numbers) // 2], numbers[-1]):
            sampled[number] = len(numbers)
    yield from sorted(sampled.items())


def _kind(step: Step) -> tuple[object, ...]:
    """Steps of one kind are equal but for the address."""
    match step:
        case Store():
            return (Store, step.what, step.level)
        case StoreStructure():
            return (StoreStructure, step.unit, step.structure, step.what)
        case Invalidate():
            return (Invalidate, step.unit, step.tag, step.words[0])
        case Wait():
            return (Wait, step.unit)
        case Call():
            return (Call, step.op)
        case _:
            return (type(step),)
