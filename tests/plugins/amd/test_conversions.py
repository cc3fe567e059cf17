"""Conversions under DMA with every AMD format: hitless, nothing stale, and words as the specification has them."""

import pytest

from hitless.guest_memfd.backing import HOST
from stand import PAGE, G, M, Stand

V2 = {"page_format": "amd/v2", "features": {"snp": False}}
CONFIGURATIONS = {
    "v1": {},
    "v1, 6 levels": {"features": {"mode": 6}},
    "v1, sme": {"features": {"c_bit": 51}},
    "v1, ats": {"ats": True},
    "v1, runs swapped": {"features": {"size7": True}},
    "v1, runs rewritten": {"features": {"size7": True, "rewrite_copies": True}},
    "v1, runs, sme, ats": {"features": {"size7": True, "c_bit": 47}, "ats": True},
    "v2": V2,
    "v2, 5 levels, ats": {"page_format": "amd/v2", "features": {"snp": False, "guest_levels": 5}, "ats": True},
    "v2 over v1": {"stage1": "amd/v2"},
    "v2 over v1, ats": {"stage1": "amd/v2", "ats": True},
    "v2 over runs of v1": {"stage1": "amd/v2", "features": {"size7": True}},
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("backing", ["separate", "in-place"])
def test_no_neighbour_notices(configuration, backing):
    """Cut, convert back and merge in the middle of a gigabyte, with DMA all the time: only its own pages fault."""
    stand = Stand("amd", backing, settings={"merge": "at_once"}, units=2, **configuration)
    stand.share(G, 4 * M)
    stand.warm()
    stand.hide(G + PAGE)
    stand.hide(G + 2 * M)
    stand.share(G + PAGE)
    stand.share(G + 2 * M)
    stand.hide(G, 4 * M)
    assert stand.violations() == {}
    assert stand.seen.near > 100
    for unit in stand.domain.units:
        for event in map(unit.events.decode, unit.drain_events()):
            assert event["event"] in {"IO_PAGE_FAULT", "RMP_PAGE_FAULT"}
            assert event["DeviceID"] in {8, 9}
            assert G <= event["address"] < G + 4 * M


def words_of(stand: Stand, gpa: int) -> list[int]:
    """The entries of a walk, read by the sheet's indexes: root first; NextLevel tells where it goes on."""
    table, level, found = stand.domain.planner.root_pa, stand.fmt.mode, []
    while True:
        word = stand.machine.arena.load(table + 8 * (gpa >> 12 + 9 * (level - 1) & 511))
        found.append(word)
        next_level = word >> 9 & 7
        if not word & 1 or next_level in (0, 7):
            return found
        table, level = word & 0xF_FFFF_FFFF_F000 & ~(1 << 51), next_level


def test_words_of_a_cut():
    """One shared page in a private gigabyte: pointers of levels 3 to 1, then 4K leaves with IR, IW and FC."""
    stand = Stand("amd", "in-place", features={"c_bit": 51})
    stand.share(G)
    walk = words_of(stand, G)
    flags = 0x6008_0000_0000_0001
    assert [word & 0xFFF8_0000_0000_0FFF for word in walk] == [
        flags | 3 << 9,
        flags | 2 << 9,
        flags | 1 << 9,
        flags | 1 << 60,
    ]
    assert walk[-1] == flags | 1 << 60 | stand.guest.pa(G)
    assert words_of(stand, G + 2 * M)[-1] == flags | 1 << 60 | stand.guest.pa(G + 2 * M)


def test_words_of_runs():
    """One converted page in a shared gigabyte leaves runs of every size beside it, all copies equal (AMD-LVL-12)."""
    stand = Stand("amd", "in-place", features={"size7": True})
    stand.guest.convert([(0, 4 * G)], HOST)
    stand.hide(G)
    sizes = {f"{n}{unit}" for unit, ns in (("K", 2), ("M", 0)) for n in (1 << i for i in range(ns, 10))}
    assert set(stand.leaves()) == sizes | {"1G"}
    for lg2 in (*range(13, 21), *range(22, 30)):
        start, pa = G + (1 << lg2), stand.guest.pa(G + (1 << lg2))
        word = 0x7000_0000_0000_0E01 | pa | sum(1 << n for n in range(12, lg2 - 1))
        slot = 12 if lg2 < 21 else 21
        copies = {words_of(stand, start + (i << slot))[-1] for i in range(1 << lg2 - slot)}
        assert copies == {word}


def test_a_table_of_two_levels_cannot_hold_the_guest():
    """Mode 1 and 2 translate 2 MiB and 1 GiB."""
    stand = Stand("amd", memory=G, features={"mode": 2}, hunk_lg2=21)
    stand.share(4 * M)
    assert stand.violations() == {}
    assert stand.fmt.iova_bits == 30
