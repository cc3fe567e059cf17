"""Images that hitless itself wrote: a guest of each vendor after some conversions, as a file with its owners."""

from pathlib import Path

from attrs import frozen

from hitless.guest_memfd.guest import GUEST, HOST
from stand import G, K, M, Stand

FORMATS = {
    "amd/v1": {},
    "amd/v2": {"snp": False},
    "intel/second-stage": {},
    "intel/first-stage": {},
    "arm_smmu/stage1": {},
    "arm_smmu/stage2": {},
}
REGISTERS = {"amd": "amd/device-table", "intel": "intel/root-table", "arm_smmu": "arm_smmu/stream-table"}


@frozen
class GuestImage:
    """A file, the options that name its tables, and the memory to change before it is written again."""

    stand: Stand
    options: list[str]
    path: Path

    def write(self) -> None:
        """Tables and structures as a raw image; everything else is a hole."""
        machine = self.stand.machine
        blocks = [*machine.tables.state().blocks, *machine.structures.state().blocks]
        with self.path.open("wb") as out:
            out.truncate(machine.arena.size)
            for pa, lg2 in blocks:
                out.seek(pa - machine.base_pa)
                out.write(machine.arena.view(pa, 1 << lg2 - 3).tobytes())

    def owners(self, path: Path) -> Path:
        """The owners of all guest memory, as a list of physical ranges."""
        guest = self.stand.guest
        lines = [
            f"{run.pa:#x}+{run.end - run.start:#x} {'private' if run.owner else 'shared'}"
            for slot in guest.slots.slots
            for run in guest.runs(slot.gpa, slot.end)
        ]
        path.write_text("# made by a test\n" + "\n".join(lines) + "\n")
        return path


def guest_image(page_format: str, path: Path) -> GuestImage:
    """A guest of 4 GiB after conversions of single pages, of 2 MiB, and back."""
    vendor = page_format.partition("/")[0]
    features = FORMATS[page_format]
    stand = Stand(vendor, "in-place", features, page_format=page_format, rate=0, settings={"merge": "at_once"})
    for start, size, owner in (
        (G + 5 * 4 * K, 4 * K, HOST),
        (G + 2 * M, 2 * M, HOST),
        (2 * G + 8 * M, 4 * K, HOST),
        (2 * G + 8 * M, 4 * K, GUEST),
        (3 * G, 64 * K, HOST),
    ):
        stand.guest.convert([(start, start + size)], owner)
    base = stand.domain.units[0].requests.base
    options = ["--base", hex(stand.machine.base_pa)]
    options += ["--from", f"{REGISTERS[vendor]}@{base & (1 << 64) - 1:#x}"]
    options += ["--set", f"strtab_base_cfg={base >> 64:#x}"] if vendor == "arm_smmu" else []
    options += [each for name, value in features.items() for each in ("--set", f"{name}={value}")]
    image = GuestImage(stand, options, path)
    image.write()
    return image
