"""Structures, commands and events: words and fields that were written by hand from the specifications' tables."""

import pytest

from hitless.bits import Field, Layout, bit, ignored, reserved
from hitless.explain import explain_command, explain_event, explain_field, explain_structure
from hitless.plugin import VendorRegistry


@pytest.fixture(scope="module")
def vendors():
    """Every vendor with its default format and features."""
    registry = VendorRegistry.installed(["amd", "intel", "arm_smmu"], [])
    return {name: registry.resolve(name) for name in registry.vendors}


def set_fields(explained):
    """What is not 0: name to bits and value."""
    found = {each["name"]: (each["bits"], int(each["value"], 16)) for each in explained["fields"]}
    return {name: (bits, value) for name, (bits, value) in found.items() if value}


STRUCTURES = {
    "amd/dte": (
        (0x7580_0001_2345_6983, 0x091A_2B01_ABCD_0042, 0x2040_0000_00FE_DC01, 0xA540_0077_0123_8000),
        {
            "V": ("0", 1),
            "TV": ("1", 1),
            "HAD": ("8:7", 3),
            "Mode": ("11:9", 4),
            "root": ("51:12", 0x12_3456),
            "GV": ("55", 1),
            "GLX": ("57:56", 1),
            "GCR3[14:12]": ("60:58", 5),
            "IR": ("61", 1),
            "IW": ("62", 1),
            "DomainID": ("79:64", 0x42),
            "GCR3[30:15]": ("95:80", 0xABCD),
            "I": ("96", 1),
            "SysMgt": ("105:104", 3),
            "GCR3[51:31]": ("127:107", 0x1_2345),
            "IV": ("128", 1),
            "interrupt table": ("179:134", 0xFEDC00 >> 6),
            "GuestPagingMode": ("183:182", 1),
            "IntCtl": ("189:188", 2),
            "vImu": ("207", 1),
            "GuestDeviceID": ("223:208", 0x123),
            "GuestID": ("239:224", 0x77),
            "AttrV": ("246", 1),
            "SnoopAttr": ("255:248", 0xA5),
        },
    ),
    "amd/gcr3": ((0x1_2345_6001,), {"V": ("0", 1), "address": ("51:12", 0x12_3456)}),
    "intel/rtaddr": ((0xF400,), {"TTM": ("11:10", 1), "RTA": ("51:12", 0xF)}),
    "intel/root": ((0x5001, 0), {"P": ("0", 1), "CTP": ("51:12", 5)}),
    "intel/scalable-root": (
        (0x5001, 0x7001),
        {"LP": ("0", 1), "LCTP": ("51:12", 5), "UP": ("64", 1), "UCTP": ("115:76", 7)},
    ),
    "amd/sdte": (
        (0x6000_0000_0000_0001, 0, 0, 0x0006_0000_0000_0000, 0, 0x0002_0003, 0, 0),
        {
            "V": ("0", 1),
            "IR": ("61", 1),
            "IW": ("62", 1),
            "VMPL": ("242:241", 3),
            "VTomEn": ("320", 1),
            "vTOM": ("351:321", 0x1_0001),
        },
    ),
    "intel/context": (
        (0x9007, 0x12_3402),
        {
            "P": ("0", 1),
            "FPD": ("1", 1),
            "TT": ("3:2", 1),
            "SSPTPTR": ("51:12", 9),
            "AW": ("66:64", 2),
            "DID": ("87:72", 0x1234),
        },
    ),
    "intel/scalable-context": (
        (0xA60D, 0x11_2345, 0, 0),
        {
            "P": ("0", 1),
            "DTE": ("2", 1),
            "PASIDE": ("3", 1),
            "PDTS": ("11:9", 3),
            "PASIDDIRPTR": ("51:12", 0xA),
            "RID_PASID": ("83:64", 0x1_2345),
            "RID_PRIV": ("84", 1),
        },
    ),
    "intel/pasid-dir": ((0xB003,), {"P": ("0", 1), "FPD": ("1", 1), "SMPTBLPTR": ("51:12", 0xB)}),
    "intel/pasid": (
        (0xC0C9, 0x0007_0406_0080_0042, 0xD005, 0, 0xE002, 0x99, 0, 0),
        {
            "P": ("0", 1),
            "AW": ("4:2", 2),
            "PGTT": ("8:6", 3),
            "SSPTPTR": ("51:12", 0xC),
            "DID": ("79:64", 0x42),
            "PWSNP": ("87", 1),
            "PAT": ("127:96", 0x7_0406),
            "SRE": ("128", 1),
            "FSPM": ("131:130", 1),
            "FSPTPTR": ("179:140", 0xD),
            "HPTSZ": ("257:256", 2),
            "HPTPTR": ("307:268", 0xE),
            "HPT DID": ("335:320", 0x99),
        },
    ),
    "arm_smmu/strtab-base": (
        (0x4000_0000_0001_2340, 0x1_0210),
        {
            "ADDR": ("51:6", 0x1_2340 >> 6),
            "RA": ("62", 1),
            "LOG2SIZE": ("69:64", 16),
            "SPLIT": ("74:70", 8),
            "FMT": ("81:80", 1),
        },
    ),
    "arm_smmu/l1std": ((0xB000_0009,), {"Span": ("4:0", 9), "L2Ptr": ("51:6", 0xB000_0000 >> 6)}),
    "arm_smmu/ste": (
        (
            *(0x2800_0000_8000_006F, 0x0000_1000_1200_00D6, 0x040D_3590_0000_1234, 0x9000_0008),
            *(0x0007_0000_0000_0000, 0, 0, 0),
        ),
        {
            "V": ("0", 1),
            "Config": ("3:1", 7),
            "S1Fmt": ("5:4", 2),
            "S1ContextPtr": ("51:6", 0x8000_0040 >> 6),
            "S1CDMax": ("63:59", 5),
            "S1DSS": ("65:64", 2),
            "S1CIR": ("67:66", 1),
            "S1COR": ("69:68", 1),
            "S1CSH": ("71:70", 3),
            "S2FWB": ("89", 1),
            "EATS": ("93:92", 1),
            "SHCFG": ("109:108", 1),
            "S2VMID": ("143:128", 0x1234),
            "S2T0SZ": ("165:160", 16),
            "S2SL0": ("167:166", 2),
            "S2IR0": ("169:168", 1),
            "S2OR0": ("171:170", 1),
            "S2SH0": ("173:172", 3),
            "S2PS": ("178:176", 5),
            "S2AA64": ("179", 1),
            "S2R": ("186", 1),
            "S2DS": ("195", 1),
            "S2TTB": ("243:196", 0x9000_0000 >> 4),
            "MECID": ("319:304", 7),
        },
    ),
    "arm_smmu/l1cd": ((0xC000_0001,), {"V": ("0", 1), "L2Ptr": ("51:12", 0xC_0000)}),
    "arm_smmu/cd": (
        (0x0099_E205_C000_3510, 0xA000_0002, 0x0400_0000_0000_0000, 0x1122_3344_FF44_0400, 0, 0, 0, 0),
        {
            "T0SZ": ("5:0", 16),
            "IR0": ("9:8", 1),
            "OR0": ("11:10", 1),
            "SH0": ("13:12", 3),
            "EPD1": ("30", 1),
            "V": ("31", 1),
            "IPS": ("34:32", 5),
            "AA64": ("41", 1),
            "R": ("45", 1),
            "A": ("46", 1),
            "ASET": ("47", 1),
            "ASID": ("63:48", 0x99),
            "HAD0": ("65", 1),
            "TTB0": ("115:68", 0xA000_0000 >> 4),
            "DS": ("186", 1),
            "MAIR0": ("223:192", 0xFF44_0400),
            "MAIR1": ("255:224", 0x1122_3344),
        },
    ),
}


def structure(vendors, what):
    """The layout that ``what`` names."""
    vendor, _, name = what.partition("/")
    return vendors[vendor].structures.layouts[name]


@pytest.mark.parametrize("what", STRUCTURES)
def test_structures_field_by_field(what, vendors):
    """Every field that is set is told with its bits and value, and no other; nothing is illegal."""
    words, fields = STRUCTURES[what]
    explained = explain_structure(structure(vendors, what), words)
    assert set_fields(explained) == fields
    assert explained["faults"] == []
    assert "ILLEGAL" not in explained["summary"]


def test_no_structure_is_left_out(vendors):
    """Each structure of each vendor has words of its own above, but for the copies of GCR3 entries."""
    names = {f"{name}/{each}" for name, vendor in vendors.items() for each in vendor.structures.layouts}
    assert names == {*STRUCTURES, "amd/gcr3-level2", "amd/gcr3-level3"}


@pytest.mark.parametrize(
    ("what", "field", "said"),
    [
        ("amd/dte", "HAD", "sets A and D"),
        ("amd/dte", "root", "0x123456000; v1 root table"),
        ("amd/dte", "GCR3[51:31]", "0x91a280000000; a part of the GCR3 table's address"),
        ("amd/dte", "interrupt table", "0xfedc00"),
        ("amd/dte", "GuestPagingMode", "5 levels"),
        ("intel/context", "AW", "48 bits, 4 levels; address width"),
        ("intel/context", "TT", "and ATS; translation type"),
        ("intel/pasid", "PGTT", "nested; translation type"),
        ("intel/pasid", "FSPTPTR", "0xd000; first-stage root"),
        ("arm_smmu/ste", "Config", "stage 1 over stage 2; what requests go through"),
        ("arm_smmu/ste", "S2TTB", "0x90000000; root table"),
        ("arm_smmu/cd", "IPS", "48; bits of the output"),
        ("arm_smmu/cd", "ASID", ""),
    ],
)
def test_what_a_value_means(what, field, said, vendors):
    """The value's name, the address that it stands for, and what the field is."""
    words, _ = STRUCTURES[what]
    fields = {each["name"]: each for each in explain_structure(structure(vendors, what), words)["fields"]}
    assert fields[field]["meaning"] == said
    assert fields[field]["role"] == "value"


@pytest.mark.parametrize(
    ("what", "position"),
    [
        *(("amd/dte", position) for position in (2, 6, 180, 181, 192, 206, 240)),
        *(("amd/gcr3", position) for position in (1, 11, 52, 63)),
        *(("intel/root", position) for position in (1, 11, 64, 127)),
        *(("intel/scalable-root", position) for position in (1, 11, 65, 75)),
        *(("intel/context", position) for position in (4, 11, 88, 127)),
        *(("intel/scalable-context", position) for position in (7, 8, 85, 255)),
        *(("intel/pasid-dir", position) for position in (2, 11)),
        *(("intel/pasid", position) for position in (5, 10, 11, 80, 91, 129, 192, 255, 336, 511)),
        ("intel/rtaddr", 9),
    ],
)
def test_a_reserved_bit_is_illegal(what, position, vendors):
    """Wherever the specification has a reserved bit, setting it is told in its field and as a fault."""
    layout = structure(vendors, what)
    words = [0] * (layout.width // 64)
    words[position // 64] = 1 << position % 64
    explained = explain_structure(layout, words)
    assert explained["summary"].endswith(", ILLEGAL")
    (fault,) = explained["faults"]
    assert "must be 0x0, not 0x" in fault
    (field,) = [each for each in explained["fields"] if int(each["value"], 16)]
    assert (field["role"], field["meaning"]) == ("reserved", "illegal, must be 0x0")
    high, _, low = field["bits"].partition(":")
    assert int(low or high) <= position <= int(high)


@pytest.mark.parametrize(("what", "position"), [("arm_smmu/ste", 6 + 66), ("arm_smmu/cd", 511), ("amd/dte", 245)])
def test_an_ignored_bit_is_told_as_ignored(what, position, vendors):
    """It is no fault, and the reader sees that hardware does not look at it."""
    layout = structure(vendors, what)
    words = [0] * (layout.width // 64)
    words[position // 64] = 1 << position % 64
    explained = explain_structure(layout, words)
    assert explained["faults"] == []
    assert [each["role"] for each in explained["fields"] if int(each["value"], 16)] == ["ignored"]


COMMANDS = {
    ("amd", "INVALIDATE_IOTLB_PAGES"): (
        (0x4ADE_0108_20BC_0108, 0x2F_F005),
        {
            "DeviceID": ("15:0", 0x108),
            "PASID[15:8]": ("23:16", 0xBC),
            "MaxPend": ("31:24", 32),
            "QueueID": ("47:32", 0x108),
            "PASID[7:0]": ("55:48", 0xDE),
            "PASID[19:16]": ("59:56", 0xA),
            "opcode": ("63:60", 4),
            "S": ("64", 1),
            "GN": ("66", 1),
            "address": ("127:76", 0x2FF),
        },
    ),
    ("intel", "IOTLB invalidate"): (
        (0x42_00F2, 0x20_0049),
        {
            "type[3:0]": ("3:0", 2),
            "G": ("5:4", 3),
            "DW": ("6", 1),
            "DR": ("7", 1),
            "DID": ("31:16", 0x42),
            "AM": ("69:64", 9),
            "IH": ("70", 1),
            "address": ("127:76", 0x200),
        },
    ),
    ("arm_smmu", "TLBI_S2_IPA"): (
        (0x12_0041_F02A, 0x4000_0601),
        {
            "opcode": ("7:0", 0x2A),
            "NUM": ("16:12", 31),
            "SCALE": ("25:20", 4),
            "VMID": ("47:32", 0x12),
            "Leaf": ("64", 1),
            "TTL": ("73:72", 2),
            "TG": ("75:74", 1),
            "IPA[51:12]": ("115:76", 0x4_0000),
        },
    ),
}


@pytest.mark.parametrize("named", COMMANDS, ids=lambda named: named[0])
def test_commands_field_by_field(named, vendors):
    """Fields with bits and values, beside the summary and the effects."""
    words, fields = COMMANDS[named]
    explained = explain_command(vendors[named[0]], words)
    assert set_fields(explained) == fields
    assert explained["summary"].startswith(f"{named[1]} ")
    assert explained["effects"][0].startswith("drops cached leaves ")
    assert explained["faults"] == []


@pytest.mark.parametrize(
    ("vendor", "words", "fault"),
    [
        ("amd", (0x3000_0001_0010_0000, 0x4000_0000), "bits 31:20 (reserved 31:20) must be 0x0, not 0x1"),
        ("intel", (0x1_0042_0032, 0x20_0009), "bits 63:32 (reserved 63:32) must be 0x0, not 0x1"),
        ("arm_smmu", (0x12_0000_022A, 0x4000_0000), "bits 11:8 (reserved 11:8) must be 0x0, not 0x2"),
    ],
)
def test_a_reserved_bit_of_a_command_is_illegal(vendor, words, fault, vendors):
    """The field, the fault and the effect all say so, and the fault is told once."""
    explained = explain_command(vendors[vendor], words)
    assert [each["meaning"] for each in explained["fields"] if each["role"] == "reserved"] == ["illegal, must be 0x0"]
    assert len(explained["faults"]) == 1
    assert explained["faults"][0].endswith(fault)
    assert explained["effects"][0].startswith("illegal: ")
    assert fault in explained["effects"][0]


@pytest.mark.parametrize(
    ("vendor", "words", "summary"),
    [
        ("amd", (0xF000_0000_0000_0000, 0), "unknown opcode 0xf"),
        ("amd", (0x9000_0000_0000_0000, 0), "INSERT_GUEST_EVENT"),
        ("intel", (0xC, 0), "unknown descriptor type 0xc"),
        ("arm_smmu", (0xFF, 0), "unknown opcode 0xff"),
    ],
)
def test_an_unknown_opcode_is_illegal(vendor, words, summary, vendors):
    """There is no layout, and so no field; what the unit makes of it is an illegal command."""
    explained = explain_command(vendors[vendor], words)
    assert explained["summary"] == summary
    assert "fields" not in explained
    assert explained["effects"][0].startswith("illegal: ")
    assert len(explained["faults"]) == 1


EVENTS = {
    ("amd", "IO_PAGE_FAULT"): (
        (0x2071_6789_0005_0108, 0x7F00_1234_5000),
        {
            "DeviceID": ("15:0", 0x108),
            "PASID[19:16]": ("19:16", 5),
            "PASID[15:0]": ("47:32", 0x6789),
            "GN": ("48", 1),
            "PR": ("52", 1),
            "RW": ("53", 1),
            "PE": ("54", 1),
            "code": ("63:60", 2),
            "address": ("127:64", 0x7F00_1234_5000),
        },
    ),
    ("intel", "first stage refuses the write"): (
        (0x1234_5000, 0x8000_7785_8000_0108),
        {
            "FI": ("63:12", 0x1_2345),
            "SID": ("79:64", 0x108),
            "PP": ("95", 1),
            "FR": ("103:96", 0x85),
            "PASID": ("123:104", 0x77),
            "F": ("127", 1),
        },
    ),
    ("arm_smmu", "F_TRANSLATION"): (
        (0x108_0000_5810, 0x288_0000_0000, 0x7F00_1234_5000, 0x4000_1000),
        {
            "code": ("7:0", 0x10),
            "SSV": ("11", 1),
            "SSID": ("31:12", 5),
            "SID": ("63:32", 0x108),
            "RnW": ("99", 1),
            "S2": ("103", 1),
            "CLASS": ("105:104", 2),
            "input address": ("191:128", 0x7F00_1234_5000),
            "IPA[51:12]": ("243:204", 0x4_0001),
        },
    ),
}


@pytest.mark.parametrize("named", EVENTS, ids=lambda named: named[0])
def test_events_field_by_field(named, vendors):
    """The event's name, and its fields with bits and values."""
    words, fields = EVENTS[named]
    explained = explain_event(vendors[named[0]], words)
    assert explained["summary"] == named[1]
    assert set_fields(explained) == fields
    assert explained["source"]


def test_an_event_of_an_unknown_code_has_no_fields(vendors):
    """No layout says what its bits are."""
    assert explain_event(vendors["amd"], (0, 0)) == {"summary": "unknown code 0x0", "fields": []}
    assert explain_event(vendors["intel"], (0x10, 0))["fields"][2]["name"] == "IQE"


def test_a_vendor_without_layouts_is_told_by_its_own_words(vendors):
    """Layouts of commands and events may be left out; then fields come from decode alone, those that are not 0."""

    class Queue:
        def __init__(self, real):
            self.decode, self.describe = real.decode, getattr(real, "describe", None)

    class Plain:
        commands, events = Queue(vendors["amd"].commands), Queue(vendors["amd"].events)

    command = explain_command(Plain, COMMANDS["amd", "INVALIDATE_IOTLB_PAGES"][0])
    assert "fields" not in command
    assert command["faults"] == []
    event = explain_event(Plain, EVENTS["amd", "IO_PAGE_FAULT"][0])
    assert {each["name"] for each in event["fields"]} == set(EVENTS["amd", "IO_PAGE_FAULT"][1])


def test_roles_of_fields():
    """Hardware's fields say so; a fixed value that is not held is illegal; a unit of one byte is no second number."""
    layout = Layout(
        "X", "X-1", (bit("A", 0, "accessed", "hardware"), reserved(3, 1), ignored(7, 4), Field("pa", 63, 8, unit=1))
    )
    assert explain_field(layout["A"], 1) == {
        "name": "A",
        "bits": "0",
        "role": "hardware",
        "value": "0x1",
        "meaning": "hardware may set it; accessed",
    }
    assert explain_field(layout["reserved 3:1"], 0)["meaning"] == ""
    assert explain_field(layout["reserved 3:1"], 5)["meaning"] == "illegal, must be 0x0"
    assert explain_field(layout["ignored 7:4"], 5)["role"] == "ignored"
    assert explain_field(layout["pa"], 0x10)["meaning"] == ""
    assert explain_field(Field("page", 63, 10, "next", unit=1 << 12), 0x10)["meaning"] == "0x10000; next"
