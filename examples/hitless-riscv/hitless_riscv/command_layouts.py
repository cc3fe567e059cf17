"""Bits of commands: 16 bytes each, opcode in bits 6:0, func3 in bits 9:7.

Spec: RISC-V IOMMU 1.0, in-memory queues. Facts: RISCV-CMD-*.
"""

from hitless.bits import Field, Layout, bit, reserved

VMA, GVMA = (1, 0), (1, 1)
IOFENCE_C = (2, 0)
INVAL_DDT, INVAL_PDT = (3, 0), (3, 1)
ATS_INVAL, ATS_PRGR = (4, 0), (4, 1)

_AV = bit("AV", 10, "ADDR counts")
_PSCID, _GSCID = Field("PSCID", 31, 12), Field("GSCID", 59, 44)
_ADDR = Field("ADDR[63:12]", 125, 74, "with S: the lowest 0 tells the size", unit=1 << 12)
_DV, _DID = bit("DV", 33, "DID counts"), Field("DID", 63, 40)
_PID, _PV = Field("PID", 31, 12), bit("PV", 32, "PID counts")
_DEVICE = (bit("DSV", 33, "DSEG counts"), reserved(39, 34), Field("RID", 55, 40), Field("DSEG", 63, 56, "segment"))


def _layout(command: tuple[int, int], name: str, *fields: Field) -> Layout:
    head = Field("opcode", 6, 0, fixed=command[0]), Field("func3", 9, 7, fixed=command[1])
    return Layout(name, "RISC-V IOMMU 1.0, in-memory queues", (*head, *fields), 128)


def layouts(*, address_range: bool, non_leaf: bool) -> dict[tuple[int, int], Layout]:
    """Layouts by opcode and func3; S and NL are reserved in a unit that does not have them."""
    extensions = (
        bit("NL", 34, "pointers too") if non_leaf else reserved(34, 34),
        bit("S", 73, "ADDR codes a range") if address_range else reserved(73, 73),
    )
    iotinval = (
        *(_AV, reserved(11, 11), _PSCID, bit("GV", 33, "GSCID counts"), *extensions, reserved(43, 35)),
        *(_GSCID, reserved(63, 60), reserved(72, 64), _ADDR, reserved(127, 126)),
    )
    return {
        VMA: _layout(VMA, "IOTINVAL.VMA", *iotinval, bit("PSCV", 32, "PSCID counts")),
        GVMA: _layout(GVMA, "IOTINVAL.GVMA", *iotinval, reserved(32, 32)),
        IOFENCE_C: _layout(
            IOFENCE_C,
            "IOFENCE.C",
            bit("AV", 10, "DATA is stored at ADDR"),
            bit("WSI", 11, "wire interrupt"),
            bit("PR", 12, "earlier reads are done"),
            bit("PW", 13, "earlier writes are done"),
            reserved(31, 14),
            Field("DATA", 63, 32),
            Field("ADDR[63:2]", 125, 64, unit=1 << 2),
            reserved(127, 126),
        ),
        INVAL_DDT: _layout(
            INVAL_DDT, "IODIR.INVAL_DDT", reserved(32, 10), _DV, reserved(39, 34), _DID, reserved(127, 64)
        ),
        INVAL_PDT: _layout(
            INVAL_PDT,
            "IODIR.INVAL_PDT",
            *(reserved(11, 10), _PID, reserved(32, 32), bit("DV", 33, "DID counts", fixed=1), reserved(39, 34)),
            *(_DID, reserved(127, 64)),
        ),
        ATS_INVAL: _layout(
            ATS_INVAL,
            "ATS.INVAL",
            *(reserved(11, 10), _PID, _PV, *_DEVICE, bit("G", 64, "every PASID"), reserved(74, 65)),
            bit("S", 75, "address codes a range"),
            Field("address", 127, 76, "with S: the lowest 0 tells the size", unit=1 << 12),
        ),
        ATS_PRGR: _layout(
            ATS_PRGR,
            "ATS.PRGR",
            *(reserved(11, 10), _PID, _PV, *_DEVICE, reserved(95, 64), Field("group index", 104, 96)),
            *(reserved(107, 105), Field("response", 111, 108), reserved(127, 112)),
        ),
    }
