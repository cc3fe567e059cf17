"""SMMUv3 events: 32 bytes each.

Spec: IHI0070 section 7.3. Facts: ARM-EVT-*.
"""

from hitless.bits import Field, Layout, bit, ignored
from hitless.hardware.facts import FaultRecord
from hitless.refresh.commands import Words

F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION, F_TLB_CONFLICT = 0x10, 0x11, 0x12, 0x13, 0x20
NAMES = {
    0x01: "F_UUT",
    0x02: "C_BAD_STREAMID",
    0x03: "F_STE_FETCH",
    0x04: "C_BAD_STE",
    0x05: "F_BAD_ATS_TREQ",
    0x06: "F_STREAM_DISABLED",
    0x07: "F_TRANSL_FORBIDDEN",
    0x08: "C_BAD_SUBSTREAMID",
    0x09: "F_CD_FETCH",
    0x0A: "C_BAD_CD",
    0x0B: "F_WALK_EABT",
    0x10: "F_TRANSLATION",
    0x11: "F_ADDR_SIZE",
    0x12: "F_ACCESS",
    0x13: "F_PERMISSION",
    0x20: "F_TLB_CONFLICT",
    0x21: "F_CFG_CONFLICT",
    0x24: "E_PAGE_REQUEST",
    0x25: "F_VMS_FETCH",
}

LAYOUT = Layout(
    "SMMUv3 event",
    "IHI0070 7.3",
    (
        Field("code", 7, 0),
        ignored(10, 8),
        bit("SSV", 11, "SSID counts"),
        Field("SSID", 31, 12),
        Field("SID", 63, 32),
        Field("STAG", 79, 64, "of a stalled request"),
        bit("GPCF", 80, "granule protection check failed"),
        ignored(94, 81),
        bit("Stall", 95),
        ignored(96, 96),
        bit("PnU", 97, "privileged"),
        bit("InD", 98, "instruction"),
        bit("RnW", 99, "1: read"),
        ignored(102, 100),
        bit("S2", 103, "at stage 2"),
        Field("CLASS", 105, 104, "what was being translated", values={0: "CD", 1: "TT", 2: "IN"}),
        ignored(107, 106),
        bit("TTRnW", 108, "the walk's access: 1: read"),
        ignored(127, 109),
        Field("input address", 191, 128),
        ignored(203, 192),
        Field("IPA[51:12]", 243, 204),
        ignored(255, 244),
    ),
    256,
)

_CODES = {
    "not-present": F_TRANSLATION,
    "range": F_TRANSLATION,
    "reserved": F_TRANSLATION,
    "access": F_ACCESS,
    "permission": F_PERMISSION,
    "conflict": F_TLB_CONFLICT,
}
_READ, _STAGE_2, _CLASS_IN = 1 << 35, 1 << 39, 2 << 40
_IPA = 0x000F_FFFF_FFFF_F000


class ArmSmmuEvents:
    """Encoder and decoder of the SMMUv3 event queue, for streams with STE.S2R set (ARM-EVT-4)."""

    words = 4

    def encode(self, fault: FaultRecord) -> Words | None:
        """The stage 2 fault of a client's access.

        None for a failed granule protection check, which is logged in a root register instead
        (ARM-GPT-5), and for a blocked stream, which is terminated without a word.
        """
        if fault.kind in ("owner", "blocked"):
            return None
        syndrome = _STAGE_2 | _CLASS_IN | (0 if fault.write else _READ)
        return (_CODES[fault.kind] | fault.device << 32, syndrome, fault.iova, fault.iova & _IPA)

    def decode(self, words: Words) -> dict[str, int | str]:
        fields: dict[str, int | str] = dict(LAYOUT.decode(words))
        code = words[0] & 0xFF
        return {"event": NAMES.get(code, f"unknown code {code:#x}"), **fields}
