"""Live entries, declared hardware and owners, against RISCV-LIVE-*, RISCV-NAPOT-* and RISCV-MTT-*."""

import pytest

from hitless.ownership import GUEST, HOST, OwnerChange, OwnerTable
from hitless.plugin import impossible
from hitless.refresh.recipes import Impossible, Recipe, Scope
from hitless_riscv.features import RiscvFeatures

OLD, NEW = 0x1000_0017, 0x2000_0017


def rounds(recipe):
    """The word and the scope of each round."""
    return [(each.word(OLD, NEW), each.scope) for each in recipe.rounds]


def test_recipes(resolved):
    """Sizes change with one store; all else of a valid leaf goes by V = 0 (RISCV-LIVE-1, RISCV-LIVE-3)."""
    recipes = resolved().recipes
    assert rounds(recipes.cut) == [(NEW, Scope.LEAF)]
    assert rounds(recipes.merge) == [(NEW, Scope.TABLE)]
    assert rounds(recipes.replace) == [(0, Scope.LEAF), (NEW, Scope.NONE)]
    assert rounds(recipes.wipe) == [(NEW, Scope.LEAF)]
    assert rounds(recipes.map) == [(NEW, Scope.NONE)]
    assert rounds(recipes.prune) == [(NEW, Scope.TABLE)]
    assert rounds(resolved(direct_change=True).recipes.replace) == [(NEW, Scope.LEAF)]


def test_the_one_refusal(resolved):
    """A run is taken apart entry by entry where a mix is harmless, else refused (RISCV-NAPOT-5, RISCV-NAPOT-6)."""
    assert isinstance(resolved().recipes.resize, Recipe)
    recipes = resolved(napot=True, napot_mix=False).recipes
    assert isinstance(recipes.resize, Impossible)
    assert (recipes.resize.reason, rounds(recipes.resize.breaking)[0]) == ("riscv.napot-resize", (0, Scope.LEAF))
    others = (recipes.cut, recipes.merge, recipes.replace, recipes.wipe, recipes.map, recipes.prune)
    assert all(isinstance(each, Recipe) for each in others)


def test_leaves_that_are_laid_out(resolved):
    """4K, 2M and 1G, and runs if they are asked for; never a leaf larger than a hunk."""
    assert resolved().split_rules.leaf_lg2s == (12, 21, 30)
    assert resolved(napot=True).split_rules.leaf_lg2s == (12, 16, 21, 30)
    assert resolved("riscv/stage1", mode="sv57").split_rules.leaf_lg2s == (12, 21, 30)


def test_hardware(resolved):
    """No conflict of sizes; one of addresses unless a direct change is specified (RISCV-LIVE-2, RISCV-LIVE-3)."""
    facts, direct = resolved().hardware, resolved(direct_change=True).hardware
    assert (facts.size_conflict, facts.address_conflict, facts.size_address_conflict) == (False, True, True)
    assert (direct.address_conflict, direct.size_address_conflict) == (False, True)
    assert not facts.caches_not_present and not facts.caches_bad_structures and not facts.atc_in_order


def test_combinations_that_no_unit_has():
    """A mode wider than the widest (RISCV-CAP-1)."""
    assert "RISCV-CAP-1" in impossible(RiscvFeatures(mode="sv57", widest="sv48"))
    assert impossible(RiscvFeatures(mode="sv39", widest="sv39")) is None


@pytest.mark.parametrize(
    ("owner", "trusted", "granted"),
    [(HOST, False, True), (HOST, True, True), (GUEST, False, False), (GUEST, True, True)],
)
def test_the_mpt_checks_each_piece(resolved, owner, trusted, granted):
    """Beside a page of another owner, under one large leaf, for each device (RISCV-MTT-4, RISCV-MTT-5, RISCV-MTT-7)."""
    mpt, table = resolved().ownership, OwnerTable()
    change = OwnerChange(0x5000, 0x6000, owner)
    for own in mpt.own(table, [change], trusted=trusted, allow_break=False).own:
        table.apply(own)
    found = mpt.verdict(table, 0x5000, 21, trusted)
    assert (found.ok, found.size_lg2, found.outcome) == (granted, 12, "" if granted else "owner")
    assert mpt.verdict(table, 0x4000, 21, trusted).ok
    assert not mpt.cached


def test_without_the_mpt_only_unmapping_keeps_devices_out(resolved):
    """No check, no owner table, policy wipe alone."""
    mpt = resolved(smmtt=False).ownership
    assert (list(mpt.policies), mpt.default_policy) == (["wipe"], "wipe")
    made = mpt.own(OwnerTable(), [OwnerChange(0, 0x1000, GUEST)], trusted=False, allow_break=False)
    assert not any(made)
