"""What became of mutants and harmless changes, a row each."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from hitless.check.report import Report


@frozen
class MutantRow:
    """What became of one mutant.

    Args:
        features: those that had to differ from what was asked for, so that the mistake can be made.
        expected_rules, rules: what had to break, and what broke.
        twin_violations: what broke in the right plan: nothing may.
        report: the whole story.
        told: what a teller made of it.
    """

    id: str
    vendor: str
    format: str
    scenario: str
    features: Mapping[str, Any]
    expected_rules: tuple[str, ...]
    rules: tuple[str, ...]
    twin_violations: tuple[str, ...]
    report: Report = field(repr=False)
    told: Any = field(default=None, repr=False)

    @property
    def caught(self) -> bool:
        """Exactly the expected rules broke, and at least one."""
        return bool(self.rules) and self.rules == self.expected_rules

    def as_json(self) -> dict[str, Any]:
        """With the keys of schema check/1."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "format": self.format,
            "scenario": self.scenario,
            "features": dict(self.features),
            "expected_rules": list(self.expected_rules),
            "rules": list(self.rules),
            "caught": self.caught,
            "twin_violations": list(self.twin_violations),
        }


@frozen
class HarmlessRow:
    """What became of one harmless change."""

    id: str
    vendor: str
    format: str
    scenario: str
    features: Mapping[str, Any]
    rules: tuple[str, ...]
    report: Report = field(repr=False)

    @property
    def green(self) -> bool:
        """Nothing broke, but that a command may be larger than needed."""
        return set(self.rules) <= {"E1"}

    def as_json(self) -> dict[str, Any]:
        """With the keys of schema check/1."""
        return {
            "id": self.id,
            "vendor": self.vendor,
            "format": self.format,
            "scenario": self.scenario,
            "features": dict(self.features),
            "rules": list(self.rules),
        }
