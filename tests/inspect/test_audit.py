"""The static rules: every seeded fault is found under its rule, and nothing on clean images of any vendor."""

import pytest
from guests import FORMATS, guest_image
from memories import Pages

from stand import G, K

RW = 3 << 61
ROOT = 0x10_0000
TABLES = ("--format", "amd/v1", "--root", hex(ROOT), "--set", "mode=3")


def amd_image(tmp_path):
    """A sound table of three AMD levels: some pages, a run of 64K, a 2M leaf that maps no table."""
    memory = Pages()
    memory.put(ROOT, 0x10_1000 | 2 << 9 | 1 | RW)
    memory.put(0x10_1000, 0x10_2000 | 1 << 9 | 1 | RW, 0x4000_0000 | 1 | RW)
    memory.put(0x10_2000, 0x5000_0000 | 1 | RW, 0x5000_1000 | 1 | RW)
    memory.put(0x10_2000 + 8 * 16, *[0x5001_0000 | 0x7000 | 7 << 9 | 1 | RW] * 16)
    memory.put(0x10_3000, 0)
    return memory


def write(memory, tmp_path):
    """The memory as a raw image."""
    path = tmp_path / "ram"
    memory.write(path)
    return path


def rules(found):
    """Which rules have findings."""
    return sorted({each["rule"] for each in found.json["findings"]})


@pytest.mark.parametrize("page_format", FORMATS)
def test_nothing_on_clean_images(hitless, tmp_path, page_format):
    """Tables that plans wrote, structures included, with the owners of the guest's memory."""
    image = guest_image(page_format, tmp_path / "ram")
    owners = image.owners(tmp_path / "owners")
    found = hitless("audit", image.path, *image.options, "--owners", owners, "--json", "-")
    assert found.json["findings"] == []
    assert found.status == 0
    assert found.json["tables"] >= 2
    assert found.json["bytes"] > 64 * K


def test_nothing_on_a_clean_table(hitless, tmp_path):
    """The table that the faults below are put into."""
    found = hitless("audit", write(amd_image(tmp_path), tmp_path), *TABLES)
    assert found.status == 0
    assert "nothing found" in found.out


SEEDS = {
    "reserved-bit": ((0x10_2000, 0x5000_0000 | 1 | RW | 1 << 52), "W1"),
    "leaf-where-none-is-legal": ((0x10_1000 + 16, 0x5000_0000 | 7 << 9 | 1 | RW), "W1"),
    "pointer-that-leads-up": ((0x10_1000 + 16, 0x10_3000 | 4 << 9 | 1 | RW), "W1"),
    "pointer-outside": ((0x10_1000 + 16, 0x7000_0000_0000 | 1 << 9 | 1 | RW), "I1"),
    "loop": ((0x10_1000 + 16, ROOT | 1 << 9 | 1 | RW), "I2"),
    "torn-run": ((0x10_2000 + 8 * 20, 0x5002_0000 | 0x7000 | 7 << 9 | 1 | RW), "W1"),
    "short-run": ((0x10_2000 + 8 * 31, 0), "W1"),
    "empty-table": ((0x10_1000 + 16, 0x10_3000 | 1 << 9 | 1 | RW), "I4"),
    "table-mapped-writable": ((0x10_2000 + 24, 0x10_1000 | 1 | RW), "T1"),
    "table-in-a-large-leaf": ((0x10_1000 + 16, 0x1 | RW), "T1"),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_seeded_faults(hitless, tmp_path, seed):
    """One word is wrong: it is found under its rule, with place, word, reason and what to do."""
    (pa, word), rule = SEEDS[seed]
    memory = amd_image(tmp_path)
    memory.put(pa, word)
    found = hitless("audit", write(memory, tmp_path), *TABLES, "--json", "-")
    assert (found.status, rules(found)) == (1, [rule])
    for each in found.json["findings"]:
        assert all(each.values())


def test_a_table_that_may_only_be_read_is_no_fault(hitless, tmp_path):
    """T1 is about writing."""
    memory = amd_image(tmp_path)
    memory.put(0x10_2000 + 24, 0x10_1000 | 1 | 1 << 61)
    assert hitless("audit", write(memory, tmp_path), *TABLES).status == 0


def test_leaves_that_could_be_one(hitless, tmp_path):
    """512 leaves of a whole table, one after the other, alike: I3; with one of them different: nothing."""
    memory = amd_image(tmp_path)
    memory.put(0x10_1000 + 16, 0x10_3000 | 1 << 9 | 1 | RW)
    memory.put(0x10_3000, *[0x6000_0000 + 0x1000 * i | 1 | RW for i in range(512)])
    path = write(memory, tmp_path)
    found = hitless("audit", path, *TABLES, "--json", "-")
    assert (found.status, rules(found)) == (1, ["I3"])
    assert hitless("audit", path, *TABLES, "--ignore", "I3").status == 0
    for word in (0x6000_5000 | 1 | 1 << 61, 0x6010_0000 | 1 | RW):
        memory.put(0x10_3000 + 8 * 5, word)
        assert hitless("audit", write(memory, tmp_path), *TABLES).status == 0
    memory.put(0x10_3000 + 8 * 5, 0x6000_5000 | 1 | RW | 1 << 6)  # D: a merge joins it
    assert hitless("audit", write(memory, tmp_path), *TABLES).status == 1


# -- owners


def owners_file(tmp_path, *lines):
    """A list of owners."""
    path = tmp_path / "owners"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0x40000000+2M private", []),
        ("0x40000000+1M private", ["B1"]),
        ("0x40001000+4K private", ["B1"]),
        ("0x50010000+64K private", []),
        ("0x50014000+4K private", ["B1"]),
        ("0x50000000+4K private", []),
        ("0x101000+4K private", ["T1"]),
    ],
)
def test_boundaries_and_tables_against_owners(hitless, tmp_path, line, expected):
    """AMD by default: leaves end where owners change; tables are the host's."""
    owners = owners_file(tmp_path, "# who owns what", line, "")
    found = hitless("audit", write(amd_image(tmp_path), tmp_path), *TABLES, "--owners", owners, "--json", "-")
    assert rules(found) == expected


def test_check_unit_widens_what_a_leaf_spans(hitless, tmp_path):
    """With boundary = check_unit a transition inside the 2M around a 4K leaf is one too."""
    path, owners = write(amd_image(tmp_path), tmp_path), owners_file(tmp_path, "0x50100000+4K private")
    assert hitless("audit", path, *TABLES, "--owners", owners).status == 0
    found = hitless("audit", path, *TABLES, "--owners", owners, "--set", "boundary=check_unit")
    assert found.status == 1


def test_intel_maps_no_guest_memory(hitless, tmp_path):
    """Policy wipe: a leaf of guest-owned memory is C2. Arm checks each granule, so there it is nothing."""
    image = guest_image("intel/second-stage", tmp_path / "ram")
    shared = image.stand.guest.pa(G + 5 * 4 * K)
    owners = owners_file(tmp_path, f"{shared:#x}+4K private")
    found = hitless("audit", image.path, *image.options, "--owners", owners, "--json", "-")
    assert rules(found) == ["C2"]
    arm = guest_image("arm_smmu/stage2", tmp_path / "arm")
    owners = owners_file(tmp_path, f"{arm.stand.guest.pa(G):#x}+4K private")
    assert hitless("audit", arm.path, *arm.options, "--owners", owners).status == 0


def test_structures_are_audited_too(hitless, tmp_path):
    """A device table entry with reserved bits set is W1, and the device table is no guest's (T1)."""
    image = guest_image("amd/v1", tmp_path / "ram")
    unit = image.stand.domain.units[0]
    table = unit.requests.base & 0xF_FFFF_FFFF_F000
    owners = owners_file(tmp_path, f"{table:#x}+4K private")
    settings = (*image.options, "--ignore", "I3", "--json", "-")
    assert rules(hitless("audit", image.path, *settings, "--owners", owners)) == ["T1"]
    image.stand.machine.arena.store(table + 32 * 8, image.stand.machine.arena.load(table + 32 * 8) | 1 << 2)
    image.write()
    assert rules(hitless("audit", image.path, *settings)) == ["W1"]


def test_the_raw_rmp(hitless, tmp_path):
    """Family 19h: 16 KiB of bookkeeping, then 16 bytes a page; a 2M entry decides for all of its pages."""
    memory = amd_image(tmp_path)
    rmp = 0x20_0000
    pages = 0x5100_0000 >> 12
    entry = rmp + 0x4000

    def assign(pa, word):
        memory.put(entry + (pa >> 12) * 16, word)

    memory.put(rmp, 0)
    for page in range(0, pages, 256):
        memory.put(entry + page * 16, 0)
    setting = ("--owners", f"amd/rmp@{rmp:#x}", "--set", f"rmp_end={entry + pages * 16 - 1:#x}", "--json", "-")
    assert rules(hitless("audit", write(memory, tmp_path), *TABLES, *setting)) == []
    assign(0x4000_0000, 1 | 1 << 1 | 7 << 51)  # 2M of guest 7: the whole leaf
    assert rules(hitless("audit", write(memory, tmp_path), *TABLES, *setting)) == []
    assign(0x4000_0000, 1 | 7 << 51)  # 4K of it
    assert rules(hitless("audit", write(memory, tmp_path), *TABLES, *setting)) == ["B1"]
    assign(0x4000_0000, 0)
    assign(0x10_1000, 1 | 1 << 2)  # firmware's
    assert rules(hitless("audit", write(memory, tmp_path), *TABLES, *setting)) == ["T1"]
    missing = hitless("audit", write(memory, tmp_path), *TABLES, "--owners", f"amd/rmp@{rmp:#x}")
    assert missing.status == 2
    assert "rmp_end" in missing.err
    outside = hitless("audit", write(memory, tmp_path), *TABLES, "--owners", "amd/rmp@0x700000000000", *setting[2:])
    assert outside.status == 2


def test_the_granule_protection_table(hitless, tmp_path):
    """A level 0 block of Non-secure memory, and a table whose granules, or contiguous entries, are Realm."""
    memory = Pages()
    pointer, page = 3, 3 | 1 << 10
    memory.put(ROOT, 0x10_1000 | pointer)
    memory.put(0x10_1000, 0x10_2000 | pointer)
    memory.put(0x10_2000, 0x10_3000 | pointer)
    memory.put(0x10_3000, 0x4_0000 | page)
    gpt = 0x18_0000
    memory.put(gpt, 0x20_0000 | 3, 0x9 << 4 | 1, 0xB << 4 | 1, 0x9 << 4 | 1)
    for page_of in range(32):
        memory.put(0x20_0000 + page_of * 0x1000, *[0x9999_9999_9999_9999] * 512)
    tables = ("--format", "arm_smmu/stage2", "--root", hex(ROOT))
    owners = ("--owners", f"arm_smmu/gpt@{gpt:#x}", "--set", "gpt_base_cfg=0", "--json", "-")
    assert rules(hitless("audit", write(memory, tmp_path), *tables, *owners)) == []
    realm = 0x9999_9999_9999_99B9  # granule 1 of 16: 0x101000
    memory.put(0x20_0000 + 8 * (0x10_1000 >> 16), realm)
    assert rules(hitless("audit", write(memory, tmp_path), *tables, *owners)) == ["T1"]
    memory.put(0x20_0000 + 8 * (0x10_1000 >> 16), 1 | 0xB << 4)  # contiguous: all sixteen
    found = hitless("audit", write(memory, tmp_path), *tables, *owners)
    assert {each["where"] for each in found.json["findings"]} == {
        f"page {pa:#x}" for pa in range(0x10_0000, 0x10_4000, 0x1000)
    }


@pytest.mark.parametrize("line", ["nonsense", "0x1000 private", "0x1000+4K nobody", "0x2000-0x1000 private"])
def test_lists_that_are_none(hitless, tmp_path, line):
    """Status 2, with the line."""
    path = write(amd_image(tmp_path), tmp_path)
    found = hitless("audit", path, *TABLES, "--owners", owners_file(tmp_path, "", line))
    assert found.status == 2
    assert hitless("audit", path, *TABLES, "--owners", tmp_path / "missing").status == 2
