"""What tests of the command line share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from hitless.cli import main

ROOT = Path(__file__).parents[2]


@frozen
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON, all of it."""
        return json.loads(self.out)


@pytest.fixture
def hitless(capsys, monkeypatch) -> Callable[..., Outcome]:
    """Run a command line in this process, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("HITLESS_DEBUG", raising=False)

    def hitless(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["hitless", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, *capsys.readouterr())

    return hitless


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
