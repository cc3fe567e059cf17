"""What the plugin answers: formats, split rules, recipes and hardware facts, as its features say."""

import pytest

from hitless.errors import PluginError
from hitless.plugin import feature_infos
from hitless.refresh.recipes import KINDS, Recipe, Scope
from hitless_amd import plugin
from hitless_amd.features import AmdFeatures
from stand import registry

AMD = registry("amd")


def resolved(fmt: str = "amd/v1", **features: object):
    """The vendor record."""
    return AMD.resolve("amd", fmt, features=features)


@pytest.mark.parametrize(
    ("fmt", "features", "sizes"),
    [
        ("amd/v1", {}, [12, 21, 30]),
        ("amd/v1", {"size7": True}, range(12, 31)),
        ("amd/v1", {"mode": 2, "size7": True}, range(12, 30)),
        ("amd/v1", {"mode": 1}, [12]),
        ("amd/v1", {"mode": 6, "erratum_512g": False}, [12, 21, 30]),
        ("amd/v2", {}, [12, 21, 30]),
    ],
)
def test_what_the_planner_may_lay_out(fmt, features, sizes):
    """Default sizes up to 1G; runs where they are asked for; never 512G (AMD-LVL-3, AMD-LVL-4, AMD-LVL-12)."""
    assert resolved(fmt, **features).split_rules.leaf_lg2s == tuple(sizes)


def test_formats_follow_the_features():
    """Levels, C-bit, FC, HAD, NX, runs, growth."""
    v1 = resolved(mode=3, dynamic_top=True, hats=1, c_bit=51, force_coherent=False, rewrite_copies=True).page_format
    assert (v1.mode, v1.iova_bits, v1.width, v1.oa_bits, v1.run_mix) == (3, 39, 57, 51, True)
    assert v1.default_attrs(3) == 3 << 61 | 1 << 51
    assert v1.grown().grown().grown() is None
    assert resolved(had=0).page_format.hardware_set(0) == 0
    assert 39 in resolved(erratum_512g=False).page_format.leaf_lg2s
    v2 = resolved("amd/v2", guest_levels=5, sign_extended=True, nx=False, c_bit=47).page_format
    assert (len(v2.levels), v2.iova_bits, v2.oa_bits) == (5, 57, 47)
    assert v2.malformed(1 << 63 | 5, 0)


@pytest.mark.parametrize(("hats", "mode"), [(0, 5), (0, 6), (1, 6)])
def test_a_mode_that_the_unit_cannot_walk_is_refused(hats, mode):
    """EFR.HATS (AMD-LVL-14)."""
    (fault,) = AMD.feature_faults("amd", {"hats": hats, "mode": mode})
    assert "AMD-LVL-14" in fault
    with pytest.raises(PluginError, match="features"):
        resolved(hats=hats, mode=mode)


@pytest.mark.parametrize("hats", [0, 1, 2])
def test_modes_that_the_unit_can_walk(hats):
    """Up to its last level nothing is impossible."""
    assert not any(AmdFeatures(hats=hats, mode=mode).impossible() for mode in range(1, 5 + hats))


@pytest.mark.parametrize("fmt", ["amd/v1", "amd/v2"])
@pytest.mark.parametrize("np_cache", [False, True])
def test_recipes(fmt, np_cache):
    """One store each (AMD-LIVE-1 to 3); pointers are invalidated where one went; a new entry only with NpCache."""
    recipes = resolved(fmt, np_cache=np_cache).recipes
    tables = {"merge", "prune"}
    for kind in KINDS:
        recipe = recipes.of(kind)
        assert isinstance(recipe, Recipe)
        (only,) = recipe.rounds
        assert only.word(0x1111, 0x2222) == 0x2222
        if kind == "map":
            assert only.scope is (Scope.LEAF if np_cache else Scope.NONE)
        else:
            assert only.scope is (Scope.TABLE if kind in tables else Scope.LEAF)
    facts = resolved(fmt, np_cache=np_cache).hardware
    assert (facts.caches_not_present, facts.size_conflict, facts.address_conflict) == (np_cache, False, False)


def test_features_name_the_formats_that_they_matter_to():
    """Formats that exist."""
    named = {fmt for info in feature_infos(AmdFeatures) for fmt in info.formats}
    assert named == set(plugin.page_formats(AmdFeatures()))
