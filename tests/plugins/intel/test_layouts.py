"""Every field of every structure against its bits in the specification's tables (INTEL-CTX-*)."""

import pytest

from hitless_intel.layouts import structure_layouts

PLAIN = structure_layouts(52, second_stage_dirty=True)
NARROW = structure_layouts(46, second_stage_dirty=False)

FIELDS = {
    "rtaddr": (64, {"TTM": (11, 10), "RTA": (51, 12)}),
    "root": (128, {"P": (0, 0), "CTP": (51, 12)}),
    "scalable-root": (128, {"LP": (0, 0), "LCTP": (51, 12), "UP": (64, 64), "UCTP": (115, 76)}),
    "context": (
        128,
        {"P": (0, 0), "FPD": (1, 1), "TT": (3, 2), "SSPTPTR": (51, 12), "AW": (66, 64), "DID": (87, 72)},
    ),
    "scalable-context": (
        256,
        {
            "P": (0, 0),
            "FPD": (1, 1),
            "DTE": (2, 2),
            "PASIDE": (3, 3),
            "PRE": (4, 4),
            "HPTE": (5, 5),
            "EPTR": (6, 6),
            "PDTS": (11, 9),
            "PASIDDIRPTR": (51, 12),
            "RID_PASID": (83, 64),
            "RID_PRIV": (84, 84),
        },
    ),
    "pasid-dir": (64, {"P": (0, 0), "FPD": (1, 1), "SMPTBLPTR": (51, 12)}),
    "pasid": (
        512,
        {
            "P": (0, 0),
            "FPD": (1, 1),
            "AW": (4, 2),
            "PGTT": (8, 6),
            "SSADE": (9, 9),
            "SSPTPTR": (51, 12),
            "DID": (79, 64),
            "PWSNP": (87, 87),
            "PGSNP": (88, 88),
            "CD": (89, 89),
            "EMTE": (90, 90),
            "PAT": (127, 96),
            "SRE": (128, 128),
            "FSPM": (131, 130),
            "WPE": (132, 132),
            "EAFE": (135, 135),
            "FSPTPTR": (179, 140),
            "HPTSZ": (257, 256),
            "HPTPFD": (258, 258),
            "HPTPTR": (307, 268),
            "HPT DID": (335, 320),
        },
    ),
}
IGNORED = {"context": (70, 67)}


def ones(hi: int, lo: int) -> int:
    """Bits hi to lo set."""
    return (1 << hi + 1) - (1 << lo)


def split(whole: int, width: int) -> tuple[int, ...]:
    """64-bit words, low word first."""
    return tuple(whole >> at & (1 << 64) - 1 for at in range(0, width, 64))


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in FIELDS for field in FIELDS[name][1]])
def test_each_field_has_its_bits(name, field):
    """All of its bits, and no other, are read as the field; the value goes back into the same bits."""
    width, fields = FIELDS[name]
    hi, lo = fields[field]
    words = split(ones(hi, lo), width)
    found = PLAIN[name].decode(words)
    assert {key: value for key, value in found.items() if value} == {field: (1 << hi - lo + 1) - 1}
    assert PLAIN[name].encode(**{field: (1 << hi - lo + 1) - 1}) == words


@pytest.mark.parametrize("name", FIELDS)
def test_all_other_bits_are_reserved(name):
    """Each bit that the tables do not name is refused when set alone, but for the ignored ones."""
    width, fields = FIELDS[name]
    named = 0
    for hi, lo in fields.values():
        named |= ones(hi, lo)
    let_be = ones(*IGNORED[name]) if name in IGNORED else 0
    for at in range(width):
        faults = list(PLAIN[name].faults(split(1 << at, width)))
        assert bool(faults) == (not (named | let_be) >> at & 1), f"bit {at}"


@pytest.mark.parametrize("name", FIELDS)
def test_pointers_end_at_haw(name):
    """With HAW 46 the address bits from 46 up are reserved in every pointer of every structure (INTEL-CTX-13)."""
    width, fields = FIELDS[name]
    for hi, lo in fields.values():
        if hi - lo == 39:
            assert not list(NARROW[name].faults(split(ones(hi - 6, lo), width)))
            for at in range(hi - 5, hi + 1):
                assert list(NARROW[name].faults(split(1 << at, width))), f"bit {at}"


def test_ssade_is_reserved_without_ssads():
    """Bit 9 of a PASID entry (INTEL-CTX-14)."""
    assert list(NARROW["pasid"].faults(split(1 << 9, 512)))
    assert not list(PLAIN["pasid"].faults(split(1 << 9, 512)))


def test_there_is_a_layout_for_each_structure():
    """By the names that structures are fetched under, and the register."""
    assert set(PLAIN) == set(FIELDS)
    assert {name: layout.width for name, layout in PLAIN.items()} == {name: FIELDS[name][0] for name in FIELDS}
