"""The deletion test: what a plan can do without, and what it cannot."""

from collections import defaultdict

import pytest

from hitless.check import check
from hitless.check.deletion import MANY, run_deletions
from hitless.check.mutants import situations
from hitless.check.mutants.running import nearby_of
from hitless.check.stage import Unfit
from hitless.errors import Refused
from hitless.plan import Barrier, Clean, Fill, Invalidate, Store, Wait
from hitless.plugin import VendorRegistry

FORMATS = (
    ("amd", "amd/v1", {}),
    ("amd", "amd/v2", {}),
    ("arm_smmu", "arm_smmu/stage1", {}),
    ("arm_smmu", "arm_smmu/stage2", {}),
    ("intel", "intel/first-stage", {}),
    ("intel", "intel/second-stage", {"mode": "legacy"}),
    ("intel", "intel/second-stage", {"mode": "scalable"}),
)
SUPERFLUOUS = {
    ("any", "isolate", "wait"): "the cut's wait: the next wait covers both, where no boundary has to stand before",
    ("any", "prepare", "barrier"): "nothing but the converted page is translated by the new tables",
    ("any", "refresh", "barrier"): "the merge's barrier covers the store before it",
    ("amd/v1", "refresh", "invalidate"): "private to shared in place: a refusal is not cached, so nothing is owed",
    ("amd/v2", "isolate", "invalidate"): "a later command to the device touches the leaf, which goes as a whole",
    ("arm_smmu/stage2", "isolate", "invalidate-all"): "the refresh's command takes all that was made of both stages",
    ("arm_smmu", "refresh", "store"): "this device reaches the private page no more than an empty entry",
}
"""All that right plans can do without, and why; by format or vendor, section and step."""


def record(vendor, page_format, **features):
    """The vendor on default features, or the nearest that can be set up; and the format of a guest's tables over it."""
    found, nearby = nearby_of(VendorRegistry.installed([vendor]), vendor, page_format, features)
    return found, nearby.upper(found)


def deletions(found, situation):
    """Every deletion of one plan."""
    vendor, upper = found
    with situation.opened(vendor, upper=upper if situation.setting.nested else None) as (stage, sizes):
        subject = situation.take(stage, sizes)
        assert check(subject).rules == ()
        return list(run_deletions(subject)), subject


def word(row):
    """The kind of a row's step: the first word of its text."""
    return row.text.split()[0]


def kind(row, subject):
    """What a row is filed under: its section, and the word of its step; commands to all addresses are their own."""
    step = subject.steps[row.step][1]
    everything = isinstance(step, Invalidate) and (step.first, step.last) == (0, 2**64 - 1)
    return row.section, word(row) + "-all" * everything


def test_amd_needs_every_step_of_a_cut():
    """One page of a 2M leaf, boundaries demanded: leaving any step out breaks a rule."""
    rows, subject = deletions(record("amd", "amd/v1"), situations.HIDE)
    steps = [step for _, step in subject.steps if isinstance(step, Store | Barrier | Clean | Invalidate | Wait)]
    assert len(rows) == len(steps) == 9
    assert {row.outcome for row in rows} == {"caught"}
    by_step = {(row.section, word(row)): set(row.rules) for row in rows}
    assert by_step["prepare", "barrier"] == {"N1"}
    assert "B1" in by_step["isolate", "invalidate"]
    assert by_step["isolate", "wait"] == {"B1"}
    assert {"F1", "H1"} <= by_step["refresh", "wait"]


def test_what_is_left_out_is_one_step():
    """A row names the step by number, section and text, and stands for itself in a short plan."""
    rows, subject = deletions(record("intel", "intel/second-stage"), situations.HIDE)
    for row in rows:
        section, step = subject.steps[row.step]
        assert (row.section, row.of) == (section, 1)
        assert word(row) == type(step).__name__.lower()
    assert not any(isinstance(subject.steps[row.step][1], Fill) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("vendor", "page_format", "features"), FORMATS)
def test_right_plans_waste_only_what_is_known(vendor, page_format, features):
    """Over all situations, a step that is superfluous is one of a short list, each with its reason."""
    found = record(vendor, page_format, **features)
    kinds, caught, unfit = defaultdict(set), 0, set()
    for situation in situations.SITUATIONS:
        if situation.why_not(found[0]):
            continue
        try:
            rows, subject = deletions(found, situation)
        except Refused:
            continue
        except Unfit:
            unfit.add(situation.id)
            continue
        caught += sum(row.outcome == "caught" for row in rows)
        for row in rows:
            if row.outcome == "superfluous":
                kinds[kind(row, subject)].add(situation.id)
    unknown = {
        each: ids
        for each, ids in kinds.items()
        if not any((who, *each) in SUPERFLUOUS for who in ("any", vendor, page_format))
    }
    assert unknown == {}
    assert unfit == ({"nested"} if features == {"mode": "legacy"} else set())
    assert caught > 100


def test_a_long_plan_is_sampled_and_says_so():
    """A plan of more steps than one wants to leave out one by one: first, middle and last of each kind."""
    rows, subject = deletions(record("arm_smmu", "arm_smmu/stage2", ril=False), situations.MERGE)
    assert len(subject.steps) > MANY
    assert len(rows) < 40
    sampled = [row for row in rows if row.of > 1]
    assert [row.of for row in sampled if word(row) == "invalidate"].count(513) == 3


def test_a_granule_that_is_spared_is_seen():
    """Without RIL a merge takes 512 commands; any one left out leaves a page in the TLB for the next plan to miss."""
    rows, _ = deletions(record("arm_smmu", "arm_smmu/stage2", ril=False), situations.MERGE)
    of_merge = [row for row in rows if word(row) == "invalidate"][1:]
    assert [row.of for row in of_merge] == [513, 513]
    assert [row.rules for row in of_merge] == [("F2",), ("F2",)]


def test_the_second_invalidation_of_bbml_1_is_needed():
    """The block with nT may be cached all the same, so the table's own TLBI is no luxury (ARM-DESC-9)."""
    rows, subject = deletions(record("arm_smmu", "arm_smmu/stage2", bbml=1), situations.HIDE)
    linked = next(i for i, (_, step) in enumerate(subject.steps) if isinstance(step, Store) and step.what == "cut-2")
    behind = next(row for row in rows if row.step > linked and word(row) == "invalidate")
    assert "F1" in behind.rules
