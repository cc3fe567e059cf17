"""What the kit's tests share; nothing is collected here without ``--iommu``."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def kit(pytestconfig: pytest.Config) -> Any:
    """What the run is about: a :class:`hitless.conformance.kit.Kit`."""
    session: Any = pytestconfig.pluginmanager.get_plugin("hitless-kit")
    return session.kit


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The kit's tests are about one vendor; without its name there is nothing to test."""
    inside = Path(__file__).parent in collection_path.parents
    return True if inside and not config.getoption("--iommu", None) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was missing."""
    if not config.getoption("--iommu", None):
        terminalreporter.write_line("hitless.conformance: say which vendor to test: --iommu NAME, or module:object")
