"""Commands against words written by hand from RISCV-CMD-*, RISCV-INV-* and RISCV-FENCE-*."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.facts import Completes, Drops, DropsStructure, Illegal, NoEffect
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Target
from hitless_riscv.commands import NESTED, RiscvCommands
from hitless_riscv.features import RiscvFeatures
from hitless_riscv.sv import Stage1, Stage2

TOP = (1 << 64) - 1
AV, PSCV, GV, NL, S = 1 << 10, 1 << 32, 1 << 33, 1 << 34, 1 << 9
VMA, GVMA, FENCE, DDT, PDT, ATS, PRGR = 0x01, 0x81, 0x02, 0x03, 0x83, 0x04, 0x84
PAGE, M = 1 << 12, 1 << 20


def commands(fmt: PageFormat | None = None, **features: object) -> RiscvCommands:
    """The commands of a unit."""
    return RiscvCommands(fmt or Stage2(), RiscvFeatures(**features))


def target(first, size, *, tables=False):
    """The cached leaves, or pointers, of a range."""
    return Target(first, first + size - 1, 12, None, tables)


SECOND, FIRST = commands(), commands(Stage1())


@pytest.mark.parametrize(
    ("encoder", "what", "tag", "words"),
    [
        (SECOND, target(0x5000, PAGE), 7, [(GVMA | AV | GV | 7 << 44, 0x5 << 10)]),
        (SECOND, target(2 * M, 2 * M), 7, [(GVMA | AV | GV | 7 << 44, 0xBFE00)]),  # the fact sheet's: ADDR 0x2FF
        (SECOND, target(0, 2 * PAGE), 1, [(GVMA | AV | GV | 1 << 44, S)]),
        (SECOND, target(4 * M, 2 * M, tables=True), 1, [(GVMA | AV | GV | NL | 1 << 44, 0x4FF << 10 | S)]),
        (SECOND, target(0, 1 << 64), 1, [(GVMA | AV | GV | 1 << 44, 0x7_FFFF_FFFF_FFFF << 10 | S)]),
        (FIRST, target(0x5000, PAGE), 0xABCDE, [(VMA | AV | PSCV | 0xABCDE << 12, 0x5 << 10)]),
        (FIRST, target(TOP + 1 - PAGE, PAGE), 1, [(VMA | AV | PSCV | 1 << 12, 0xF_FFFF_FFFF_FFFF << 10)]),
        (
            SECOND,
            target(0x5000, 3 * PAGE),
            1,
            [(GVMA | AV | GV | 1 << 44, 0x5 << 10), (GVMA | AV | GV | 1 << 44, 0x6 << 10 | S)],
        ),
        (
            commands(address_range=False),
            target(0x5000, 2 * PAGE),
            1,
            [(GVMA | AV | GV | 1 << 44, 0x5 << 10), (GVMA | AV | GV | 1 << 44, 0x6 << 10)],
        ),
        (commands(address_range=False), target(0, 1 << 30), 1, [(GVMA | GV | 1 << 44, 0)]),
        (commands(non_leaf=False), target(0, 2 * M, tables=True), 3, [(GVMA | GV | 3 << 44, 0)]),
        (commands(Stage1(), non_leaf=False), target(0, 2 * M, tables=True), 3, [(VMA | PSCV | 3 << 12, 0)]),
    ],
)
def test_invalidations(encoder, what, tag, words):
    """Leaves by address and range, pointers with NL, else the whole tag (RISCV-INV-5 to RISCV-INV-7)."""
    assert list(encoder.invalidate(what, tag)) == words
    assert all(not isinstance(effect, Illegal) for each in words for effect in encoder.decode(each))


def test_whole_tags_and_nesting():
    """One command each; one GVMA takes what was made through its stage 2 (RISCV-INV-9)."""
    assert list(SECOND.invalidate_tag(9)) == [(GVMA | GV | 9 << 44, 0)]
    assert list(FIRST.invalidate_tag(9)) == [(VMA | PSCV | 9 << 12, 0)]
    assert list(SECOND.invalidate_nested(9)) == []
    (drops,) = SECOND.decode((GVMA | GV | 9 << 44, 0))
    assert drops.tables and drops.stages == {"2", "12"}
    assert drops.of_tag(9) and drops.of_tag(9 | 5 << 16 | NESTED) and not drops.of_tag(8)


@pytest.mark.parametrize(
    ("what", "device", "pasid", "words"),
    [
        (target(2 * M, 2 * M), 0x1234, None, [(ATS | 0x1234 << 40, 0x2FF800)]),  # the fact sheet's payload
        (target(0x7000, PAGE), 0x8, 0x9ABCD, [(ATS | 0x9ABCD << 12 | PSCV | 0x8 << 40, 0x7000)]),
        (target(0, 1 << 64), 0x21234, None, [(ATS | GV | 0x21234 << 40, 0x7FFF_FFFF_FFFF_F800)]),
    ],
)
def test_a_devices_invalidation(what, device, pasid, words):
    """RID and segment, PASID, and PCIe's size code (RISCV-CMD-4)."""
    assert list(SECOND.invalidate_device(what, device, pasid)) == words
    (drops,) = SECOND.decode(words[0])
    assert (drops.device, drops.pasid, drops.first, drops.last) == (device, pasid, what.first, what.last)


def test_the_fence():
    """AV, PR and PW, 32 bits of data at an address that is a multiple of 4 (RISCV-FENCE-1 to RISCV-FENCE-3)."""
    words = SECOND.wait(0x1_2345_6788, 0x1_0000_002A)
    assert words == (FENCE | AV | 3 << 12 | 0x2A << 32, 0x1_2345_6788 >> 2)
    (done,) = SECOND.decode(words)
    assert done == Completes("RISCV-FENCE-1, RISCV-FENCE-2", 0x1_2345_6788, 0x2A, 32, True, True)
    for bit, drained in ((12, (False, True)), (13, (True, False))):
        (done,) = SECOND.decode((words[0] & ~(1 << bit), words[1]))
        assert (done.drains_reads, done.drains_writes) == drained
    assert isinstance(SECOND.decode((FENCE | 3 << 12, 0))[0], NoEffect)


EVERY, LEAVES = (True, 0, TOP), (False, 0x5000, 0x5FFF)
ENTRIES = {
    "host 2": ("1", 2),
    "host 3": ("1", 3),
    "guest 7, 2": ("12", 7 | 2 << 16 | NESTED),
    "guest 7, 3": ("12", 7 | 3 << 16 | NESTED),
    "guest 8, 2": ("12", 8 | 2 << 16 | NESTED),
    "guest 7": ("2", 7),
    "guest 8": ("2", 8),
}
ADDRESS = 0x5 << 10


@pytest.mark.parametrize(
    ("words", "taken", "what"),
    [
        ((VMA, 0), {"host 2", "host 3"}, EVERY),
        ((VMA | PSCV | 2 << 12, 0), {"host 2"}, EVERY),
        ((VMA | AV, ADDRESS), {"host 2", "host 3"}, LEAVES),
        ((VMA | AV | PSCV | 2 << 12, ADDRESS), {"host 2"}, LEAVES),
        ((VMA | GV | 7 << 44, 0), {"guest 7, 2", "guest 7, 3"}, EVERY),
        ((VMA | GV | PSCV | 7 << 44 | 2 << 12, 0), {"guest 7, 2"}, EVERY),
        ((VMA | GV | AV | 7 << 44, ADDRESS), {"guest 7, 2", "guest 7, 3"}, LEAVES),
        ((VMA | GV | AV | PSCV | 7 << 44 | 3 << 12, ADDRESS), {"guest 7, 3"}, LEAVES),
        ((GVMA, 0), {"guest 7", "guest 8", "guest 7, 2", "guest 7, 3", "guest 8, 2"}, EVERY),
        ((GVMA | AV, ADDRESS), {"guest 7", "guest 8", "guest 7, 2", "guest 7, 3", "guest 8, 2"}, EVERY),
        ((GVMA | GV | 7 << 44, 0), {"guest 7", "guest 7, 2", "guest 7, 3"}, EVERY),
        ((GVMA | GV | AV | 7 << 44, ADDRESS), {"guest 7", "guest 7, 2", "guest 7, 3"}, LEAVES),
        ((VMA | AV | NL | PSCV | 2 << 12, ADDRESS), {"host 2"}, (True, 0x5000, 0x5FFF)),
        ((GVMA | GV | AV | 7 << 44, 0xBFE00), {"guest 7", "guest 7, 2", "guest 7, 3"}, (False, 2 * M, 4 * M - 1)),
    ],
)
def test_what_iotinval_drops(words, taken, what):
    """Both tables of the sheet, row by row (RISCV-INV-1 to RISCV-INV-7, RISCV-INV-9)."""
    (drops,) = SECOND.decode(words)
    assert {name for name, (stage, tag) in ENTRIES.items() if stage in drops.stages and drops.of_tag(tag)} == taken
    assert (drops.leaves, drops.tables, drops.first, drops.last) == (True, *what)


@pytest.mark.parametrize(
    ("words", "effect"),
    [
        ((DDT, 0), DropsStructure("RISCV-INV-10")),
        (
            (DDT | GV | 0x123456 << 40, 0),
            DropsStructure("RISCV-INV-10", frozenset({"dc", "pdt", "pdt-level2", "pc"}), 0x123456),
        ),
        (
            (PDT | GV | 0x99 << 12 | 0x8 << 40, 0),
            DropsStructure("RISCV-INV-11", frozenset({"pc"}), 0x8, pasid=0x99),
        ),
        ((PRGR | 0x8 << 40, 3 << 32), NoEffect("RISCV-CMD-5")),
        (
            (ATS | PSCV | 5 << 12 | 8 << 40, 0x7FFF_FFFF_FFFF_F801),
            Drops("RISCV-CMD-4", device=8, every_pasid=True),
        ),
    ],
)
def test_other_commands(words, effect):
    """Directories, page requests, and every PASID of a device (RISCV-CMD-4, RISCV-INV-10, RISCV-INV-11)."""
    assert list(SECOND.decode(words)) == [effect]


@pytest.mark.parametrize(
    "words",
    [
        (0, 0),
        (5, 0),
        (1 | 2 << 7, 0),
        (2 | 1 << 7, 0),
        (3 | 2 << 7, 0),
        (GVMA | GV | PSCV, 0),  # PSCV in GVMA
        (VMA | 1 << 11, 0),
        (VMA | 1 << 35, 0),
        (VMA | 1 << 60, 0),
        (VMA, 1),
        (VMA, 1 << 62),
        (FENCE | 1 << 14, 0),
        (DDT | 1 << 12, 0),  # PID in INVAL_DDT
        (DDT, 1),
        (PDT | 8 << 40, 0),  # INVAL_PDT without DV
        (ATS, 2),
        (PRGR, 1),
    ],
)
def test_illegal_commands(words):
    """Unknown codes, reserved bits, operands that a command does not take (RISCV-CMD-1 to RISCV-CMD-3)."""
    (effect,) = SECOND.decode(words)
    assert isinstance(effect, Illegal)
    assert SECOND.describe(words)


def test_extensions_that_a_unit_does_not_have():
    """S and NL are reserved without their capabilities (RISCV-INV-6, RISCV-INV-7)."""
    for words, feature in (((GVMA | GV | AV, S), "address_range"), ((GVMA | GV | AV | NL, 0), "non_leaf")):
        assert isinstance(SECOND.decode(words)[0], Drops)
        assert isinstance(commands(**{feature: False}).decode(words)[0], Illegal)


def test_ranges_that_say_nothing():
    """All ones: what the unit does is not specified, so nothing is sure (RISCV-INV-7)."""
    assert list(SECOND.decode((GVMA | GV | AV, (1 << 52) - 1 << 10 | S))) == []
    assert list(SECOND.decode((ATS, TOP & ~0x7FF))) == []


@given(st.integers(0, 51), st.integers(0, TOP), st.sampled_from([(SECOND, 5), (FIRST, 5)]))
def test_ranges_round_trip(pages_lg2, place, encoder):
    """Any aligned block is one command that covers just it, and so does the device's."""
    commands_of, tag = encoder
    size = PAGE << pages_lg2
    block = target(place // size * size, size)
    (words,) = commands_of.invalidate(block, tag)
    (drops,) = commands_of.decode(words)
    assert (drops.first, drops.last, drops.tables) == (block.first, block.last, False)
    (words,) = commands_of.invalidate_device(block, 3)
    (drops,) = commands_of.decode(words)
    assert (drops.first, drops.last, drops.device) == (block.first, block.last, 3)


def test_descriptions():
    """Name, fields and what is covered; an illegal one says why."""
    text = SECOND.describe((GVMA | AV | GV | 7 << 44, 0xBFE00))
    assert text.startswith("IOTINVAL.GVMA ") and text.endswith("covers [0x200000, 0x3fffff]")
    assert "GSCID=0x7" in text
    assert "illegal" in SECOND.describe((GVMA | PSCV, 0))
    assert SECOND.describe((0x7F, 0)) == "unknown command 0x7f/0"


def test_order():
    """A device is told after a fence, since commands may be executed out of order (RISCV-INV-12)."""
    assert SECOND.atc_after_wait
    assert not SECOND.nested_after_wait
