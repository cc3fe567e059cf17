"""VT-d fault recording registers, 128 bits, and the fault status register.

Spec: VT-d 5.10, sections 7.1.3, 11.4.8 and 11.4.14. Facts: INTEL-FLT-*.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from hitless.bits import Field, Layout, bit, ignored, reserved
from hitless.hardware.facts import FaultRecord
from hitless.refresh.commands import Words
from hitless_intel.reasons import REASONS, reason

RECORD = Layout(
    "fault recording register",
    "VT-d 11.4.14",
    (
        ignored(11, 0),
        Field("FI", 63, 12, "page address", unit=1 << 12),
        Field("SID", 79, 64),
        ignored(91, 80),
        bit("T2", 92, "with T1: page request"),
        bit("PRIV", 93, "privileged"),
        bit("EXE", 94, "execute"),
        bit("PP", 95, "PASID present"),
        Field("FR", 103, 96, "reason", values=REASONS),
        Field("PASID", 123, 104),
        Field("AT", 125, 124, "address type"),
        bit("T1", 126, "1: read or AtomicOp"),
        bit("F", 127, "valid; write 1 to clear"),
    ),
    128,
)
STATUS = Layout(
    "fault status register",
    "VT-d 11.4.8",
    (
        bit("PFO", 0, "fault records were lost"),
        bit("PPF", 1, "a fault record is valid"),
        ignored(3, 2),
        bit("IQE", 4, "bad descriptor, the queue is stopped at it"),
        bit("ICE", 5, "bad device TLB response"),
        bit("ITE", 6, "no device TLB response in time"),
        bit("PRO", 7, "page requests were lost"),
        Field("FRI", 15, 8, "index of the first fault record"),
        reserved(31, 16),
    ),
    32,
)
IQE = 1 << 4


class IntelEvents:
    """Encoder and decoder of what a unit reports.

    Args:
        scalable: whether it is in scalable mode.
    """

    words: ClassVar[int] = 2
    layouts: ClassVar[Mapping[str, Layout]] = MappingProxyType({RECORD.name: RECORD, STATUS.name: STATUS})

    def __init__(self, *, scalable: bool = False) -> None:
        self._scalable = scalable

    def encode(self, fault: FaultRecord) -> Words | None:
        """The record; what memory itself refuses, a blocked device and FPD leave none.

        Raises:
            ValueError: a kind that no VT-d unit reports, such as a conflict (INTEL-LIVE-8).
        """
        code = reason(fault, scalable=self._scalable)
        if code is None:
            return None
        high = fault.device | code << 32 | (0 if fault.write else 1 << 62) | 1 << 63
        if fault.pasid is not None:
            high |= 1 << 31 | fault.pasid << 40
        return (fault.iova & ~0xFFF, high)

    def illegal_command(self, words: Words, pa: int) -> Words | None:
        """Fault status with IQE, and no fault record behind it: F is 0 (INTEL-FLT-6, INTEL-QI-10)."""
        return (IQE, 0)

    def layout(self, words: Words) -> Layout | None:
        return RECORD if any(words[1:]) else STATUS

    def decode(self, words: Words) -> dict[str, int | str]:
        """A fault record by field; with nothing in its upper half, the fault status."""
        if not any(words[1:]):
            fields = STATUS.decode(words[0] & 0xFFFF_FFFF)
            named = [f"{name}: {STATUS[name].meaning}" for name in ("IQE", "ICE", "ITE", "PRO", "PFO") if fields[name]]
            return {"event": "; ".join(named) or "no fault", **fields}
        code = words[1] >> 32 & 0xFF
        return {"event": REASONS.get(code, f"reason {code:#x}"), **RECORD.decode(words)}
