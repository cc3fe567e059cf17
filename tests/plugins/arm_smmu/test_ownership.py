"""The granule protection table: verdicts and owner changes, from ARM-GPT-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.ownership import FIRMWARE, GUEST, HOST, OTHER_GUEST, Boundary, OwnerChange, OwnerTable
from hitless.plan import Own
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.ownership import Gpt

GPT = Gpt(ArmSmmuFeatures())
PA = 0x4000_0000
PAGE, M2, M32, M512 = 1 << 12, 1 << 21, 1 << 25, 1 << 29


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


def test_one_realm_is_like_another():
    """The GPT has one Realm state: a Realm access passes it, whosever the granule is (ARM-GPT-13)."""
    table = OwnerTable()
    table.set(PA, PA + PAGE, OTHER_GUEST, 12)
    assert GPT.verdict(table, PA, 12, trusted=True).ok
    assert not GPT.verdict(table, PA, 12, trusted=False).ok


@pytest.mark.parametrize("trusted", [False, True])
def test_a_page_shatters_what_it_stands_in(trusted):
    """512M to 32M, 32M to 2M, 2M to granules, each with the block's own invalidation; then the granule (ARM-GPT-7)."""
    table = OwnerTable()
    GPT.initial(table, PA, PA + (1 << 30), GUEST, 30)
    assert table.sizes(PA, PA + (1 << 30)) == {29}
    changes = [OwnerChange(PA + 0x1000, PA + 0x2000, HOST)]
    assert GPT.own(table, changes, trusted=trusted, allow_break=False).own == [
        Own("GPT_SHATTER", PA, PA + M512, GUEST, 25, "iotlb+atc"),
        Own("GPT_SHATTER", PA, PA + M32, GUEST, 21, "iotlb+atc"),
        Own("GPT_SHATTER", PA, PA + M2, GUEST, 12, "iotlb+atc"),
        Own("GPT", PA + 0x1000, PA + 0x2000, HOST, 12, "iotlb+atc"),
    ]
    assert table.sizes(PA, PA + (1 << 30)) == {29}, "the table that was asked about is as before"


def test_the_last_page_fuses_what_it_completes():
    """Granules to 2M, 2M to 32M, 32M to 512M, as far as all beside has one state (ARM-GPT-15)."""
    table = OwnerTable()
    GPT.initial(table, PA, PA + (1 << 30), GUEST, 30)
    for owner in (HOST, GUEST):
        steps = GPT.own(table, [OwnerChange(PA, PA + PAGE, owner)], trusted=False, allow_break=False).own
        for own in steps:
            table.apply(own)
    assert steps == [
        Own("GPT", PA, PA + PAGE, GUEST, 12, "iotlb+atc"),
        Own("GPT_FUSE", PA, PA + M2, GUEST, 21, "iotlb+atc"),
        Own("GPT_FUSE", PA, PA + M32, GUEST, 25, "iotlb+atc"),
        Own("GPT_FUSE", PA, PA + M512, GUEST, 29, "iotlb+atc"),
    ]


def test_whole_blocks_are_not_shattered():
    """What converts as a whole is written anew."""
    table = OwnerTable()
    GPT.initial(table, PA, PA + (1 << 30), GUEST, 30)
    steps = GPT.own(table, [OwnerChange(PA, PA + M512, HOST)], trusted=False, allow_break=False).own
    assert [own.op for own in steps] == ["GPT", "GPT_FUSE", "GPT_FUSE", "GPT_FUSE"]
    assert {(own.start_pa, own.end_pa) for own in steps} == {(PA, PA + M512)}


@pytest.mark.parametrize(("block", "sizes"), [("4K", {12}), ("2M", {21}), ("32M", {25}), ("512M", {29})])
def test_the_largest_entry_is_firmwares_choice(block, sizes):
    """Initial memory is entered in the largest entries that firmware writes (ARM-GPT-15)."""
    table = OwnerTable()
    Gpt(ArmSmmuFeatures(gpt_block=block)).initial(table, PA, PA + (1 << 30), GUEST, 30)
    assert table.sizes(PA, PA + (1 << 30)) == sizes
    assert table.uniform(PA, PA + (1 << 30)) == GUEST


def test_entries_are_no_larger_than_what_they_may_be():
    """A hunk of 2M is entered in 2M; what is no whole block in smaller ones."""
    table = OwnerTable()
    GPT.initial(table, PA + PAGE, PA + 2 * M2, GUEST, 21)
    assert list(table.entries(PA, PA + 2 * M2))[1:] == [
        (PA + PAGE, PA + M2, GUEST, 12),
        (PA + M2, PA + 2 * M2, GUEST, 21),
    ]


@given(st.lists(st.tuples(st.integers(0, 1535), st.integers(1, 700), st.sampled_from([HOST, GUEST])), max_size=8))
def test_changes_do_what_they_say_and_entries_stay_true(conversions):
    """Against a plain list of owners: each page has its last owner, and every entry is aligned and of one owner."""
    table, plain = OwnerTable(), [HOST] * 2048
    for first, most, owner in conversions:
        count = min(most, 2048 - first)
        change = OwnerChange(PA + first * PAGE, PA + (first + count) * PAGE, owner)
        for own in GPT.own(table, [change], trusted=False, allow_break=False).own:
            table.apply(own)
        plain[first : first + count] = [owner] * count
        assert [table.owner(PA + page * PAGE) for page in range(2048)] == plain
        for start, end, _, lg2 in table.entries(PA, PA + 2048 * PAGE):
            assert start % (1 << lg2) == end % (1 << lg2) == 0


def test_what_units_do_not_check_again_is_owed():
    """If the change ends only what units hold, an invalidation is owed, devices' translations included (ARM-GPT-16)."""
    gpt = Gpt(ArmSmmuFeatures(gpt_drops="iotlb"))
    assert gpt.invalidate_after
    (own,) = gpt.own(owners(), [OwnerChange(PA + 0x5000, PA + 0x6000, GUEST)], trusted=False, allow_break=False).own[
        -1:
    ]
    assert own.drops == "iotlb"


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
