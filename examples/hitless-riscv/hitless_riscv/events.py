"""Fault records: 32 bytes each.

Spec: RISC-V IOMMU 1.0, in-memory queues, fault queue. Facts: RISCV-EVT-*.
"""

from collections.abc import Mapping

from hitless.bits import Field, Layout, bit, ignored, reserved
from hitless.hardware.facts import FaultRecord
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Words

CAUSES = {
    1: "instruction access fault",
    4: "read address misaligned",
    5: "read access fault",
    6: "write address misaligned",
    7: "write access fault",
    12: "instruction page fault",
    13: "read page fault",
    15: "write page fault",
    20: "instruction guest page fault",
    21: "read guest page fault",
    23: "write guest page fault",
    256: "all inbound transactions disallowed",
    257: "DDT entry load access fault",
    258: "DDT entry not valid",
    259: "DDT entry misconfigured",
    260: "transaction type disallowed",
    261: "MSI PTE load access fault",
    262: "MSI PTE not valid",
    263: "MSI PTE misconfigured",
    264: "MRIF access fault",
    265: "PDT entry load access fault",
    266: "PDT entry not valid",
    267: "PDT entry misconfigured",
    268: "DDT data corruption",
    269: "PDT data corruption",
    270: "MSI PT data corruption",
    271: "MRIF data corruption",
    272: "internal data path error",
    273: "IOMMU MSI write access fault",
    274: "page table data corruption",
}
"""Names by CAUSE (RISCV-EVT-2)."""

_TTYP = {
    0: "not a transaction",
    1: "untranslated read for execution",
    2: "untranslated read",
    3: "untranslated write or AMO",
    5: "translated read for execution",
    6: "translated read",
    7: "translated write or AMO",
    8: "ATS translation request",
    9: "message",
}
FAULT = Layout(
    "fault record",
    "RISC-V IOMMU 1.0, in-memory queues",
    (
        Field("CAUSE", 11, 0, values=CAUSES),
        Field("PID", 31, 12),
        bit("PV", 32, "PID counts"),
        bit("PRIV", 33, "supervisor request"),
        Field("TTYP", 39, 34, "kind of request", values=_TTYP),
        Field("DID", 63, 40),
        ignored(95, 64, "custom"),
        reserved(127, 96),
        Field("iotval", 191, 128, "the IOVA", unit=1),
        bit("implicit", 192, "of a guest page fault: of an access that stage 1 or the process directory needed"),
        bit("implicit write", 193, "that access was a write"),
        Field("iotval2", 255, 194, "of a guest page fault: the guest physical address", unit=1 << 2),
    ),
    256,
)
_ACCESS, _PAGE, _GUEST_PAGE = 5, 13, 21
_WRITE = 2
"""From the cause of a read to that of a write (RISCV-EVT-2)."""
_INTERNAL = 272


class RiscvEvents:
    """Encoder and decoder of the fault queue."""

    words = 4
    layouts: Mapping[str, Layout] = {FAULT.name: FAULT}

    def __init__(self, page_format: PageFormat) -> None:
        self._stage = page_format.stage

    def encode(self, fault: FaultRecord) -> Words | None:
        """The record of a refused request.

        None for an access of the device that the MPT refuses, which the I/O bridge aborts without the IOMMU
        (RISCV-MTT-8), for a device that is cut off otherwise than by its context, and for what DTF keeps out.
        """
        cause = self._cause(fault)
        if cause is None:
            return None
        fields = {"CAUSE": cause, "TTYP": 3 if fault.write else 2, "DID": fault.device, "iotval": fault.iova}
        if fault.pasid is not None:
            fields |= {"PV": 1, "PID": fault.pasid}
        if cause in (_GUEST_PAGE, _GUEST_PAGE + _WRITE):
            gpa = fault.iova if fault.gpa is None else fault.gpa
            fields |= {"iotval2": gpa >> 2, "implicit": int(fault.target != "input")}
        return FAULT.encode(**fields)

    def _cause(self, fault: FaultRecord) -> int | None:
        """The cause of a refusal; None: nothing is recorded."""
        cause, _, silent = fault.kind.partition(" ")
        if cause.isdecimal():
            return None if silent else int(cause)
        own_access = bool(fault.structure) or fault.target != "input" or fault.pa != 0
        if fault.kind == "blocked" or (fault.kind == "owner" and not own_access):
            return None
        write = _WRITE if fault.write else 0
        if fault.kind in ("fetch", "owner"):
            if fault.structure:
                return 265 if fault.structure.startswith("p") else 257
            return _ACCESS + write
        if fault.kind == "conflict":
            return _INTERNAL
        return (_PAGE if (fault.stage or self._stage) == "1" else _GUEST_PAGE) + write

    def illegal_command(self, words: Words, pa: int) -> Words | None:
        """No record: cqcsr.cmd_ill says it (RISCV-CMD-1)."""
        return None

    def layout(self, words: Words) -> Layout | None:
        return FAULT

    def decode(self, words: Words) -> dict[str, int | str]:
        fields = FAULT.decode(words)
        return {"event": CAUSES.get(fields["CAUSE"], f"unknown cause {fields['CAUSE']}"), **fields}
