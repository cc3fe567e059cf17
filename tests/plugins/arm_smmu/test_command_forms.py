"""Commands of stage 1, of other granules and of 52 bits, runs, and every command by the table of its fields."""

import pytest
from arm_commands import K4, M2, leaves, made, table
from arm_sheet import ADDRESSES, COMMANDS, pack, positions
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import Drops, Illegal
from hitless.refresh.commands import Target
from hitless_arm_smmu.commands import range_codes

RIL = made()
PLAIN = made(ril=False)


# -- stage 1, other granules and 52 bits


FIRST = made(1)
TAG_1 = 0x5_1234  # ASID 5, VMID 0x1234
HEAD_1 = 0x5_1234_0000_0012


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (leaves(0x1234_5678_9000, K4, 0), (HEAD_1, 0x1234_5678_9000 | 0x701)),
        (leaves(0x4020_0000, M2, 1), (HEAD_1 | 9 << 20, 0x4020_0000 | 0x601)),
        (table(0x4020_0000, 21), (HEAD_1 | 9 << 20, 0x4020_0000 | 0x400)),
        (leaves(0xFFFF_FFFF_FFFF_F000, K4, 0), (HEAD_1, 0xFFFF_FFFF_FFFF_F701)),
    ],
)
def test_stage_1_goes_by_address_and_asid(target, words):
    """TLBI_NH_VA with VMID in 47:32, ASID in 63:48 and all bits of the address (ARM-CMD-13)."""
    assert FIRST.invalidate(target, TAG_1) == [words]
    assert FIRST.invalidate_tag(TAG_1) == [(0x5_1234_0000_0011, 0)]


def test_what_a_guests_stage_1_adds():
    """Under nesting all combined and stage 1 entries of the VMID go (ARM-TLBI-9)."""
    assert RIL.invalidate_nested(0x1234) == [(0x1234_0000_0010, 0)]


@pytest.mark.parametrize(
    ("granule", "tg", "granule_lg2", "steps"), [("16K", 2, 14, (14, 25)), ("64K", 3, 16, (16, 29))]
)
def test_ranges_of_other_granules(granule, tg, granule_lg2, steps):
    """NUM and SCALE count granules, TG tells which, TTL the level of the leaf (ARM-CMD-7)."""
    commands = made(granule=granule)
    for level, lg2 in enumerate(steps):
        target = Target(3 << lg2, (4 << lg2) - 1, lg2, level, False)
        scale = lg2 - granule_lg2
        assert commands.invalidate(target, 7) == [
            (0x7_0000_002A | scale << 20, 3 << lg2 | 1 | 3 - level << 8 | tg << 10)
        ]
        (drops,) = commands.decode(commands.invalidate(target, 7)[0])
        assert (drops.first, drops.last, drops.leaf_levels) == (target.first, target.last, frozenset({level}))
    run = Target(0, (1 << 21) - 1, 21, 0, False)
    assert commands.invalidate(run, 7) == [(0x7_0000_002A | 21 - granule_lg2 << 20, 0x301 | tg << 10)]


def test_leaves_above_arm_level_1_have_no_hint():
    """A 512G block is invalidated without TTL, and SCALE has six bits (ARM-TLBI-13, ARM-TLBI-14)."""
    commands = made(ds=True, ipa_bits=52, va_bits=52, output_bits=52)
    block = Target(1 << 39, (2 << 39) - 1, 39, 3, False)
    assert commands.invalidate(block, 7) == [(0x7_0000_002A | 27 << 20, 1 << 39 | 0x401)]
    assert list(range_codes(0, (1 << 52) - 1, 12, 39)) == [(0, 1, 39)]
    everything = Target(0, (1 << 52) - 1, 39, None, True)
    (words,) = commands.invalidate(everything, 7)
    assert words == (0x7_0000_002A | 1 << 12 | 39 << 20, 0x400)
    (drops,) = commands.decode(words)
    assert (drops.first, drops.last) == (0, (1 << 52) - 1)
    (most,) = commands.decode((0x7_0000_002A | 63 << 20, 0x400))
    assert most.last == (1 << 51) - 1  # above 39 it acts as 39
    assert isinstance(RIL.decode((0x7_0000_002A | 32 << 20, 0x400))[0], Illegal)


@pytest.mark.parametrize(("ds", "illegal"), [(False, True), (True, False)])
def test_ttl_1_of_the_16k_granule(ds, illegal):
    """Without 52-bit descriptors there is no such block, and the hint is reserved (ARM-TLBI-15)."""
    commands = made(granule="16K", ds=ds)
    (effect,) = commands.decode((0x7_0000_002A | 22 << 20, 0x901))
    assert isinstance(effect, Illegal if illegal else Drops)


@pytest.mark.parametrize(("run_cover", "sizes"), [(True, {16, 25, 34}), (False, set())])
def test_a_range_and_the_runs_in_it(run_cover, sizes):
    """A run that hardware merged goes only if all of it is in the range; one address drops it whole (ARM-TLBI-8)."""
    commands = made(run_cover=run_cover)
    (ranged,) = commands.decode((0x7_0000_F02A, 0x701))
    assert ranged.whole_lg2s == sizes
    (single,) = commands.decode((0x7_0000_002A, 1))
    assert single.whole_lg2s == set()
    (other,) = commands.decode((0x7_0000_F012, 0x701))
    assert other.whole_lg2s == set()


def test_runs_without_ril():
    """Each entry of a run has its own command; a block has one (ARM-TLBI-8)."""
    run = Target(0x1_0000, 0x1_FFFF, 16, 0, False)
    assert PLAIN.invalidate(run, 7) == [(0x7_0000_002A, 0x1_0001 + i * K4) for i in range(16)]
    big = Target(0x200_0000, 0x3FF_FFFF, 25, 1, False)
    assert PLAIN.invalidate(big, 7) == [(0x7_0000_002A, 0x200_0001 + i * M2) for i in range(16)]


@pytest.mark.parametrize(("stage", "tag", "word"), [(1, 0x5_1234, 0x5_1234_0000_0011), (2, 0x1234, 0x1234_0000_0028)])
def test_many_commands_become_one_for_the_tag(stage, tag, word):
    """Without RIL, above the declared threshold: the ASID, or the VMID."""
    many = Target(0, 513 * K4 - 1, 12, 0, False)
    assert made(stage, ril=False).invalidate(many, tag) == [(word, 0)]


@pytest.mark.parametrize(
    ("feature", "opcode"), [("asid16", 0x11), ("asid16", 0x12), ("vmid16", 0x10), ("vmid16", 0x13)]
)
def test_id_widths_are_checked(feature, opcode):
    """An ASID or VMID beyond 8 bits is illegal where they have 8."""
    lo = 48 if feature == "asid16" else 32
    narrow = made(1, **{feature: False})
    assert isinstance(narrow.decode((opcode | 0x100 << lo, 0))[0], Illegal)
    assert isinstance(narrow.decode((opcode | 0xFF << lo, 0))[0], Drops)


# -- every command by the table of its fields


@pytest.mark.parametrize("name", COMMANDS)
def test_layouts_are_the_tables(name):
    """Each field of each command lies where the specification has it; what is in no field is reserved."""
    layout = RIL.layouts[name]
    told = positions(COMMANDS[name]) | {"opcode": (7, 0)}
    known = {field.name.split("[")[0]: (field.hi, field.lo) for field in layout.fields if field.role != "reserved"}
    if "IPA" in known:
        known["address"] = known.pop("IPA")
    assert {key: lo for key, (_, lo) in known.items()} == {key: lo for key, (_, lo) in told.items()}
    taken = sum((1 << hi + 1) - (1 << lo) for hi, lo in known.values())
    assert layout.reserved == (1 << 128) - 1 - taken


@given(name=st.sampled_from(sorted(name for name, table in COMMANDS.items() if positions(table))), data=st.data())
def test_fields_come_back(name, data):
    """A command with any one field set decodes to that field, and only that."""
    field, (hi, lo) = data.draw(st.sampled_from(sorted(positions(COMMANDS[name]).items())))
    value = data.draw(st.integers(1, (1 << min(hi - lo + 1, 40)) - 1))
    words = pack(COMMANDS[name], 2, **{field: value << lo % 64 if field in ADDRESSES else value})
    found = {key.split("[")[0]: got for key, got in RIL.layouts[name].decode(words).items() if got}
    assert list(found.values()) == [value]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            (0x7_0090_002A, 0x4020_0601),
            "TLBI_S2_IPA SCALE=0x9 VMID=0x7 Leaf=0x1 TTL=0x2 TG=0x1 IPA[51:12]=0x40200 covers [0x40200000, 0x403fffff]",
        ),
        ((0x7_0000_0028, 0), "TLBI_S12_VMALL VMID=0x7"),
        ((0x5_0000_0003, 1), "CFGI_STE SID=0x5 Leaf=0x1"),
        (
            (0x2A, 0x5401),
            (
                "TLBI_S2_IPA Leaf=0x1 TG=0x1 IPA[51:12]=0x5 "
                "(illegal: CERROR_ILL: TG is given, but NUM, SCALE and TTL are 0)"
            ),
        ),
        ((0x99, 0), "unknown opcode 0x99"),
    ],
)
def test_describe(words, text):
    """A command in words names every field that is not 0."""
    assert RIL.describe(words) == text
