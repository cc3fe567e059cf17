"""Events against words written by hand from AMD-EVT-*."""

import pytest

from hitless.hardware.facts import FaultRecord
from hitless_amd.events import NAMES, AmdEvents
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2

EVENTS = AmdEvents(AmdV1())
GUEST = AmdEvents(AmdV2())
IOVA = 0x1234_5678_9ABC


def record(kind: str, *, write: bool = False, **more: object) -> FaultRecord:
    """A refused request of device 0x108 in domain 0xBEEF."""
    return FaultRecord(0x108, IOVA, write, kind, 0, 0xBEEF)._replace(**more)


@pytest.mark.parametrize(
    ("kind", "write", "word"),
    [
        ("not-present", False, 0x2000_BEEF_0000_0108),
        ("not-present", True, 0x2020_BEEF_0000_0108),
        ("permission", True, 0x2070_BEEF_0000_0108),
        ("permission", False, 0x2050_BEEF_0000_0108),
        ("reserved", False, 0x2090_BEEF_0000_0108),
        ("range", True, 0x2020_BEEF_0000_0108),
    ],
)
def test_page_faults_of_a_host_table(kind, write, word):
    """PR 52, RW 53, PE 54, RZ 55; the DomainID in 47:32 (AMD-EVT-3, AMD-EVT-4, AMD-EVT-5)."""
    assert EVENTS.encode(record(kind, write=write)) == (word, IOVA)


@pytest.mark.parametrize(
    ("events", "more"),
    [
        (EVENTS, {"stage": "1", "pasid": 0xABCDE}),
        (GUEST, {"pasid": 0xABCDE}),
        (EVENTS, {"structure": "gcr3", "pasid": 0xABCDE}),
    ],
)
def test_page_faults_of_a_guest_table(events, more):
    """GN 48, PASID[19:16] in 19:16 and PASID[15:0] in 47:32 (AMD-EVT-9); so is a PASID without a table."""
    words = events.encode(record("not-present", **more))
    assert words == (0x2001_BCDE_000A_0108, IOVA)
    assert events.decode(words)["event"] == "IO_PAGE_FAULT"


def test_a_v2_table_without_pasids():
    """Is PASID 0's."""
    assert GUEST.encode(record("permission", write=True)) == (0x2071_0000_0000_0108, IOVA)


def test_a_guests_request_that_the_host_table_refused():
    """Reported for the domain, with the guest physical address (AMD-EVT-9)."""
    fault = record("not-present", stage="2", pasid=5, gpa=0x7000, tag=0xBEEF | 5 << 16)
    assert GUEST.encode(fault) == (0x2000_BEEF_0000_0108, 0x7000)


def test_a_page_fault_field_by_field():
    """Every field by its own bits."""
    word = 0x2000_BEEF_E800_0108 | 0x1FF << 48 & ~(1 << 48)
    assert EVENTS.decode((word, IOVA)) == {
        "event": "IO_PAGE_FAULT",
        "DeviceID": 0x108,
        "ignored 19:16": 0,
        "ignored 26:20": 0,
        "VNR": 1,
        "ignored 28:28": 0,
        "vEvent": 1,
        "vPtr": 1,
        "vCmd": 1,
        "DomainID": 0xBEEF,
        "GN": 0,
        "NX": 1,
        "US": 1,
        "I": 1,
        "PR": 1,
        "RW": 1,
        "PE": 1,
        "RZ": 1,
        "TR": 1,
        "ignored 59:57": 0,
        "code": 2,
        "address": IOVA,
    }
    guest = EVENTS.decode((0x2001_BCDE_000A_0108, IOVA))
    assert (guest["PASID[19:16]"], guest["PASID[15:0]"], guest["GN"]) == (0xA, 0xBCDE, 1)
    assert "DomainID" not in guest


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("ILLEGAL_DEV_TABLE_ENTRY", {}, (0x1000_0000_0000_0108, IOVA & ~3)),
        ("ILLEGAL_DEV_TABLE_ENTRY RZ", {"write": True}, (0x10A0_0000_0000_0108, IOVA & ~3)),
        ("ILLEGAL_DEV_TABLE_ENTRY RZ", {"pasid": 0xABCDE}, (0x1081_BCDE_000A_0108, IOVA & ~3)),
        ("INVALID_DEVICE_REQUEST", {"pasid": 0xABCDE}, (0x8000_BCDE_000A_0108, IOVA)),
    ],
)
def test_bad_structures(kind, more, words):
    """RZ 55 where a reserved bit or a reserved value is the cause; the request's address (AMD-EVT-8, AMD-EVT-11)."""
    found = EVENTS.encode(record(kind, **{"structure": "dte", **more}))
    assert found == words
    assert EVENTS.decode(found)["event"] == kind.split()[0]


def test_structures_and_tables_that_cannot_be_read():
    """DEV_TAB_HARDWARE_ERROR and PAGE_TAB_HARDWARE_ERROR with the address that was read (AMD-EVT-11)."""
    assert EVENTS.encode(record("fetch", structure="dte", pa=0x5100)) == (0x3000_0000_0000_0108, 0x5100)
    assert EVENTS.encode(record("fetch", pa=0x7008, pasid=0x12345)) == (0x4000_2345_0001_0108, 0x7008)
    assert EVENTS.decode((0x4000_2345_0001_0108, 0x7008))["PASID[15:0]"] == 0x2345


@pytest.mark.parametrize(("write", "word"), [(False, 0xD000_0000_0000_0108), (True, 0xD020_0000_0000_0108)])
def test_the_rmp_refused(write, word):
    """Flags 0x020 for a write, VMG tag and RMP flags 0 for a plain device: the known sample (AMD-EVT-6)."""
    assert EVENTS.encode(record("owner", write=write)) == (word, IOVA)
    decoded = EVENTS.decode((word, IOVA))
    assert (decoded["event"], decoded["flags"], decoded["VMG tag"]) == ("RMP_PAGE_FAULT", 0x20 * write, 0)


def test_a_blocked_device_reports_nothing():
    """TV = 0 (AMD-DTE-7)."""
    assert EVENTS.encode(record("blocked")) is None


def test_an_illegal_command():
    """ILLEGAL_COMMAND_ERROR with the command's address (AMD-EVT-10)."""
    words = EVENTS.illegal_command((0xF000_0000_0000_0000, 0), 0x1_0000_0040)
    assert words == (0x5000_0000_0000_0000, 0x1_0000_0040)
    decoded = EVENTS.decode(words)
    assert (decoded["event"], decoded["address"]) == ("ILLEGAL_COMMAND_ERROR", 0x1_0000_0040)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (
            (0xDABC_1234_0056_0108, IOVA),
            {"event": "RMP_PAGE_FAULT", "RMP flags": 0x56, "VMG tag": 0x1234, "flags": 0xABC, "address": IOVA},
        ),
        (
            (0xEABC_1234_0000_0108, 0x1_2345_6FF8),
            {"event": "RMP_HARDWARE_ERROR", "VMG tag": 0x1234, "flags": 0xABC, "SPA": 0x1_2345_6FF8 >> 3},
        ),
        ((0x3ABC_0000_0000_0108, 0x40), {"event": "DEV_TAB_HARDWARE_ERROR", "flags": 0xABC, "address": 0x40}),
        ((0x6ABC_0000_0000_0000, 0x40), {"event": "COMMAND_HARDWARE_ERROR", "flags": 0xABC, "address": 0x40}),
        ((0x7000_0000_0000_0108, 0x40), {"event": "IOTLB_INV_TIMEOUT", "DeviceID": 0x108, "address": 0x40}),
        (
            (0x9ABC_2BFF_BCDE_0108, IOVA),
            {
                "event": "INVALID_PPR_REQUEST",
                "PASID[15:0]": 0xBCDE,
                "PASID[19:16]": 0xA,
                "tag": 0x3FF,
                "flags": 0xABC,
                "address": IOVA,
            },
        ),
        ((0xA000_0000_0000_0000, 1), {"event": "EVENT_COUNTER_ZERO"}),
        ((0xB000_0000_0000_0000, 1), {"event": "GUEST_EVENT_FAULT"}),
        ((0xC000_0000_0000_0000, 1), {"event": "VIOMMU_HARDWARE_ERROR"}),
        ((0xF000_0000_0000_0000, 1), {"event": "unknown code 0xf"}),
        ((0, 0), {"event": "unknown code 0x0"}),
    ],
)
def test_other_events(words, fields):
    """By hand from AMD-EVT-11 to AMD-EVT-14."""
    assert EVENTS.decode(words).items() >= fields.items()


def test_every_code_has_a_layout():
    """Fourteen codes; IO_PAGE_FAULT has two forms; what is not modelled is named so."""
    assert {name.split()[0] for name in EVENTS.layouts} == set(NAMES.values())
    for code, name in NAMES.items():
        assert EVENTS.layouts[name].encode()[0] >> 60 == code
    for name in ("EVENT_COUNTER_ZERO", "GUEST_EVENT_FAULT", "VIOMMU_HARDWARE_ERROR"):
        assert [field.meaning for field in EVENTS.layouts[name].fields if field.role == "ignored"] == [
            "not modelled"
        ] * 2
