"""Counterexamples as people read them."""

import re

import pytest
from attrs import evolve

from check.mistaken import FORCED, MISTAKES, Mistake, invalidating, without
from hitless.check import Violation, check
from hitless.check.rules import all_rules
from hitless.check.stage import Setting
from hitless.check.story import Story, tell, tell_plainly
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.plan import Invalidate, Store
from stand import G, K, M

LABEL = re.compile(r"  (first|break| held|  dma|     |[ 0-9]{5})  \S")


def story_of(mistake: Mistake, **more: str) -> Story:
    """The story of a mistake's violation."""
    with mistake.subjects() as (_, spoilt):
        return tell(spoilt, mistake.violation(spoilt), **more)


def named(name: str) -> Mistake:
    """A mistake by its name."""
    return next(each for each in MISTAKES if each.name == name)


def test_a_story_in_full():
    """What is wrong, the entry, the timeline, the rule, the declared fact behind it, what to do, how to repeat it."""
    text = str(story_of(named("4k after 2m"), title="one page", again="hitless check --vendor amd"))
    lines = text.splitlines()
    assert lines[0] == "amd/v1, one page: refresh has returned, and DMA still reaches 0x20040000000" or (
        lines[0].startswith("amd/v1, one page: refresh has returned, and DMA still reaches 0x2")
    )
    assert re.fullmatch(
        r"  at   level 1 \(AMD level 2\) entry 0x[0-9a-f]+: leaf 0x40000000 2M -> 0x[0-9a-f]+ RW, "
        r"in the TLB of iommu0, tag 0x1",
        lines[1],
    )
    assert [line.split()[0] for line in lines[-4:]] == ["rule", "why", "do", "again:"]
    assert lines[-4].startswith("  rule F1: after refresh returns, no request completes")
    assert "covers only a part of it" in lines[-3]
    assert "AMD-INV-2" in lines[-3]
    assert lines[-1] == "  again: hitless check --vendor amd"
    middle = lines[2:-4]
    assert all(LABEL.match(line) for line in middle)
    assert middle[0].startswith("  first  0x40000000 is mapped by level 1 (AMD level 2): leaf 2M -> ")
    assert middle[-1] == "  break  F1 is broken, after refresh has returned"


def test_the_order_of_a_story():
    """The leaf is cached, the cut, the command that leaves it, the wait that it survives, the request that hits it."""
    text = str(story_of(named("4k after 2m")))
    parts = [
        "a device reads 0x40000000: iommu0, tag 0x1 walks from the root",
        "leaf 2M -> 0x",
        "store: cut, no translation changes",
        "invalidate: to iommu0: INVALIDATE_IOMMU_PAGES DomainID=0x1 address=0x40000",
        "it leaves the leaf 0x40000000 2M",
        "wait: iommu0 answers (COMPLETION_WAIT)",
        "still in the TLB, tag 0x1: the leaf 0x40000000 2M",
        "store: replace",
        "a device reads 0x40000000: it hits the leaf 0x40000000 2M",
    ]
    at = 0
    for part in parts:
        assert part in text[at:], part
        at = text.index(part, at) + len(part)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong tag", "the command is for tag 0x5, the entry has tag 0x1"),
        ("no barrier", "the command was submitted before the store had settled"),
        ("no clean", "the command was submitted before the store had settled"),
        ("device and unit at once", "the unit still held it when the device forgot it"),
        ("pointer left", "the command drops leaves only, and the pointer to the old table stays cached"),
        ("no command", "no command takes it"),
        ("linked before filled", "only step 2 stores to this entry"),
        ("another page", "put this entry there"),
        ("not the second unit", "no command takes it"),
    ],
)
def test_why(name, said):
    """The reason that says most, with the vendor's facts where it is one of declarations."""
    assert said in story_of(named(name)).why


def test_why_a_walker_that_does_not_snoop_reads_old_words():
    """Between store and barrier the timeline says what the walker reads, and that it was never pushed out."""
    text = str(story_of(named("no clean")))
    assert "the older word: the store was not pushed out of the CPU's cache, and this walker does not snoop" in text


def test_an_atc_that_asks_again():
    """The one command that devices have in common: what was dropped comes back from the unit."""
    text = str(story_of(named("device and unit at once")))
    assert "the device drops the leaf" in text
    assert "and gets it again from iommu0" in text
    assert "still in the ATC of device 0x7" in text
    assert "device 0x7 reads 0x40000000: it hits the leaf" in text
    assert "in the ATC of device 0x7: reached" in text


@pytest.mark.parametrize("mistake", [*MISTAKES, FORCED], ids=lambda mistake: mistake.name)
def test_every_story_is_whole(mistake):
    """Rule with its sentence, something to do, a beginning, an end; every line of the timeline has its label."""
    with mistake.subjects() as (_, spoilt):
        violation = mistake.violation(spoilt)
        story = tell(spoilt, violation)
        sentences = {rule.id: rule.sentence for rule in all_rules(spoilt)}
    assert story.rule == f"{mistake.rule}: {sentences[mistake.rule]}"
    assert story.do
    assert story.what == violation.what
    assert story.lines[0].startswith("  first  ")
    assert story.lines[-1].startswith(f"  break  {mistake.rule} is broken, ")
    assert all(LABEL.match(line) for line in story.lines), story.lines
    if violation.step < len(spoilt.steps):
        assert story.lines[-1].endswith(f"at step {violation.step}")


def test_steps_that_do_not_matter_are_left_out():
    """In a plan of 40 pages, a story about one of them names no other page's entries, and few steps at all."""
    pages = tuple((G + 8 * K * n, G + 8 * K * n + 4 * K) for n in range(40))
    mistake = Mistake(
        "one of many", "intel", "F1", without(Invalidate, 20), GUEST, (((G, G + 2 * M), HOST),), ranges=pages
    )
    with mistake.subjects() as (right, spoilt):
        violation = mistake.violation(spoilt)
        story = tell(spoilt, violation)
        other = [step for _, step in right.steps if isinstance(step, Store) and step.iova != violation.start]
    assert len(spoilt.steps) > 100
    assert len(story.lines) < 20
    text = "\n".join(story.lines)
    level0 = [step for step in other if step.level == 0]
    assert len(level0) > 30
    assert not [hex(step.expected) for step in level0 if f"{step.expected:#x}:" in text]


def test_a_trial_is_told_without_a_timeline():
    """What was found by running something has no plan: rule, sentence and command are told."""
    story = tell_plainly(Violation("D1", 0, 0, 4096, "a write is forgotten", do="fold it"), who="amd/v1", again="again")
    assert str(story).splitlines() == [
        "amd/v1: a write is forgotten",
        "  break  D1 is broken",
        "  rule D1",
        "  do   fold it",
        "  again: again",
    ]


def test_violations_know_when_a_walk_could_last_read_the_entry():
    """``until`` is the step that settled the store, or the present one; ``born`` the store itself."""
    mistake = evolve(named("wrong tag"))
    with mistake.subjects() as (_, spoilt):
        violation = next(each for each in check(spoilt).violations if each.rule == "F1")
        kinds = [type(step).__name__ for _, step in spoilt.steps]
    assert kinds[violation.born] == "Store"
    assert kinds[violation.until] == "Barrier"


def test_the_setting_of_mistakes_is_what_the_stories_say():
    """A command for a smaller leaf than was cached; the same plan with the right command has no story."""
    mistake = Mistake("4k", "amd", "F1", invalidating(0), GUEST, (((G, G + 2 * M), HOST),), Setting(hunk_lg2=21))
    with mistake.subjects() as (right, spoilt):
        assert check(right).violations == []
        assert {each.rule for each in check(spoilt).violations} >= {"F1", "B1"}
