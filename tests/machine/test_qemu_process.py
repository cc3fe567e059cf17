"""A QEMU process: what it says when it fails, that no wait is endless, and that nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hitless.machine.qemu.boards import BOARDS, Board
from hitless.machine.qemu.errors import EmulatorError, NoEmulator
from hitless.machine.qemu.process import QemuProcess, find_program

SIZE = 1 << 26


@pytest.fixture(scope="module", params=sorted(BOARDS))
def board(request) -> Board:
    """Each board, where its QEMU is installed."""
    try:
        find_program(BOARDS[request.param].program)
    except NoEmulator as error:
        pytest.skip(error.what)
    return BOARDS[request.param]


@pytest.fixture(scope="module")
def any_board() -> Board:
    """One board, for what takes long."""
    try:
        find_program(BOARDS["q35"].program)
    except NoEmulator as error:
        pytest.skip(error.what)
    return BOARDS["q35"]


@pytest.fixture
def memory():
    """A file without a name, as long as a small machine's memory."""
    fd = os.memfd_create("test")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def open_files() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def start(board: Board, memory: int, *arguments: str) -> QemuProcess:
    """A QEMU with little memory."""
    return QemuProcess.start(board, memory, SIZE, ["-machine", f"{board.machine},memory-backend=m0", *arguments])


def is_running(pid: int) -> bool:
    """Whether a process does anything still: one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int) -> bool:
    """Whether a process ends within the time that a busy machine may take."""
    for _ in range(1000):
        if not is_running(pid):
            return True
        time.sleep(0.01)
    return False


def leftovers() -> set[str]:
    """Files that a process could have forgotten."""
    folders = [Path(tempfile.gettempdir()), Path("/dev/shm"), Path.cwd()]  # noqa: S108 - looked at only
    return {str(path) for each in folders for path in each.iterdir() if "hitless" in path.name or "qemu" in path.name}


def test_starts_answers_and_ends(board, memory):
    """It tells its version, shares its memory both ways, and is gone with all its files when it is closed."""
    before, opened = leftovers(), open_files()
    with start(board, memory) as qemu:
        assert qemu.version >= (7, 2)
        low = board.low[0]
        os.pwrite(memory, (0x1122_3344_5566_7788).to_bytes(8, "little"), board.low_offset)
        assert qemu.qtest.read(low, 64) == 0x1122_3344_5566_7788
        qemu.qtest.write(low + 8, 0x99, 64)
        assert os.pread(memory, 8, board.low_offset + 8) == (0x99).to_bytes(8, "little")
    assert not is_running(qemu.pid)
    assert leftovers() == before
    assert open_files() == opened


def test_a_refused_option_is_told_in_its_own_words(board, memory):
    """An option that QEMU refuses is an error with what QEMU wrote, and leaves nothing open."""
    opened = open_files()
    with pytest.raises(EmulatorError, match="no-such-device") as raised:
        start(board, memory, "-device", "no-such-device")
    assert raised.value.exit_status == 2
    assert "ended with status 1" in raised.value.why
    assert open_files() == opened


def test_one_that_dies_is_an_error(board, memory):
    """After QEMU was killed, the next question is an error that says so, not a traceback of a socket."""
    with start(board, memory) as qemu:
        os.kill(qemu.pid, signal.SIGKILL)
        with pytest.raises(EmulatorError, match="status -9"):
            qemu.qtest.read(board.low[0])
        with pytest.raises(EmulatorError, match="status -9"):
            qemu.qmp.execute("query-status")


def test_one_that_hangs_is_an_error_and_is_ended(any_board, memory):
    """A QEMU that answers nothing within the bound is an error; closing ends it all the same."""
    with start(any_board, memory) as qemu:
        qemu.qtest.lines.link.settimeout(0.1)
        os.kill(qemu.pid, signal.SIGSTOP)
        with pytest.raises(EmulatorError, match="still running"):
            qemu.qtest.read(any_board.low[0])
    assert not is_running(qemu.pid)


def test_an_unknown_command_is_told(board, memory):
    """QMP's own sentence comes back."""
    with start(board, memory) as qemu, pytest.raises(EmulatorError, match="no-such-command"):
        qemu.qmp.execute("no-such-command")


@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT", "SIGTERM", "raise"])
def test_ends_with_the_process_that_started_it(any_board, end):
    """No orphan and no file: whether that process is killed, interrupted, or fails."""
    program = f"""
import os, signal, time
from hitless.machine.qemu.boards import BOARDS
from hitless.machine.qemu.process import QemuProcess
board = next(each for each in BOARDS.values() if each.system == {any_board.system!r})
fd = os.memfd_create("test")
os.ftruncate(fd, {SIZE})
with QemuProcess.start(board, fd, {SIZE}, ["-machine", board.machine + ",memory-backend=m0"]) as qemu:
    print(qemu.pid, flush=True)
    if {end!r} == "raise":
        raise RuntimeError
    os.kill(os.getpid(), signal.{end if end != "raise" else "SIGKILL"})
    time.sleep(60)
"""
    before = leftovers()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert ends(int(ended.stdout))
    assert leftovers() == before


def test_what_is_not_installed_is_told(monkeypatch, tmp_path):
    """Without the program there is an error that names it, and where to look."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEmulator, match="qemu-system-x86_64 is not installed") as raised:
        find_program("qemu-system-x86_64")
    assert "doctor" in raised.value.do
