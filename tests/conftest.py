"""What all tests share: hypothesis profiles, and the rule that nothing is skipped unnoticed."""

import os
import re
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")

# tests/stand.py is shared by tests of several rooms; importlib mode puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

# No deadline: build machines stall. Derandomized on build machines, so that a red build is red again.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("fast", deadline=None, max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--no-unexpected-skips``."""
    parser.addoption(
        "--no-unexpected-skips",
        action="store_true",
        help=f"fail every skip whose reason is not in tests/{ALLOWED_SKIPS.name}",
    )


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Why a report was skipped, or None if it was not; an expected failure is no skip."""
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return None
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _allowed(reason: str) -> bool:
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    return any(re.fullmatch(line, reason) for line in lines if line and not line.startswith("#"))


def _judge(config: pytest.Config, report: Report) -> Report:
    """Turn a skip with an unknown reason into a failure; done where the test ran, so xdist needs no more."""
    reason = _skip_reason(report)
    if reason is not None and config.getoption("--no-unexpected-skips") and not _allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"unexpected skip: {reason}\n(a skip that is meant goes into tests/{ALLOWED_SKIPS.name})"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge skips of tests."""
    return _judge(item.config, (yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge skips of whole modules."""
    return _judge(collector.config, (yield))


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., None]:
    """Install a distribution made of one module: entry points by group, importable in this process."""

    def install(name: str, module: str, source: str, **groups: dict[str, str]) -> None:
        site = tmp_path / f"site-{name}"
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines: list[str] = []
        for group, entries in groups.items():
            lines += [f"[hitless.{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.syspath_prepend(site)

    return install


@pytest.fixture
def write(tmp_path) -> Callable[[str], Path]:
    """Write a configuration to a file."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
