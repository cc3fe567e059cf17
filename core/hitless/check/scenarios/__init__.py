"""Scenarios: the situations in which every vendor, format and configuration is checked."""

from hitless.check.scenarios import beside, dirty, failures, owners, pages, places, policies, roots
from hitless.check.scenarios.base import Case, Ground, Scenario, Trial

SCENARIOS: tuple[Scenario, ...] = (
    *pages.SCENARIOS,
    *places.SCENARIOS,
    *policies.SCENARIOS,
    *owners.SCENARIOS,
    *roots.SCENARIOS,
    *failures.SCENARIOS,
    *beside.SCENARIOS,
    *dirty.SCENARIOS,
)
"""All of them, in the order in which they are shown."""

__all__ = ["SCENARIOS", "Case", "Ground", "Scenario", "Trial"]
