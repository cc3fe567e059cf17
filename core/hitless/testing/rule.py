"""One rule of the conformance kit, run in this process: for a plugin's own tests."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import field, frozen

import hitless.conformance
from hitless.conformance.cases import CASES, Case
from hitless.conformance.kit import Kit


@frozen
class RuleOutcome:
    """What the kit's tests of one rule came to; prints as one line a failure.

    Args:
        passed: how many passed.
        failures: message by case.
        skipped: reason by case.
    """

    rule: str
    passed: int
    failures: dict[str, str] = field(factory=dict)
    skipped: dict[str, str] = field(factory=dict)

    def assert_passes(self) -> "RuleOutcome":
        """Something passed, and nothing failed."""
        assert self.passed and not self.failures, str(self)
        return self

    def assert_fails(self, *words: str) -> "RuleOutcome":
        """Something failed, and one message has all these words."""
        assert any(all(word in text for word in words) for text in self.failures.values()), f"{words}: {self}"
        return self

    def __str__(self) -> str:
        lines = [f"{self.rule}: {self.passed} passed, {len(self.failures)} failed, {len(self.skipped)} skipped"]
        return "\n".join([*lines, *(f"{case}: {text}" for case, text in self.failures.items())])


def run_rule(kit: Kit, rule: str, *, only: Callable[[Case], bool] = lambda _case: True, most: int = 1) -> RuleOutcome:
    """Run the tests of one rule.

    Args:
        kit: see :meth:`hitless.conformance.kit.Kit.open`.
        rule: its id.
        only: which of its cases.
        most: so many failures are enough.
    """
    passed = 0
    failures: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for test, case in _tests(kit, rule):
        if not only(case) or len(failures) >= most:
            continue
        try:
            test(kit, case)
            passed += 1
        except pytest.skip.Exception as skip:
            skipped[case.id] = str(skip.msg)
        except pytest.fail.Exception as failure:
            failures[case.id] = str(failure.msg)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is a failure of its
            failures[case.id] = f"{type(error).__name__}: {error}"
    return RuleOutcome(rule, passed, failures, skipped)


def _tests(kit: Kit, rule: str) -> Iterator[tuple[Callable[[Kit, Any], None], Case]]:
    """Every test of a rule with each of its cases, the cheap ones first."""
    for each in pkgutil.iter_modules(hitless.conformance.__path__):
        if not each.name.startswith("test_"):
            continue
        module = importlib.import_module(f"hitless.conformance.{each.name}")
        for _, function in inspect.getmembers(module, inspect.isfunction):
            for mark in getattr(function, "pytestmark", ()):
                if (
                    mark.name == "iommu"
                    and mark.args[0] in (rule, "conversion")
                    and function.__module__ == module.__name__
                ):
                    yield from ((function, case) for case in CASES[mark.kwargs["each"]](kit, rule) if case.rule == rule)
