"""``hitless explain``."""

import pytest

from hitless import __version__


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


def test_events(hitless):
    """A fault record's name and fields."""
    ended = hitless("explain", "amd/event", "0x2020000700000008", "0x40001000")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines[0].endswith(": IO_PAGE_FAULT")
    assert {"DeviceID = 0x8", "DomainID = 0x7", "RW = 0x1", "address = 0x40001000"} <= set(lines)


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
        (("acme/v1", "1"), "choose one of amd, arm_smmu, intel"),
        (("/", "1"), "choose one of amd, arm_smmu, intel"),
        (("amd/v1", "x"), "'x' is not a 64-bit word"),
        (("amd/v1", "0x1_0000_0000_0000_0000"), "is not a 64-bit word"),
        (("amd/v1", "9" * 5000), "is not a 64-bit word"),
        (("amd/v1", "1", "--level", "9"), "it has [1, 2, 3, 4]"),
        (("amd/v1", "1", "--level", "0"), "it has [1, 2, 3, 4]"),
        (("amd/command", "1"), "a command of amd has 2 words of 64 bits, 1 are given"),
        (("arm_smmu/event", "1", "2"), "an event of arm_smmu has 4 words"),
        (("amd/command", "1", "2", "--level", "1"), "only page formats have levels"),
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
