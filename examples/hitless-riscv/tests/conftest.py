"""What these tests share: hypothesis profiles, and the vendor resolved."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from hitless.plugin import Vendor, VendorRegistry

# importlib mode puts no folder on the path, and these tests share files.
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("fast", deadline=None, max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def registry() -> VendorRegistry:
    """The installed distribution, found by its entry point."""
    return VendorRegistry.installed(["riscv"], [])


@pytest.fixture(scope="session")
def resolved(registry) -> Callable[..., Vendor]:
    """The vendor for a format and features."""

    def resolved(page_format: str = "riscv/stage2", **features: object) -> Vendor:
        return registry.resolve("riscv", page_format, features)

    return resolved
