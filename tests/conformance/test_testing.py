"""``hitless.testing``: outcomes that assert and print themselves."""

import pytest

from hitless.pagetable import WalkFault
from hitless.plugin import VendorRegistry
from hitless.testing import Bench, RuleOutcome, Translated

pytest_plugins = ["hitless.testing"]


@pytest.fixture
def bench(iommu_bench) -> Bench:
    """A guest of amd's default configuration."""
    return iommu_bench(VendorRegistry.installed(["amd"]).resolve("amd"))


def test_a_conversion_tells_what_it_did(bench):
    """The plan is counted and printed; a page that was hidden and shared leads where guest_memfd holds it."""
    bench.share(0, bench.memory).assert_hitless()
    assert bench.leaves == {"2M": 32}
    hidden = bench.hide(0x5000).assert_hitless().assert_cut()
    assert "store cut" in str(hidden)
    assert bench.leaves == {"4K": 512, "2M": 31}
    bench.share(0x5000).assert_hitless().assert_merged()
    assert str(bench.translate(0x5000)) == f"0x5000 leads to {bench.pa(0x5000):#x} through a leaf of 2M"
    bench.translate(0x5000).assert_reaches(bench.pa(0x5000))


def test_outcomes_fail_with_their_own_text(bench):
    """What an assertion prints is the outcome."""
    bench.share(0, bench.memory)
    with pytest.raises(AssertionError, match="leads to 0x"):
        bench.translate(0x5000).assert_faults()
    with pytest.raises(AssertionError, match="store cut"):
        bench.hide(0x5000).assert_merged()
    nowhere = Translated(0x1000, WalkFault("2", 0, 0x1000, 0, "not-present"))
    nowhere.assert_faults()
    with pytest.raises(AssertionError, match="fault not-present"):
        nowhere.assert_reaches(0x2000)


def test_a_refusal_is_an_outcome(iommu_bench):
    """It tells the reason, and is not hitless."""
    vendor = VendorRegistry.installed(["arm_smmu"]).resolve("arm_smmu", features={"bbml": 0})
    bench = iommu_bench(vendor)
    bench.share(0, bench.memory)
    outcome = bench.hide(0x5000).assert_refused("arm_smmu.bbml0-cut")
    with pytest.raises(AssertionError, match="refused"):
        outcome.assert_hitless()


def test_rule_outcomes_print_their_failures():
    """Case and message."""
    outcome = RuleOutcome("FMT1", 3, {"FMT1-x": "the format has no leaf"})
    outcome.assert_fails("no leaf")
    with pytest.raises(AssertionError, match="FMT1-x: the format has no leaf"):
        outcome.assert_passes()
    with pytest.raises(AssertionError):
        outcome.assert_fails("something else")
