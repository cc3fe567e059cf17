"""Several processes at once: results in order, and no process that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from hitless.processes import side_by_side

PARENT = """
import os, sys, time
from hitless.processes import side_by_side
from tests.test_processes import say_and_sleep

if __name__ == "__main__":
    side_by_side([say_and_sleep, say_and_sleep], 2, lambda number, result: None)
"""


def say_and_sleep():
    """A call that goes on and on."""
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


def test_results_are_in_the_order_of_the_calls():
    """Whichever ends first."""
    ended = []
    calls = [partial(pow, 2, n) for n in range(5)]
    assert side_by_side(calls, 2, lambda number, result: ended.append((number, result))) == [1, 2, 4, 8, 16]
    assert sorted(ended) == [(n, 2**n) for n in range(5)]


def test_what_a_call_raises_comes_through():
    """As itself."""
    with pytest.raises(ZeroDivisionError):
        side_by_side([partial(divmod, 1, 0)], 1, lambda number, result: None)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_die_with_their_parent(end, tmp_path):
    """Also of a parent that has no chance to say so."""
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environ) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(end)
        parent.wait()
        deadline = time.monotonic() + 60
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(alive, workers))


def alive(pid):
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
