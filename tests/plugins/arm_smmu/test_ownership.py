"""The granule protection table: verdicts and owner changes, from ARM-GPT-*."""

import pytest

from hitless.ownership import GUEST, HOST, Boundary, OwnerChange, OwnerTable
from hitless.plan import Own
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.ownership import Gpt

FIRMWARE = 2
GPT = Gpt(ArmSmmuFeatures())
PA = 0x4000_0000


def owners() -> OwnerTable:
    """1G of the guest with one shared page in it, and one page of firmware."""
    table = OwnerTable()
    GPT.initial(table, PA, PA + (1 << 30), GUEST, 30)
    table.set(PA + 0x5000, PA + 0x6000, HOST, 12)
    table.set(PA + 0x7000, PA + 0x8000, FIRMWARE, 12)
    return table


@pytest.mark.parametrize(
    ("offset", "trusted", "ok"),
    [
        (0x5000, False, True),
        (0x5FFF, False, True),
        (0x4FFF, False, False),
        (0x6000, False, False),
        (0x4FFF, True, True),
        (0x5000, True, True),
        (0x7000, False, False),
        (0x7000, True, False),
        (1 << 30, False, True),
    ],
)
@pytest.mark.parametrize("leaf_lg2", [12, 21, 30])
def test_each_granule_is_checked_by_itself(offset, trusted, ok, leaf_lg2):
    """The leaf's size does not matter; a trusted device reaches the guest's granules too (ARM-GPT-2, ARM-GPT-3)."""
    verdict = GPT.verdict(owners(), PA + offset, leaf_lg2, trusted)
    assert (verdict.ok, verdict.size_lg2) == (ok, 12)
    assert verdict.outcome == ("" if ok else "owner")
    assert bool(verdict.why) is not ok


@pytest.mark.parametrize("leaf_lg2", [12, 21, 30])
def test_without_the_check_all_is_allowed(leaf_lg2):
    """With GPCEN clear nothing is checked, and the whole leaf is cached (ARM-GPT-1)."""
    verdict = Gpt(ArmSmmuFeatures(gpc=False)).verdict(owners(), PA, leaf_lg2, trusted=False)
    assert verdict == (True, leaf_lg2, "", "")


@pytest.mark.parametrize("trusted", [False, True])
def test_owner_changes_are_one_step_each_and_never_refused(trusted):
    """A part of a large region changes alone, with its own invalidation (ARM-GPT-6)."""
    changes = [OwnerChange(PA + 0x1000, PA + 0x2000, HOST), OwnerChange(PA + 0x5000, PA + 0x6000, GUEST)]
    steps = GPT.own(owners(), changes, trusted=trusted, allow_break=False).own
    assert steps == [
        Own("GPT", PA + 0x1000, PA + 0x2000, HOST, 12, "iotlb+atc"),
        Own("GPT", PA + 0x5000, PA + 0x6000, GUEST, 12, "iotlb+atc"),
    ]


def test_steps_do_what_the_changes_ask():
    """Applied to the table they give the new owners, and leave the neighbours."""
    table = owners()
    for own in GPT.own(table, [OwnerChange(PA + 0x1000, PA + 0x2000, HOST)], trusted=False, allow_break=False).own:
        table.apply(own)
    assert [table.owner(PA + page * 0x1000) for page in range(3)] == [GUEST, HOST, GUEST]


def test_memory_starts_in_granules():
    """Initial memory is entered in 4K granules, whatever the hunk."""
    table = OwnerTable()
    GPT.initial(table, PA, PA + (1 << 30), GUEST, 30)
    assert table.sizes(PA, PA + (1 << 30)) == {12}
    assert table.uniform(PA, PA + (1 << 30)) == GUEST


def test_policies():
    """By default all is mapped and the check decides; wipe maps what the device may reach; neither wants edges."""
    assert GPT.default_policy == "check"
    assert {name: p.maps_private for name, p in GPT.policies.items()} == {"check": True, "wipe": False}
    assert {p.boundary for p in GPT.policies.values()} == {Boundary.NONE}
    assert {name: p.name for name, p in GPT.policies.items()} == {"check": "check", "wipe": "wipe"}


def test_verdict_is_cached_and_the_change_brings_its_own_invalidation():
    """Nothing is owed after an owner change where no entry changed (ARM-GPT-6)."""
    assert GPT.cached is True
    assert GPT.invalidate_after is False
