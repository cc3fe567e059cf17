"""Plans of each form before the exhaustive checker: clean as they are, broken under the expected rule when spoiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import pytest

from hitless.check import check
from hitless.check.stage import Setting, Stage, mutated
from hitless.check.subject import Subject
from hitless.guest_memfd.backing import GUEST, HOST
from hitless.plan import Invalidate, Section, Step, Store
from stand import G, K, M, registry

Steps = list[tuple[Section, Step]]

FEATURES = {
    "plain": {},
    "runs": {"contiguous": True},
    "bbml1": {"contiguous": True, "bbml": 1},
    "hardware-dirty": {"contiguous": True, "httu": True},
    "without-ril": {"contiguous": True, "ril": False, "coherent": False},
    "52-bit": {"contiguous": True, "ds": True, "ipa_bits": 52, "va_bits": 52, "output_bits": 52},
    "16K": {"contiguous": True, "granule": "16K", "bbml": 1},
    "64K": {"contiguous": True, "granule": "64K"},
}
HERE = G + 5 * M


@contextmanager
def planned(
    stage: int, features: dict[str, object], shared: int, size: int, owner: int, **setting: object
) -> Iterator[Subject]:
    """The plan for a range at HERE, with so much shared before (from HERE's 32M on); clean as it is."""
    vendor = registry("arm_smmu").resolve("arm_smmu", f"arm_smmu/stage{stage}", features)
    with Stage.open(vendor, Setting(**({"merge": "at_once"} | setting))) as here:
        if shared:
            here.share(HERE if shared < 2 * M else G, shared)
        (found,) = here.plans([(HERE, HERE + size)], owner)
        report = check(found)
        assert not report.violations, report.violations[0]
        yield found


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("shared", "owner"), [(0, HOST), (32 * M, GUEST)], ids=["to-shared", "to-private"])
def test_plans_are_clean(stage, name, shared, owner):
    """A page of a block, and of a run that is shared: no interleaving breaks a rule."""
    granule = {"16K": 16 * K, "64K": 64 * K}.get(name, 4 * K)
    with planned(stage, FEATURES[name], shared, granule, owner) as found:
        assert found.steps


def test_two_units_and_atcs():
    """The same behind two units, each with a device that has an ATC."""
    units = (((1, (8,)),), ((2, (9,)),))
    with planned(2, {"contiguous": True}, 32 * M, 4 * K, GUEST, units=units) as found:
        assert found.steps


# -- what the checker has to see


def spoil(found: Subject, change: Callable[[Step], Step | None]) -> list[str]:
    """The rules that a plan breaks with some steps changed, or left out (None); at least one must have been."""
    steps: Steps = []
    touched = 0
    for section, step in found.steps:
        new = change(step)
        touched += new is not step
        if new is not None:
            steps.append((section, new))
    assert touched
    return sorted({each.rule for each in check(mutated(found, steps)).violations})


def is_tlbi(step: Step) -> bool:
    """Whether a step is a stage 2 invalidation by address."""
    return isinstance(step, Invalidate) and step.words[0] & 0xFF == 0x2A


def with_fields(step: Step, mask: int, value: int) -> Step:
    """A TLBI with other bits in its second word."""
    assert isinstance(step, Invalidate)
    return attrs.evolve(step, words=(step.words[0], step.words[1] & ~mask | value))


def test_ttl_of_the_new_level():
    """After a cut of a block, TTL 3 leaves the cached block: the old memory stays reachable (ARM-TLBI-3)."""
    with planned(2, {}, 8 * M, 4 * K, GUEST) as found:
        assert "F1" in spoil(found, lambda step: with_fields(step, 3 << 8, 3 << 8) if is_tlbi(step) else step)


def test_leaf_only_after_a_pointer_went():
    """Leaf = 1 after a merge leaves the pointer to the table that is freed (ARM-TLBI-4)."""
    with planned(2, {}, 4 * K, 4 * K, GUEST) as found:
        assert "R1" in spoil(found, lambda step: with_fields(step, 1, 1) if is_tlbi(step) else step)


@pytest.mark.parametrize(("what", "shared", "owner"), [("cut", 0, HOST), ("merge", 4 * K, GUEST)])
def test_bbml_1_without_nt(what, shared, owner):
    """Block and table stand side by side without nT: two sizes may be cached for one address (ARM-LIVE-5)."""

    def without_nt(step: Step) -> Step | None:
        if not isinstance(step, Store) or not step.what.startswith(what):
            return step
        expected, new = (word & ~(1 << 16 if word & 3 == 1 else 0) for word in (step.expected, step.new))
        return attrs.evolve(step, expected=expected, new=new)

    with planned(2, {"bbml": 1}, shared, 4 * K, owner, trusted=True) as found:
        assert "K1" in spoil(found, without_nt)


def test_a_range_cut_short_of_a_run():
    """A run that hardware merged survives a range that leaves out a part of it (ARM-TLBI-8)."""

    def short(step: Step) -> Step:
        if not is_tlbi(step) or step.last - step.first + 1 != 64 * K:
            return step
        words = (step.words[0] & ~(0x1F << 12 | 0x1F << 20), step.words[1])
        return attrs.evolve(step, words=words, last=step.first + 4095)

    with planned(2, {"contiguous": True}, 64 * K, 4 * K, GUEST) as found:
        assert "F1" in spoil(found, short)


@pytest.mark.parametrize(("number", "rule"), [(0, "K1"), (2, "F1")], ids=["block-with-nt", "page"])
def test_an_invalidation_left_out(number, rule):
    """Without the one for nT two sizes stand in one cache; without the one for the page its old memory stays."""
    with planned(2, {"bbml": 1}, 8 * M, 4 * K, GUEST) as found:
        assert sum(is_tlbi(step) for _, step in found.steps) == 3
        left = iter(range(3))
        assert rule in spoil(found, lambda step: None if is_tlbi(step) and next(left) == number else step)


def test_the_device_before_the_wait():
    """ATC_INV before the TLBI has completed: the device refills from the old entry (ARM-SYNC-4)."""
    with planned(2, {}, 8 * M, 4 * K, GUEST, units=(((1, (8,)),),)) as found:
        late = [step for _, step in found.steps if isinstance(step, Invalidate) and step.words[0] & 0xFF == 0x40]
        assert late
        steps: Steps = []
        for section, step in found.steps:
            if step in late:
                # it goes to where its TLBI was, before the wait
                steps[len(steps) - 1 :] = [(section, step), steps[-1]]
            else:
                steps.append((section, step))
        assert check(mutated(found, steps)).violations
