"""Makes memory images in which the distribution's own kernel wrote the IOMMU's tables.

    python tests/inspect/kernel_images/make.py intel-legacy amd arm --into /tmp/images

Where there is gcc, x86 machines also map memory through VFIO, in pages of 4K, 2M and 1G.
For each machine: NAME/ram (sparse), NAME/trace.log, NAME/image.json with registers and the options that
``hitless inspect`` needs. Needs QEMU, apt-get and dpkg-deb, a network, and 4 GB; no root, no KVM.
"""

import argparse
import json
import platform
import shlex
import shutil
import sys
from pathlib import Path

from boot import boot
from initramfs import MAPPER, initramfs
from machines import MACHINES
from packages import Packages, modules, run

sys.stdout.reconfigure(line_buffering=True)


def mapper(folder: Path) -> bytes:
    """``mapper.c`` as a program that needs nothing else; empty where there is no compiler for it."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.machine() != "x86_64":
        return b""
    program = folder / "mapper"
    run(compiler, "-O1", "-static", "-o", program, Path(__file__).with_name("mapper.c"))
    return program.read_bytes()


def make(name: str, into: Path, suite: str, busy: float, readers: int) -> Path:
    """One image; returns its description."""
    spec = MACHINES[name]
    folder = into / name
    folder.mkdir(parents=True, exist_ok=True)
    packages = Packages(spec.arch, into / "packages")
    version, kernel, folders = packages.kernel(suite)
    initrd = folder / "initrd"
    program = mapper(folder) if spec.arch == "amd64" else b""
    told = initramfs(packages.busybox(), modules(folders), readers, program, MAPPER if program else "")
    initrd.write_bytes(told)
    print(f"{name}: booting {version}")
    told = boot(spec, kernel, initrd, folder, busy)
    first, *others = told["registers"].items()
    options = [each for segment in spec.segments for each in ("--segment", segment)]
    options += ["--from", f"{spec.start}@{first[1]}"]
    options += [each for key, value in others for each in ("--set", f"{key}={value}")]
    data = {"machine": name, "kernel": version, **told, "inspect": options}
    described = folder / "image.json"
    described.write_text(json.dumps(data, indent=2) + "\n")
    print(f"{name}: hitless inspect {folder / 'ram'} {shlex.join(options)}")
    return described


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machines", nargs="*", default=list(MACHINES), help=f"of {', '.join(MACHINES)}")
    parser.add_argument("--into", type=Path, required=True, help="folder for images, packages and logs")
    parser.add_argument("--suite", default="", help="such as bookworm-backports; default: the newest that apt has")
    parser.add_argument("--busy", type=float, default=8.0, help="seconds of disk traffic before the machine stops")
    parser.add_argument("--readers", type=int, default=3, help="each is 12 endless transfers")
    told = parser.parse_args()
    for name in told.machines:
        make(name, told.into, told.suite, told.busy, told.readers)


if __name__ == "__main__":
    main()
