"""VT-d fault recording registers: 128 bits.

Spec: VT-d 7.1.3 table 30 (reasons, legacy mode), 11.4.14 (fields). Facts: INTEL-FLT-*.
"""

from hitless.bits import Field, Layout, bit, ignored
from hitless.hardware.facts import FaultRecord
from hitless.refresh.commands import Words

BEYOND_WIDTH, WRITE_REFUSED, READ_REFUSED, RESERVED_BIT = 0x4, 0x5, 0x6, 0xC
NAMES = {
    0x1: "root entry not present",
    0x2: "context entry not present",
    0x3: "invalid context entry",
    0x4: "address beyond MGAW or AW",
    0x5: "write refused",
    0x6: "read refused",
    0x7: "access to the next table failed",
    0x8: "access to the root table failed",
    0x9: "access to the context table failed",
    0xA: "reserved bit in a root entry",
    0xB: "reserved bit in a context entry",
    0xC: "reserved bit in a second-stage entry",
    0xD: "blocked by the translation type",
}
LAYOUT = Layout(
    "fault recording register",
    "VT-d 11.4.14",
    (
        ignored(11, 0),
        Field("FI", 63, 12, "page address"),
        Field("SID", 79, 64),
        ignored(91, 80),
        bit("T2", 92),
        bit("PRIV", 93),
        bit("EXE", 94),
        bit("PP", 95),
        Field("FR", 103, 96, "reason"),
        Field("PASID", 123, 104),
        Field("AT", 125, 124),
        bit("T1", 126, "1: read"),
        bit("F", 127, "valid"),
    ),
    128,
)


class IntelEvents:
    """Encoder and decoder of fault records, legacy mode."""

    words = 2

    def encode(self, fault: FaultRecord) -> Words | None:
        """The record; what memory itself refuses and a blocked device leave none.

        Raises:
            ValueError: a kind that no VT-d unit reports, such as a conflict (INTEL-LIVE-8).
        """
        if fault.kind in ("owner", "blocked"):
            return None
        refused = WRITE_REFUSED if fault.write else READ_REFUSED
        reasons = {
            "not-present": refused,
            "permission": refused,
            "reserved": RESERVED_BIT,
            "range": BEYOND_WIDTH,
        }
        reason = reasons.get(fault.kind)
        if reason is None:
            raise ValueError(f"intel: a VT-d unit has no fault record of kind {fault.kind!r}")
        high = fault.device | reason << 32 | (0 if fault.write else 1 << 62) | 1 << 63
        return (fault.iova & ~0xFFF, high)

    def decode(self, words: Words) -> dict[str, int | str]:
        fields: dict[str, int | str] = dict(LAYOUT.decode(words))
        reason = words[1] >> 32 & 0xFF
        return {"event": NAMES.get(reason, f"reason {reason:#x}"), **fields}
