"""Harmless changes stay green but for E1."""

import attrs
import pytest

from hitless.check.mutants import Harmless, run_harmless, situations, without
from hitless.check.mutants.harmless import HARMLESS
from hitless.check.mutants.running import Tried, nearby_of, try_nearby
from hitless.plan import Wait
from hitless.plugin import VendorRegistry

FORMATS = (
    ("amd", "amd/v1"),
    ("amd", "amd/v2"),
    ("arm_smmu", "arm_smmu/stage1"),
    ("arm_smmu", "arm_smmu/stage2"),
    ("intel", "intel/first-stage"),
    ("intel", "intel/second-stage"),
)
WASTEFUL = {"harmless.whole-tag", "harmless.wider-device-range", "amd.unaligned-size-code"}
"""Changes that make commands larger than they need to be."""


@pytest.mark.parametrize(("vendor", "page_format"), FORMATS)
def test_nothing_breaks(vendor, page_format):
    """Each has a place in the vendor's plans, breaks nothing, and costs E1 exactly where a command grew."""
    rows = list(run_harmless(VendorRegistry.installed([vendor]), vendor, page_format))
    assert len(rows) >= 12
    assert {row.id: row.rules for row in rows if not row.green} == {}
    assert {row.id for row in rows if row.rules == ("E1",)} == WASTEFUL & {row.id for row in rows}
    assert all(set(row.as_json()) == {"id", "vendor", "format", "scenario", "features", "rules"} for row in rows)


def test_a_harmful_change_is_not_green():
    """The same machinery sees a change that is no harmless one."""
    registry = VendorRegistry.installed(["amd"])
    _, nearby = nearby_of(registry, "amd", "amd/v1", None)
    forgets = Harmless(
        "harmless.not-at-all",
        "no wait",
        situations.HIDE,
        lambda subject: without(subject, lambda _, step: isinstance(step, Wait)),
    )
    tried = try_nearby(forgets, nearby)
    assert isinstance(tried, Tried)
    assert {"F1", "H1"} <= set(tried.report.rules)


def test_a_change_that_changes_nothing_is_no_row():
    """A harmless change has to find something to change: else it says so."""
    registry = VendorRegistry.installed(["amd"])
    _, nearby = nearby_of(registry, "amd", "amd/v1", None)
    idle = attrs.evolve(HARMLESS[0], planned_as=attrs.evolve, apply=lambda subject: None)
    assert try_nearby(idle, nearby) == "the plan has no place for it"
