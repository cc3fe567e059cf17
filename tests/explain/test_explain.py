"""Explaining entries, effects and steps."""

import pytest

from hitless.explain import (
    explain_effect,
    explain_entry,
    explain_entry_anywhere,
    explain_fields,
    explain_step,
)
from hitless.hardware.facts import Completes, Drops, DropsStructure, Illegal, Match, NoEffect
from hitless.plan import Barrier, Clean, Own, Release, parse_plan
from hitless.plugin import VendorRegistry
from hitless.refresh.levels import table_levels


@pytest.fixture(scope="module")
def amd():
    """AMD with its default format and features."""
    return VendorRegistry.installed(["amd"], []).resolve("amd")


@pytest.mark.parametrize(
    ("word", "level", "text"),
    [
        (0, 0, "empty"),
        (0x6000000080000001, 0, "leaf 4K -> 0x80000000 RW"),
        (0x2000000080000001, 1, "leaf 2M -> 0x80000000 R-"),
        (0x4000000080000001, 2, "leaf 1G -> 0x80000000 -W"),
        (0x6000000080001001, 2, "leaf 1G -> 0x80001000 RW, ILLEGAL"),
        (0x6000000012345201, 1, "table 0x12345000"),
        (0x6000000012345201, 2, "table 0x12345000"),
        (0x6000000012345401, 1, "table 0x12345000, ILLEGAL"),
    ],
)
def test_entries_in_a_few_words(word, level, text, amd):
    """Hand-written words of the AMD v1 format."""
    assert explain_entry(amd.page_format, word, level) == text


def test_every_bit_that_is_set_is_in_a_field(amd):
    """What fields show adds up to the word, reserved and ignored bits included."""
    for word in (0x6000000080000001, 0xFFFF_FFFF_FFFF_F001, 0x8765_4321_0FED_C001 & ~0xE00):
        fields = explain_fields(amd.page_format, word, 0)["fields"]
        total = sum(int(each["value"], 16) << int(each["bits"].rpartition(":")[2]) for each in fields)
        assert total == word


def test_a_word_that_is_legal_nowhere_is_shown_everywhere(amd):
    """Then each level has its faults; else only legal levels are shown."""
    assert len(explain_entry_anywhere(amd.page_format, 0x6010000080000001)) == 4
    assert [each["spec_level"] for each in explain_entry_anywhere(amd.page_format, 0x6000000000200001)] == [2, 1]


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        (
            Drops("S-1", tag=3, first=0, last=0xFFF, leaf_match=Match.PIECE_INSIDE),
            f"drops cached leaves of tag 0x3 in [0x0, 0xfff]: {Match.PIECE_INSIDE.value} (S-1)",
        ),
        (Drops("S-2", tables=True), "drops cached leaves and table pointers of every tag in the whole space (S-2)"),
        (
            Drops("S-3", device=8, first=0x1000, last=0x1FFF, leaf_levels=frozenset({0, 1})),
            (
                "drops cached leaves in the ATC of device 0x8 in [0x1000, 0x1fff], leaves of level 0, 1 only: "
                "every cached piece that overlaps the range (S-3)"
            ),
        ),
        (
            Drops("S-8", tag=0x5_0003, tag_mask=0xFFFF, stages=frozenset({"1", "12"})),
            (
                "drops cached leaves of stage 1 and of both stages combined, of tag 0x3 (mask 0xffff) "
                "in the whole space (S-8)"
            ),
        ),
        (
            Drops("S-9", device=8, pasid=3),
            "drops cached leaves in the ATC of device 0x8 for PASID 0x3 in the whole space (S-9)",
        ),
        (DropsStructure("S-10"), "drops cached structures of every kind of every device (S-10)"),
        (
            DropsStructure("S-11", frozenset({"ste"}), device=8, device_mask=-8, pasid=1, tag=2),
            "drops cached ste of device 0x8 (bits 0x7 do not count), PASID 0x1, tag 0x2 (S-11)",
        ),
        (
            Completes("S-4", 0x1000, 7, 32),
            "writes 0x7 (32 bits) to 0x1000, after reads and writes in flight have ended (S-4)",
        ),
        (
            Completes("S-5", 0x1000, 7, 64, drains_reads=False, drains_writes=False),
            "writes 0x7 (64 bits) to 0x1000, drains nothing (S-5)",
        ),
        (Illegal("S-6", "no such opcode"), "illegal: no such opcode (S-6)"),
        (NoEffect("S-7"), "concerns nothing that is modelled (S-7)"),
    ],
)
def test_effects_in_words(effect, text):
    """Each declared effect, with the fact that it rests on."""
    assert explain_effect(effect) == text


PLAN = """\
plan amd0
[prepare]
fill 0x3000 4K
  run 0x3000 512 0x7000000040000001 +0x1000
  word 0x3028 0x6000000100004001
fill 0x2000 4K
  run 0x2008 511 0x7000000040200001 +0x200000
  word 0x2000 0x6000000000003201
fill 0x9000 4K
  word 0x9000 0x1
[isolate]
store cut L2 iova 0x40000000 @0x1008 0x7000000040000001 -> 0x6000000000002401 hardware 0x60
invalidate iommu0 tag 1 [0x40000000, 0x7fffffff] 0x3000000100000000 0x5ffff001
wait iommu0
"""


def test_levels_of_new_tables_follow_from_their_links(amd):
    """The store links the table of level 1, whose entry links that of level 0; what nothing links has no level."""
    assert table_levels((step for _, step in parse_plan(PLAN).steps()), amd.page_format) == {0x2000: 1, 0x3000: 0}


def test_steps_in_words(amd):
    """Fills by run and word, stores by old and new entry, commands by name."""
    plan = parse_plan(PLAN)
    levels = table_levels((step for _, step in plan.steps()), amd.page_format)
    explained = [explain_step(step, amd, levels) for _, step in plan.steps()]
    assert explained[0] == [
        "new table of level 0 (AMD level 1) at 0x3000 (4K), which no walker can reach yet",
        "  0x3000: 512 entries, leaf 4K -> 0x40000000 RW, each 0x1000 further",
        "  0x3028: leaf 4K -> 0x100004000 RW",
    ]
    assert explained[1][1:] == [
        "  0x2008: 511 entries, leaf 2M -> 0x40200000 RW, each 0x200000 further",
        "  0x2000: table 0x3000",
    ]
    assert explained[2] == ["new table at 0x9000 (4K), which no walker can reach yet"]
    assert explained[3] == [
        "cut, no translation changes, at level 2 (AMD level 3): leaf 1G -> 0x40000000 RW  =>  table 0x2000"
    ]
    assert explained[4][0].startswith("to iommu0: INVALIDATE_IOMMU_PAGES DomainID=0x1 ")
    assert explained[5][0].startswith("iommu0 answers (COMPLETION_WAIT)")


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Barrier(), "what was stored is visible to walkers before what follows"),
        (Clean(0x1000, 64), "64 bytes at 0x1000 leave the CPU's cache: the walker does not snoop"),
        (Own("RMPUPDATE", 0, 4096, 0, 12), "RMPUPDATE: owned by the host (shared) in entries of 4K"),
        (
            Own("X", 0, 4096, 1, 21, "iotlb"),
            "X: owned by guest 1 (private) in entries of 2M, and cached verdicts go",
        ),
        (Release([(0x1000, 12)]), "1 table is free"),
        (Release([(0x1000, 12), (0x2000, 12)]), "2 tables are free"),
    ],
)
def test_the_other_steps(step, text, amd):
    """Each kind of step has its sentence."""
    assert explain_step(step, amd, {}) == [text]
