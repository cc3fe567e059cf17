"""Fixtures and outcome objects for the tests of a vendor plugin; load them by name.

``pytest_plugins = ["hitless.testing"]`` in a test module or conftest gives the fixtures :func:`iommu_bench` and
:func:`iommu_rule`. They come with the extra ``hitless[kit]``.
"""

from hitless.testing.bench import Bench, Converted, Translated
from hitless.testing.fixtures import iommu_bench, iommu_rule
from hitless.testing.rule import RuleOutcome, run_rule

__all__ = [
    "Bench",
    "Converted",
    "RuleOutcome",
    "Translated",
    "iommu_bench",
    "iommu_rule",
    "run_rule",
]
