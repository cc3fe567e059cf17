"""AMD-Vi events: 16 bytes each.

Spec: 48882 sections 2.5.2 to 2.5.15. Facts: AMD-EVT-*.
"""

from collections.abc import Mapping

from hitless.bits import Field, Layout, bit, ignored
from hitless.hardware.facts import FaultRecord
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Words

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
_CODES = {name: code for code, name in NAMES.items()}
_NOT_MODELLED = "not modelled"

_DEVICE = Field("DeviceID", 15, 0)
_PASID = (Field("PASID[19:16]", 19, 16), Field("PASID[15:0]", 47, 32))
_DOMAIN = (ignored(19, 16), Field("DomainID", 47, 32))
_VIRTUAL = (bit("VNR", 27), ignored(28, 28), bit("vEvent", 29), bit("vPtr", 30), bit("vCmd", 31))
_GN = bit("GN", 48, "1: a PASID stands where a DomainID would")
_I, _RW = bit("I", 51, "interrupt"), bit("RW", 53, "1: write")
_RZ = bit("RZ", 55, "reserved bit, or illegal level")
_TR = bit("TR", 56, "translation request")
_FLAGS = Field("flags", 59, 48)
_ADDRESS = Field("address", 127, 64, unit=1)


def _layout(name: str, *fields: Field) -> Layout:
    code = _CODES[name.partition(" ")[0]]
    return Layout(name, f"48882 2.5.{code + 1}", (*fields, Field("code", 63, 60, fixed=code)), 128)


def _page_fault(name: str, *whose: Field) -> Layout:
    flags = (_GN, bit("NX", 49), bit("US", 50), _I, bit("PR", 52, "0: not present"), _RW, bit("PE", 54, "no right"))
    return _layout(name, _DEVICE, *whose, ignored(26, 20), *_VIRTUAL, *flags, _RZ, _TR, ignored(59, 57), _ADDRESS)


def _operands_unknown(name: str) -> Layout:
    return _layout(name, ignored(59, 0, _NOT_MODELLED), ignored(127, 64, _NOT_MODELLED))


_LAYOUTS = (
    _layout(
        "ILLEGAL_DEV_TABLE_ENTRY",
        *(_DEVICE, *_PASID, ignored(26, 20), *_VIRTUAL, _GN, ignored(50, 49), _I, ignored(52, 52), _RW),
        *(ignored(54, 54), _RZ, _TR, ignored(59, 57), ignored(65, 64), Field("address", 127, 66, unit=1 << 2)),
    ),
    _page_fault("IO_PAGE_FAULT", *_DOMAIN),
    _page_fault("IO_PAGE_FAULT with GN", *_PASID),
    _layout("DEV_TAB_HARDWARE_ERROR", _DEVICE, ignored(47, 16), _FLAGS, _ADDRESS),
    _layout("PAGE_TAB_HARDWARE_ERROR", _DEVICE, *_PASID, ignored(31, 20), _FLAGS, _ADDRESS),
    _layout("ILLEGAL_COMMAND_ERROR", ignored(59, 0), _ADDRESS),
    _layout("COMMAND_HARDWARE_ERROR", ignored(47, 0), _FLAGS, _ADDRESS),
    _layout("IOTLB_INV_TIMEOUT", _DEVICE, ignored(59, 16), _ADDRESS),
    _layout("INVALID_DEVICE_REQUEST", _DEVICE, *_PASID, ignored(31, 20), _FLAGS, _ADDRESS),
    _layout(
        "INVALID_PPR_REQUEST",
        *(_DEVICE, Field("PASID[15:0]", 31, 16), Field("tag", 41, 32), Field("PASID[19:16]", 45, 42)),
        *(ignored(47, 46), _FLAGS, _ADDRESS),
    ),
    *map(_operands_unknown, ("EVENT_COUNTER_ZERO", "GUEST_EVENT_FAULT", "VIOMMU_HARDWARE_ERROR")),
    _layout(
        "RMP_PAGE_FAULT",
        *(_DEVICE, Field("RMP flags", 23, 16), ignored(31, 24), Field("VMG tag", 47, 32), _FLAGS, _ADDRESS),
    ),
    _layout(
        "RMP_HARDWARE_ERROR",
        *(
            _DEVICE,
            ignored(31, 16),
            Field("VMG tag", 47, 32),
            _FLAGS,
            ignored(66, 64),
            Field("SPA", 127, 67, unit=1 << 3),
        ),
    ),
)
_PAGE_FAULT_FLAGS = {
    "not-present": (),
    "range": (),
    "permission": ("PR", "PE"),
    "reserved": ("PR", "RZ"),
}


class AmdEvents:
    """Encoder and decoder of the AMD-Vi event log."""

    words = 2
    layouts: Mapping[str, Layout] = {layout.name: layout for layout in _LAYOUTS}
    not_modelled = (  # no source that was read says where their fields lie
        "the operands of EVENT_COUNTER_ZERO, GUEST_EVENT_FAULT and VIOMMU_HARDWARE_ERROR",
        "the bits of flags in the hardware errors, in INVALID_DEVICE_REQUEST and in INVALID_PPR_REQUEST",
        "the RMP flags of RMP_PAGE_FAULT",
    )

    def __init__(self, page_format: PageFormat) -> None:
        self._stage = page_format.stage

    def encode(self, fault: FaultRecord) -> Words | None:
        """The event of a refused request, or of a structure that is bad; a blocked device reports nothing.

        The walk's faults are IO_PAGE_FAULT: with GN and PASID where the guest's table refused, with the DomainID
        and the guest physical address where the host's did (AMD-EVT-9). ``kind`` of a bad structure is the
        event's name, with `` RZ`` behind it for a reserved bit or an illegal level.
        """
        name, _, rz = fault.kind.partition(" ")
        pasid = fault.pasid or 0
        parts = {"PASID[19:16]": pasid >> 16, "PASID[15:0]": pasid & 0xFFFF}
        match name:
            case "blocked":
                return None
            case "owner":
                flags = self.layouts["IO_PAGE_FAULT"]["RW"].mask >> 48 if fault.write else 0
                return self._words("RMP_PAGE_FAULT", fault, flags=flags, address=_address(fault))
            case "ILLEGAL_DEV_TABLE_ENTRY":
                gn, address = int(fault.pasid is not None), fault.iova >> 2
                return self._words(name, fault, GN=gn, RW=fault.write, RZ=bool(rz), address=address, **parts)
            case "INVALID_DEVICE_REQUEST":
                return self._words(name, fault, address=fault.iova, **parts)
            case "fetch" if fault.structure == "dte":
                return self._words("DEV_TAB_HARDWARE_ERROR", fault, address=fault.pa)
            case "fetch":
                return self._words("PAGE_TAB_HARDWARE_ERROR", fault, address=fault.pa, **parts)
        given = dict.fromkeys(_PAGE_FAULT_FLAGS.get(name, ()), 1) | {"RW": fault.write}
        if self._is_guests(fault):
            return self._words("IO_PAGE_FAULT with GN", fault, GN=1, address=fault.iova, **parts, **given)
        domain = fault.tag & 0xFFFF
        return self._words("IO_PAGE_FAULT", fault, address=_address(fault), DomainID=domain, **given)

    def _is_guests(self, fault: FaultRecord) -> bool:
        """Whether the guest's table refused, or the GCR3 table that leads to it."""
        stage = fault.stage or ("" if fault.structure else self._stage)
        return stage == "1" or fault.structure.startswith("gcr3")

    def illegal_command(self, words: Words, pa: int) -> Words | None:
        """ILLEGAL_COMMAND_ERROR with the address of the command (AMD-EVT-10)."""
        return self.layouts["ILLEGAL_COMMAND_ERROR"].encode(address=pa)

    def layout(self, words: Words) -> Layout | None:
        name = NAMES.get(words[0] >> 60, "")
        form = f"{name} with GN" if name == "IO_PAGE_FAULT" and words[0] & _GN.mask else name
        return self.layouts.get(form)

    def decode(self, words: Words) -> dict[str, int | str]:
        code = words[0] >> 60
        layout = self.layout(words)
        if layout is None:
            return {"event": f"unknown code {code:#x}"}
        return {"event": NAMES[code], **layout.decode(words)}

    def _words(self, name: str, fault: FaultRecord, **fields: int) -> Words:
        return self.layouts[name].encode(DeviceID=fault.device, **fields)


def _address(fault: FaultRecord) -> int:
    """What the host's table was asked for."""
    return fault.iova if fault.gpa is None else fault.gpa
