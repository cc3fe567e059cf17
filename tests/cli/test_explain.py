"""``hitless explain``."""

import pytest

from hitless import __version__
from installed import NAMES


def test_a_leaf_at_a_level(hitless):
    """Fields, size, address and rights; level in both numberings, ``--level`` in the vendor's."""
    ended = hitless("explain", "amd/v1", "0x6000000080000001", "--level", "2")
    assert (ended.status, ended.err) == (0, "")
    first, *fields = ended.out.splitlines()
    assert first == "0x6000000080000001 at level 1 (AMD level 2): leaf 2M -> 0x80000000 RW"
    by_name = {line.split()[1]: line.split() for line in fields}
    assert by_name["IR"][:4] == ["61", "IR", "=", "0x1"]
    assert by_name["address"][:4] == ["51:12", "address", "=", "0x80000"]
    assert "0x80000000;" in by_name["address"]


def test_without_a_level_every_legal_one(hitless):
    """AMD: 2 GiB is aligned for leaves of 4K, 2M and 1G; a pointer may skip levels."""

    def levels(word: int) -> list[tuple[int, str]]:
        words = hitless("explain", "amd/v1", hex(word), "--json", "-").json["words"]
        return [(each["spec_level"], each["kind"]) for each in words]

    assert levels(0x6000000080000001) == [(3, "leaf"), (2, "leaf"), (1, "leaf")]
    assert levels(0x6000000080001001) == [(1, "leaf")]
    assert levels(0x6000000080000401) == [(4, "table"), (3, "table")]
    assert levels(0) == [(4, "empty"), (3, "empty"), (2, "empty"), (1, "empty")]


def test_an_illegal_word_says_why(hitless):
    """Each fault has its reason; a word that is legal nowhere is shown at every level."""
    ended = hitless("explain", "amd/v1", "0x6000000080001001", "--level", "2")
    assert ended.status == 0
    assert "ILLEGAL" in ended.out
    (fault,) = [line for line in ended.out.splitlines() if line.startswith("  illegal: ")]
    assert "not aligned" in fault
    everywhere = hitless("explain", "amd/v1", "0x6010000080000001", "--json", "-").json["words"]
    assert len(everywhere) == 4
    assert all(each["faults"] for each in everywhere)
    assert "reserved 58:52" in " ".join(everywhere[-1]["faults"])


@pytest.mark.parametrize(
    ("what", "word", "level", "summary"),
    [
        ("intel/second-stage", 0x40000083, 2, "leaf 2M -> 0x40000000 RW"),
        ("intel/second-stage", 0x40000003, 1, "leaf 4K -> 0x40000000 RW"),
        ("intel/second-stage", 0x12345003, 2, "table 0x12345000"),
        ("arm_smmu/stage2", 0x40000000 | 0x7FD, 1, "leaf 1G -> 0x40000000 RW"),
        ("arm_smmu/stage2", 0x40000000 | 0x7FF, 3, "leaf 4K -> 0x40000000 RW"),
        ("arm_smmu/stage2", 0x40000003, 2, "table 0x40000000"),
        ("arm_smmu/stage2", 0, 3, "empty"),
    ],
)
def test_every_vendors_entries(what, word, level, summary, hitless):
    """Hand-written words of each format come out as what they are; decimal is taken, too."""
    (each,) = hitless("explain", what, str(word), "--level", level, "--json", "-").json["words"]
    assert each["summary"] == summary
    assert each["faults"] == []


def test_commands(hitless):
    """A command's name and fields, what it does, and the facts that say so; several stand one after the other."""
    invalidate = ("0x3000000100000000", "0x5ffff001")
    ended = hitless("explain", "amd/command", *invalidate)
    assert ended.status == 0
    assert "INVALIDATE_IOMMU_PAGES DomainID=0x1 S=0x1" in ended.out
    assert "of both stages combined, of tag 0x1 (mask 0xffff) in [0x40000000, 0x7fffffff]" in ended.out
    assert "AMD-INV-2" in ended.out
    two = hitless("explain", "amd/command", *invalidate, "0x1000000000001001", "5", "--json", "-").json["words"]
    assert [each["summary"].split()[0] for each in two] == ["INVALIDATE_IOMMU_PAGES", "COMPLETION_WAIT"]
    assert "writes 0x5 (64 bits) to 0x1000, after reads and writes in flight have ended" in two[1]["effects"][0]
    illegal = hitless("explain", "amd/command", "0x3008000100000000", "0x40000000")
    assert "illegal: " in illegal.out
    by_name = {line.split()[1]: line.split() for line in ended.out.splitlines()[1:]}
    assert by_name["DomainID"][:4] == ["47:32", "DomainID", "=", "0x1"]
    assert by_name["address"][:5] == ["127:76", "address", "=", "0x5ffff", "0x5ffff000;"]


@pytest.mark.parametrize(
    ("what", "words", "summary"),
    [
        ("amd/command", ("0xf000000000000000", "0"), "unknown opcode 0xf"),
        ("intel/command", ("0xc", "0"), "unknown descriptor type 0xc"),
        ("arm_smmu/command", ("0xff", "0"), "unknown opcode 0xff"),
    ],
)
def test_an_unknown_opcode(what, words, summary, hitless):
    """It is said to be unknown and illegal, once; explaining it is no error."""
    ended = hitless("explain", what, *words)
    first, second = ended.out.splitlines()
    assert (ended.status, first.partition(": ")[2]) == (0, summary)
    assert second.startswith("  illegal: ")
    (each,) = hitless("explain", what, *words, "--json", "-").json["words"]
    assert each["effects"] and len(each["faults"]) == 1


@pytest.mark.parametrize(
    ("what", "words", "summary", "lines"),
    [
        (
            "amd/dte",
            ("0x6000000123456983", "0x42", "0", "0"),
            "DTE",
            {"8:7 HAD = 0x3 sets A and D", "51:12 root = 0x123456 0x123456000; v1 root table", "79:64 DomainID = 0x42"},
        ),
        ("amd/gcr3", ("0x9001",), "GCR3 entry", {"0 V = 0x1 valid"}),
        (
            "intel/context",
            ("0x9005", "0x123402"),
            "context entry",
            {"66:64 AW = 0x2 48 bits, 4 levels; address width", "87:72 DID = 0x1234 domain"},
        ),
        (
            "intel/pasid",
            ("0xc0c9", "0x42", "0xd005", "0", "0", "0", "0", "0"),
            "PASID table entry",
            {"8:6 PGTT = 0x3 nested; translation type", "131:130 FSPM = 0x1 5 levels; first-stage paging mode"},
        ),
        (
            "arm_smmu/ste",
            ("0xd", "0", "0x040d359000001234", "0x90000000", "0", "0", "0", "0"),
            "STE",
            {"3:1 Config = 0x6 stage 2; what requests go through", "243:196 S2TTB = 0x9000000 0x90000000; root table"},
        ),
        (
            "arm_smmu/cd",
            ("0x00992205c0003510", "0xa0000000", *"000000"),
            "CD",
            {"63:48 ASID = 0x99", "115:68 TTB0 = 0xa000000 0xa0000000; root table"},
        ),
    ],
)
def test_structures(what, words, summary, lines, hitless):
    """All words, the low one first; values by name, addresses whole."""
    ended = hitless("explain", what, *words)
    assert (ended.status, ended.err) == (0, "")
    first, *fields = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert first.endswith(f": {summary}")
    assert lines <= set(fields)


def test_an_illegal_structure_says_why(hitless):
    """Reserved bits that are set stand among the fields and as faults; the role is in the JSON."""
    ended = hitless("explain", "amd/dte", "0x6000000123456dff", "0x42", "0", "0x8000000000000")
    assert ended.status == 0
    assert ended.out.splitlines()[0].endswith(": DTE, ILLEGAL")
    assert "  illegal: DTE: bits 6:2 (reserved 6:2) must be 0x0, not 0x1f" in ended.out
    assert "illegal, must be 0x0" in ended.out
    (each,) = hitless("explain", "amd/gcr3", "0x9ff1", "--json", "-").json["words"]
    roles = {field["name"]: field["role"] for field in each["fields"]}
    assert roles == {"V": "value", "reserved 11:1": "reserved", "address": "value"}
    assert each["faults"] == ["GCR3 entry: bits 11:1 (reserved 11:1) must be 0x0, not 0x7f8"]
    assert each["source"] == "48882 2.2.6.3"


@pytest.mark.parametrize(
    ("what", "words", "features", "default", "then"),
    [
        # a 16K page has no address bits below 14; a unit without second-stage A and D has no SSADE; nor HAW 48 bit 48
        ("arm_smmu/stage2", ("0x800017ff", "--level", "3"), ("granule=16K",), False, True),
        ("intel/pasid", ("0x209", *"0000000"), ("ssads=true", "mode=scalable"), True, False),
        ("intel/pasid-dir", ("0x1000000001001",), ("haw=48",), False, True),
    ],
)
def test_features(what, words, features, default, then, hitless):
    """What is illegal on some hardware is legal on other; --feature tells which is meant."""
    options = [each for feature in features for each in ("--feature", feature)]
    for more, illegal in (((), default), (options, then)):
        ended = hitless("explain", what, *words, *more)
        assert ended.status == 0
        assert ("illegal, must be 0x0" in ended.out) is illegal
        assert ("ILLEGAL" in ended.out.splitlines()[0]) is illegal


def test_wide_descriptors(hitless):
    """In scalable mode a descriptor has four words, of which the upper two are 0."""
    ended = hitless("explain", "intel/command", "0x4200f2", "0x200049", "0", "1", "--feature", "mode=scalable")
    (first, *_) = ended.out.splitlines()
    assert first.startswith("0x4200f2 0x200049 0x0 0x1: IOTLB invalidate")
    assert "bits 255:128 (reserved 255:128) must be 0x0, not 0x10000000000000000" in ended.out


def test_several_structures(hitless):
    """They stand one after the other, as commands do."""
    words = hitless("explain", "intel/root", "0x1001", "0", "0x2001", "0", "--json", "-").json["words"]
    assert [each["word"] for each in words] == ["0x1001 0x0", "0x2001 0x0"]


@pytest.mark.parametrize(
    ("vendor", "names"),
    [
        ("amd", ("v1", "v2", "command", "event", "dte", "gcr3")),
        ("intel", ("second-stage", "first-stage", "root", "context", "scalable-context", "pasid")),
        ("arm_smmu", ("stage2", "stage1", "command", "event", "ste", "cd")),
    ],
)
def test_an_unknown_name_lists_all_names(vendor, names, hitless):
    """Page formats, commands, events and structures: each of them can then be explained, or wants more words."""
    ended = hitless("explain", f"{vendor}/nothing", "1")
    assert (ended.status, ended.out) == (2, "")
    (line,) = [line for line in ended.err.splitlines() if "choose one of" in line]
    known = line.partition("choose one of ")[2].split(", ")
    assert {f"{vendor}/{name}" for name in names} <= set(known)
    for name in known:
        tried = hitless("explain", name, "1")
        assert tried.status == 0 or "1 are given" in tried.err


def test_events(hitless):
    """A fault record's name and fields."""
    ended = hitless("explain", "amd/event", "0x2020000700000008", "0x40001000")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines[0].endswith(": IO_PAGE_FAULT")
    assert {"15:0 DeviceID = 0x8", "47:32 DomainID = 0x7", "53 RW = 0x1 1: write"} <= set(lines)
    assert "127:64 address = 0x40001000" in lines


def test_json(hitless):
    """Schema explain/1; words, values and addresses are 0x texts."""
    data = hitless("explain", "amd/v1", "0x6000000080000001", "--level", "2", "--json", "-").json
    assert list(data)[:2] == ["hitless", "schema"]
    assert (data["hitless"], data["schema"], data["what"]) == (__version__, "explain/1", "amd/v1")
    (each,) = data["words"]
    assert (each["word"], each["kind"], each["size"]) == ("0x6000000080000001", "leaf", "2M")
    assert (each["address"], each["rights"], each["spec_level"]) == ("0x80000000", "RW", 2)
    assert all(field["value"].startswith("0x") for field in each["fields"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("amd/v9", "1"), "choose one of amd/v1, amd/v2, amd/command, amd/event"),
        (("amd", "1"), "choose one of amd/v1, amd/v2, amd/command, amd/event"),
        (("acme/v1", "1"), f"choose one of {NAMES}"),
        (("/", "1"), f"choose one of {NAMES}"),
        (("amd/v1", "x"), "'x' is not a 64-bit word"),
        (("amd/v1", "0x1_0000_0000_0000_0000"), "is not a 64-bit word"),
        (("amd/v1", "9" * 5000), "is not a 64-bit word"),
        (("amd/v1", "1", "--level", "9"), "it has [1, 2, 3, 4]"),
        (("amd/v1", "1", "--level", "0"), "it has [1, 2, 3, 4]"),
        (("amd/command", "1"), "a command of amd has 2 words of 64 bits, 1 are given"),
        (("arm_smmu/event", "1", "2"), "an event of arm_smmu has 4 words"),
        (("amd/command", "1", "2", "--level", "1"), "only page formats have levels"),
        (("amd/gcr3", "1", "--level", "1"), "only page formats have levels"),
        (("amd/dte", "1", "2", "3"), "dte (DTE) of amd has 4 words of 64 bits, 3 are given"),
        (("intel/pasid", *"123456789"), "pasid (PASID table entry) of intel has 8 words of 64 bits, 9 are given"),
        (("arm_smmu/ste", "1"), "has 8 words of 64 bits, 1 are given"),
        (("amd/v1", "1", "--feature", "nothing=1"), "there is no feature 'nothing'"),
        (("amd/v1", "1", "--feature", "mode=9"), "mode may be 1, 2, 3, 4, 5, 6"),
    ],
)
def test_what_cannot_be_explained(arguments, said, hitless):
    """Status 2, with what there is."""
    ended = hitless("explain", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err


def test_negative_words_need_no_care(hitless):
    """A negative number is no word; click reads it as an option that is not there."""
    assert hitless("explain", "amd/v1", "-1").status == 2
    assert hitless("explain", "amd/v1", "--", "-1").status == 2
