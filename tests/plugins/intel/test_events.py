"""Fault records and the status register, bit by bit, from INTEL-FLT-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import FaultRecord
from hitless_intel.events import IntelEvents
from hitless_intel.reasons import REASONS

LEGACY, SCALABLE = IntelEvents(), IntelEvents(scalable=True)
IOVA, PAGE, DEVICE = 0x1234_5678_9ABC, 0x1234_5678_9000, 0x8001


def fault(kind: str, *, write: bool = False, **more) -> FaultRecord:
    """A fault of device 0x8001."""
    return FaultRecord(DEVICE, IOVA, write, kind, 1, 7, **more)


def record(reason: int, *, write: bool = False, pasid: int | None = None) -> tuple[int, int]:
    """FI 63:12, SID 79:64, PP 95, FR 103:96, PASID 123:104, T1 126, F 127, by hand."""
    whole = PAGE | DEVICE << 64 | reason << 96 | (not write) << 126 | 1 << 127
    whole |= 0 if pasid is None else 1 << 95 | pasid << 104
    return whole & (1 << 64) - 1, whole >> 64


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
        ("fetch", True, 0x7),
    ],
)
def test_legacy_record_bit_by_bit(kind, write, reason):
    """Page, SID, reason, T1 (1 for a read) and F (INTEL-FLT-1 to INTEL-FLT-3)."""
    found = LEGACY.encode(fault(kind, write=write))
    assert found == record(reason, write=write)
    assert found == (0x1234_5678_9000, 1 << 63 | (0 if write else 1 << 62) | reason << 32 | 0x8001)


@pytest.mark.parametrize(
    ("stage", "kind", "write", "reason"),
    [
        ("2", "not-present", True, 0x79),
        ("2", "not-present", False, 0x79),
        ("2", "permission", True, 0x79),
        ("2", "reserved", False, 0x7A),
        ("2", "range", False, 0x84),
        ("2", "fetch", False, 0x78),
        ("1", "not-present", True, 0x71),
        ("1", "reserved", False, 0x72),
        ("1", "range", False, 0x80),
        ("1", "permission", True, 0x85),
        ("1", "permission", False, 0x86),
        ("1", "fetch", False, 0x70),
    ],
)
@pytest.mark.parametrize("pasid", [None, 0, 0xF_FFFF])
def test_scalable_record_bit_by_bit(stage, kind, write, reason, pasid):
    """First-stage and second-stage codes; PP and PASID if the request had one (INTEL-FLT-4, 7, 11)."""
    found = SCALABLE.encode(fault(kind, write=write, stage=stage, pasid=pasid))
    assert found == record(reason, write=write, pasid=pasid)


@pytest.mark.parametrize(
    ("kind", "reason"), [("permission", 0x76), ("range", 0x74), ("not-present", 0x79), ("reserved", 0x7A)]
)
def test_a_second_stage_that_refuses_a_first_stage_table(kind, reason):
    """Codes of their own for a missing right and for an address that is too wide (INTEL-FLT-11)."""
    refused = fault(kind, stage="2", target="table", gpa=0x5000)
    assert SCALABLE.encode(refused) == record(reason)


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        ("root", 0x8),
        ("context", 0x9),
        ("scalable-root", 0x38),
        ("scalable-context", 0x40),
        ("pasid-dir", 0x50),
        ("pasid", 0x58),
    ],
)
def test_a_structure_that_could_not_be_read(structure, reason):
    """Access failures have a code per structure (INTEL-FLT-2, 8, 9, 10)."""
    events = LEGACY if reason < 0x10 else SCALABLE
    assert events.encode(fault("fetch", structure=structure, pa=0x1000)) == record(reason)


@pytest.mark.parametrize("reason", [0x1, 0x2, 0x3, 0xA, 0xB, 0x30, 0x31, 0x39, 0x3A, 0x48, 0x5B, 0x5D, 0x89])
def test_a_bad_structure_brings_its_code(reason):
    """The kind of a bad structure is the code as text; with FPD on the way none is recorded (INTEL-FLT-5)."""
    events = LEGACY if reason < 0x10 else SCALABLE
    assert events.encode(fault(f"{reason:#04x}", structure="any")) == record(reason)
    assert events.encode(fault(f"{reason:#04x} fpd", structure="any")) is None


@pytest.mark.parametrize("kind", ["owner", "blocked"])
@pytest.mark.parametrize("events", [LEGACY, SCALABLE])
def test_what_leaves_no_record(kind, events):
    """Memory's own refusal and a blocked device are not the unit's faults."""
    assert events.encode(fault(kind)) is None


@pytest.mark.parametrize("events", [LEGACY, SCALABLE])
@pytest.mark.parametrize("kind", ["conflict", "access"])
def test_there_is_no_conflict_event(kind, events):
    """Overlapping sizes never conflict, so that such a fault is a mistake of the model (INTEL-LIVE-8)."""
    with pytest.raises(ValueError, match=kind):
        events.encode(fault(kind))


def test_decode_names_reason_and_fields():
    """A word written by hand: device 0x10, a read of page 0x7000, reserved bit."""
    found = LEGACY.decode((0x7000, 0xC000_000C_0000_0010))
    assert found["event"] == "reserved bit in a second-stage entry"
    assert (found["FI"], found["SID"], found["FR"], found["T1"], found["F"]) == (7, 0x10, 0xC, 1, 1)
    assert LEGACY.decode((0, 0x99 << 32))["event"] == "reason 0x99"


@pytest.mark.parametrize(
    ("name", "hi", "lo"),
    [
        ("FI", 63, 12),
        ("SID", 79, 64),
        ("T2", 92, 92),
        ("PRIV", 93, 93),
        ("EXE", 94, 94),
        ("PP", 95, 95),
        ("FR", 103, 96),
        ("PASID", 123, 104),
        ("AT", 125, 124),
        ("T1", 126, 126),
        ("F", 127, 127),
    ],
)
def test_each_field_of_a_record_has_its_bits(name, hi, lo):
    """All bits of the field, and of no other (INTEL-FLT-1, INTEL-FLT-7)."""
    whole = (1 << hi + 1) - (1 << lo)
    # A record has F = 1; without anything in its upper half the words are the status register's.
    found = SCALABLE.decode((whole & (1 << 64) - 1, whole >> 64 | 1 << 63))
    others = {key: value for key, value in found.items() if value and key not in ("event", "F")}
    assert others == ({} if name == "F" else {name: (1 << hi - lo + 1) - 1})
    assert found["F"] == 1


def test_every_code_of_the_table_has_a_name():
    """Legacy 1 to D; scalable by structure and stage (INTEL-FLT-2, INTEL-FLT-4, INTEL-FLT-8 to INTEL-FLT-12)."""
    legacy = set(range(1, 0xE))
    scalable = {*range(0x30, 0x35), *range(0x38, 0x3B), *range(0x40, 0x4A), *range(0x50, 0x53), *range(0x58, 0x5E)}
    scalable |= {*range(0x70, 0x7E), *range(0x80, 0x88), 0x89, 0x90, 0x91, *range(0xA0, 0xA6)}
    assert set(REASONS) == legacy | scalable
    assert len(set(REASONS.values())) == len(REASONS)


def test_an_illegal_command_is_told_by_the_status_register():
    """IQE, bit 4 of FSTS, and no fault record: F is 0 (INTEL-FLT-6, INTEL-QI-10)."""
    words = SCALABLE.illegal_command((0xF, 0, 0, 0), 0x1000)
    assert words == (0x10, 0)
    found = SCALABLE.decode(words)
    assert found["event"] == "IQE: bad descriptor, the queue is stopped at it"
    assert found["IQE"] == 1
    assert SCALABLE.decode((0x10,)) == found


@pytest.mark.parametrize(
    ("name", "hi", "lo"),
    [
        ("PFO", 0, 0),
        ("PPF", 1, 1),
        ("IQE", 4, 4),
        ("ICE", 5, 5),
        ("ITE", 6, 6),
        ("PRO", 7, 7),
        ("FRI", 15, 8),
    ],
)
def test_each_field_of_the_status_has_its_bits(name, hi, lo):
    """FSTS (INTEL-FLT-6)."""
    found = LEGACY.decode(((1 << hi + 1) - (1 << lo), 0))
    assert {key: value for key, value in found.items() if value and key != "event"} == {name: (1 << hi - lo + 1) - 1}


kinds = st.sampled_from(["not-present", "reserved", "range", "permission", "fetch"])
pasids = st.one_of(st.none(), st.integers(0, (1 << 20) - 1))


@given(st.integers(0, 0xFFFF), st.integers(0, (1 << 64) - 1), st.booleans(), kinds, pasids, st.sampled_from("12"))
def test_records_read_back(device, iova, write, kind, pasid, stage):
    """Device, page, direction and PASID come out as they went in; the event has a name."""
    found = SCALABLE.decode(SCALABLE.encode(FaultRecord(device, iova, write, kind, 0, 0, pasid, stage)))
    assert (found["SID"], found["FI"], found["T1"], found["F"]) == (device, iova >> 12, not write, 1)
    assert (found["PP"], found["PASID"]) == (pasid is not None, pasid or 0)
    assert found["event"] == REASONS[found["FR"]]
