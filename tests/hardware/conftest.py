"""The toy's next generation, which has a device table and nests, loaded as a stranger's plugin under development."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitless.plugin import VendorRegistry

THIRD_PARTY = Path(__file__).parents[1] / "third_party"


@pytest.fixture(scope="module")
def toys() -> Iterator[VendorRegistry]:
    """A registry with ``toy-nested`` alone; what was imported for it is forgotten again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(THIRD_PARTY / "hitless-toy"), *sys.path])
        registry = VendorRegistry([])
        registry.add_object("toy-nested", "hitless_toy_nested:plugin", path=THIRD_PARTY / "hitless-toy-nested")
        yield registry
    for module in ("hitless_toy", "hitless_toy_nested"):
        sys.modules.pop(module, None)
