"""Both stages' descriptors in every granule and width, against words put together from the specification's tables."""

import numpy as np
import pytest
from arm_sheet import descriptor
from hypothesis import given
from hypothesis import strategies as st

from hitless.pagetable import READ, WRITE, Leaf, PageFormat, Position, WalkFault
from hitless_arm_smmu.stage1 import ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config

RW = READ | WRITE
CONTIGUOUS = 1 << 52
GEOMETRIES = {
    "4K": {},
    "4K-ds": {"ds": True, "input_bits": 52, "output_bits": 52},
    "16K": {"granule_lg2": 14},
    "16K-ds": {"granule_lg2": 14, "ds": True, "input_bits": 52, "output_bits": 52},
    "64K": {"granule_lg2": 16},
    "64K-lpa": {"granule_lg2": 16, "lpa": True, "input_bits": 52, "output_bits": 52},
}
FORMATS: dict[str, ArmStage1 | ArmStage2] = {
    **{f"1 {name}": ArmStage1(Stage1Config(**told)) for name, told in GEOMETRIES.items()},
    **{f"2 {name}": ArmStage2(Stage2Config(**told)) for name, told in GEOMETRIES.items()},
    "1 narrow": ArmStage1(Stage1Config(input_bits=32, output_bits=40, bbml=0)),
    "2 narrow": ArmStage2(Stage2Config(input_bits=40, output_bits=40, bbml=1)),
    "1 hd": ArmStage1(Stage1Config(ha=True, hd=True)),
    "2 hd": ArmStage2(Stage2Config(ha=True, hd=True, s2fwb=True)),
    "1 upper": ArmStage1(Stage1Config(upper=True, granule_lg2=14, ns=True)),
}
names = st.sampled_from(list(FORMATS))
words = st.integers(0, (1 << 64) - 1)


def each_leaf() -> list[tuple[str, int]]:
    """Every legal leaf size of every format."""
    return [(name, size.lg2) for name, fmt in FORMATS.items() for size in fmt.leaf_sizes]


def by_hand(name: str, fmt: PageFormat, lg2: int, index: int, oa: int) -> int:
    """Entry ``index`` of a readable, writable, write-back leaf, from the tables of descriptor bits."""
    size = fmt.leaf_size(lg2)
    lo = fmt.levels[size.level].lo
    stage, form = name.split()
    ds, lpa = form.endswith("ds"), form.endswith("lpa")
    bits = CONTIGUOUS if size.entries_lg2 else 0
    bits |= 0 if ds else 0x300  # inner shareable, where DS does not take its place
    if stage == "1":
        bits |= 1 << 2 | 1 << 6 | 1 << 11  # AttrIndx 1, AP[1], nG
        bits |= (1 << 51 | 1 << 7) if form == "hd" else 1 << 10  # DBM and AP[2]: clean; else AF
        bits |= 1 << 5 if form == "upper" else 0  # NS
    else:
        bits |= 1 << 6 | (6 << 2 | 1 << 51 if form == "hd" else 0xF << 2 | 1 << 7 | 1 << 10)
    return descriptor(1 if size.level else 3, oa + (index << lo), ds=ds, lpa=lpa, bits=bits)


# -- leaves


@pytest.mark.parametrize(("name", "lg2"), each_leaf())
def test_every_leaf_at_every_level(name, lg2):
    """All entries of a leaf have the bits of the tables, lie on its address, and say the same of the whole leaf."""
    fmt = FORMATS[name]
    size = fmt.leaf_size(lg2)
    top = (1 << fmt.oa_bits) - (1 << lg2)  # the last leaf that the output has room for
    for oa in (0, 1 << lg2, top >> lg2 << lg2):
        first = fmt.leaf(lg2, oa, fmt.default_attrs(RW))
        for index in {0, 1, (1 << size.entries_lg2) - 1} if size.entries_lg2 else {0}:
            word = first + index * fmt.run_step(lg2)
            assert word == by_hand(name, fmt, lg2, index, oa)
            assert not fmt.faults(word, size.level)
            assert not fmt.malformed(word, size.level)
            assert fmt.is_leaf(word, size.level)
            assert (fmt.leaf_lg2(word, size.level), fmt.leaf_oa(word, size.level)) == (lg2, oa)
            assert fmt.attrs(word, size.level) == fmt.default_attrs(RW)
            assert fmt.rights(word, size.level) == RW


@pytest.mark.parametrize(("name", "lg2"), each_leaf())
def test_walks_to_every_leaf(name, lg2):
    """The first and last byte of the input's first and last leaf, through the tables that lead there."""
    fmt = FORMATS[name]
    size = fmt.leaf_size(lg2)
    level, attrs = fmt.levels[size.level], fmt.default_attrs(RW) | 1 << 10  # AF
    oa = 1 << max(lg2, fmt.oa_bits - 1)
    for start in (0, (1 << fmt.iova_bits) - (1 << lg2)):
        for offset in (0, (1 << lg2) - 1):
            iova = fmt.canonical(start + offset)
            at = fmt.start(0x10000, iova)
            for number in range(fmt.top.number, size.level, -1):
                assert isinstance(at, Position)
                assert at.level == number
                at = fmt.step(at, fmt.table(number, number << 20))
            word = fmt.leaf(lg2, oa, attrs) + (offset >> level.lo) * fmt.run_step(lg2)
            found = fmt.step(at, word)
            assert found == Leaf(
                fmt.stage, size.level, fmt.canonical(start), lg2, oa, RW, fmt.attrs(word, size.level), word
            )


@pytest.mark.parametrize("name", FORMATS)
def test_tables_hold_the_addresses_of_the_output(name):
    """A pointer is its address with 11 in bits 1:0, in one piece or two; only stage 1 has bits of its own (NSTable)."""
    fmt = FORMATS[name]
    form = name.split()[1]
    granule = 1 << fmt.levels[0].lo
    for pa in (granule, (1 << fmt.oa_bits) - granule):
        word = fmt.table(1, pa)
        own = 1 << 63 if form == "upper" else 0
        assert word == descriptor(3, pa, ds=form.endswith("ds"), lpa=form.endswith("lpa"), bits=own)
        assert fmt.table_pa(word) == pa
        assert not fmt.is_leaf(word, 1)
        assert not fmt.faults(word, 1)
        assert fmt.rights(word, 1) == RW


def test_check_values_of_52_bit_descriptors():
    """Words by hand: OA[51:50] in 9:8 with DS, OA[51:48] in 15:12 with the 64K granule."""
    ds, lpa = FORMATS["2 4K-ds"], FORMATS["2 64K-lpa"]
    assert ds.leaf(12, 0xF_0001_2345_6000, ds.default_attrs(RW)) == 0x0003_0001_2345_67FF
    assert ds.table(2, 0xF_0001_0001_0000) == 0x0003_0001_0001_0303
    assert lpa.leaf(16, 0xF_0001_2345_0000, lpa.default_attrs(RW)) == 0x0000_0001_2345_F7FF
    assert lpa.table(1, 0xA_0001_0002_0000) == 0x0000_0001_0002_A003
    assert ds.leaf_oa(0x0003_0001_2345_67FF, 0) == 0xF_0001_2345_6000
    assert lpa.table_pa(0x0000_0001_0002_A003) == 0xA_0001_0002_0000


def test_check_values_of_stage_1():
    """A readable and writable page of one ASID is OA | 0xF47; a run adds bit 52 and rises by its entries' size."""
    fmt = FORMATS["1 4K"]
    assert fmt.leaf(12, 0x1234_5678_9000, fmt.default_attrs(RW)) == 0x1234_5678_9F47
    assert fmt.leaf(30, 0x1234_4000_0000, fmt.default_attrs(RW)) == 0x1234_4000_0F45
    assert fmt.leaf(16, 0x1234_5678_0000, fmt.default_attrs(RW)) == 0x10_1234_5678_0F47
    assert (fmt.run_step(16), fmt.run_step(25), fmt.run_step(34), fmt.run_step(12)) == (
        0x1000,
        0x20_0000,
        0x4000_0000,
        0,
    )


# -- reserved bits


RESERVED = {
    # bits of a leaf that have to be 0, by format and leaf size; everything else is a value or ignored
    ("2 4K", 12): {11, 48, 49, 50},
    ("2 4K", 21): {11, *range(12, 16), *range(17, 21), 48, 49, 50},
    ("2 4K", 30): {11, *range(12, 16), *range(17, 30), 48, 49, 50},
    ("2 4K-ds", 12): {11, 50},
    ("2 4K-ds", 39): {11, *range(12, 16), *range(17, 39), 50},
    ("2 16K", 14): {11, 12, 13, 48, 49, 50},
    ("2 16K", 25): {11, *range(12, 16), *range(17, 25), 48, 49, 50},
    ("2 64K", 16): {11, *range(12, 16), 48, 49, 50},
    ("2 64K", 29): {11, *range(12, 16), *range(17, 29), 48, 49, 50},
    ("2 64K-lpa", 16): {11, 48, 49, 50},
    ("2 64K-lpa", 42): {11, *range(17, 42), 48, 49, 50},
    ("1 4K", 12): {48, 49},
    ("1 4K", 21): {*range(12, 16), *range(17, 21), 48, 49},
    ("1 narrow", 21): {*range(12, 21), 48, 49},  # BBML 0: nT too
    ("1 narrow", 30): {*range(12, 30), 48, 49, 52},  # no run fits
    ("1 4K-ds", 12): set(),
    ("1 16K-ds", 36): {*range(12, 16), *range(17, 36), 52},  # no run at this level
}
IGNORED = {
    # bits that hardware does not look at: nT at BBML 2, DBM without dirty state, software's
    "2": {51, *range(55, 64)},
    "1": {51, *range(55, 64)},
}


@pytest.mark.parametrize(("name", "lg2"), RESERVED)
def test_reserved_bits_of_leaves(name, lg2):
    """Each reserved bit alone is a fault that names it, and no other bit is one."""
    fmt = FORMATS[name]
    level = fmt.leaf_size(lg2).level
    word = fmt.leaf(lg2, 0, fmt.default_attrs(RW))
    assert fmt.layout("leaf", level).reserved == sum(1 << bit for bit in RESERVED[name, lg2])
    for bit in RESERVED[name, lg2]:
        assert fmt.malformed(word | 1 << bit, level), bit
        assert fmt.faults(word | 1 << bit, level), bit
        at = Position(fmt.stage, level, 0, 0, RW)
        assert fmt.step(at, word | 1 << bit) == WalkFault(fmt.stage, level, 0, word | 1 << bit, "reserved")


@pytest.mark.parametrize(("name", "lg2"), [key for key in RESERVED if "narrow" not in key[0]])
def test_ignored_bits_of_leaves(name, lg2):
    """Each ignored bit changes nothing that a walk sees."""
    fmt = FORMATS[name]
    level = fmt.leaf_size(lg2).level
    told = set(IGNORED[name[0]]) | ({16} if level else set())
    assert fmt.layout("leaf", level).mask("ignored") == sum(1 << bit for bit in told)
    word = fmt.leaf(lg2, 0, fmt.default_attrs(RW))
    for bit in told:
        assert fmt.attrs(word | 1 << bit, level) == fmt.default_attrs(RW)
        assert not fmt.faults(word | 1 << bit, level)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("2 4K", {48, 49, 50, 59, 60, 61, 62, 63}),
        ("2 4K-ds", {50, 59, 60, 61, 62, 63}),
        ("2 16K", {12, 13, 48, 49, 50, 59, 60, 61, 62, 63}),
        ("2 64K", {12, 13, 14, 15, 48, 49, 50, 59, 60, 61, 62, 63}),
        ("2 64K-lpa", {48, 49, 50, 59, 60, 61, 62, 63}),
        ("1 4K", {48, 49, 50}),
        ("1 64K", {12, 13, 14, 15, 48, 49, 50}),
    ],
)
def test_reserved_bits_of_tables(name, bits):
    """A pointer's reserved bits; only stage 1 has attributes in 63:59 (ARM-DESC-4, ARM-FIRST-3)."""
    fmt = FORMATS[name]
    assert fmt.layout("table", 1).reserved == sum(1 << bit for bit in bits)
    for bit in bits:
        assert fmt.malformed(fmt.table(1, 0) | 1 << bit, 1)


def test_addresses_beyond_the_output_are_told():
    """An address too wide for the descriptor sets reserved bits; too wide for IPS or S2PS it is a fault of its own."""
    fmt, narrow = FORMATS["2 4K"], FORMATS["2 narrow"]
    assert fmt.faults(fmt.leaf(12, 1 << 48, fmt.default_attrs(RW)), 0)
    found = narrow.faults(narrow.leaf(12, 1 << 40, narrow.default_attrs(RW)), 0)
    assert len(found) == 1
    assert "wider than 40 bits" in found[0]


def test_a_misaligned_run_is_told():
    """A run's address is that of its start, whatever entry is looked at; a block below its size is misaligned."""
    fmt = FORMATS["2 16K"]
    word = fmt.leaf(21, 0x20_0000, fmt.default_attrs(RW)) + 5 * fmt.run_step(21)
    assert fmt.leaf_oa(word, 0) == 0x20_0000
    assert fmt.faults(fmt.leaf(25, 0x4000, fmt.default_attrs(RW)), 1)


# -- faults of a walk


@pytest.mark.parametrize("name", ["2 narrow", "1 narrow"])
def test_addresses_beyond_the_output_end_a_walk(name):
    """A leaf's or a table's address beyond IPS or S2PS is an address size fault (ARM-EVT-5)."""
    fmt = FORMATS[name]
    leaf, table = fmt.leaf(21, 1 << 40, fmt.default_attrs(RW)), fmt.table(1, 1 << 40)
    at = Position(fmt.stage, 1, 0, 0, RW)
    assert fmt.step(at, leaf) == WalkFault(fmt.stage, 1, 0, leaf, "address-size")
    assert fmt.step(at, table) == WalkFault(fmt.stage, 1, 0, table, "address-size")
    below = fmt.leaf(21, (1 << 40) - (1 << 21), fmt.default_attrs(RW))
    assert isinstance(fmt.step(at, below), Leaf)


@pytest.mark.parametrize("name", ["1 4K", "2 16K", "2 64K-lpa"])
def test_an_entry_that_does_not_continue_its_run_ends_a_walk(name):
    """Each entry of a run has to hold its own address: two that changed places are not used (ARM-DESC-11)."""
    fmt = FORMATS[name]
    lg2 = next(size.lg2 for size in fmt.leaf_sizes if size.entries_lg2)
    lo = fmt.levels[0].lo
    first = fmt.leaf(lg2, 1 << lg2, fmt.default_attrs(RW))
    at = Position(fmt.stage, 0, 0, 1 << lo, RW)
    assert fmt.step(at, first) == WalkFault(fmt.stage, 0, 1 << lo, first, "reserved")
    assert isinstance(fmt.step(at, first + fmt.run_step(lg2)), Leaf)


@pytest.mark.parametrize(("ha", "affd", "faults"), [(False, False, True), (True, False, False), (False, True, False)])
@pytest.mark.parametrize("stage", [1, 2])
def test_a_clear_access_flag(stage, ha, affd, faults):
    """AF = 0 is an access fault, unless hardware sets it or AFFD turns the fault off (ARM-DESC-8)."""
    fmt = ArmStage1(Stage1Config(ha=ha, affd=affd)) if stage == 1 else ArmStage2(Stage2Config(ha=ha, affd=affd))
    word = fmt.leaf(12, 0x1000, fmt.default_attrs(RW)) & ~(1 << 10)
    found = fmt.step(Position(fmt.stage, 0, 0, 0, RW), word)
    assert found == WalkFault(fmt.stage, 0, 0, word, "access") if faults else isinstance(found, Leaf)


# -- TTBR1 and the edges of the input


def test_the_upper_half_begins_with_ones():
    """TTB1's addresses have ones above the input size; the lower half, and what is between, is out of range."""
    fmt = ArmStage1(Stage1Config(upper=True, input_bits=40))
    assert isinstance(fmt.start(0x1000, 0xFFFF_FF00_0000_0000), Position)
    assert isinstance(fmt.start(0x1000, (1 << 64) - 1), Position)
    for iova in (0, (1 << 40) - 1, 0xFFFF_FE00_0000_0000, 1 << 63):
        assert fmt.start(0x1000, iova) == WalkFault("1", fmt.top.number, iova, 0, "range")


@pytest.mark.parametrize("name", [name for name in FORMATS if "upper" not in name])
def test_the_lower_half_begins_with_zeros(name):
    """The first address that the root cannot index, and all above, are out of range."""
    fmt = FORMATS[name]
    assert isinstance(fmt.start(0x1000, (1 << fmt.iova_bits) - 1), Position)
    for iova in (1 << fmt.iova_bits, (1 << 64) - 1, 0xFFFF_0000_0000_0000):
        assert fmt.start(0x1000, iova) == WalkFault(fmt.stage, fmt.top.number, iova, 0, "range")


# -- stage 1's rights


@pytest.mark.parametrize(
    ("ap", "rights"), [(0b00, 0), (0b01, RW), (0b10, 0), (0b11, READ)], ids=["el1-rw", "rw", "el1-ro", "ro"]
)
def test_access_permissions_of_a_device(ap, rights):
    """A device is unprivileged: AP[1] lets it in, AP[2] forbids writes (ARM-FIRST-1, ARM-FIRST-4)."""
    assert FORMATS["1 4K"].rights(0xF07 | ap << 6, 0) == rights
    assert FORMATS["1 hd"].rights(0xF07 | ap << 6, 0) == rights
    assert FORMATS["1 hd"].rights(0xF07 | ap << 6 | 1 << 51, 0) == (RW if ap & 1 else 0)


@pytest.mark.parametrize(("bit", "rights"), [(59, RW), (60, RW), (61, 0), (62, READ), (63, RW)])
def test_tables_restrict_what_lies_below(bit, rights):
    """APTable[0] keeps a device out, APTable[1] forbids writes; HAD turns both off (ARM-FIRST-3)."""
    word = 0x1000 | 3 | 1 << bit
    assert FORMATS["1 4K"].rights(word, 2) == rights
    assert ArmStage1(Stage1Config(had=True)).rights(word, 2) == RW
    at = FORMATS["1 4K"].step(Position("1", 2, 0, 0, RW), word)
    assert isinstance(at, Position)
    assert at.rights == rights


def test_stage_1_has_no_write_only():
    """A right to write grants both, and no right leaves AP[1] clear (ARM-FIRST-7)."""
    fmt = FORMATS["1 4K"]
    assert [fmt.attrs_text(fmt.default_attrs(rights)) for rights in (RW, WRITE, READ, 0)] == ["RW", "RW", "R-", "--"]
    assert fmt.leaf(12, 0, fmt.default_attrs(READ)) == 0xFC7
    assert fmt.leaf(12, 0, fmt.default_attrs(0)) == 0xF87


def test_hardware_clears_ap2_and_sets_the_rest():
    """Bits that may change under a plan: AF and AP[2], which hardware clears, or AF and S2AP[1] (ARM-FIRST-1)."""
    first, second = FORMATS["1 hd"], FORMATS["2 hd"]
    assert [(first.hardware_set(level), first.hardware_clears(level)) for level in range(4)] == [
        (0x480, 0x80),
        (0x480, 0x80),
        (0x480, 0x80),
        (0, 0),
    ]
    assert [(second.hardware_set(level), second.hardware_clears(level)) for level in range(3)] == [(0x480, 0)] * 3
    assert FORMATS["1 4K"].hardware_set(0) == FORMATS["1 4K"].hardware_clears(0) == 0
    only_af = ArmStage1(Stage1Config(ha=True))
    assert (only_af.hardware_set(0), only_af.hardware_clears(0)) == (0x400, 0)


@pytest.mark.parametrize(("bbml", "mix"), [(0, False), (1, True), (2, True)])
def test_runs_may_be_mixed_from_bbml_1_on(bbml, mix):
    """The Contiguous bit changes entry by entry, but at BBML 0 (ARM-LIVE-11)."""
    assert ArmStage1(Stage1Config(bbml=bbml)).run_mix is mix
    assert ArmStage2(Stage2Config(bbml=bbml)).run_mix is mix


# -- properties


@given(name=names, data=st.data())
def test_round_trip(name, data):
    """Any legal leaf of any size gives back address, size and attributes, entry by entry."""
    fmt = FORMATS[name]
    size = data.draw(st.sampled_from(fmt.leaf_sizes))
    oa = data.draw(st.integers(0, (1 << fmt.oa_bits - size.lg2) - 1)) << size.lg2
    attrs = fmt.attrs(data.draw(words), size.level)
    index = data.draw(st.integers(0, (1 << size.entries_lg2) - 1))
    word = fmt.leaf(size.lg2, oa, attrs) + index * fmt.run_step(size.lg2)
    assert not fmt.faults(word, size.level)
    assert fmt.attrs(word, size.level) == attrs
    assert (fmt.leaf_lg2(word, size.level), fmt.leaf_oa(word, size.level)) == (size.lg2, oa)


@given(name=names, data=st.data(), some=st.lists(words, min_size=1, max_size=20))
def test_arrays_and_ints_agree(name, data, some):
    """Each function of words gives for an array what it gives for each int."""
    fmt = FORMATS[name]
    level = data.draw(st.integers(0, fmt.top.number))
    size = data.draw(st.sampled_from(fmt.leaf_sizes))
    attrs = fmt.default_attrs(RW)
    array = np.array(some, dtype=np.uint64)
    for function in (
        fmt.present,
        fmt.table_pa,
        lambda w: fmt.is_leaf(w, level),
        lambda w: fmt.leaf_oa(w, level),
        lambda w: fmt.leaf_lg2(w, level),
        lambda w: fmt.attrs(w, level),
        lambda w: fmt.leaf(size.lg2, w, attrs),
    ):
        result = np.broadcast_to(function(array), array.shape)
        assert result.dtype in (np.uint64, np.bool_, np.int64)
        assert result.tolist() == [function(word) for word in some]


@given(name=names, data=st.data(), word=words)
def test_what_hardware_refuses_has_a_fault(name, data, word):
    """The fast check never refuses a present word in which the slow one finds nothing."""
    fmt = FORMATS[name]
    level = data.draw(st.integers(0, fmt.top.number))
    if fmt.present(word) and fmt.malformed(word, level):
        assert fmt.faults(word, level)
