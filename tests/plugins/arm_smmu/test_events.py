"""Events bit by bit, from ARM-EVT-*."""

import pytest

from hitless.hardware.facts import FaultRecord
from hitless_arm_smmu.events import ArmSmmuEvents

EVENTS = ArmSmmuEvents()
IOVA = 0x1234_5678_9ABC


def fault(kind: str, *, write: bool = False, iova: int = IOVA) -> FaultRecord:
    """A fault of device 0x8001."""
    return FaultRecord(0x8001, iova, write, kind, 1, 7)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("not-present", 0x10),
        ("range", 0x10),
        ("reserved", 0x10),
        ("access", 0x12),
        ("permission", 0x13),
        ("conflict", 0x20),
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_record_bit_by_bit(kind, code, write):
    """Code in 7:0, SID in 63:32, RnW bit 99, S2 bit 103, CLASS 105:104 = IN, address in 191:128, IPA in 243:204."""
    words = EVENTS.encode(fault(kind, write=write))
    assert words is not None
    assert words == (
        0x8001_0000_0000 | code,
        (0 if write else 1 << 35) | 1 << 39 | 2 << 40,
        0x1234_5678_9ABC,
        0x1234_5678_9000,
    )


@pytest.mark.parametrize("kind", ["owner", "blocked"])
def test_what_is_not_in_the_queue(kind):
    """A granule protection fault of a client's access goes to a root register; a blocked stream is silent."""
    assert EVENTS.encode(fault(kind)) is None


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


@pytest.mark.parametrize(
    ("code", "name"), [(0x0B, "F_WALK_EABT"), (0x11, "F_ADDR_SIZE"), (0x04, "C_BAD_STE"), (0xEE, "unknown code 0xee")]
)
def test_decode_of_other_codes(code, name):
    """Events of other faults have their names, and an unknown one says so."""
    assert EVENTS.decode((code, 0, 0, 0))["event"] == name
