"""Fault records against words written by hand from RISCV-EVT-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import FaultRecord
from hitless_riscv.events import CAUSES, RiscvEvents
from hitless_riscv.sv import Stage1, Stage2

EVENTS = RiscvEvents(Stage2())
READ, WRITE = False, True


def fault(kind, write=READ, **more):
    """A refused request of device 0x123456 for 0x7000."""
    return FaultRecord(0x12_3456, 0x7018, write, kind, 0, 7, **more)


def word0(cause, ttyp, pasid=None):
    """CAUSE, PID, PV, TTYP, DID."""
    who = 0 if pasid is None else pasid << 12 | 1 << 32
    return cause | who | ttyp << 34 | 0x12_3456 << 40


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (fault("not-present", stage="1"), (word0(13, 2), 0, 0x7018, 0)),
        (fault("permission", WRITE, stage="1", pasid=0xABCDE), (word0(15, 3, 0xABCDE), 0, 0x7018, 0)),
        (fault("not-present", stage="2", gpa=0x9018), (word0(21, 2), 0, 0x7018, 0x9018)),
        (fault("reserved", WRITE, stage="2", gpa=0x9018), (word0(23, 3), 0, 0x7018, 0x9018)),
        (fault("range", stage="2"), (word0(21, 2), 0, 0x7018, 0x7018)),
        (fault("not-present", WRITE, stage="2", target="table", gpa=0x5008), (word0(23, 3), 0, 0x7018, 0x5009)),
        (
            fault("permission", stage="2", target="structure", structure="pc", gpa=0x5010),
            (word0(21, 2), 0, 0x7018, 0x5011),
        ),
        (fault("fetch", stage="1", pa=0x1000), (word0(5, 2), 0, 0x7018, 0)),
        (fault("fetch", WRITE, stage="2", pa=0x1000), (word0(7, 3), 0, 0x7018, 0)),
        (fault("fetch", structure="ddt", pa=0x1000), (word0(257, 2), 0, 0x7018, 0)),
        (fault("fetch", structure="dc", pa=0x1000), (word0(257, 2), 0, 0x7018, 0)),
        (fault("fetch", structure="pdt-level2", pa=0x1000), (word0(265, 2), 0, 0x7018, 0)),
        (fault("fetch", structure="pc", pa=0x1000), (word0(265, 2), 0, 0x7018, 0)),
        (fault("owner", WRITE, stage="1", pa=0x1000), (word0(7, 3), 0, 0x7018, 0)),
        (fault("owner", structure="dc", pa=0x1000), (word0(257, 2), 0, 0x7018, 0)),
        *((fault(str(cause), pasid=5), (word0(cause, 2, 5), 0, 0x7018, 0)) for cause in (256, 258, 259, 260, 266, 267)),
    ],
)
def test_records(record, words):
    """Cause by stage and kind of request, who and what; guest physical address and why it was needed."""
    assert EVENTS.encode(record) == words
    assert EVENTS.decode(words)["event"] == CAUSES[words[0] & 0xFFF]


@pytest.mark.parametrize("kind", ["blocked", "owner", "266 DTF", "260 DTF"])
def test_what_is_not_recorded(kind):
    """What the I/O bridge aborts, and what DTF keeps out (RISCV-EVT-5, RISCV-MTT-8)."""
    assert EVENTS.encode(fault(kind)) is None


def test_a_record_of_no_named_stage_is_the_formats():
    """Without structures the domain's format tells the stage."""
    for fmt, cause in ((Stage1(), 13), (Stage2(), 21)):
        assert RiscvEvents(fmt).encode(fault("not-present"))[0] & 0xFFF == cause


def test_an_illegal_command_is_no_record():
    """cqcsr.cmd_ill says it (RISCV-CMD-1)."""
    assert EVENTS.illegal_command((0, 0), 0x1000) is None


@given(
    st.sampled_from(sorted(CAUSES)),
    st.integers(0, (1 << 24) - 1),
    st.integers(0, (1 << 20) - 1),
    st.sampled_from([0, 2, 3, 8]),
    st.integers(0, (1 << 64) - 1),
)
def test_decoding(cause, device, process, ttyp, iova):
    """Field by field, from words written by hand (RISCV-EVT-1, RISCV-EVT-3)."""
    words = (cause | process << 12 | 1 << 32 | ttyp << 34 | device << 40, 0xC0FFEE, iova, 0x9000 | 3)
    found = EVENTS.decode(words)
    assert found["event"] == CAUSES[cause]
    assert (found["DID"], found["PID"], found["PV"], found["TTYP"]) == (device, process, 1, ttyp)
    assert (found["iotval"], found["iotval2"] << 2, found["implicit"], found["implicit write"]) == (iova, 0x9000, 1, 1)


def test_an_unknown_cause():
    """It is told as such."""
    assert EVENTS.decode((0xFFF, 0, 0, 0))["event"] == "unknown cause 4095"
