"""Boots a machine, waits until its disks are busy, stops it, and takes memory, registers and trace."""

import json
import re
import socket
import struct
import subprocess
import time
from pathlib import Path

from initramfs import READY
from machines import LOW, RAM, MachineSpec

_LIMIT = 600


class Monitor:
    """QEMU's monitor: one JSON line each way."""

    def __init__(self, path: Path, process: subprocess.Popen) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            if process.poll() is not None:
                raise SystemExit(f"QEMU ended: {process.stderr.read().decode()}")
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                time.sleep(0.05)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "return" in answer or "error" in answer:
                break
        if "error" in answer:
            raise SystemExit(f"{command}: {answer['error']}")
        return answer["return"]

    def register(self, address: int, size: int) -> int:
        """A register, read as the guest's physical memory."""
        text = self("human-monitor-command", **{"command-line": f"xp /1{'g' if size == 8 else 'w'}x {address:#x}"})
        return int(re.findall(r"0x[0-9a-f]+", text)[-1], 16)

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def command(spec: MachineSpec, kernel: Path, initrd: Path, folder: Path) -> list[str]:
    """The whole command line."""
    made = [*spec.arguments, "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-m", f"{RAM >> 20}"]
    made += ["-object", f"memory-backend-file,id=m0,size={RAM},mem-path={folder / 'ram'},share=on"]
    made += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", spec.append]
    made += ["-serial", f"file:{folder / 'console.log'}", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"]
    made += ["-D", str(folder / "trace.log")]
    for each in spec.traces:
        made += ["-trace", f"enable={each}"]
    for name in ("n0", "n1"):
        made += ["-blockdev", f"driver=null-co,node-name={name},size=1073741824,read-zeroes=on,latency-ns=300000000"]
    made += ["-device", "nvme,serial=a,addr=4,max_ioqpairs=2", "-device", "nvme-ns,id=d0,drive=n0"]
    made += ["-device", "edu,addr=6"]
    made += ["-device", "virtio-blk-pci,id=d1,drive=n1,addr=5,iommu_platform=on,disable-legacy=on"]
    return made


def _hold(monitor: Monitor) -> None:
    """Let no command complete any more: what is submitted stays mapped, and nothing invalidates it."""
    limits = dict.fromkeys(("iops", "bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0)
    for disk in ("d0", "/machine/peripheral/d1/virtio-backend"):
        monitor("block_set_io_throttle", id=disk, bps=1, **limits)
    time.sleep(4)


def _ring(monitor: Monitor, ram: Path, base: int, head: int) -> list[tuple[int, int]]:
    """The commands of AMD's ring, the oldest first: each of 16 bytes, the next one to be read at the head."""
    told, at = monitor.register(base, 8), monitor.register(head, 8)
    pa, size = told & 0xF_FFFF_FFFF_F000, 16 << (told >> 56 & 15)
    with ram.open("rb") as file:
        file.seek(pa if pa < LOW else pa - LOW)
        found = list(struct.iter_unpack("<QQ", file.read(size)))
    return found[at // 16 :] + found[: at // 16]


def boot(spec: MachineSpec, kernel: Path, initrd: Path, folder: Path, busy: float) -> dict:
    """Run it; memory is left in ``ram``, the trace in ``trace.log``. Returns registers and QEMU's version."""
    for each in ("ram", "qmp", "trace.log", "console.log"):
        (folder / each).unlink(missing_ok=True)
    line = command(spec, kernel, initrd, folder)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        monitor = Monitor(folder / "qmp", process)
        console = folder / "console.log"
        started = time.monotonic()
        while READY not in (console.read_text(errors="replace") if console.exists() else ""):
            if process.poll() is not None or time.monotonic() - started > _LIMIT:
                raise SystemExit(f"{spec.name} did not get ready; see {console}")
            time.sleep(0.2)
        time.sleep(busy)
        _hold(monitor)
        monitor("stop")
        time.sleep(0.5)
        version = monitor("query-version")["qemu"]
        registers = {name: monitor.register(*at) for name, at in spec.registers.items()}
        commands = _ring(monitor, folder / "ram", *spec.ring) if spec.ring is not None else []
        monitor.close()
    finally:
        process.kill()
        process.communicate()
    return {
        "registers": {name: f"{value:#x}" for name, value in registers.items()},
        "commands": [[f"{word:#x}" for word in each] for each in commands],
        "qemu": "{major}.{minor}.{micro}".format(**version),
        "command": line,
    }
