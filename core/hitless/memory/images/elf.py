"""ELF core dumps of whole machines: /proc/vmcore, ``virsh dump --memory-only``, QEMU's ``dump-guest-memory``."""

from typing import IO

from hitless.errors import BadInput
from hitless.memory.images.image import Segment


def elf_segments(file: IO[bytes], name: str) -> list[Segment]:
    """The PT_LOAD segments by physical address; one that repeats memory of an earlier one is left out.

    Raises:
        BadInput: the headers are damaged, or it is no core dump.
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - only ELF images need it
    from elftools.construct.core import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        elf = ELFFile(file)
        headers = [segment.header for segment in elf.iter_segments(type="PT_LOAD")]
        kind = elf.header["e_type"]
        little = elf.little_endian
    except (ELFError, ConstructError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadInput(f"{name!r} begins like an ELF file, but its headers cannot be read", why=str(error)) from error
    if kind != "ET_CORE" or not little:
        raise BadInput(
            f"{name!r} is no core dump",
            why=f"its type is {kind}" if little else "it is big-endian",
            do="dump memory with virsh dump --memory-only, or QEMU's dump-guest-memory",
        )
    found: list[Segment] = []
    for each in sorted(headers, key=lambda header: header["p_paddr"]):
        size = each["p_filesz"]
        if size and not (found and each["p_paddr"] < found[-1].end):
            found.append(Segment(each["p_paddr"], size, each["p_offset"]))
    return found
