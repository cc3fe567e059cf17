"""Each rule by itself: a small change of a right plan, and the rules that break then, all of them and no other."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve, frozen

from check.mistaken import (
    BLOCK,
    FORCED,
    MISTAKES,
    PAGE,
    Mistake,
    Steps,
    filling,
    index,
    invalidating,
    moved,
    storing,
)
from hitless.check import Subject, check
from hitless.check.rules import all_rules
from hitless.check.shadow import Words
from hitless.check.stage import Setting, Stage
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.plan import Fill, FillRun, Invalidate, Own, Release, Store, Wait
from hitless.refresh.commands import Target
from stand import G, K, M, registry

TWO_M = Setting(hunk_lg2=21)
IN_PLACE = Setting("in-place", hunk_lg2=21)
IN_PLACE_TRUSTED = Setting("in-place", trusted=True, hunk_lg2=21)
TRUSTED = Setting(trusted=True, hunk_lg2=21)
MERGING = Setting(hunk_lg2=21, merge="at_once")
CUT = (BLOCK, (PAGE, GUEST))
"""A block is shared, and one page of it is private: its table stands already."""
IW, IGNORED_58, ADDRESS = 1 << 62, 1 << 58, (1 << 52) - (1 << 12)
"""Bits of an AMD v1 entry: write allowed, one that the IOMMU ignores, the address."""
CONTIGUOUS = 1 << 52
"""Arm: the entry is one of a run."""
PRIVATE_PA, NEIGHBOUR = 2 << 40, G + 2 * M
"""Where a stage's private memory begins, and a block beside those that convert."""

# -- changes


def putting(where: Callable[[Steps], int], make: Callable[[Subject], tuple]) -> Callable[[Subject, Steps], Steps]:
    """One more step."""

    def change(subject: Subject, steps: Steps) -> Steps:
        steps.insert(where(steps), make(subject))
        return steps

    return change


def own(start_pa: int, size: int, op: str = "RMPUPDATE", entry_lg2: int = 12) -> Own:
    """A range becomes the guest's."""
    return Own(op, start_pa, start_pa + size, GUEST, entry_lg2)


def first_fill(subject: Subject) -> Fill:
    """The first table that a plan fills."""
    return next(step for _, step in subject.steps if isinstance(step, Fill))


def the_fill(steps: Steps) -> int:
    """Where the first fill stands."""
    return index(steps, Fill)


def the_owner_change(steps: Steps) -> int:
    """Where the first owner change stands."""
    return index(steps, Own)


def owners_first(subject: Subject, steps: Steps) -> Steps:
    """The owner changes before anything is cut or invalidated."""
    changes = [each for each in steps if isinstance(each[1], Own)]
    rest = [each for each in steps if not isinstance(each[1], Own)]
    return [*rest[: the_fill(rest)], *changes, *rest[the_fill(rest) :]]


def uncut(subject: Subject, steps: Steps) -> Steps:
    """Nothing but the owner change, and the page's invalidation as large as the leaf that stays."""
    at = the_owner_change(steps)
    isolate = next(step for _, step in steps if isinstance(step, Invalidate))
    return [steps[at], ("refresh", isolate), ("refresh", Wait(isolate.unit))]


def by_a_third_page(subject: Subject, steps: Steps) -> Steps:
    """The last store by way of another page's address."""
    at = index(steps, Store, -1)
    section, step = steps[at]
    third = step.new + 0x2000
    steps[at : at + 1] = [(section, evolve(step, new=third)), (section, evolve(step, expected=third))]
    return steps


def unwiped(subject: Subject, steps: Steps) -> Steps:
    """The last store of isolate, and what belongs to it, is left out."""
    return [each for i, each in enumerate(steps) if not index(steps, Store, -1) <= i < the_owner_change(steps)]


def undrained(subject: Subject, steps: Steps) -> Steps:
    """VT-d: no command asks that requests are drained (DR bit 7, DW bit 6)."""

    def plain(step):
        return evolve(step, words=(step.words[0] & ~0xC0, *step.words[1:])) if isinstance(step, Invalidate) else step

    return [(section, plain(step)) for section, step in steps]


def kept_table(subject: Subject, steps: Steps) -> Steps:
    """After a merge the table is never freed, and pointers to it are never invalidated."""
    at = index(steps, Invalidate, -1)
    section, step = steps[at]
    target = Target(step.first, step.last, 12, 0, False)
    steps[at] = section, evolve(step, words=subject.vendor.commands.invalidate(target, step.tag)[0])
    return [each for each in steps if not isinstance(each[1], Release)]


def commanded_again(subject: Subject, steps: Steps) -> Steps:
    """The last command once more, behind the last wait."""
    return [*steps, steps[index(steps, Invalidate, -1)]]


def made_before_the_wait(subject: Subject, steps: Steps) -> Steps:
    """The new entry of a break-before-make before the break's wait."""
    wait = steps.pop(index(steps, Wait, -1))
    return [*steps, wait]


def fill_word(run: int, change: Callable[[FillRun, Fill], FillRun]) -> Callable[[Subject, Steps], Steps]:
    """Another run in the first table."""

    def edit(subject: Subject, steps: Steps) -> Steps:
        at = the_fill(steps)
        section, step = steps[at]
        runs = list(step.runs)
        runs[run] = change(runs[run], step)
        steps[at] = section, evolve(step, runs=runs)
        return steps

    return edit


def onto_the_table(run: FillRun, fill: Fill) -> FillRun:
    """A leaf that leads to the table it stands in."""
    return run._replace(first=run.first & ~ADDRESS | fill.pa)


def bits_expected(subject: Subject, steps: Steps) -> Steps:
    """Stores that expect a bit which memory does not hold, and which hardware does not set."""
    return [
        (section, evolve(step, expected=step.expected ^ IGNORED_58) if isinstance(step, Store) else step)
        for section, step in steps
    ]


@frozen
class Exact:
    """A mistake, all rules that break, and why it is more than one."""

    mistake: Mistake
    rules: str
    why: str = ""


def amd(name: str, rules: str, change, owner=GUEST, before=(BLOCK,), setting=TWO_M, why="") -> Exact:
    """A mistake in a plan for AMD, policy match: the page is replaced, and its owner is checked at each use."""
    return Exact(Mistake(name, "amd", rules.split(maxsplit=1)[0], change, owner, before, setting), rules, why)


def intel(name: str, rules: str, change, owner=GUEST, before=(BLOCK,), why="") -> Exact:
    """A mistake in a plan for Intel, policy wipe: a private page is not mapped."""
    return Exact(Mistake(name, "intel", rules.split(maxsplit=1)[0], change, owner, before, TWO_M), rules, why)


def arm(name: str, rules: str, change, owner=GUEST, before=(BLOCK,), why="", **features) -> Exact:
    """A mistake in a plan for Arm: an entry is broken before it is made anew."""
    return Exact(
        Mistake(name, "arm_smmu", rules.split(maxsplit=1)[0], change, owner, before, TWO_M, features), rules, why
    )


NEW = [
    amd("linked before it is filled", "N1", moved(Fill, 0, 2)),
    amd(
        "neighbours may not be written to",
        "N1 N2",
        filling(lambda run: run._replace(first=run.first & ~IW)),
        why="writes fault, and reads have other rights than the page's",
    ),
    amd(
        "neighbours one page off",
        "N2 K1",
        filling(lambda run: run._replace(first=run.first + 0x1000)),
        why="the old leaf is cached beside new ones of another size and address",
    ),
    amd("by way of a third page", "C1", by_a_third_page, HOST, CUT),
    intel(
        "another page is shared",
        "C2 C1",
        fill_word(0, lambda run, _: run._replace(first=run.first + 0x2000)),
        HOST,
        (),
        why="it is neither the old page nor the new one",
    ),
    intel("not wiped", "C2", unwiped),
    intel("requests are not drained", "F1 C2", undrained, why="they are in flight when isolate returns, too"),
    amd("a pointer stays cached", "F2", kept_table, HOST, CUT, MERGING),
    amd("owner before the cut", "B1", owners_first, setting=TRUSTED),
    amd(
        "not cut",
        "B1 N1",
        uncut,
        setting=IN_PLACE,
        why="the RMP check looks at all of a 2M leaf: one page of the guest's in it refuses the neighbours",
    ),
    amd(
        "smashed before the cut",
        "S1 B1 N1 E1",
        owners_first,
        setting=IN_PLACE_TRUSTED,
        why="the leaf spans the transition, the RMP check refuses it, and the isolate's command does for the owner too",
    ),
    amd(
        "a neighbour is smashed",
        "S1 N1 F2",
        putting(the_owner_change, lambda s: ("own", own(PRIVATE_PA + NEIGHBOUR, 2 * M, "PSMASH"))),
        setting=TRUSTED,
        why="a leaf of 2M on entries of 4K is refused, but where it was cached with its verdict",
    ),
    arm("made before the wait", "K1", made_before_the_wait, HOST, CUT),
    amd(
        "freed before the wait",
        "R1 H1",
        moved(Release, -1, -1),
        HOST,
        CUT,
        MERGING,
        why="the command is outstanding as well",
    ),
    amd(
        "reserved bit in a new table",
        "W1 N1",
        filling(lambda run: run._replace(first=run.first | 1 << 55)),
        why="hardware refuses the word when a neighbour needs it",
    ),
    arm("one entry of a run", "W1", storing(-1, lambda store: store.new | CONTIGUOUS), contiguous=True),
    amd("an entry is expected otherwise", "A1", bits_expected),
    amd(
        "merged to other attributes",
        "M1 C2 N2",
        storing(-1, lambda store: store.new ^ 1 << 60),
        HOST,
        CUT,
        MERGING,
        why="neighbours and the page itself get them",
    ),
    amd(
        "a command behind the last wait",
        "H1 E1",
        commanded_again,
        why="nothing is left that it could be needed for",
    ),
    amd("a gigabyte for a page", "E1", invalidating(-1, size=G, level=2)),
    amd(
        "a table becomes the guest's", "T1", putting(the_owner_change, lambda s: ("own", own(first_fill(s).pa, 4 * K)))
    ),
    amd("a table in a guest's page", "T1", putting(the_fill, lambda s: ("prepare", own(first_fill(s).pa, 4 * K)))),
    amd(
        "a table is mapped",
        "T1 C1 K1 A1",
        fill_word(0, onto_the_table),
        why="the page leads to neither of its pages, is cached beside the old leaf, and stops the store that follows",
    ),
]

KNOWN = {
    "4k after 2m": "F1 F2 B1",
    "boundary stays cached": "B1 F1 F2",
    "wrong tag": "F1 F2 C2",
    "no wait": "C2 F1 F2 H1",
    "nothing waited for": "H1 F1 F2",
    "no command": "F1 F2",
    "no barrier": "F1 F2 C2",
    "no clean": "F1 F2 C2",
    "not the second unit": "F1 F2 C2",
    "device and unit at once": "F1 F2",
    "no device": "F1 F2",
    "table not filled": "N1 A1 E1",
    "linked before filled": "N1",
    "filled wrongly": "N2",
    "freed too early": "R1",
    "pointer stays": "R1 F2",
    "merged unequal": "M1",
    "made before the break is over": "K1 F1 F2 H1",
    "no break": "A1 E1 F1 F2",
    "illegal word": "W1",
    "illegal command": "W1 F1 F2",
    "another page": "C2 W1",
    "a table": "T1 C2 F1",
    "private page reached": "C1 C2 F2",
    "left in the cache": "F2 F1",
    "pointer left": "F2 R1",
    "too much": "E1",
}
"""All rules that the mistakes of mistaken.py break."""

ALL = [*NEW, *(Exact(mistake, KNOWN[mistake.name]) for mistake in MISTAKES)]


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.mistake.name)
def test_a_mistake_breaks_its_rules_and_no_other(each):
    """The right plan breaks no rule; the spoilt one those that are listed, and each says what to do."""
    with each.mistake.subjects() as (right, spoilt):
        assert check(right).rules == ()
        report = check(spoilt)
    assert set(report.rules) == set(each.rules.split()), each.why
    assert all(violation.do for violation in report.violations)


def test_every_rule_is_broken_by_a_mistake():
    """No rule of the checker goes untested, and docs/rules.md has a heading for each; D1 is tested by running plans."""
    with ALL[0].mistake.subjects() as (right, _):
        rules = {rule.id for rule in all_rules(right)}
    assert {each.mistake.rule for each in ALL} == rules
    documented = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    assert all(f"\n## {rule}: " in documented for rule in {*rules, "D1"})


# -- what is not in the steps


@frozen
class Changed:
    """Memory with one word that differs."""

    words: Words
    pa: int
    word: int

    def load(self, pa):
        return self.word if pa == self.pa else self.words.load(pa)

    def view(self, pa, count):
        words = self.words.view(pa, count).copy()
        if pa <= self.pa < pa + 8 * count:
            words[(self.pa - pa) >> 3] = self.word
        return words


@pytest.mark.parametrize(
    ("bits", "rules"),
    [(1 << 5, ()), (1 << 6, ()), (3 << 5, ()), (IGNORED_58, ("A1",))],
    ids=["accessed", "dirty", "both", "not the hardware's"],
)
def test_a_store_has_to_find_what_it_expects(bits, rules):
    """A and D, which hardware may set at any time, are folded; a word that somebody else changed stops the plan."""
    vendor = registry("amd").resolve("amd")
    with Stage.open(vendor, TWO_M) as stage:
        stage.convert([BLOCK[0]], HOST)
        (right,) = stage.plans([PAGE], GUEST)
        cut = next(step for _, step in right.steps if isinstance(step, Store))
        memory = Changed(right.memory, cut.pa, cut.expected ^ bits)
        assert check(evolve(right, memory=memory)).rules == rules


def test_table_memory_of_the_guest_is_found_without_a_mistake_in_the_plan():
    """T1 looks at the owner table as it stands before the plan: the allocator handed out a guest's page."""
    vendor = registry("amd").resolve("amd")
    with Stage.open(vendor, TWO_M) as stage:
        stage.convert([BLOCK[0]], HOST)
        (right,) = stage.plans([PAGE], GUEST)
        pa = first_fill(right).pa
        owners = right.owners.copy()
        owners.set(pa, pa + 4 * K, GUEST, 12)
        report = check(evolve(right, owners=owners))
    assert report.rules == ("T1",)
    assert (report.violations[0].start, report.violations[0].end) == (pa, pa + 4 * K)


def test_a_forced_cut_under_a_trusted_device_breaks_s1_at_once():
    """Leaf and RMP entry cannot change their size together: between them a page of the guest's own faults."""
    with FORCED.subjects() as (plan, _):
        report = check(plan)
    assert set(report.rules) == {"S1", "N1"}
    assert report.shortest[0].step < len(plan.steps)


def test_only_the_first_few_violations_of_a_rule_are_kept():
    """All are counted."""
    with next(each for each in ALL if each.mistake.name == "reserved bit in a new table").mistake.subjects() as (
        _,
        spoilt,
    ):
        report = check(spoilt)
    assert report.counts["N1"] == 511
    assert sum(each.rule == "N1" for each in report.violations) < 10
