"""The benchmarks are a folder of the repository, not of the distribution."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import baseline


@pytest.fixture(scope="session")
def c() -> baseline.Baseline:
    """baseline.c, compiled and loaded."""
    if baseline.compiler() is None:
        pytest.skip("no C compiler is installed")
    return baseline.Baseline.load()
