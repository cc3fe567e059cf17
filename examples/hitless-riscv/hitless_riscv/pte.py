"""Bits of page table entries: Sv39, Sv48, Sv57 and the x4 forms share them.

Spec: RISC-V privileged architecture, supervisor (Sv39), Svnapot, Svpbmt, Svrsw60t59b; RISC-V IOMMU 1.0, data
structures. Facts: RISCV-PTE-*, RISCV-NAPOT-*.
"""

from attrs import evolve, frozen

from hitless.bits import Field, Layout, bit, get, ignored, reserved
from hitless.pagetable import Level

V = bit("V", 0, "valid")
R = bit("R", 1, "read allowed")
W = bit("W", 2, "write allowed; reserved without R")
X = bit("X", 3, "execution allowed")
RWX = Field("RWX", 3, 1, "0: pointer")
U = bit("U", 4, "user requests allowed")
G = bit("G", 5, "global: in every address space of its kind")
NOT_G = ignored(5, 5, "G: not in stage 2")
A, D = bit("A", 6, "accessed"), bit("D", 7, "dirty")
PPN = Field("PPN", 53, 10)
PBMT = Field("PBMT", 62, 61, "memory type", values={0: "PMA", 1: "NC", 2: "IO", 3: "reserved"})
N = bit("N", 63, "one of 16 entries of a 64K run, PPN[3:0] = 8")

RUN = Field("PPN[3:0]", 13, 10)
RUN_CODE, RUN_LG2, RUN_ENTRIES_LG2 = 8, 16, 4
RESERVED_PBMT, NC, IO = 3, 1, 2
LEVELS_OF = {"sv39": 3, "sv48": 4, "sv57": 5}


@frozen(kw_only=True)
class SvConfig:
    """How tables are set up.

    Args:
        mode: ``sv39``, ``sv48`` or ``sv57``.
        pas: bits of a physical address (capabilities.PAS).
        hardware_ad: hardware sets A and D (GADE, SADE); else what is not marked cannot be used.
        svnapot: runs of 64K.
        svpbmt, svrsw60t59b: what bits 62:61 and 60:59 are.
    """

    mode: str = "sv48"
    pas: int = 56
    hardware_ad: bool = True
    svnapot: bool = True
    svpbmt: bool = True
    svrsw60t59b: bool = False


def leaf_layout(name: str, source: str, config: SvConfig, level: Level, g: Field) -> Layout:
    """A leaf of a level: the low bits of a large one's PPN are 0 (RISCV-LVL-4)."""
    role = "hardware" if config.hardware_ad else "value"
    lo = PPN.lo + 9 * level.number
    fields = [V, R, W, X, U, g, evolve(A, role=role), evolve(D, role=role), ignored(9, 8, "software's")]
    fields += [reserved(lo - 1, PPN.lo)] if level.number else []
    fields += [Field("PPN", PPN.hi, lo, "page", unit=1 << level.lo), *_software(config)]
    fields.append(PBMT if config.svpbmt else reserved(62, 61))
    fields.append(N if config.svnapot and level.number == 0 else reserved(63, 63))
    return Layout(f"{name} leaf, level {level.number}", source, tuple(fields))


def table_layout(name: str, source: str, config: SvConfig, g: Field) -> Layout:
    """A pointer: U, A, D, PBMT and N are reserved (RISCV-PTE-11)."""
    low = (V, reserved(3, 1), reserved(4, 4), g, reserved(7, 6), ignored(9, 8, "software's"))
    next_table = evolve(PPN, meaning="next table", unit=1 << 12)
    return Layout(f"{name} pointer", source, (*low, next_table, *_software(config), reserved(63, 61)))


def _software(config: SvConfig) -> tuple[Field, ...]:
    """Bits 60:54 (RISCV-PTE-7, RISCV-PTE-8)."""
    middle = ignored(60, 59, "software's") if config.svrsw60t59b else reserved(60, 59)
    return (reserved(58, 54), middle)


def reserved_code(word: int, level: int, config: SvConfig) -> str:
    """What a leaf says that no field alone shows to be reserved; empty: nothing."""
    if not word & RWX.mask:
        return ""
    if word & W.mask and not word & R.mask:
        return "W without R is reserved (RISCV-PTE-3)"
    if config.svpbmt and get(word, PBMT) == RESERVED_PBMT:
        return "PBMT 3 is reserved (RISCV-PTE-9)"
    if word & N.mask and level == 0 and get(word, RUN) != RUN_CODE:
        return f"N with PPN[3:0] = {get(word, RUN):#x} is reserved, 8 codes 64K (RISCV-NAPOT-1)"
    return ""
