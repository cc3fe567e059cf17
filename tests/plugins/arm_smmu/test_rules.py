"""Recipes, split rules and hardware facts for each feature that they depend on."""

import pytest

from hitless.refresh.recipes import Impossible, Recipe, Scope
from hitless_arm_smmu import rules
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config

NT = 1 << 16
BLOCK, TABLE, OTHER = 0x4000_07FD, 0x1003, 0x8000_07FD


def rounds(recipe: object, old: int, new: int) -> list[tuple[int, Scope]]:
    """The words that a recipe stores, with what closes each round."""
    assert isinstance(recipe, Recipe)
    return [(each.word(old, new), each.scope) for each in recipe.rounds]


def of(bbml: int) -> rules.Recipes:
    """The recipes at a BBML."""
    return rules.recipes(ArmSmmuFeatures(bbml=bbml))


def test_bbml_2_changes_sizes_by_one_store():
    """A cut owes the old leaf, a merge the table that went (ARM-LIVE-7, ARM-TLBI-11)."""
    assert rounds(of(2).cut, BLOCK, TABLE) == [(TABLE, Scope.LEAF)]
    assert rounds(of(2).merge, TABLE, BLOCK) == [(BLOCK, Scope.TABLE)]


def test_bbml_1_changes_sizes_by_way_of_nt():
    """A cut marks the old block, a merge the new one, and each round is invalidated (ARM-LIVE-5, ARM-LIVE-6)."""
    assert rounds(of(1).cut, BLOCK, TABLE) == [(BLOCK | NT, Scope.LEAF), (TABLE, Scope.LEAF)]
    assert rounds(of(1).merge, TABLE, BLOCK) == [(BLOCK | NT, Scope.TABLE), (BLOCK, Scope.LEAF)]


def test_bbml_1_words_are_legal_and_translate_alike():
    """The words between are legal blocks of the same address and attributes (W1, N2)."""
    fmt = ArmStage2(Stage2Config(bbml=1))
    for recipe, old, new in ((of(1).cut, BLOCK, TABLE), (of(1).merge, TABLE, BLOCK)):
        first = rounds(recipe, old, new)[0][0]
        assert not fmt.faults(first, 2)
        assert (fmt.leaf_oa(first, 2), fmt.attrs(first, 2)) == (0x4000_0000, 0x7FC)
        assert not fmt.cacheable(first, 2)


@pytest.mark.parametrize(("kind", "scope"), [("cut", Scope.LEAF), ("merge", Scope.TABLE), ("resize", Scope.LEAF)])
def test_bbml_0_refuses_to_change_sizes(kind, scope):
    """There is no hitless way, and breaking takes what was there before it stores the new word (ARM-LIVE-4)."""
    refused = of(0).of(kind)
    assert isinstance(refused, Impossible)
    assert refused.reason == f"arm_smmu.bbml0-{kind}"
    assert "allow_break" in refused.do
    assert rounds(refused.breaking, BLOCK, TABLE) == [(0, scope), (TABLE, Scope.NONE)]


@pytest.mark.parametrize("bbml", [0, 1, 2])
def test_what_bbml_does_not_change(bbml):
    """A new address is break-before-make everywhere; a leaf or table that goes is dropped; one that comes is not."""
    found = of(bbml)
    assert rounds(found.replace, BLOCK, OTHER) == [(0, Scope.LEAF), (OTHER, Scope.NONE)]
    assert rounds(found.wipe, BLOCK, 0) == [(0, Scope.LEAF)]
    assert rounds(found.map, 0, BLOCK) == [(BLOCK, Scope.NONE)]
    assert rounds(found.prune, TABLE, 0) == [(0, Scope.TABLE)]


@pytest.mark.parametrize("bbml", [1, 2])
def test_runs_are_resized_in_place(bbml):
    """The Contiguous bit changes by one store an entry, and the whole run is invalidated (ARM-LIVE-11)."""
    run, page = 0x10_0000_0000_07FF, 0x7FF
    assert rounds(of(bbml).resize, run, page) == [(page, Scope.LEAF)]


def test_split_rules_are_the_formats_sizes():
    """Pages and blocks may be laid out, runs only where they are asked for (ARM-LVL-2, ARM-LVL-3)."""
    assert rules.split_rules(ArmStage2(), ArmSmmuFeatures()).leaf_lg2s == (12, 21, 30)
    assert rules.split_rules(ArmStage2(), ArmSmmuFeatures(contiguous=True)).leaf_lg2s == (12, 16, 21, 25, 30, 34)
    wide = ArmStage2(Stage2Config(granule_lg2=16))
    assert rules.split_rules(wide, ArmSmmuFeatures(contiguous=True)).leaf_lg2s == (16, 21, 29, 34)


@pytest.mark.parametrize(("bbml", "conflict", "runs"), [(0, True, True), (1, True, False), (2, False, False)])
def test_conflicts_end_with_bbml_2(bbml, conflict, runs):
    """Only BBML 2 rules a conflict out, and BBML 1 one of runs; invalid descriptors are never cached.

    Facts: ARM-LIVE-7, ARM-LIVE-11, ARM-TLBI-10.
    """
    facts = rules.hardware(ArmSmmuFeatures(bbml=bbml))
    assert (facts.size_conflict, facts.run_conflict) == (conflict, runs)
    assert facts.caches_bad_structures
    assert not facts.caches_not_present
    assert facts.pieces_lg2 == ()


@pytest.mark.parametrize("coherent", [False, True])
def test_coherence_is_the_units(coherent):
    """COHACC decides whether walks snoop."""
    assert rules.hardware(ArmSmmuFeatures(coherent=coherent)).coherent is coherent
