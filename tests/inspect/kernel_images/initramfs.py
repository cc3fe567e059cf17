"""A user space of one shell script: it loads modules, and keeps both disks busy for ever."""

import gzip
from pathlib import Path

READY = "hitless: ready"

INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko || echo "hitless: $module did not load"; done
tries=0
while [ ! -b /dev/nvme0n1 ] || [ ! -b /dev/vda ]; do
  tries=$((tries + 1)); [ $tries -gt 600 ] && { echo "hitless: no disks"; ls /dev; poweroff -f; }
  sleep 0.1
done
@PROGRAM@
i=0
while [ $i -lt @READERS@ ]; do
  for disk in nvme0n1 vda; do
    for size in 4k 64k 256k; do
      (while :; do dd if=/dev/$disk of=/dev/null bs=$size count=64 iflag=direct skip=$i 2>/dev/null; done) &
      (while :; do dd if=/dev/zero of=/dev/$disk bs=$size count=64 oflag=direct seek=$i 2>/dev/null; done) &
    done
  done
  i=$((i + 1))
done
echo "@READY@"
while :; do sleep 1000; done
"""


MAPPER = """
echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
echo 16 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
echo vfio-pci > /sys/bus/pci/devices/0000:00:06.0/driver_override
echo 0000:00:06.0 > /sys/bus/pci/drivers_probe
group=$(basename $(readlink /sys/bus/pci/devices/0000:00:06.0/iommu_group))
/bin/program /dev/vfio/$group &
while [ ! -e /mapped ] && kill -0 $!; do sleep 0.2; done
"""
"""What the shell does for ``mapper.c``: hand it a device, and pages of 2M."""


def newc(name: str, data: bytes, mode: int, number: int) -> bytes:
    """One member of a cpio archive in the new ASCII form."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def initramfs(
    busybox: Path, modules: list[tuple[str, bytes]], readers: int = 6, program: bytes = b"", command: str = ""
) -> bytes:
    """The compressed archive; ``program`` is put at /bin/program, and ``command`` run before all is ready."""
    init = INIT.replace("@READERS@", str(readers)).replace("@READY@", READY).replace("@PROGRAM@", command)
    members = [("bin", b"", 0o040755), ("proc", b"", 0o040755), ("sys", b"", 0o040755), ("dev", b"", 0o040755)]
    members += [("modules", b"", 0o040755), ("bin/busybox", busybox.read_bytes(), 0o100755)]
    members += [("bin/sh", b"busybox", 0o120777), ("init", init.encode(), 0o100755)]
    members += [("modules/order", "\n".join(name for name, _ in modules).encode(), 0o100644)]
    members += [(f"modules/{name}.ko", data, 0o100644) for name, data in modules]
    members += [("bin/program", program, 0o100755)] if program else []
    members.append(("TRAILER!!!", b"", 0))
    archive = b"".join(newc(name, data, mode, i + 1) for i, (name, data, mode) in enumerate(members))
    return gzip.compress(archive, 1)
