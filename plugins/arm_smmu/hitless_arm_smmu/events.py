"""SMMUv3 events: 32 bytes each.

Spec: IHI0070 section 7.3. Facts: ARM-EVT-*.
"""

from collections.abc import Mapping

from hitless.bits import Field, Layout, bit, ignored
from hitless.hardware.facts import FaultRecord
from hitless.refresh.commands import Words

CODES = {
    "F_UUT": 0x01,
    "C_BAD_STREAMID": 0x02,
    "F_STE_FETCH": 0x03,
    "C_BAD_STE": 0x04,
    "F_BAD_ATS_TREQ": 0x05,
    "F_STREAM_DISABLED": 0x06,
    "F_TRANSL_FORBIDDEN": 0x07,
    "C_BAD_SUBSTREAMID": 0x08,
    "F_CD_FETCH": 0x09,
    "C_BAD_CD": 0x0A,
    "F_WALK_EABT": 0x0B,
    "F_TRANSLATION": 0x10,
    "F_ADDR_SIZE": 0x11,
    "F_ACCESS": 0x12,
    "F_PERMISSION": 0x13,
    "F_TLB_CONFLICT": 0x20,
    "F_CFG_CONFLICT": 0x21,
    "E_PAGE_REQUEST": 0x24,
    "F_VMS_FETCH": 0x25,
}
"""Codes by name (ARM-EVT-3)."""

_HEAD = (
    Field("code", 7, 0, values={code: name for name, code in CODES.items()}),
    ignored(10, 8),
    bit("SSV", 11, "SSID counts"),
    Field("SSID", 31, 12),
    Field("SID", 63, 32),
)
_REQUEST = (
    bit("PnU", 97, "privileged"),
    bit("InD", 98, "instruction"),
    bit("RnW", 99, "1: read"),
    ignored(102, 100),
    bit("S2", 103, "at stage 2"),
    Field("CLASS", 105, 104, "what was being translated", values={0: "CD", 1: "TT", 2: "IN"}),
    ignored(107, 106),
    bit("TTRnW", 108, "the walk's access: 1: read"),
    ignored(127, 109),
    Field("input address", 191, 128, unit=1),
)
_GPCF = bit("GPCF", 80, "granule protection check failed")


def _layout(name: str, *fields: Field) -> Layout:
    return Layout(name, "IHI0070 7.3", (*_HEAD, *fields), 256)


CONFIGURATION = _layout("SMMUv3 configuration event", ignored(255, 64))
"""C_*, F_STREAM_DISABLED, F_CFG_CONFLICT and the like: who, and nothing of the request."""
FETCH = _layout(
    "SMMUv3 fetch event",
    ignored(79, 64),
    _GPCF,
    ignored(191, 81),
    ignored(194, 192),
    Field("FetchAddr[51:3]", 243, 195, "of what could not be read", unit=1 << 3),
    ignored(255, 244),
)
"""F_STE_FETCH, F_CD_FETCH, F_VMS_FETCH."""
WALK = _layout(
    "SMMUv3 walk event",
    ignored(79, 64),
    _GPCF,
    ignored(96, 81),
    *_REQUEST,
    ignored(194, 192),
    Field("FetchAddr[51:3]", 243, 195, "of the descriptor that could not be read", unit=1 << 3),
    ignored(255, 244),
)
"""F_WALK_EABT."""
TRANSLATION = _layout(
    "SMMUv3 translation event",
    Field("STAG", 79, 64, "of a stalled request"),
    ignored(94, 80),
    bit("Stall", 95),
    ignored(96, 96),
    *_REQUEST,
    ignored(203, 192),
    Field("IPA[51:12]", 243, 204, "that stage 2 refused", unit=1 << 12),
    ignored(255, 244),
)
"""F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION, F_TLB_CONFLICT, and the others that tell of a request."""

_LAYOUT_OF = {
    **dict.fromkeys(("F_STE_FETCH", "F_CD_FETCH", "F_VMS_FETCH"), FETCH),
    **dict.fromkeys(
        ("C_BAD_STREAMID", "C_BAD_STE", "F_STREAM_DISABLED", "C_BAD_SUBSTREAMID", "C_BAD_CD", "F_CFG_CONFLICT"),
        CONFIGURATION,
    ),
    "F_WALK_EABT": WALK,
}
_NAME_OF = {code: name for name, code in CODES.items()}

_WALK_KINDS = {
    "not-present": "F_TRANSLATION",
    "range": "F_TRANSLATION",
    "reserved": "F_TRANSLATION",
    "address-size": "F_ADDR_SIZE",
    "access": "F_ACCESS",
    "permission": "F_PERMISSION",
    "conflict": "F_TLB_CONFLICT",
}
_FETCHES = {"l1std": "F_STE_FETCH", "ste": "F_STE_FETCH", "l1cd": "F_CD_FETCH", "cd": "F_CD_FETCH"}
_CLASS = {"structure": 0, "table": 1, "input": 2}
_FETCH_ADDRESS, _IPA = 0x000F_FFFF_FFFF_FFF8, 0x000F_FFFF_FFFF_F000


def _own_access(fault: FaultRecord) -> bool:
    """Whether the SMMU read for itself: a structure, or an entry of stage 1 tables."""
    return bool(fault.structure) or fault.target != "input" or (fault.stage == "1" and fault.pa != 0)


class ArmSmmuEvents:
    """Encoder and decoder of the SMMUv3 event queue, for streams with CD.R and STE.S2R set (ARM-EVT-4).

    Args:
        stage: what a fault of no named stage belongs to.
    """

    words = 4
    layouts: Mapping[str, Layout] = {name: _LAYOUT_OF.get(name, TRANSLATION) for name in CODES}

    def __init__(self, stage: str = "2") -> None:
        self._stage = stage

    def encode(self, fault: FaultRecord) -> Words | None:
        """The event of a refused request.

        None for a client's access that fails the granule protection check, which is logged in a root
        register instead (ARM-GPT-5), and for a blocked stream, which is terminated without a word. What the
        SMMU itself could not read is told with its address, and with GPCF where that check refused it (ARM-GPT-10).
        """
        refused = fault.kind == "owner"
        if fault.kind == "blocked" or (refused and not _own_access(fault)):
            return None
        if refused or fault.kind == "fetch":
            name = _FETCHES.get(fault.structure, "F_WALK_EABT")
        else:
            name = _WALK_KINDS.get(fault.kind, fault.kind)
        fields = {"code": CODES[name], "SID": fault.device}
        if fault.pasid is not None:
            fields |= {"SSV": 1, "SSID": fault.pasid}
        layout = self.layouts[name]
        if layout is CONFIGURATION:
            return layout.encode(**fields)
        if layout is not TRANSLATION:
            fields |= {"GPCF": int(refused), "FetchAddr[51:3]": (fault.pa & _FETCH_ADDRESS) >> 3}
        if layout is not FETCH:
            fields |= self._request(fault)
        if layout is TRANSLATION and fields["S2"]:
            fields["IPA[51:12]"] = ((fault.iova if fault.gpa is None else fault.gpa) & _IPA) >> 12
        return layout.encode(**fields)

    def _request(self, fault: FaultRecord) -> dict[str, int]:
        """What was being translated: the request's own address, or what a walk or a structure needed (ARM-EVT-2)."""
        return {
            "RnW": int(not fault.write),
            "S2": int((fault.stage or self._stage) == "2"),
            "CLASS": _CLASS[fault.target],
            "TTRnW": int(fault.target == "table"),
            "input address": fault.iova,
        }

    def layout(self, words: Words) -> Layout | None:
        return self.layouts.get(_NAME_OF.get(words[0] & 0xFF, ""))

    def decode(self, words: Words) -> dict[str, int | str]:
        name = _NAME_OF.get(words[0] & 0xFF)
        fields = (self.layout(words) or TRANSLATION).decode(words)
        return {"event": name or f"unknown code {words[0] & 0xFF:#x}", **fields}

    def illegal_command(self, words: Words, pa: int) -> Words | None:
        """No event: CMDQ_CONS.ERR says CERROR_ILL, and GERROR raises the interrupt (ARM-CMD-8)."""
        return None
