"""The suite: which configurations are checked, what becomes of each scenario there, and orders of two plans."""

from itertools import combinations, product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.check.scenarios import SCENARIOS, Ground, Trial
from hitless.check.scenarios.beside import blocks, orders, side_by_side
from hitless.check.suite import check_on, check_row, feature_sets, scenario_named
from hitless.plan import Barrier, Invalidate, Store, Wait
from stand import registry

FORMATS = {
    "amd": ("amd/v1", "amd/v2"),
    "intel": ("intel/second-stage", "intel/first-stage"),
    "arm_smmu": ("arm_smmu/stage2", "arm_smmu/stage1"),
}
PLACES = [(vendor, name) for vendor, names in FORMATS.items() for name in names]


# -- which hardware there is, written down by hand


def amd_has(page_format: str, mode: int, hats: int, snp: bool) -> bool:
    """EFR.HATS says how many levels there are (48882, 3.4.10); under SNP the host's table is a v1 table (2.2.6)."""
    return mode <= {0: 4, 1: 5, 2: 6}[hats] and not (page_format == "amd/v2" and snp)


def arm_has(
    page_format: str,
    *,
    granule: str,
    ds: bool,
    va_bits: int,
    ipa_bits: int,
    output_bits: int,
    half: str,
    gpc: bool,
    contiguous: bool,
    httu: bool,
    bbml: int,
    rmm_bbml2: bool,
) -> bool:
    """52 bits come with the 64K granule or with DS, DS with 4K and 16K; an IPA is no wider than the output (3.4.1).

    The RMM keeps a realm's tables: 4K granules, no runs, AF set from the start; it folds live where BBML is 2.
    """
    wide = max(va_bits, ipa_bits, output_bits) > 48
    realm = half != "host"
    if realm and (not gpc or granule != "4K" or contiguous or httu):
        return False
    if rmm_bbml2 and not (realm and bbml == 2):
        return False
    if granule == "64K":
        return not ds and ipa_bits <= output_bits
    return (ds or not wide) and ipa_bits <= output_bits


def intel_has(
    page_format: str,
    *,
    mode: str,
    coherent: bool,
    ssads: bool,
    bits_62_61: str,
    sslps_1g: bool,
    sslps_2m: bool,
    aw: int,
    sagaw: int,
    first_stage_levels: int,
    fs5lp: bool,
    eafe: bool,
    half: str,
    sept_resize: str,
    trusted_ats: bool,
) -> bool:
    """CAP.SAGAW bits 1, 2, 3 are 39, 48, 57 bits; CAP.SLLPS bit 1 needs bit 0; hardware writes only where it snoops.

    The secure EPT holds the private half alone, and only trusted devices reach it.
    """
    if half == "shared" and (trusted_ats or sept_resize == "non-blocking"):
        return False
    if (ssads or bits_62_61 == "ir-iw") and mode == "legacy":
        return False
    if (ssads or eafe) and not coherent:
        return False
    if sslps_1g and not sslps_2m:
        return False
    if first_stage_levels == 5 and not fs5lp:
        return False
    return aw in [width for bit, width in ((2, 39), (4, 48), (8, 57)) if sagaw & bit]


HAS = {
    "amd": (amd_has, ("mode", "hats", "snp")),
    "arm_smmu": (
        arm_has,
        (
            *("granule", "ds", "va_bits", "ipa_bits", "output_bits"),
            *("half", "gpc", "contiguous", "httu", "bbml", "rmm_bbml2"),
        ),
    ),
    "intel": (
        intel_has,
        (
            *("mode", "coherent", "ssads", "bits_62_61", "sslps_1g", "sslps_2m"),
            *("aw", "sagaw", "first_stage_levels", "fs5lp", "eafe", "half", "sept_resize", "trusted_ats"),
        ),
    ),
}
"""Whether hardware has a combination, and the features that this depends on; all others go with everything."""


def values_of(vendor: str, page_format: str) -> dict[str, tuple]:
    """The values that each feature takes: its default only, where it does not matter to the format."""
    return {
        info.name: info.values if not info.formats or page_format in info.formats else (info.default,)
        for info in registry(vendor).features(vendor)
    }


def possible_pairs(vendor: str, page_format: str) -> set[tuple]:
    """By brute force over all that is not independent: pairs of values of two features that some hardware has."""
    has, names = HAS[vendor]
    values = values_of(vendor, page_format)
    legal = [
        chosen
        for each in product(*(values[name] for name in names))
        if has(page_format, **(chosen := dict(zip(names, each, strict=True))))
    ]
    single = {(name, chosen[name]) for chosen in legal for name in names}
    single |= {(name, value) for name in values if name not in names for value in values[name]}
    bound = {frozenset(pair) for chosen in legal for pair in combinations(chosen.items(), 2)}
    return {
        frozenset((one, other))
        for one, other in combinations(sorted(single, key=repr), 2)
        if one[0] != other[0] and (not {one[0], other[0]} <= set(names) or frozenset((one, other)) in bound)
    }


# -- configurations


@pytest.mark.parametrize(("vendor", "page_format"), PLACES)
def test_each_pair_that_hardware_has_is_covered_and_no_other(vendor, page_format):
    """Every pair of values of two features that some hardware has occurs; none does that no hardware has."""
    sets = feature_sets(registry(vendor), vendor, page_format)
    values = values_of(vendor, page_format)
    fixed = {name: each[0] for name, each in values.items() if len(each) == 1}
    covered = {frozenset(pair) for each in sets for pair in combinations((fixed | each).items(), 2)}
    assert covered == possible_pairs(vendor, page_format)


@pytest.mark.parametrize(("vendor", "page_format"), PLACES)
def test_no_configuration_is_impossible_or_comes_twice(vendor, page_format):
    """Each is one that some hardware has, and they are far fewer than there are."""
    has, names = HAS[vendor]
    defaults = {info.name: info.default for info in registry(vendor).features(vendor)}
    sets = feature_sets(registry(vendor), vendor, page_format)
    for each in sets:
        chosen = defaults | each
        assert has(page_format, **{name: chosen[name] for name in names}), each
    assert len({tuple(sorted(each.items())) for each in sets}) == len(sets) < 60


@pytest.mark.parametrize(("vendor", "page_format"), PLACES)
def test_the_default_comes_first(vendor, page_format):
    """As the features class has it, but for what the format cannot have."""
    first = feature_sets(registry(vendor), vendor, page_format)[0]
    defaults = {info.name: info.default for info in registry(vendor).features(vendor)}
    differs = {name for name, value in first.items() if value != defaults[name]}
    assert differs == ({"snp"} if page_format == "amd/v2" else set())


def test_all_is_every_legal_combination():
    """On request each combination that hardware has occurs exactly once."""
    sets = feature_sets(registry("amd"), "amd", "amd/v2", every=True)
    values = values_of("amd", "amd/v2")
    count = 1
    for name, each in values.items():
        count *= 1 if name == "snp" else len(each)  # only without SNP
    legal = [mode for mode in values["mode"] for hats in values["hats"] if mode <= 4 + hats]
    count = count // (len(values["mode"]) * len(values["hats"])) * len(legal)
    assert len(sets) == len({tuple(sorted(each.items())) for each in sets}) == count


# -- scenarios


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.id)
@pytest.mark.parametrize("vendor", FORMATS)
def test_no_scenario_breaks_a_rule(vendor, scenario):
    """On the vendor's default format and configuration: all hold, are refused rightly, or say why they do not apply."""
    row = check_row(registry(vendor), vendor, FORMATS[vendor][0], {}, scenario)
    assert not row.violations
    assert row.outcome in ("ok", "refused", "not_applicable")
    assert (row.outcome == "ok") == (not row.reason)
    assert (row.plans + row.trials > 0) == (row.outcome != "not_applicable")
    assert all(each.forced_rule for each in row.refusals)


@pytest.mark.parametrize("page_format", FORMATS["arm_smmu"])
def test_bbml_0_is_refused_and_forced_ends_in_a_neighbours_fault(page_format):
    """A block that devices use cannot be cut there; done all the same, DMA to a neighbour faults between two stores."""
    row = check_row(registry("arm_smmu"), "arm_smmu", page_format, {"bbml": 0}, scenario_named("one-page-in-2m"))
    assert (row.outcome, row.reason) == ("refused", "arm_smmu.bbml0-cut")
    assert {each.forced_rule for each in row.refusals} == {"N1"}
    assert "ARM-LIVE-4" in row.refusals[0].text
    assert row.broken
    assert all(each.forced and each.violation.rule == "N1" for each in row.broken)
    assert not row.violations


@pytest.mark.parametrize(("scenario", "granule"), [("scattered", "4K"), ("two-plans", "64K")])
def test_what_stands_before_a_plan_is_made_at_rest(scenario, granule):
    """A cut that only the way to a plan needs is no refusal of the plan."""
    features = {"bbml": 0, "granule": granule}
    row = check_row(registry("arm_smmu"), "arm_smmu", "arm_smmu/stage2", features, scenario_named(scenario))
    assert row.plans
    assert (row.outcome, row.refusals) == ("ok", [])


def test_a_smash_under_a_trusted_device_is_refused():
    """AMD: leaf and RMP entry cannot change their size at one moment; forced, the neighbours fault in between."""
    row = check_row(registry("amd"), "amd", "amd/v1", {}, scenario_named("trusted-page"))
    assert (row.outcome, row.reason) == ("refused", "amd.trusted-smash")
    assert {each.forced_rule for each in row.refusals} == {"N1"}


@pytest.mark.parametrize(
    ("vendor", "features", "scenario", "why"),
    [
        ("intel", {}, "no-snoop", "walkers snoop"),
        ("amd", {}, "caching-mode", "not-present entries are not cached"),
        ("amd", {}, "runs", "no leaf of several entries"),
        ("arm_smmu", {}, "raced-ad", "hardware marks nothing"),
        ("amd", {"mode": 1}, "one-page-in-1g", "21 bits"),
        ("arm_smmu", {"granule": "64K"}, "scattered", "0x10000"),
        ("intel", {"drain": False}, "one-page-in-2m", "INTEL-WAIT-3"),
    ],
)
def test_what_does_not_apply_says_why(vendor, features, scenario, why):
    """No scenario is left out in silence."""
    row = check_row(registry(vendor), vendor, FORMATS[vendor][0], features, scenario_named(scenario))
    assert row.outcome == "not_applicable"
    assert why in row.reason
    assert not row.violations


@pytest.mark.parametrize(
    ("vendor", "features", "scenario"),
    [
        ("intel", {"coherent": False}, "no-snoop"),
        ("intel", {"caching_mode": True}, "caching-mode"),
        ("amd", {"np_cache": True}, "caching-mode"),
        ("arm_smmu", {"contiguous": True}, "runs"),
        ("arm_smmu", {"httu": True}, "raced-ad"),
    ],
)
def test_what_a_feature_brings_applies_where_it_is_there(vendor, features, scenario):
    """The other side of the reasons above."""
    row = check_row(registry(vendor), vendor, FORMATS[vendor][0], features, scenario_named(scenario))
    assert (row.outcome, row.reason) == ("ok", "")


def test_what_a_configuration_fixes_no_scenario_changes():
    """A scenario that insists on other memory than the domain has does not apply."""
    ground = Ground(registry("intel").resolve("intel"), fixed={"backing": "in-place"})
    row = check_on(ground, {}, scenario_named("separate"))
    assert row.outcome == "ok"  # 'separate' is the default, so nobody insists on it
    row = check_on(ground, {}, scenario_named("scattered"))
    assert row.outcome == "not_applicable"
    assert "'in-place'" in row.reason


# -- orders


def plan(name: str, pieces: int) -> list[list]:
    """A plan in pieces of two stores each."""
    return [[f"{name}{2 * i}", f"{name}{2 * i + 1}"] for i in range(pieces)]


@given(st.integers(0, 5), st.integers(0, 5))
def test_orders_of_two_plans_are_all_there_are(one, other):
    """As many as the binomial says, no two alike, and each plan's own order kept."""
    found = [tuple(each) for each in orders(plan("a", one), plan("b", other))]
    assert len(found) == len(set(found)) == comb(one + other, one)
    for each in found:
        for name, pieces in (("a", one), ("b", other)):
            assert [step for step in each if step[0] == name] == [f"{name}{i}" for i in range(2 * pieces)]


STEPS = [
    Store(0x1000, 0, 1, 0, "map", 0, 0),
    Barrier(),
    Invalidate("u", 1, (1,), 0, 0xFFF),
    Invalidate("u", 1, (2,), 0, 0xFFF),
    Wait("u"),
    Wait("v"),
    Store(0x1008, 0, 1, 0, "map", 0, 0x1000),
]


def test_pieces_end_where_plans_meet_in_a_queue():
    """Commands stand apart from stores, each wait alone, and nothing is lost."""
    assert blocks(STEPS) == [STEPS[:2], STEPS[2:4], STEPS[4:5], STEPS[5:6], STEPS[6:]]


@given(st.lists(st.sampled_from(STEPS), max_size=12), st.lists(st.sampled_from(STEPS), max_size=12))
def test_long_plans_are_put_in_fewer_orders(one, other):
    """At most a hundred, the two plans one after the other among them."""
    found = list(side_by_side(one, other))
    assert 1 <= len(found) <= 100
    assert [*one, *other] in found
    assert [*other, *one] in found
    assert all(len(each) == len(one) + len(other) for each in found)


def test_two_plans_are_checked_in_every_order():
    """The scenario makes as many plans as there are orders of the pieces."""
    ground = Ground(registry("amd").resolve("amd"))
    cases = [each for attempt in scenario_named("two-plans").attempts[:1] for each in attempt(ground)]
    assert not any(isinstance(each, Trial) for each in cases)
    first = [step for _, step in cases[0].subject.steps]
    half = next(i for i in range(1, len(first)) if first[i:] + first[:i] == [s for _, s in cases[-1].subject.steps])
    assert len(cases) == comb(len(blocks(first[:half])) + len(blocks(first[half:])), len(blocks(first[:half])))
