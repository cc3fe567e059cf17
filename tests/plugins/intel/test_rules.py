"""Recipes, split rules and hardware facts for each feature that they depend on."""

import pytest

from hitless.refresh.recipes import KINDS, Recipe, Scope
from hitless_intel import plugin, rules
from hitless_intel.features import IntelFeatures
from hitless_intel.second_stage import SecondStage

OLD, NEW = 0x4000_0083, 0x1003


def rounds(recipe: object) -> list[tuple[int, Scope]]:
    """The words that a recipe stores, with what closes each round."""
    assert isinstance(recipe, Recipe)
    return [(each.word(OLD, NEW), each.scope) for each in recipe.rounds]


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        ("cut", Scope.LEAF),
        ("merge", Scope.TABLE),
        ("replace", Scope.LEAF),
        ("wipe", Scope.LEAF),
        ("map", Scope.NONE),
        ("prune", Scope.TABLE),
    ],
)
def test_every_change_is_one_store(kind, scope):
    """IH = 1 is enough where the old value was a leaf; a pointer that went needs IH = 0 (INTEL-LIVE-1 to 7)."""
    assert rounds(rules.recipes(IntelFeatures()).of(kind)) == [(NEW, scope)]


def test_with_caching_mode_a_map_is_invalidated():
    """Not-present results may be cached, and nothing else changes (INTEL-INV-6)."""
    plain, caching = (rules.recipes(IntelFeatures(caching_mode=on)) for on in (False, True))
    assert rounds(caching.map) == [(NEW, Scope.LEAF)]
    assert all(rounds(plain.of(kind)) == rounds(caching.of(kind)) for kind in KINDS if kind != "map")


@pytest.mark.parametrize(
    ("features", "sizes"),
    [
        (IntelFeatures(), (12, 21, 30)),
        (IntelFeatures(sslps_1g=False), (12, 21)),
        (IntelFeatures(sslps_2m=False), (12, 30)),
        (IntelFeatures(sslps_1g=False, sslps_2m=False), (12,)),
    ],
)
def test_leaf_sizes_follow_sslps(features, sizes):
    """Format and split rules both (INTEL-SS-7)."""
    fmt = plugin.page_formats(features)["intel/second-stage"]
    assert fmt.leaf_lg2s == sizes
    assert plugin.split_rules(fmt, features).leaf_lg2s == sizes


def test_hardware_facts():
    """No conflict, large leaves in pieces; caching mode and coherence as the unit reports (INTEL-INV-6, 7)."""
    facts = rules.hardware(IntelFeatures())
    assert (facts.size_conflict, facts.caches_not_present, facts.coherent) == (False, False, True)
    assert facts.pieces_lg2 == (12, 21)
    other = rules.hardware(IntelFeatures(caching_mode=True, coherent=False))
    assert (other.caches_not_present, other.coherent) == (True, False)


def test_features_reach_the_format():
    """HAW, snoop control and A/D updates (INTEL-SS-9, INTEL-SS-12, INTEL-SS-13)."""
    features = IntelFeatures(haw=46, snoop_control=False, ssads=True)
    fmt = plugin.page_formats(features)["intel/second-stage"]
    assert isinstance(fmt, SecondStage)
    assert fmt.oa_bits == 46
    assert fmt.default_attrs(3) == 0x33
    assert fmt.hardware_set(0) == 0x300


def test_features_reach_the_commands():
    """MAMV and draining (INTEL-QI-6, INTEL-WAIT-3)."""
    features = IntelFeatures(mamv=9, drain=False)
    fmt = plugin.page_formats(features)["intel/second-stage"]
    assert plugin.commands(fmt, features).invalidate_tag(1) == [(0x1_0022, 0)]


@pytest.mark.parametrize("wrong", [{"haw": 45}, {"mamv": 64}, {"version": 0}])
def test_values_that_no_register_reports_are_refused(wrong):
    """A legal value is one of those that the feature lists."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IntelFeatures(**wrong)
