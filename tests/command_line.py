"""The command line, run in this process: a fixture that tests of several rooms share."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from hitless.cli import main


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
