"""What tests of the command line share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import hitless

__all__ = ["hitless"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short_log() -> Path:
    """The hand-written example."""
    return ROOT / "examples" / "short.log"


@pytest.fixture
def make_log(tmp_path) -> Callable[..., Path]:
    """Write lines, or bytes, to a log."""

    def make_log(*lines: str | bytes) -> Path:
        path = tmp_path / "test.log"
        path.write_bytes(b"".join(each if isinstance(each, bytes) else f"{each}\n".encode() for each in lines))
        return path

    return make_log
