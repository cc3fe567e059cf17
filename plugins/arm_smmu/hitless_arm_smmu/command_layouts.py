"""Bits of SMMUv3 commands: 16 bytes each, opcode in bits 7:0.

Spec: IHI0070 chapter 4. Facts: ARM-CMD-*. SSec is 0 in a Non-secure queue.
"""

from hitless.bits import Field, Layout, bit, reserved
from hitless_arm_smmu.layouts import gaps

CFGI_STE, CFGI_STE_RANGE, CFGI_CD, CFGI_CD_ALL = 0x03, 0x04, 0x05, 0x06
TLBI_NH_ALL, TLBI_NH_ASID, TLBI_NH_VA, TLBI_NH_VAA = 0x10, 0x11, 0x12, 0x13
TLBI_EL2_ALL, TLBI_S12_VMALL, TLBI_S2_IPA, TLBI_NSNH_ALL = 0x20, 0x28, 0x2A, 0x30
ATC_INV, RESUME, SYNC = 0x40, 0x44, 0x46

_SSEC = bit("SSec", 10, "the StreamID is a Secure one", fixed=0)
_SSID, _SID = Field("SSID", 31, 12), Field("SID", 63, 32)
_VMID, _ASID = Field("VMID", 47, 32), Field("ASID", 63, 48)
_ADDRESS = Field("address[63:12]", 127, 76, unit=1 << 12)
_LEAF = bit("Leaf", 64, "only the last level")
_RANGE = (
    Field("NUM", 16, 12, "granules - 1, in units of 2**SCALE"),
    Field("SCALE", 25, 20, "bit 25 with 52-bit descriptors only; more than 39 acts as 39"),
    _LEAF,
    bit("TTL128", 71, "of 128-bit descriptors", fixed=0),
    Field("TTL", 73, 72, "only leaves of this level; 0: of every level"),
    Field("TG", 75, 74, "granule of the range", values={0: "one address", 1: "4K", 2: "16K", 3: "64K"}),
)


def _layout(opcode: int, name: str, section: str, *fields: Field) -> Layout:
    """A command whose undeclared bits are reserved."""
    known = (Field("opcode", 7, 0, fixed=opcode), *fields)
    return Layout(name, f"IHI0070 {section}", (*known, *(reserved(hi, lo) for hi, lo in gaps(known, 128))), 128)


LAYOUTS = {
    CFGI_STE: _layout(CFGI_STE, "CFGI_STE", "4.3.1", _SSEC, _SID, _LEAF),
    CFGI_STE_RANGE: _layout(
        CFGI_STE_RANGE,
        "CFGI_STE_RANGE",
        "4.3.2",
        _SSEC,
        _SID,
        Field("Range", 68, 64, "2**(n+1) STEs; 31: all of them (CFGI_ALL)"),
    ),
    CFGI_CD: _layout(CFGI_CD, "CFGI_CD", "4.3.3", _SSEC, _SSID, _SID, _LEAF),
    CFGI_CD_ALL: _layout(CFGI_CD_ALL, "CFGI_CD_ALL", "4.3.4", _SSEC, _SID),
    TLBI_NH_ALL: _layout(TLBI_NH_ALL, "TLBI_NH_ALL", "4.4", _VMID),
    TLBI_NH_ASID: _layout(TLBI_NH_ASID, "TLBI_NH_ASID", "4.4", _VMID, _ASID),
    TLBI_NH_VA: _layout(TLBI_NH_VA, "TLBI_NH_VA", "4.4", *_RANGE, _VMID, _ASID, _ADDRESS),
    TLBI_NH_VAA: _layout(TLBI_NH_VAA, "TLBI_NH_VAA", "4.4", *_RANGE, _VMID, _ADDRESS),
    TLBI_EL2_ALL: _layout(TLBI_EL2_ALL, "TLBI_EL2_ALL", "4.4"),
    TLBI_S12_VMALL: _layout(TLBI_S12_VMALL, "TLBI_S12_VMALL", "4.4", _VMID),
    TLBI_S2_IPA: _layout(TLBI_S2_IPA, "TLBI_S2_IPA", "4.4", *_RANGE, _VMID, Field("IPA[51:12]", 115, 76, unit=1 << 12)),
    TLBI_NSNH_ALL: _layout(TLBI_NSNH_ALL, "TLBI_NSNH_ALL", "4.4"),
    ATC_INV: _layout(
        ATC_INV,
        "ATC_INV",
        "4.5.1",
        bit("G", 9, "every PASID"),
        bit("SSV", 11, "SSID counts"),
        _SSID,
        _SID,
        Field("Size", 69, 64, "4K * 2**n; 52: everything"),
        _ADDRESS,
    ),
    RESUME: _layout(
        RESUME,
        "RESUME",
        "4.7.1",
        _SSEC,
        Field("response", 13, 12, "to a stalled request", values={0: "terminate", 1: "retry", 2: "abort"}),
        _SID,
        Field("STAG", 79, 64, "of the stalled request"),
    ),
    SYNC: _layout(
        SYNC,
        "SYNC",
        "4.7.3",
        Field("CS", 13, 12, "completion signal", values={0: "none", 1: "MSI", 2: "SEV"}),
        Field("MSH", 23, 22, "shareability of the MSI write"),
        Field("MSIAttr", 27, 24, "memory type of the MSI write"),
        Field("MSIData", 63, 32),
        Field("MSIAddress[55:2]", 119, 66, unit=1 << 2),
    ),
}
"""Layouts by opcode."""
NOT_MODELLED = ("PREFETCH_*", "PRI_RESP", "STALL_TERM", "DPTI_*", "the other TLBI_* of EL2 and EL3")
