"""Recipes, split rules and hardware facts for each feature that they depend on."""

import pytest

from hitless.plugin import feature_infos
from hitless.refresh.recipes import KINDS, Recipe, Scope
from hitless_intel import plugin, rules
from hitless_intel.features import IntelFeatures
from hitless_intel.first_stage import FirstStage
from hitless_intel.second_stage import SecondStage

SECOND, FIRST = SecondStage(), FirstStage()
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
@pytest.mark.parametrize("fmt", [SECOND, FIRST])
def test_every_change_is_one_store(kind, scope, fmt):
    """IH = 1 is enough where the old value was a leaf; a pointer that went needs IH = 0 (INTEL-LIVE-1 to 7)."""
    assert rounds(rules.recipes(fmt, IntelFeatures()).of(kind)) == [(NEW, scope)]


def test_with_caching_mode_a_map_is_invalidated():
    """Not-present results may be cached, and nothing else changes (INTEL-INV-6)."""
    plain, caching = (rules.recipes(SECOND, IntelFeatures(caching_mode=on)) for on in (False, True))
    assert rounds(caching.map) == [(NEW, Scope.LEAF)]
    assert all(rounds(plain.of(kind)) == rounds(caching.of(kind)) for kind in KINDS if kind != "map")


def test_first_stage_entries_that_are_not_present_are_never_cached():
    """With caching mode neither: a map needs no invalidation, the hardware facts say the same (INTEL-INV-15)."""
    caching = IntelFeatures(caching_mode=True)
    assert rounds(rules.recipes(FIRST, caching).map) == [(NEW, Scope.NONE)]
    assert not rules.hardware(FIRST, caching).caches_not_present
    assert rules.hardware(SECOND, caching).caches_not_present


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
    facts = rules.hardware(SECOND, IntelFeatures())
    assert (facts.size_conflict, facts.caches_not_present, facts.coherent) == (False, False, True)
    assert facts.pieces_lg2 == (12, 21)
    assert (facts.size_address_conflict, facts.address_conflict) == (True, False)
    assert facts.atc_in_order
    assert not facts.caches_bad_structures
    other = rules.hardware(SECOND, IntelFeatures(caching_mode=True, coherent=False))
    assert other.caches_bad_structures
    assert (other.caches_not_present, other.coherent) == (True, False)


def test_features_reach_the_format():
    """HAW, snoop control and A/D updates (INTEL-SS-9, INTEL-SS-12, INTEL-SS-13)."""
    features = IntelFeatures(haw=46, snoop_control=False, ssads=True)
    fmt = plugin.page_formats(features)["intel/second-stage"]
    assert isinstance(fmt, SecondStage)
    assert fmt.oa_bits == 46
    assert fmt.default_attrs(3) == 0x33
    assert fmt.hardware_set(0) == 0x300


@pytest.mark.parametrize(("fs1gp", "sizes"), [(True, (12, 21, 30)), (False, (12, 21))])
def test_first_stage_leaf_sizes_follow_fs1gp(fs1gp, sizes):
    """2 MiB always (INTEL-FS-6)."""
    features = IntelFeatures(fs1gp=fs1gp)
    fmt = plugin.page_formats(features)["intel/first-stage"]
    assert fmt.leaf_lg2s == sizes
    assert plugin.split_rules(fmt, features).leaf_lg2s == sizes


def test_widths_and_levels_reach_the_formats():
    """AW, MGAW and HAW; FSPM, EAFE and XD (INTEL-SS-16, INTEL-SS-19, INTEL-FS-7, INTEL-FS-9, INTEL-FS-10)."""
    features = IntelFeatures(aw=57, mgaw=52, haw=46, first_stage_levels=5, eafe=True, execute_disable=True)
    formats = plugin.page_formats(features)
    second, first = formats["intel/second-stage"], formats["intel/first-stage"]
    assert (len(second.levels), second.iova_bits, second.oa_bits) == (5, 52, 46)
    assert (len(first.levels), first.iova_bits, first.oa_bits) == (5, 57, 46)
    assert first.hardware_set(0) == 0x460
    assert first.attrs(1 << 63, 0) == 1 << 63


def test_the_second_stage_is_the_default_format():
    """It comes first; the kit and configurations take it where none is named."""
    assert list(plugin.page_formats(IntelFeatures())) == ["intel/second-stage", "intel/first-stage"]


@pytest.mark.parametrize(
    ("features", "fact"),
    [
        ({"ssads": True}, "INTEL-SS-13"),
        ({"ssads": True, "mode": "scalable", "coherent": False}, "INTEL-SS-20"),
        ({"bits_62_61": "ir-iw"}, "INTEL-SS-15"),
        ({"sslps_2m": False}, "INTEL-SS-21"),
        ({"sagaw": 0x2}, "INTEL-SS-18"),
        ({"aw": 57, "sagaw": 0x6}, "INTEL-SS-18"),
        ({"first_stage_levels": 5, "fs5lp": False}, "INTEL-FS-7"),
        ({"eafe": True, "coherent": False}, "INTEL-FS-11"),
        ({"sept_resize": "non-blocking"}, "INTEL-TDX-2"),
        ({"trusted_ats": True}, "INTEL-TDX-10"),
    ],
)
def test_combinations_that_no_unit_has(features, fact):
    """Each with its sentence and fact."""
    assert fact in IntelFeatures(**features).impossible()


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"ssads": True, "mode": "scalable"},
        {"bits_62_61": "ir-iw", "mode": "scalable"},
        {"bits_62_61": "tm"},
        {"sslps_2m": False, "sslps_1g": False},
        {"aw": 39, "sagaw": 0x2},
        {"first_stage_levels": 5},
        {"eafe": True},
        {"coherent": False},
        {"version": 1, "drain": False},
    ],
)
def test_combinations_that_there_are(features):
    """Among them an old unit that cannot drain (INTEL-WAIT-3)."""
    assert IntelFeatures(**features).impossible() is None


def test_each_feature_says_which_formats_it_matters_to():
    """Names of formats that there are; what a structure of either format may hold matters to both."""
    infos = {info.name: info for info in feature_infos(IntelFeatures)}
    names = set(plugin.page_formats(IntelFeatures()))
    assert all(set(info.formats) <= names for info in infos.values())
    assert infos["fs1gp"].formats == ("intel/first-stage",)
    assert infos["ssads"].formats == ("intel/second-stage",)
    assert infos["mamv"].formats == ()
    tdx = {"half", "sept_resize", "stale_dma", "trusted_ats"}
    assert {name for name, info in infos.items() if info.unconfirmed} == {"bits_62_61", "execute_disable"} | tdx


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
