"""The memory of a running QEMU, through its monitor: ``hitless inspect qmp:PATH``."""

import struct
import subprocess
import time
from pathlib import Path

import pytest

from command_line import hitless
from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.monitored import open_monitor
from hitless.machine.qemu.process import find_program

RW = 3 << 61
ROOT = 0x20_0000
TABLES = ("--format", "amd/v1", "--root", hex(ROOT), "--set", "mode=2")

__all__ = ["hitless"]


@pytest.fixture
def monitor(tmp_path):
    """A stopped QEMU with 256 MiB, into which a table of two AMD levels was loaded; the path of its monitor."""
    try:
        program = find_program("qemu-system-x86_64")
    except NoEmulator as error:
        pytest.skip(error.what)
    words = [0] * 1024
    words[0] = ROOT + 0x1000 | 1 << 9 | 1 | RW
    words[1] = 0x5000_0000 | 1 << 9 | 1 | RW  # beyond the RAM
    words[512:514] = [0x7000 | 1 | RW, 0x8000 | 1 | RW]
    blob, path = tmp_path / "tables", tmp_path / "qmp"
    blob.write_bytes(struct.pack("<1024Q", *words))
    command = [program, "-display", "none", "-nodefaults", "-S", "-machine", "q35", "-m", "256", "-accel", "tcg"]
    command += ["-device", f"loader,file={blob},addr={ROOT:#x},force-raw=on"]
    process = subprocess.Popen([*command, "-qmp", f"unix:{path},server=on,wait=off"], stderr=subprocess.DEVNULL)
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.02)
        yield path
    finally:
        process.kill()
        process.wait()


def test_tables_in_a_running_machine(hitless, monitor):
    """What the guest's RAM holds is decoded; a pointer beyond it is I1, and no device is read."""
    found = hitless("inspect", f"qmp:{monitor}", *TABLES, "--json", "-")
    assert found.status == 1, found.err
    (mapped,) = found.json["ranges"]
    assert (mapped["iova"], mapped["size"], mapped["pa"], mapped["rights"]) == ("0x0", "0x2000", "0x7000", "RW")
    assert [each["rule"] for each in found.json["findings"]] == ["I1"]


def test_its_dump_is_an_image(hitless, monitor, tmp_path):
    """What ``dump-guest-memory`` writes is an ELF core that holds the same tables."""
    memory = open_monitor(str(monitor))
    try:
        path = tmp_path / "dump"
        memory.qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{path}")
    finally:
        memory.close()
    found = hitless("inspect", path, *TABLES, "--json", "-")
    assert [(each["iova"], each["size"], each["pa"]) for each in found.json["ranges"]] == [("0x0", "0x2000", "0x7000")]
    assert [each["rule"] for each in found.json["findings"]] == ["I1"]


def test_nobody_answers(hitless, tmp_path):
    """No socket, and one that is none: status 2."""
    Path(tmp_path / "file").touch()
    for name in ("missing", "file"):
        assert hitless("inspect", f"qmp:{tmp_path / name}", *TABLES).status == 2
    assert hitless("inspect", f"qmp:{tmp_path / 'missing'}", *TABLES, "--base", "0").status == 2
