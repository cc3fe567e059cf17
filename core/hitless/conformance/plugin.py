"""What pytest loads in every run (entry point ``pytest11``): the kit's options, and nothing else without ``--iommu``.

It imports nothing but pytest, so that other people's test runs pay nothing for it.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the five options, all of which begin with ``--iommu``."""
    group = parser.getgroup("iommu", "conformance of an IOMMU vendor (hitless)")
    group.addoption("--iommu", metavar="NAME", help="an installed vendor, or module:object of one under development")
    group.addoption("--iommu-formats", metavar="NAMES", help="only these page formats, separated by commas")
    group.addoption("--iommu-suite", choices=("smoke", "full"), default="full", help="how much is run (default: full)")
    group.addoption(
        "--iommu-machine",
        choices=("memory", "qemu"),
        default="memory",
        help="qemu: what the vendor's emulated units show, too (default: memory)",
    )
    group.addoption("--iommu-report", metavar="FILE", action="append", help="write FILE.json or FILE.html; repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; with ``--iommu`` hand over to the kit."""
    config.addinivalue_line("markers", "iommu(rule, each): a test of the conformance kit")
    if config.getoption("--iommu"):
        from hitless.conformance.session import KitSession  # noqa: PLC0415 - only now is there something to do

        config.pluginmanager.register(KitSession.of(config), "hitless-kit")
