"""Plans with a mistake in them, made by hand: what counterexamples are told of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from hitless.check import Subject, Violation, check
from hitless.check.stage import Setting, Stage, mutated
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.plan import Barrier, Clean, Fill, FillRun, Invalidate, Release, Section, Step, Store, Wait
from hitless.refresh.commands import Target
from stand import G, K, M, registry

Steps: TypeAlias = list[tuple[Section, Step]]
Change: TypeAlias = Callable[[Subject, Steps], Steps]

PAGE = (G, G + 4 * K)
ATS = Setting(units=(((1, (7,)),),))
TWO = Setting(units=(((1, ()),), ((2, (9,)),)))


@frozen
class Mistake:
    """One way to spoil a plan, and a rule that breaks then."""

    name: str
    vendor: str
    rule: str
    change: Change
    owner: int = HOST
    before: tuple[tuple[tuple[int, int], int], ...] = ()
    setting: Setting = field(factory=Setting)
    features: dict[str, Any] = field(factory=dict)
    ranges: tuple[tuple[int, int], ...] = (PAGE,)

    @contextmanager
    def subjects(self) -> Iterator[tuple[Subject, Subject]]:
        """The right plan, and the spoilt one."""
        vendor = registry(self.vendor).resolve(self.vendor, features=self.features)
        with Stage.open(vendor, self.setting) as stage:
            for where, owner in self.before:
                stage.convert([where], owner)
            (right,) = stage.plans(list(self.ranges), self.owner)
            yield right, mutated(right, self.change(right, list(right.steps)))

    def violation(self, spoilt: Subject) -> Violation:
        """The violation of the rule."""
        return next(each for each in check(spoilt).shortest if each.rule == self.rule)


def index(steps: Sequence[tuple[Section, Step]], kind: type[Step], nth: int = 0) -> int:
    """Where the nth step of a kind stands; a negative one counts from the end."""
    return [number for number, (_, step) in enumerate(steps) if isinstance(step, kind)][nth]


def without(kind: type[Step], nth: int = 0) -> Change:
    """Leave a step out."""

    def change(subject: Subject, steps: Steps) -> Steps:
        del steps[index(steps, kind, nth)]
        return steps

    return change


def moved(kind: type[Step], nth: int, by: int) -> Change:
    """Let a step come earlier or later."""

    def change(subject: Subject, steps: Steps) -> Steps:
        at = index(steps, kind, nth)
        steps.insert(at + by, steps.pop(at))
        return steps

    return change


def invalidating(nth: int, *, size: int = 4 * K, tag: int | None = None, level: int = 0) -> Change:
    """Another command in place of an invalidation: leaves of a page only, or for another tag."""

    def change(subject: Subject, steps: Steps) -> Steps:
        at = index(steps, Invalidate, nth)
        section, step = steps[at]
        assert isinstance(step, Invalidate)
        target = Target(step.first, step.first + size - 1, size.bit_length() - 1, level, False)
        words = subject.vendor.commands.invalidate(target, step.tag if tag is None else tag)[0]
        steps[at] = section, evolve(step, words=words)
        return steps

    return change


def storing(nth: int, word: Callable[[Store], int]) -> Change:
    """Another word in a store."""

    def change(subject: Subject, steps: Steps) -> Steps:
        at = index(steps, Store, nth)
        section, step = steps[at]
        assert isinstance(step, Store)
        steps[at] = section, evolve(step, new=word(step))
        return steps

    return change


def filling(change_run: Callable[[FillRun], FillRun]) -> Change:
    """Another word in the last run of the first table."""

    def change(subject: Subject, steps: Steps) -> Steps:
        at = index(steps, Fill)
        section, step = steps[at]
        assert isinstance(step, Fill)
        steps[at] = section, evolve(step, runs=[*step.runs[:-1], change_run(step.runs[-1])])
        return steps

    return change


def illegal(subject: Subject, steps: Steps) -> Steps:
    """A reserved bit in the first command (AMD: bits 59:48 of an invalidation)."""
    at = index(steps, Invalidate)
    section, step = steps[at]
    assert isinstance(step, Invalidate)
    steps[at] = section, evolve(step, words=(step.words[0] | 1 << 50, *step.words[1:]))
    return steps


PTE_FC = 1 << 60  # AMD: FC, force coherent
FORCING = Setting(trusted=True, allow_break=True, hunk_lg2=21)
IN_PLACE = Setting("in-place")
SHARED = ((PAGE, HOST),)
MERGED = Setting(hunk_lg2=21, merge="at_once")
BLOCK = ((G, G + 2 * M), HOST)

MISTAKES = [
    Mistake("4k after 2m", "amd", "F1", invalidating(0), GUEST, (BLOCK,), Setting(hunk_lg2=21)),
    Mistake("boundary stays cached", "amd", "B1", invalidating(0), GUEST, (BLOCK,), Setting(hunk_lg2=21)),
    Mistake("wrong tag", "intel", "F1", invalidating(0, tag=5), GUEST, SHARED),
    Mistake("no wait", "intel", "C2", without(Wait), GUEST, SHARED),
    Mistake("nothing waited for", "amd", "H1", without(Wait, -1), GUEST, SHARED),
    Mistake("no command", "arm_smmu", "F1", without(Invalidate, 0), GUEST, SHARED),
    Mistake("no barrier", "intel", "F1", without(Barrier), GUEST, SHARED),
    Mistake("no clean", "intel", "F1", without(Clean), GUEST, SHARED, features={"coherent": False}),
    Mistake("not the second unit", "intel", "F1", without(Invalidate, 1), GUEST, SHARED, TWO),
    Mistake("device and unit at once", "arm_smmu", "F1", without(Wait, 0), GUEST, SHARED, ATS),
    Mistake("no device", "amd", "F1", without(Invalidate, -1), GUEST, SHARED, ATS),
    Mistake("table not filled", "arm_smmu", "N1", without(Fill), GUEST, (BLOCK,), Setting(hunk_lg2=21)),
    Mistake("linked before filled", "amd", "N1", moved(Fill, 0, 2), GUEST, (BLOCK,), Setting(hunk_lg2=21)),
    Mistake(
        "filled wrongly", "amd", "N2", filling(lambda run: run._replace(first=run.first ^ PTE_FC)), GUEST, (BLOCK,)
    ),
    Mistake("freed too early", "amd", "R1", moved(Release, -1, -2), GUEST, SHARED, Setting(merge="at_once")),
    Mistake("pointer stays", "amd", "R1", invalidating(-1, size=G, level=2), GUEST, SHARED, Setting(merge="at_once")),
    Mistake(
        "merged unequal", "amd", "M1", storing(-1, lambda s: s.new ^ PTE_FC), GUEST, SHARED, Setting(merge="at_once")
    ),
    Mistake("made before the break is over", "arm_smmu", "K1", without(Wait, -1)),
    Mistake("no break", "arm_smmu", "A1", without(Store, 0), GUEST, SHARED),
    Mistake("illegal word", "amd", "W1", storing(-1, lambda store: store.new | 1 << 55), GUEST, SHARED),
    Mistake("illegal command", "amd", "W1", illegal, GUEST, SHARED),
    Mistake("another page", "intel", "C2", storing(-1, lambda store: store.new + 0x2000), HOST),
    Mistake("a table", "intel", "T1", storing(-1, lambda store: store.new & 0xFFF | store.pa & ~0xFFF), HOST),
    Mistake("private page reached", "intel", "C1", without(Invalidate), GUEST, SHARED, IN_PLACE),
    Mistake("left in the cache", "amd", "F2", without(Invalidate, -1), setting=Setting(hunk_lg2=21)),
    Mistake("pointer left", "arm_smmu", "F2", invalidating(-1, size=2 * M, level=1), GUEST, SHARED, MERGED),
    Mistake("too much", "amd", "E1", invalidating(-1, size=G, level=2), GUEST, SHARED),
]
"""One a line; each breaks its rule, and perhaps others too, in a plan that breaks none without it."""

FORCED = Mistake("smashed under a trusted device", "amd", "S1", lambda _, steps: steps, setting=FORCING)
"""A plan that is refused, but for ``allow_break``."""
