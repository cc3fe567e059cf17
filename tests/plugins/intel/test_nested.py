"""Translations from the register to the page, one stage and two, against memory and addresses worked out by hand."""

import pytest

from hitless.errors import BusError
from hitless.hardware.facts import FaultRecord
from hitless.hardware.walker import Refusal, Translation, translate
from hitless_intel import plugin
from hitless_intel.features import IntelFeatures

FEATURES = IntelFeatures(mode="scalable")
SECOND = plugin.page_formats(FEATURES)["intel/second-stage"]
UNIT = plugin.structures(SECOND, FEATURES)
EVENTS = plugin.events(SECOND, FEATURES)
ROOT, CONTEXTS, DIRECTORY, PASIDS = 0x1000, 0x2000, 0x3000, 0x4000
SS = [0x10_0000, 0x11_0000, 0x12_0000, 0x13_0000]  # second-stage tables of levels 4 to 1
GPA = [0x20_0000, 0x20_1000, 0x20_2000, 0x20_3000]  # first-stage tables of levels 4 to 1, guest physical
HOST = 0x4000_0000  # where guest physical 0x20_0000 to 0x3f_ffff lies
DEVICE, DID = 0x0300, 9
BASE = ROOT | 1 << 10
# Index 1 at level 4, 2 at level 3, 3 at level 2, 4 at level 1.
IOVA = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x123
PAGE_GPA = 0x25_6000


def memory(kind: int = 3, **changes: int) -> dict[int, int]:
    """Structures, first-stage tables in guest memory, second-stage tables; ``changes`` by name of the word.

    The second stage maps guest physical 2M to 4M by one 2 MiB leaf, and 4M by 4 KiB pages.
    """
    words = {
        "root": (ROOT + 3 * 16, CONTEXTS | 1),
        "context": (CONTEXTS, DIRECTORY | 1),
        "directory": (DIRECTORY, PASIDS | 1),
        "pasid0": (PASIDS, SS[0] | kind << 6 | 2 << 2 | 1),
        "pasid1": (PASIDS + 8, DID),
        "pasid2": (PASIDS + 16, GPA[0]),
        "fs4": (HOST + 8, GPA[1] | 0x27),
        "fs3": (HOST + 0x1000 + 16, GPA[2] | 0x27),
        "fs2": (HOST + 0x2000 + 24, GPA[3] | 0x27),
        "fs1": (HOST + 0x3000 + 32, PAGE_GPA | 0x67),
        "ss4": (SS[0], SS[1] | 3),
        "ss3": (SS[1], SS[2] | 3),
        "ss2": (SS[2] + 8, HOST | 0xB3),
        "ss2b": (SS[2] + 16, SS[3] | 3),
        "ss1": (SS[3] + 5 * 8, 0x7777_7000 | 0x33),
    }
    return {pa: changes.get(name, word) for name, (pa, word) in words.items()}


def walk(words: dict[int, int], iova: int = IOVA, *, write: bool = False, base: int = BASE):
    """What the request gets, and the addresses that were read."""

    def load(pa: int) -> int:
        if pa >= 1 << 40:
            raise BusError(pa, "no memory there")
        return words.get(pa, 0)

    found = translate(load, UNIT, base, DEVICE, iova, write=write)
    return found.outcome, [seen.pa for seen in found.trace]


def event(refusal: Refusal, *, write: bool = False) -> dict[str, int | str]:
    """The fault record of a refusal, field by field."""
    place = (refusal.stage, refusal.target, refusal.gpa, refusal.structure, refusal.pa)
    words = EVENTS.encode(FaultRecord(DEVICE, IOVA, write, refusal.kind, refusal.level, 0, None, *place))
    return EVENTS.decode(words)


def test_nested_walk():
    """Four structures; each first-stage entry through three second-stage ones; then the page (INTEL-FS-12)."""
    found, read = walk(memory())
    second = [SS[0], SS[1], SS[2] + 8]
    assert read == [
        *(ROOT + 48, CONTEXTS, DIRECTORY, PASIDS),
        *(*second, HOST + 8),
        *(*second, HOST + 0x1000 + 16),
        *(*second, HOST + 0x2000 + 24),
        *(*second, HOST + 0x3000 + 32),
        *second,
    ]
    assert isinstance(found, Translation)
    assert (found.start, found.size_lg2, found.pa, found.rights) == (IOVA & ~0xFFF, 12, HOST + 0x5_6000, 3)
    assert (found.stage1.oa, found.stage1.size_lg2) == (PAGE_GPA, 12)
    assert (found.stage2.oa, found.stage2.size_lg2) == (HOST, 21)


def test_the_smaller_leaf_gives_the_size():
    """A 2 MiB first-stage leaf over 4 KiB second-stage pages is a translation of 4 KiB."""
    leaf = 0x40_0000 | 0xE7
    found, _ = walk(memory(fs2=leaf), IOVA & ~0x1F_FFFF | 0x5456)
    assert (found.start, found.size_lg2, found.pa) == (IOVA & ~0x1F_FFFF | 0x5000, 12, 0x7777_7000)


@pytest.mark.parametrize(
    ("kind", "reads", "pa"), [(1, 8, PAGE_GPA), (2, 7, None), (4, 4, IOVA & ~0xFFF)], ids=["first", "second", "through"]
)
def test_one_stage_alone(kind, reads, pa):
    """PGTT 1: first stage, addresses are host physical. 2: second stage. 4: as they are (INTEL-CTX-9)."""
    words = memory(kind)
    if kind == 1:  # the same tables, where their pointers say
        words |= {pa - HOST + 0x20_0000: word for pa, word in memory().items() if pa >= HOST}
    found, read = walk(words, 0x21_0000 if kind == 2 else IOVA)
    assert len(read) == reads
    assert found.pa == (HOST if kind == 2 else pa)


@pytest.mark.parametrize(
    ("changes", "write", "code", "text"),
    [
        ({"fs1": PAGE_GPA | 0x66}, False, 0x71, "first-stage entry not present"),
        ({"fs2": GPA[3] | 0x8000_0000_0000 | 0x26}, False, 0x71, "first-stage entry not present"),
        ({"fs4": GPA[1] | 0xA7}, False, 0x72, "reserved bit in a first-stage entry"),
        ({"fs1": PAGE_GPA | 0x65}, True, 0x85, "first stage refuses the write"),
        ({"fs2": GPA[3] | 0x25}, True, 0x85, "first stage refuses the write"),
        ({"fs1": 0x60_0000 | 0x67}, False, 0x79, "second-stage entry not present, or its right is missing"),
        ({"fs1": 0x40_5000 | 0x67, "ss1": 0x7777_7031}, True, 0x79, "second-stage entry not present, or its right"),
        ({"ss2": HOST | 0x10_00B3}, False, 0x7A, "reserved bit in a second-stage entry, scalable mode"),
        ({"ss2": HOST | 0xB2}, False, 0x76, "second stage refuses to read a first-stage table"),
        ({"ss2": 0}, False, 0x79, "second-stage entry not present, or its right is missing"),
        ({"fs3": 1 << 48 | 0x27}, False, 0x74, "address in a first-stage entry beyond the second stage's AW"),
        ({"fs1": 1 << 48 | 0x67}, False, 0x84, "input address beyond the second stage's AW"),
        ({"ss4": 1 << 40 | 3}, False, 0x78, "access to a second-stage table failed"),
        ({"context": DIRECTORY}, False, 0x41, "scalable-mode context entry not present"),
        ({"pasid0": SS[0] | 0xC9 | 1 << 5}, False, 0x5A, "reserved bit in a PASID table entry"),
        ({"directory": 1 << 40 | 1}, False, 0x58, "access to the PASID table failed"),
        ({"root": 1 << 40 | 1}, False, 0x40, "access to the scalable-mode context table failed"),
    ],
)
def test_each_refusal_is_recorded_with_its_reason(changes, write, code, text):
    """Which structure or stage refused, and why, down to the record's fields (INTEL-FLT-4, INTEL-FLT-8 to 11)."""
    found, _ = walk(memory(**changes), write=write)
    assert isinstance(found, Refusal)
    fields = event(found, write=write)
    assert fields["FR"] == code
    assert str(fields["event"]).startswith(text)
    assert (fields["SID"], fields["FI"], fields["T1"], fields["F"]) == (DEVICE, IOVA >> 12, not write, 1)
    assert (fields["PP"], fields["PASID"]) == (0, 0)


@pytest.mark.parametrize("iova", [1 << 47, (1 << 48) - 1, 0xFFFF_0000_0000_0000, 1 << 63])
def test_input_of_a_first_stage_is_canonical(iova):
    """Bits 63:48 repeat bit 47; others are reason 80h (INTEL-FS-8)."""
    found, _ = walk(memory(1), iova)
    assert event(found)["FR"] == 0x80


def test_the_upper_half_indexes_the_upper_half_of_the_root():
    """A canonical address with bit 47 set: entry 511 of each table for the last page."""
    words = {ROOT + 48: CONTEXTS | 1, CONTEXTS: DIRECTORY | 1, DIRECTORY: PASIDS | 1}
    words |= {PASIDS: 1 << 6 | 1, PASIDS + 8: DID, PASIDS + 16: 0x8000}
    words |= {table + 0x1000 - 8: table + 0x1000 | 0x27 for table in (0x8000, 0x9000, 0xA000)}
    words |= {0xBFF8: 0x5555_5000 | 0x67}
    found, read = walk(words, (1 << 64) - 0x1000)
    assert read[4:] == [0x8FF8, 0x9FF8, 0xAFF8, 0xBFF8]
    assert (found.start, found.pa) == ((1 << 64) - 0x1000, 0x5555_5000)


def test_legacy_walk_and_its_records():
    """Root, context, three levels to a 2 MiB leaf; legacy reasons where an entry refuses (INTEL-FLT-2)."""
    unit = plugin.structures(SECOND, IntelFeatures())
    events = plugin.events(SECOND, IntelFeatures())
    words = {ROOT + 48: CONTEXTS | 1, CONTEXTS: SS[0] | 1, CONTEXTS + 8: DID << 8 | 2}
    words |= {SS[0]: SS[1] | 3, SS[1]: SS[2] | 3, SS[2] + 8: HOST | 0xB1}
    found = translate(lambda pa: words.get(pa, 0), unit, ROOT, DEVICE, 0x23_4567).outcome
    assert (found.start, found.size_lg2, found.pa, found.rights) == (0x20_0000, 21, HOST, 1)
    refused = translate(lambda pa: words.get(pa, 0), unit, ROOT, DEVICE, 0x23_4567, write=True).outcome
    record = events.encode(FaultRecord(DEVICE, 0x23_4567, True, refused.kind, refused.level, DID, None, refused.stage))
    assert record == (0x23_4000, 1 << 63 | 5 << 32 | DEVICE)
