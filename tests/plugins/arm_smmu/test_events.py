"""Events bit by bit, from ARM-EVT-*."""

import pytest
from arm_sheet import EVENT, event, positions, unpack
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import FaultRecord
from hitless_arm_smmu.events import ArmSmmuEvents

EVENTS = ArmSmmuEvents()
IOVA = 0x1234_5678_9ABC
CODES = {
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
KINDS = {
    "not-present": 0x10,
    "range": 0x10,
    "reserved": 0x10,
    "address-size": 0x11,
    "access": 0x12,
    "permission": 0x13,
    "conflict": 0x20,
}


def fault(kind: str, *, write: bool = False, iova: int = IOVA, **more: object) -> FaultRecord:
    """A fault of device 0x8001."""
    return FaultRecord(0x8001, iova, write, kind, 1, 7, **more)


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
@pytest.mark.parametrize("write", [False, True])
def test_a_stage_2_fault(kind, code, write):
    """Code, SID, RnW, S2 and CLASS = IN; without a stage 1 the IPA is the input address."""
    words = EVENTS.encode(fault(kind, write=write))
    assert words == (
        0x8001_0000_0000 | code,
        (0 if write else 1 << 35) | 1 << 39 | 2 << 40,
        0x1234_5678_9ABC,
        0x1234_5678_9000,
    )


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
def test_a_stage_1_fault(kind, code):
    """Neither S2 nor an IPA; the substream is told where there is one."""
    words = EVENTS.encode(fault(kind, stage="1", pasid=5))
    assert words == event(code=code, SSV=1, SSID=5, SID=0x8001, RnW=1, CLASS=2, input=IOVA)
    assert ArmSmmuEvents("1").encode(fault(kind, pasid=5)) == words


@pytest.mark.parametrize(("target", "number", "ttrnw"), [("input", 2, 0), ("table", 1, 1), ("structure", 0, 0)])
def test_a_nested_stage_2_fault(target, number, ttrnw):
    """CLASS tells what was being translated; the IPA is what stage 2 refused, the input address the request's."""
    words = EVENTS.encode(fault("not-present", stage="2", target=target, gpa=0x7_FFFF_E468, write=True))
    assert words == event(code=0x10, SID=0x8001, S2=1, CLASS=number, TTRnW=ttrnw, input=IOVA, IPA=0x7_FFFF_E000)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("C_BAD_STREAMID", 0x02),
        ("C_BAD_STE", 0x04),
        ("F_STREAM_DISABLED", 0x06),
        ("C_BAD_SUBSTREAMID", 0x08),
        ("C_BAD_CD", 0x0A),
    ],
)
@pytest.mark.parametrize("pasid", [None, 0, 0xFFFFF])
def test_a_bad_structure(kind, code, pasid):
    """Stream and substream, and nothing of the request (ARM-EVT-6)."""
    words = EVENTS.encode(fault(kind, pasid=pasid, structure="ste", pa=0x4000))
    assert words == event(code=code, SSV=int(pasid is not None), SSID=pasid or 0, SID=0x8001)


@pytest.mark.parametrize(("structure", "code"), [("ste", 0x03), ("l1std", 0x03), ("cd", 0x09), ("l1cd", 0x09)])
@pytest.mark.parametrize(("kind", "gpcf"), [("fetch", 0), ("owner", 1)])
def test_a_structure_that_could_not_be_read(structure, code, kind, gpcf):
    """F_STE_FETCH or F_CD_FETCH with the address, and GPCF where the granule check refused it (ARM-GPT-10)."""
    words = EVENTS.encode(fault(kind, structure=structure, pa=0xF_1234_5678_9ABF))
    assert words == event(code=code, SID=0x8001, GPCF=gpcf, FetchAddr=0xF_1234_5678_9AB8)


@pytest.mark.parametrize(
    ("told", "gpcf"),
    [
        ({"kind": "fetch", "stage": "2", "pa": 0x5008}, 0),
        ({"kind": "owner", "stage": "1", "pa": 0x5008}, 1),
        ({"kind": "owner", "stage": "2", "pa": 0x5008, "target": "table"}, 1),
    ],
)
def test_a_descriptor_that_could_not_be_read(told, gpcf):
    """F_WALK_EABT with the request and the descriptor's address."""
    words = EVENTS.encode(fault(**told))
    assert words is not None
    found = unpack(EVENT, words)
    assert (found["code"], found["GPCF"], found["FetchAddr"], found["input"]) == (0x0B, gpcf, 0x5008, IOVA)
    assert (found["S2"], found["CLASS"]) == (int(told["stage"] == "2"), 1 if "target" in told else 2)


@pytest.mark.parametrize("kind", ["owner", "blocked"])
@pytest.mark.parametrize("stage", ["", "1", "2"])
def test_what_is_not_in_the_queue(kind, stage):
    """A granule protection fault of a client's access goes to a root register; an aborting stream is silent."""
    assert EVENTS.encode(fault(kind, stage=stage)) is None


def test_an_illegal_command_has_no_event():
    """CMDQ_CONS.ERR tells of it, not the event queue (ARM-CMD-8)."""
    assert EVENTS.illegal_command((0xFF, 0), 0x1000) is None


def test_address_beyond_the_ipa_field():
    """The input address keeps all 64 bits, the IPA its 52."""
    words = EVENTS.encode(fault("range", iova=0xFFFF_FFFF_FFFF_FFFF))
    assert words is not None
    assert words[2:] == (0xFFFF_FFFF_FFFF_FFFF, 0x000F_FFFF_FFFF_F000)


def test_decode_names_the_event_and_every_field():
    """A record by hand comes back by field."""
    fields = EVENTS.decode((0x8001_0005_5813, 1 << 35 | 1 << 39 | 2 << 40, IOVA, 0x1234_5678_9000))
    assert fields["event"] == "F_PERMISSION"
    expected = {"SID": 0x8001, "SSV": 1, "SSID": 0x55, "RnW": 1, "S2": 1, "CLASS": 2, "Stall": 0, "input address": IOVA}
    assert {name: fields[name] for name in expected} == expected
    assert fields["IPA[51:12]"] == 0x1_2345_6789


@pytest.mark.parametrize(("code", "name"), CODES.items())
def test_every_code_has_its_name_and_its_fields(code, name):
    """Each code decodes by its name, with the fields that such an event has where the table has them."""
    layout = EVENTS.layouts[name]
    told = {key.replace("input", "input address"): bits for key, bits in positions(EVENT).items()}
    for field in layout.fields:
        if field.role != "ignored":
            assert told[field.name.split("[")[0]] == (field.hi, field.lo)
    assert EVENTS.decode((code, 0, 0, 0))["event"] == name
    assert len(EVENTS.layouts) == len(CODES)


def test_an_unknown_code_says_so():
    """A code that the table does not have."""
    assert EVENTS.decode((0xEE, 0, 0, 0))["event"] == "unknown code 0xee"


@given(
    kind=st.sampled_from(sorted(KINDS)),
    iova=st.integers(0, (1 << 64) - 1),
    device=st.integers(0, (1 << 32) - 1),
    pasid=st.none() | st.integers(0, (1 << 20) - 1),
    stage=st.sampled_from(["1", "2"]),
    write=st.booleans(),
)
def test_what_is_encoded_is_decoded(kind, iova, device, pasid, stage, write):
    """Every request comes back from its event, field by field."""
    words = EVENTS.encode(FaultRecord(device, iova, write, kind, 0, 0, pasid, stage))
    assert words is not None
    found = unpack(EVENT, words)
    told = EVENTS.decode(words)
    assert told["event"] == CODES[KINDS[kind]]
    assert (found["SID"], found["SSV"], found["SSID"]) == (device, int(pasid is not None), pasid or 0)
    assert (found["RnW"], found["S2"], found["input"]) == (int(not write), int(stage == "2"), iova)
    assert (told["SID"], told["input address"]) == (device, iova)
