"""The starter of ``hitless new-vendor``, written once and importable."""

import sys
from pathlib import Path

import pytest

from hitless.conformance.new_vendor import write_vendor


@pytest.fixture(scope="session")
def acme(tmp_path_factory) -> Path:
    """A folder with the vendor ``acme``, as it is generated."""
    folder = tmp_path_factory.mktemp("starter") / "hitless-acme"
    write_vendor("acme", folder)
    sys.path.insert(0, str(folder))
    return folder
