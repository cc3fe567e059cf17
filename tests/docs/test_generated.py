"""Pages that are made from declarations are as the declarations stand."""

from pathlib import Path

import pytest

from hitless.check.facts_page import facts_page
from hitless.config import load_checked, open_registry
from hitless.run.conversions_page import conversions_page
from installed import OWN

PAGE = Path(__file__).parents[2] / "docs" / "hitless-per-vendor.md"


@pytest.fixture(scope="module")
def made() -> str:
    """The page as it would be written now."""
    return facts_page(open_registry(None, OWN))


@pytest.mark.slow
def test_what_is_hitless_per_vendor(made):
    """The page is what ``python -m hitless.check.facts_page docs/hitless-per-vendor.md amd arm_smmu intel`` writes."""
    assert PAGE.read_text(encoding="utf-8") == made


@pytest.mark.slow
def test_what_the_page_must_say(made):
    """A few lines that a reader looks for, from the vendors' specifications, by hand."""
    parts = made.split("\n### ")
    arm = next(part for part in parts if part.startswith("arm_smmu/stage2"))
    assert "| `bbml = 0` | cut: leaf to table, same translation | none | no: `arm_smmu.bbml0-cut` | ARM-LIVE-4 |" in arm
    assert "store `old \\| nT`, invalidate the leaf, wait; store `new`, invalidate the leaf, wait" in arm
    assert "- a device's invalidation needs a wait before it" in arm
    amd = next(part for part in parts if part.startswith("amd/v1"))
    assert "`amd.trusted-smash`" in amd
    assert "leaves end wherever owners change (B1)" in amd
    intel = next(part for part in parts if part.startswith("intel/second-stage"))
    assert "or in pieces of 4K, 2M" in intel
    assert "C1, C2, F1 cannot be kept" in intel


@pytest.mark.slow
def test_what_a_conversion_takes():
    """The page is what ``python -m hitless.run.conversions_page`` writes from its configuration."""
    source = "examples/conversions.toml"
    config, registry = load_checked(str(PAGE.parents[1] / source))
    made = conversions_page(config, registry, source)
    assert (PAGE.parent / "conversions.md").read_text(encoding="utf-8") == made


@pytest.mark.slow
def test_what_the_conversions_page_must_say():
    """By hand: what AMD's check alone breaks, what no engine refuses, and that two cuts make 511 and 512 leaves."""
    text = (PAGE.parent / "conversions.md").read_text(encoding="utf-8")
    parts = {part.splitlines()[0]: part for part in text.split("\n### ")}
    private = "a page of shared memory turns private | "
    assert f"{private}1 | 2 | 262,145 | 2 | 0 | 2, 511, 512 | 4 | none |" in parts["amd-match"]
    assert f"{private}0 | 1 | 262,144 | 1 | 0 | 3, 0, 0 | 2 | N1 |" in parts["amd-check"]
    assert "refused: `amd.trusted-smash`" in parts["amd-trusted"]
    assert "H->>F: PSMASH_IO, requests are held" in parts["amd-trusted-engine: a page of private memory turns shared"]
