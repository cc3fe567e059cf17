"""Bits of the structures between the ddtp register and the page tables.

Spec: RISC-V IOMMU 1.0, data structures. Facts: RISCV-DC-*, RISCV-PC-*.
"""

from collections.abc import Iterator, Mapping

from attrs import evolve

from hitless.bits import Field, Layout, bit, ignored, reserved
from hitless_riscv.mpt import LAYOUTS as MPT_LAYOUTS

_SOURCE = "RISC-V IOMMU 1.0, data structures"
_IOSATP = {0: "Bare", 8: "Sv39", 9: "Sv48", 10: "Sv57"}
_IOHGATP = {0: "Bare", 8: "Sv39x4", 9: "Sv48x4", 10: "Sv57x4"}

DDTP = Layout(
    "ddtp",
    "RISC-V IOMMU 1.0, registers",
    (
        Field("mode", 3, 0, values={0: "Off", 1: "Bare", 2: "1LVL", 3: "2LVL", 4: "3LVL"}),
        bit("busy", 4, "a write is under way"),
        reserved(9, 5),
        Field("PPN", 53, 10, "root of the device directory", unit=1 << 12),
        reserved(63, 54),
    ),
)
POINTER = Layout(
    "directory entry",
    _SOURCE,
    (
        bit("V", 0, "valid"),
        reserved(9, 1),
        Field("PPN", 53, 10, "next directory page", unit=1 << 12),
        reserved(63, 54),
    ),
)
_TC = (
    bit("V", 0, "valid"),
    bit("EN_ATS", 1, "ATS allowed"),
    bit("EN_PRI", 2, "page requests allowed"),
    bit("T2GPA", 3, "ATS completions hold guest physical addresses"),
    bit("DTF", 4, "faults of requests are not recorded"),
    bit("PDTV", 5, "fsc leads to a process directory"),
    bit("PRPR", 6, "page request responses hold a PASID"),
    bit("GADE", 7, "A and D are set in stage 2"),
    bit("SADE", 8, "A and D are set in stage 1"),
    bit("DPE", 9, "requests without a process id have process id 0"),
    bit("SBE", 10, "stage 1 is big-endian"),
    bit("SXL", 11, "stage 1 is Sv32"),
    reserved(23, 12),
    ignored(31, 24, "custom"),
    reserved(63, 32),
)
_IOHGATP_FIELDS = (
    Field("PPN", 43, 0, "stage 2's root", unit=1 << 12),
    Field("GSCID", 59, 44),
    Field("MODE", 63, 60, values=_IOHGATP),
)
_TA = (
    reserved(11, 0),
    Field("PSCID", 31, 12),
    reserved(39, 32),
    Field("RCID", 51, 40, "resource control"),
    Field("MCID", 63, 52, "monitoring"),
)
_FSC = (
    Field("PPN", 43, 0, "stage 1's root, or the process directory's", unit=1 << 12),
    reserved(59, 44),
    Field("MODE", 63, 60, "of iosatp; with PDTV of pdtp: 1 PD8, 2 PD17, 3 PD20", values=_IOSATP),
)
_MSI = (
    (
        "msiptp",
        (Field("PPN", 43, 0, unit=1 << 12), reserved(59, 44), Field("MODE", 63, 60, values={0: "Off", 1: "Flat"})),
    ),
    ("msi_addr_mask", (Field("mask", 51, 0), reserved(63, 52))),
    ("msi_addr_pattern", (Field("pattern", 51, 0), reserved(63, 52))),
    ("last", (reserved(63, 0),)),
)
_BASE = (("tc", _TC), ("iohgatp", _IOHGATP_FIELDS), ("ta", _TA), ("fsc", _FSC))
_PC = (
    (
        "ta",
        (
            bit("V", 0, "valid"),
            bit("ENS", 1, "supervisor requests"),
            bit("SUM", 2, "supervisor requests reach user pages"),
            reserved(11, 3),
            Field("PSCID", 31, 12),
            reserved(63, 32),
        ),
    ),
    ("fsc", (evolve(_FSC[0], meaning="stage 1's root"), _FSC[1], evolve(_FSC[2], meaning=""))),
)


def _words(parts: tuple[tuple[str, tuple[Field, ...]], ...]) -> Iterator[Field]:
    """Fields of several words, each with its word's name: ``tc.V``."""
    for i, (name, fields) in enumerate(parts):
        for each in fields:
            hi, lo = each.hi + 64 * i, each.lo + 64 * i
            if each.role == "reserved":
                yield reserved(hi, lo)
            elif each.role == "ignored":
                yield ignored(hi, lo, each.meaning)
            else:
                yield evolve(each, name=f"{name}.{each.name}", hi=hi, lo=lo)


DC = Layout("device context", _SOURCE, tuple(_words(_BASE)), 256)
EXTENDED_DC = Layout("device context, extended", _SOURCE, tuple(_words(_BASE + _MSI)), 512)
PC = Layout("process context", _SOURCE, tuple(_words(_PC)), 128)


def structure_layouts(*, msi_flat: bool) -> Mapping[str, Layout]:
    """By the name that a fetch carries; a directory of three levels has two kinds of pointers.

    Beside them the memory protection tables, which the unit itself does not read.
    """
    pointers = dict.fromkeys(("ddt", "ddt-level2", "pdt", "pdt-level2"), POINTER)
    return {"ddtp": DDTP, "dc": EXTENDED_DC if msi_flat else DC, "pc": PC, **pointers, **MPT_LAYOUTS}
