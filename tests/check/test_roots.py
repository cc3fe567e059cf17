"""Structures in the checker: a root that grows, with every mistake that its plan can have."""

from contextlib import contextmanager

import attrs
import pytest

from hitless.check import check
from hitless.check.deletion import run_deletions
from hitless.check.mutants import situations as at
from hitless.check.mutants.edits import to_device
from hitless.check.replay import Replay
from hitless.check.replay.scene import Scene
from hitless.check.stage import Setting, Stage, mutated
from hitless.check.story import tell
from hitless.guest_memfd.guest import HOST
from hitless.hardware.facts import Drops, DropsStructure
from hitless.iommufd.live import plan_move
from hitless.plan import Barrier, Fill, Invalidate, StoreStructure, Wait
from stand import PAGE, G, registry

EDGE = 1 << 39
FEATURES = {"mode": 3, "dynamic_top": True, "snp": False}


@pytest.fixture(scope="module")
def subject():
    """A page turns shared beyond three levels; two units, three devices, one with an ATC."""
    vendor = registry("amd").resolve("amd", "amd/v1", FEATURES)
    setting = Setting(gpa=EDGE - G, memory=2 * G, units=(((1, (5,)),), ((1, ()),)))
    with Stage.open(vendor, setting) as stage:
        stage.share(EDGE - G, G)
        (found,) = stage.plans([(EDGE + 5 * PAGE, EDGE + 6 * PAGE)], HOST)
        yield found


def broken(subject, change):
    """What breaks in the plan with other steps: each (section, step) becomes those that ``change`` gives."""
    steps = [(section, new) for section, step in subject.steps for new in change(step)]
    return set(check(mutated(subject, steps)).rules)


def where(subject, kind, number=0):
    """A step of a kind."""
    return [step for _, step in subject.steps if isinstance(step, kind)][number]


def test_a_growing_root_is_hitless(subject):
    """The subject is the address space before: three levels under a format of four."""
    assert subject.root_level == 2 and len(subject.vendor.page_format.levels) == 4
    assert not check(subject).violations


def test_every_step_of_it_is_needed(subject):
    """Without any one of them the new page faults for somebody, or a neighbour does."""
    rows = list(run_deletions(subject))
    assert {row.outcome for row in rows} == {"caught"}
    caught = {row.text.split()[0]: set(row.rules) for row in rows if row.section == "isolate"}
    assert caught["structure"] == {"F1"}
    assert caught["invalidate"] == {"F1", "F2"}
    assert caught["wait"] == {"F1", "F2", "H1"}
    assert [set(row.rules) for row in rows if row.section == "prepare"] == [{"N1"}], "the barrier behind the Fill"


def test_a_root_that_says_something_else(subject):
    """A larger root that does not lead to the old one makes every neighbour fault at the store."""
    root = where(subject, StoreStructure).new[0] & 0xF_FFFF_FFFF_F000

    def alone(step):
        return [Fill(step.pa, step.size_lg2)] if isinstance(step, Fill) and step.pa == root else [step]

    assert broken(subject, alone) == {"N1", "F2"}


@pytest.mark.parametrize(("bit", "why"), [(1, "TV: requests are held off"), (2, "a reserved bit is set")])
def test_a_structure_that_says_something_else(subject, bit, why):
    """What the store of one device does beside the root is a fault of that device's neighbours."""
    first = where(subject, StoreStructure)

    def other(step):
        return [attrs.evolve(step, new=(step.new[0] ^ 1 << bit, step.new[1]))] if step is first else [step]

    assert "N1" in broken(subject, other), why


def test_a_command_before_the_store_has_settled_guarantees_nothing(subject):
    """The commands stand before the barrier: the unit may read the old entry again."""
    barrier = next(step for section, step in subject.steps if section == "isolate" and isinstance(step, Barrier))
    wait = where(subject, Wait)

    def late(step):
        if step is barrier:
            return []
        return [barrier, step] if step is wait else [step]

    assert broken(subject, late) == {"F1", "F2"}


def test_a_command_for_another_device_is_none(subject):
    """Only the entry of the device that the command names is dropped."""

    def other(step):
        if isinstance(step, Invalidate) and step.words[0] >> 60 == 2:
            return [attrs.evolve(step, words=(step.words[0] ^ 0x100, 0))]
        return [step]

    assert broken(subject, other) == {"F1", "F2"}


def test_the_story_of_a_forgotten_entry_runs(subject):
    """The violation is replayed: a device walks by the entry that its unit still holds."""

    def without(step):
        return [] if isinstance(step, Invalidate) and step.words[0] >> 60 == 2 else [step]

    wrong = mutated(subject, [(section, new) for section, step in subject.steps for new in without(step)])
    violation = next(each for each in check(wrong).violations if each.rule == "F1")
    story = tell(wrong, violation)
    assert "held=True" in story.program and "levels=(3, 4)" in story.program
    assert any("by an older structure" in line for line in story.lines)


def test_a_replay_walks_from_where_the_structures_lead(subject):
    """Before the stores from the small root, after them from the larger one, by an entry that is held from the old."""
    high = EDGE + 5 * PAGE
    page = next(run.new_pa for run in subject.truth.inside(high, high + 1))
    low = EDGE - G
    there = next(run.new_pa for run in subject.truth.inside(low, low + 1))
    with Replay.of(Scene.of(subject, [low, high]), subject.steps) as replay:
        assert replay.walk(high).fault == "range" and replay.walk(low).pa == there
        last = max(i for i, (_, step) in enumerate(subject.steps) if isinstance(step, StoreStructure))
        replay.run(last + 1)
        assert replay.walk(high).fault == "not-present" and replay.walk(high, held=True).fault == "range"
        assert replay.walk(low, held=True).pa == replay.walk(low).pa == there
        assert len(replay.structures()) == 2
        replay.run()
        assert replay.walk(high, held=True).pa == replay.walk(high).pa == page
        assert replay.structures() == []


def test_the_mutants_stand_on_a_root_that_grows():
    """The situation puts half of the guest beyond the root, and needs a format that grows."""
    vendor = registry("amd").resolve("amd", "amd/v1", FEATURES)
    assert not at.GROW.why_not(vendor)
    assert "grows" in at.GROW.why_not(registry("amd").resolve("amd", "amd/v1", {}))
    with at.GROW.opened(vendor) as (stage, sizes):
        found = at.GROW.take(stage, sizes)
        assert any(isinstance(step, StoreStructure) for _, step in found.steps) and not check(found).violations


# -- devices that leave

VENDORS = [
    ("amd", "amd/v1", {}),
    ("intel", "intel/second-stage", {"mode": "legacy"}),
    ("intel", "intel/first-stage", {"mode": "scalable"}),
    ("arm_smmu", "arm_smmu/stage2", {}),
]


@contextmanager
def leaving(vendor, page_format, features, *, fence=False):
    """A device with an ATC leaves, another one stays."""
    record = registry(vendor).resolve(vendor, page_format, features)
    with Stage.open(record, Setting(memory=64 << 20, hunk_lg2=21, units=(((1, (5, 6)),),))) as stage:
        stage.share_all()
        (domain,) = stage.domains
        plan, _, _ = plan_move(domain, None, 5, fence=fence)
        yield stage.subject(domain, stage.truth(domain), list(plan.steps()))


@pytest.mark.parametrize(("vendor", "page_format", "features"), VENDORS)
def test_a_device_leaves_without_a_trace(vendor, page_format, features):
    """Its structures, its ATC and its requests: no plan that forgets one of these is right (F1)."""
    with leaving(vendor, page_format, features) as subject:
        assert not check(subject).violations
        rows = [row for row in run_deletions(subject) if row.text.split()[0] in ("invalidate", "wait", "barrier")]
        assert (
            "F1" in check(mutated(subject, [each for each in subject.steps if not to_device(subject, each[1])])).rules
        )
    caught = [row for row in rows if {"F1", "H1"} & set(row.rules)]
    decode = subject.vendor.commands.decode
    told = {row.step: decode(step.words) for row in rows if isinstance(step := subject.steps[row.step][1], Invalidate)}
    structures = [r for r in rows if any(isinstance(each, DropsStructure) for each in told.get(r.step, ()))]
    assert any(row in caught for row in structures)
    assert next(row for row in rows if row.text.startswith("barrier")) in caught
    assert [row for row in rows if row.text.startswith("wait")][-1] in caught


@pytest.mark.parametrize(("vendor", "page_format", "features"), VENDORS)
def test_an_atc_that_is_emptied_too_early(vendor, page_format, features):
    """The device's command before that for its structures: it may ask for its translations again."""
    with leaving(vendor, page_format, features, fence=True) as subject:
        steps = list(subject.steps)
        decode = subject.vendor.commands.decode
        devices = [
            each
            for each in steps
            if isinstance(each[1], Invalidate)
            and any(isinstance(effect, Drops) and effect.device == 5 for effect in decode(each[1].words))
        ]
        assert devices and {step.what for _, step in steps if isinstance(step, StoreStructure)} == {"block"}
        first = next(i for i, (_, step) in enumerate(steps) if isinstance(step, Invalidate))
        early = [*steps[:first], *devices, *(each for each in steps[first:] if each not in devices)]
        assert "F1" in check(mutated(subject, early)).rules
