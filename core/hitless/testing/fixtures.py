"""The fixtures."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hitless.hardware.vendor import Vendor
from hitless.testing.bench import Bench
from hitless.testing.rule import RuleOutcome, run_rule


@pytest.fixture
def iommu_bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches, with the arguments of :meth:`Bench.open`; they are closed when the test ends."""
    with ExitStack() as open_benches:

        def make(vendor: Vendor, **setting: Any) -> Bench:
            return open_benches.enter_context(Bench.open(vendor, **setting))

        yield make


@pytest.fixture
def iommu_rule() -> Callable[..., RuleOutcome]:
    """Runs the conformance kit's tests of one rule; see :func:`run_rule`."""
    return run_rule
