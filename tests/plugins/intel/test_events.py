"""Fault records bit by bit, from INTEL-FLT-*."""

import pytest

from hitless.hardware.facts import FaultRecord
from hitless_intel.events import IntelEvents

EVENTS = IntelEvents()


def fault(kind: str, *, write: bool = False) -> FaultRecord:
    """A fault of device 0x8001."""
    return FaultRecord(0x8001, 0x1234_5678_9ABC, write, kind, 1, 7)


@pytest.mark.parametrize(
    ("kind", "write", "reason"),
    [
        ("not-present", True, 0x5),
        ("not-present", False, 0x6),
        ("permission", True, 0x5),
        ("permission", False, 0x6),
        ("reserved", True, 0xC),
        ("reserved", False, 0xC),
        ("range", True, 0x4),
        ("range", False, 0x4),
    ],
)
def test_record_bit_by_bit(kind, write, reason):
    """Page in 63:12, SID in 79:64, reason in 103:96, T1 126 is 1 for a read, F 127 (INTEL-FLT-1 to INTEL-FLT-3)."""
    expected = (0x1234_5678_9000, 1 << 63 | (0 if write else 1 << 62) | reason << 32 | 0x8001)
    assert EVENTS.encode(fault(kind, write=write)) == expected


@pytest.mark.parametrize("kind", ["owner", "blocked"])
def test_what_leaves_no_record(kind):
    """Memory's own refusal and a blocked device are not the unit's faults."""
    assert EVENTS.encode(fault(kind)) is None


def test_there_is_no_conflict_event():
    """Overlapping sizes never conflict, so that such a fault is a mistake of the model (INTEL-LIVE-8)."""
    with pytest.raises(ValueError, match="conflict"):
        EVENTS.encode(fault("conflict"))


def test_decode_names_reason_and_fields():
    """A word written by hand: device 0x10, a read of page 0x7000, reserved bit."""
    found = EVENTS.decode((0x7000, 0xC000_000C_0000_0010))
    assert found["event"] == "reserved bit in a second-stage entry"
    assert (found["FI"], found["SID"], found["FR"], found["T1"], found["F"]) == (7, 0x10, 0xC, 1, 1)
    assert EVENTS.decode((0, 0x99 << 32))["event"] == "reason 0x99"
