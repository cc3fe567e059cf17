"""The boards of QEMU that units stand on: memory map, PCI configuration space, and what idles the processor."""

from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen

GUEST_PA = 1 << 32
"""Where guest memory begins on every board: above everything that lies below 4 GiB."""


@frozen
class Board:
    """A machine of QEMU's.

    Args:
        system: the program is ``qemu-system-SYSTEM``.
        machine: its ``-machine`` option.
        arguments: more of its options.
        firmware: two instructions that put the processor to sleep; no other guest code ever runs.
        low: memory below 4 GiB that hitless uses: first address, and the address after the last.
        low_offset: where ``low`` begins in the memory's file.
        guest_offset: where GUEST_PA lies in the file.
        config: address of the PCI configuration space; None: I/O ports.
        bars_pa: where the devices' registers are put.
    """

    system: str
    machine: str
    arguments: tuple[str, ...]
    firmware: bytes
    low: tuple[int, int]
    low_offset: int
    guest_offset: int
    config: int | None
    bars_pa: int

    @property
    def program(self) -> str:
        return f"qemu-system-{self.system}"


def _reset_vector() -> bytes:
    """64 KiB whose last 16 bytes hold: clear interrupts, halt, and again."""
    image = bytearray(1 << 16)
    image[0xFFF0:0xFFF4] = b"\xfa\xf4\xeb\xfd"
    return bytes(image)


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


_MIB, _GIB = 1 << 20, 1 << 30

BOARDS: Mapping[str, Board] = MappingProxyType(
    {
        # Timers that tick keep the virtual clock from being warped to the next DMA: none is left.
        "q35": Board(
            "x86_64",
            "q35,hpet=off,pit=off",
            (),
            _reset_vector(),
            (16 * _MIB, 2 * _GIB),
            16 * _MIB,
            2 * _GIB,
            None,
            0xC000_0000,
        ),
        "virt-aarch64": Board(
            "aarch64",
            "virt",
            ("-cpu", "cortex-a57"),
            _words(0xD503_207F, 0x17FF_FFFF),  # wfi; b .-4
            (1 * _GIB + 16 * _MIB, 3 * _GIB),
            16 * _MIB,
            3 * _GIB,
            0x40_1000_0000,
            0x1000_0000,
        ),
        "virt-riscv64": Board(
            "riscv64",
            "virt",
            (),
            _words(0x1050_0073, 0xFFDF_F06F),  # wfi; j .-4
            (2 * _GIB + 16 * _MIB, 4 * _GIB),
            16 * _MIB,
            2 * _GIB,
            0x3000_0000,
            0x4000_0000,
        ),
    }
)
