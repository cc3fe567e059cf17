"""VT-d fault reason codes, and which of them a refused request is reported with.

Spec: VT-d 5.10, section 7.1.3, table 30. Facts: INTEL-FLT-2 to INTEL-FLT-4, INTEL-FLT-7 to INTEL-FLT-11.
"""

from collections.abc import Mapping
from types import MappingProxyType

from hitless.hardware.facts import FaultRecord

REASONS: Mapping[int, str] = MappingProxyType(
    {
        0x01: "root entry not present",
        0x02: "context entry not present",
        0x03: "invalid context entry",
        0x04: "address beyond MGAW or AW",
        0x05: "write refused",
        0x06: "read refused",
        0x07: "access to the next table failed",
        0x08: "access to the root table failed",
        0x09: "access to the context table failed",
        0x0A: "reserved bit in a root entry",
        0x0B: "reserved bit in a context entry",
        0x0C: "reserved bit in a second-stage entry",
        0x0D: "blocked by the translation type",
        0x30: "invalid root table address register",
        0x31: "request with PASID in legacy mode",
        0x32: "page request in legacy mode",
        0x33: "root table address register, code 33h",
        0x34: "root table address register, code 34h",
        0x38: "access to the scalable-mode root table failed",
        0x39: "scalable-mode root entry not present",
        0x3A: "reserved bit in a scalable-mode root entry",
        0x40: "access to the scalable-mode context table failed",
        0x41: "scalable-mode context entry not present",
        0x42: "reserved bit in a scalable-mode context entry",
        0x43: "invalid scalable-mode context entry",
        0x44: "translation request, but DTE is 0",
        0x45: "request with PASID, but PASIDE is 0",
        0x46: "PASID beyond the directory's size",
        0x47: "page request, but PRE is 0",
        0x48: "RID_PASID beyond the directory's size",
        0x49: "scalable-mode context entry, code 49h",
        0x50: "access to the PASID directory failed",
        0x51: "PASID directory entry not present",
        0x52: "reserved bit in a PASID directory entry",
        0x58: "access to the PASID table failed",
        0x59: "PASID table entry not present",
        0x5A: "reserved bit in a PASID table entry",
        0x5B: "invalid PASID table entry",
        0x5C: "execute request, but ERE is 0",
        0x5D: "privileged request, but SRE is 0",
        0x70: "access to a first-stage table failed",
        0x71: "first-stage entry not present",
        0x72: "reserved bit in a first-stage entry",
        0x73: "access to the first-stage root table failed",
        0x74: "address in a first-stage entry beyond the second stage's AW",
        0x75: "second stage refuses to read the first-stage root table",
        0x76: "second stage refuses to read a first-stage table",
        0x77: "second stage refuses an A or D update in a first-stage table",
        0x78: "access to a second-stage table failed",
        0x79: "second-stage entry not present, or its right is missing",
        0x7A: "reserved bit in a second-stage entry, scalable mode",
        0x7B: "invalid second-stage root",
        0x7C: "second-stage A or D update on a unit that does not snoop",
        0x7D: "second-stage A or D update failed",
        0x80: "input address is not canonical",
        0x81: "user request to a supervisor page",
        0x82: "no right to execute",
        0x83: "output address beyond HAW",
        0x84: "input address beyond the second stage's AW",
        0x85: "first stage refuses the write",
        0x86: "first stage refuses the read",
        0x87: "translated into the interrupt address range",
        0x89: "PASID beyond what the unit supports",
        0x90: "first-stage A or D update on a unit that does not snoop",
        0x91: "first-stage A or D update failed",
        **{code: f"host permission table, code {code:X}h" for code in range(0xA0, 0xA6)},
    }
)

_NOT_RECORDED = " fpd"
_FETCHED = {
    "root": 0x08,
    "context": 0x09,
    "scalable-root": 0x38,
    "scalable-context": 0x40,
    "pasid-dir": 0x50,
    "pasid": 0x58,
}
_LEGACY = {"reserved": 0x0C, "range": 0x04, "fetch": 0x07}
_FIRST_STAGE = {"not-present": 0x71, "reserved": 0x72, "range": 0x80, "fetch": 0x70}
_SECOND_STAGE = {"not-present": 0x79, "permission": 0x79, "reserved": 0x7A, "range": 0x84, "fetch": 0x78}
_FOR_A_TABLE = {"permission": 0x76, "range": 0x74}


def kind_of(code: int, *, recorded: bool) -> str:
    """A reason code as the ``kind`` of a bad structure; with FPD set on the way it is not recorded (INTEL-FLT-5)."""
    return f"{code:#04x}" + ("" if recorded else _NOT_RECORDED)


def reason(fault: FaultRecord, *, scalable: bool) -> int | None:
    """The code that a fault is recorded with; None: it is not.

    Raises:
        ValueError: a kind that no VT-d unit reports, such as a conflict (INTEL-LIVE-8).
    """
    kind = fault.kind
    if kind in ("owner", "blocked") or kind.endswith(_NOT_RECORDED):
        return None
    if kind.startswith("0x"):
        return int(kind, 16)
    if kind == "fetch" and fault.structure:
        return _FETCHED[fault.structure]
    code = _of_tables(fault, scalable=scalable)
    if code is None:
        raise ValueError(f"intel: a VT-d unit has no fault record of kind {kind!r}")
    return code


def _of_tables(fault: FaultRecord, *, scalable: bool) -> int | None:
    """The code of what a walk met."""
    kind = fault.kind
    if not scalable:
        refused = kind in ("not-present", "permission")
        return (0x05 if fault.write else 0x06) if refused else _LEGACY.get(kind)
    if fault.stage == "1":
        return (0x85 if fault.write else 0x86) if kind == "permission" else _FIRST_STAGE.get(kind)
    if fault.target == "table" and kind in _FOR_A_TABLE:
        return _FOR_A_TABLE[kind]
    return _SECOND_STAGE.get(kind)
