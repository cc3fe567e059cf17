"""AMD-Vi events: 16 bytes each.

Spec: 48882 sections 2.5.2 to 2.5.15. Facts: AMD-EVT-*.
"""

from hitless.bits import Field, Layout, bit, ignored
from hitless.hardware.facts import FaultRecord
from hitless.refresh.commands import Words

IO_PAGE_FAULT, RMP_PAGE_FAULT = 0x2, 0xD
NAMES = {
    0x1: "ILLEGAL_DEV_TABLE_ENTRY",
    0x2: "IO_PAGE_FAULT",
    0x3: "DEV_TAB_HARDWARE_ERROR",
    0x4: "PAGE_TAB_HARDWARE_ERROR",
    0x5: "ILLEGAL_COMMAND_ERROR",
    0x6: "COMMAND_HARDWARE_ERROR",
    0x7: "IOTLB_INV_TIMEOUT",
    0x8: "INVALID_DEVICE_REQUEST",
    0x9: "INVALID_PPR_REQUEST",
    0xA: "EVENT_COUNTER_ZERO",
    0xB: "GUEST_EVENT_FAULT",
    0xC: "VIOMMU_HARDWARE_ERROR",
    0xD: "RMP_PAGE_FAULT",
    0xE: "RMP_HARDWARE_ERROR",
}
_PR, _RW, _PE, _RZ = 1 << 52, 1 << 53, 1 << 54, 1 << 55

LAYOUT = Layout(
    "IO_PAGE_FAULT",
    "48882 2.5.3",
    (
        Field("DeviceID", 15, 0),
        Field("PASID[19:16]", 19, 16),
        ignored(31, 20),
        Field("DomainID", 47, 32),
        bit("GN", 48),
        bit("NX", 49),
        bit("US", 50),
        bit("I", 51, "interrupt"),
        bit("PR", 52, "0: not present"),
        bit("RW", 53, "1: write"),
        bit("PE", 54, "no right"),
        bit("RZ", 55, "reserved bit, or illegal level"),
        bit("TR", 56, "translation request"),
        ignored(59, 57),
        Field("code", 63, 60),
        Field("address", 127, 64),
    ),
    128,
)
_FLAGS = {
    "not-present": 0,
    "range": 0,
    "permission": _PR | _PE,
    "reserved": _PR | _RZ,
    "owner": 0,
    "conflict": 0,
}


class AmdEvents:
    """Encoder and decoder of the AMD-Vi event log."""

    words = 2

    def encode(self, fault: FaultRecord) -> Words | None:
        """IO_PAGE_FAULT; RMP_PAGE_FAULT where the RMP check refused. A blocked device reports nothing."""
        if fault.kind == "blocked":
            return None
        code = RMP_PAGE_FAULT if fault.kind == "owner" else IO_PAGE_FAULT
        tag = 0 if fault.kind == "owner" else fault.tag
        flags = _FLAGS.get(fault.kind, 0) | (_RW if fault.write else 0)
        return (code << 60 | flags | tag << 32 | fault.device, fault.iova)

    def decode(self, words: Words) -> dict[str, int | str]:
        fields: dict[str, int | str] = dict(LAYOUT.decode(words))
        return {"event": NAMES.get(words[0] >> 60, f"unknown code {words[0] >> 60:#x}"), **fields}
