"""Device and process directories as they are read, against words written by hand from RISCV-DC-* and RISCV-PC-*."""

import pytest
from sheet import (
    DDT,
    DPE,
    DTF,
    EN_ATS,
    FIRST,
    GADE,
    LEAF,
    PDT,
    PDTV,
    SADE,
    SECOND,
    SV39,
    SV48,
    Memory,
    atp,
    directory,
    pointer,
    table,
)

from hitless.hardware.structures import BadStructure, Fetch, Found
from hitless.hardware.walker import Refusal, Translation, translate
from hitless_riscv.features import RiscvFeatures
from hitless_riscv.pte import SvConfig
from hitless_riscv.structures import RiscvStructures
from hitless_riscv.sv import Stage2

DEVICE, PROCESS, IOVA = 0x21234, 0x5A3C7, 0x8_3020_1000


def structures(**features):
    """The reader of a unit."""
    chosen = RiscvFeatures(**features)
    return RiscvStructures(Stage2(SvConfig(mode=chosen.mode)), chosen)


def found(memory, base, device=DEVICE, pasid=None, **features):
    """What the structures in memory say."""
    mine = structures(**features)
    at = mine.start(base, device, pasid)
    while isinstance(at, Fetch):
        at = mine.step(at, tuple(memory.load(at.pa + 8 * i) for i in range(at.words)))
    return at


@pytest.mark.parametrize("extended", [True, False])
def test_three_levels_lead_to_the_device_context(extended):
    """Where each entry lies, in both forms; the stages, their modes and tags (RISCV-DC-1, RISCV-DC-2, RISCV-DC-5)."""
    memory = Memory()
    words = (1 | GADE | SADE, atp(SV48, SECOND, 0xBEEF), 0x12345 << 12, atp(SV39, FIRST))
    base = directory(memory, DEVICE, words, extended=extended)
    here = found(memory, base, msi_flat=extended)
    assert (here.mode, here.ats) == ("translate", False)
    assert (here.stage1.root_pa, here.stage1.page_format.name) == (FIRST, "riscv/stage1")
    assert (here.stage2.root_pa, here.stage2.page_format.name, here.stage2.tag) == (SECOND, "riscv/stage2", 0xBEEF)
    assert (here.stage1.page_format.iova_bits, here.stage2.page_format.iova_bits) == (39, 50)
    assert here.tag == here.stage1.tag == structures().stage1_tag(0xBEEF, 0x12345)
    assert found(memory, base, DEVICE ^ 1 << 23, msi_flat=extended).kind == "258"


@pytest.mark.parametrize(
    ("words", "mode", "tag"),
    [
        ((1, 0, 0, 0), "bypass", 0),
        ((1 | EN_ATS, 0, 0, 0), "bypass", 0),
        ((1, atp(SV48, SECOND, 7), 5 << 12, 0), "translate", 7),
        ((1, 0, 5 << 12, atp(SV48, FIRST)), "translate", 5),
    ],
)
def test_one_stage_or_none(words, mode, tag):
    """Bare stages; stage 1 alone is filed under its PSCID, stage 2 under its GSCID (RISCV-INV-2, RISCV-INV-3)."""
    memory = Memory()
    here = found(memory, directory(memory, DEVICE, words))
    assert (here.mode, here.tag, here.ats) == (mode, tag, bool(words[0] & EN_ATS))
    assert (here.stage1 is None, here.stage2 is None) == (not words[3], not words[1])


@pytest.mark.parametrize(
    ("base", "device", "kind"),
    [(0, 1, "256"), (5, 1, "256"), (0x1000 << 10 | 2, 64, "260"), (3, 1 << 15, "260"), (4, 1 << 24, "260")],
)
def test_the_register_refuses(base, device, kind):
    """Off, reserved modes, and devices that are too wide for the levels (RISCV-DC-1, RISCV-DC-3); Bare lets pass."""
    at = structures().start(base, device, None)
    assert isinstance(at, BadStructure) and at.kind == kind
    assert structures().start(1, device, None) == Found("bypass", None, None, 0)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ((0, 0, 0, 0), "258"),
        ((1 | 1 << 12, 0, 0, 0), "259"),
        ((1 | 1 << 32, 0, 0, 0), "259"),
        ((1, 0, 1, 0), "259"),
        ((1, 0, 0, 1 << 44), "259"),
        ((1 | 1 << 3, atp(SV48, SECOND), 0, 0), "259"),  # T2GPA without EN_ATS
        ((1 | 1 << 3 | EN_ATS, 0, 0, 0), "259"),  # T2GPA over Bare
        ((1 | 1 << 2, 0, 0, 0), "259"),  # EN_PRI without EN_ATS
        ((1 | EN_ATS | 1 << 6, 0, 0, 0), "259"),  # PRPR without EN_PRI
        ((1 | DPE, 0, 0, 0), "259"),  # DPE without PDTV
        ((1 | 1 << 10, 0, 0, 0), "259"),  # SBE
        ((1 | 1 << 11, 0, 0, 0), "259"),  # SXL
        ((1, atp(7, SECOND), 0, 0), "259"),
        ((1, atp(10, SECOND), 0, 0), "259"),  # Sv57x4, which the unit does not have
        ((1, atp(SV48, SECOND + 0x1000), 0, 0), "259"),  # a root that is not aligned to 16K
        ((1, 0, 0, atp(1, FIRST)), "259"),
        ((1 | PDTV, 0, 0, atp(4, PDT)), "259"),
        ((1 | PDTV, 0, 0, atp(3, PDT)), "259"),  # PD20, which the unit does not have
        ((1 | 1 << 24 | 1 << 31, 0, 0, 0), ""),  # custom bits
    ],
)
def test_misconfigured_device_contexts(words, kind):
    """Each check of the sheet, one by one (RISCV-DC-5, RISCV-DC-6)."""
    memory = Memory()
    here = found(memory, directory(memory, DEVICE, words), widest="sv48", process_id_bits=17)
    assert (here.kind if isinstance(here, BadStructure) else "") == kind


@pytest.mark.parametrize(("word", "kind"), [(0, "258"), (3, "259"), (1 | 1 << 54, "259")])
def test_bad_directory_entries(word, kind):
    """Not valid, and reserved bits, at both levels (RISCV-DC-4)."""
    for at in (DDT + 8 * (DEVICE >> 15), DDT + 0x1000 + 8 * (DEVICE >> 6 & 511)):
        memory = Memory()
        base = directory(memory, DEVICE, (1, 0, 0, 0))
        memory.put(at, word)
        here = found(memory, base)
        assert (here.kind, here.pa, here.words) == (kind, at, (word,))


def test_msi_tables():
    """Msiptp is Off or Flat, and nothing follows its three words (RISCV-DC-5, RISCV-DC-6)."""
    for i, word, kind in ((4, 1 << 60, ""), (4, 2 << 60, "259"), (5, 1 << 52, "259"), (7, 1, "259")):
        memory = Memory()
        base = directory(memory, DEVICE, (1, 0, 0, 0))
        memory.put(DDT + 0x2000 + 64 * (DEVICE & 63) + 8 * i, word)
        here = found(memory, base)
        assert (here.kind if isinstance(here, BadStructure) else "") == kind


def test_hardware_marks_need_the_capability():
    """GADE and SADE without AMO_HWAD; with them the formats say that hardware marks (RISCV-DC-6, RISCV-AD-1)."""
    memory = Memory()
    base = directory(memory, DEVICE, (1 | GADE, atp(SV48, SECOND, 1), 0, atp(SV48, FIRST)))
    assert found(memory, base, hardware_ad=False).kind == "259"
    here = found(memory, base)
    assert (here.stage2.page_format.hardware_set(0), here.stage1.page_format.hardware_set(0)) == (0xC0, 0)


def processes(memory, mode, process, context):
    """A process directory of as many levels as the mode has, with one context."""
    for i in range(3):
        memory.page(PDT + 0x1000 * i)
    at = PDT
    for shift in ((), (8,), (17, 8))[mode - 1]:
        memory.put(at + 8 * (process >> shift & 511), pointer(at + 0x1000))
        at += 0x1000
    memory.put(at + 16 * (process & 255), *context)


@pytest.mark.parametrize(("mode", "process"), [(1, 0xC7), (2, 0x1A3C7), (3, PROCESS)])
def test_process_directories(mode, process):
    """PD8, PD17 and PD20: where each entry lies, what the context says (RISCV-PC-1 to RISCV-PC-3)."""
    memory = Memory()
    base = directory(memory, DEVICE, (1 | SADE | PDTV | EN_ATS, 0, 0, atp(mode, PDT)))
    processes(memory, mode, process, (1 | 0x77 << 12, atp(SV48, FIRST)))
    here = found(memory, base, pasid=process)
    assert (here.stage1.root_pa, here.tag, here.stage2, here.ats) == (FIRST, 0x77, None, True)
    assert here.stage1.page_format.hardware_set(0) == 0xC0
    assert found(memory, base).mode == "bypass"  # no process id, and DPE is 0 (RISCV-PC-6)
    assert found(memory, base, pasid=1 << (8, 17, 20)[mode - 1]).kind == "260"


def test_requests_without_process_id():
    """With DPE they are those of process 0 (RISCV-PC-6); without PDTV a process id is refused (RISCV-PC-5)."""
    memory = Memory()
    base = directory(memory, DEVICE, (1 | PDTV | DPE, 0, 0, atp(1, PDT)))
    processes(memory, 1, 0, (1 | 3 << 12, atp(SV48, FIRST)))
    assert found(memory, base).tag == found(memory, base, pasid=0).tag == 3
    memory = Memory()
    base = directory(memory, DEVICE, (1, atp(SV48, SECOND, 1), 0, 0))
    assert found(memory, base, pasid=4).kind == "260"


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        ((0, 0), "266"),
        ((1 | 1 << 3, atp(SV48, FIRST)), "267"),
        ((1 | 1 << 32, atp(SV48, FIRST)), "267"),
        ((1, atp(SV48, FIRST) | 1 << 44), "267"),
        ((1, atp(7, FIRST)), "267"),
    ],
)
def test_bad_process_contexts(context, kind):
    """RISCV-PC-3, RISCV-PC-4; with DTF the cause is told as one that is not recorded (RISCV-EVT-5)."""
    for flags, silent in ((0, ""), (DTF, " DTF")):
        memory = Memory()
        base = directory(memory, DEVICE, (1 | PDTV | flags, 0, 0, atp(3, PDT)))
        processes(memory, 3, PROCESS, context)
        assert found(memory, base, pasid=PROCESS).kind == kind + silent
    memory.put(PDT, *[0] * 8)
    assert found(memory, base, pasid=PROCESS).kind == "266 DTF"


# -- nested walks


def nested(memory, leaf=LEAF):
    """Stage 1 leads to guest page 5, which stage 2 maps; guest 0x400000 on, where stage 1 lies, is mapped to itself."""
    base = directory(memory, DEVICE, (1, atp(SV39, SECOND, 7), 9 << 12, atp(SV39, FIRST)))
    table(memory, FIRST, (IOVA >> 30, IOVA >> 21 & 511, IOVA >> 12 & 511), 0x5000 >> 2 | LEAF)
    table(memory, SECOND, (0, 0, 5), 0xABC000 >> 2 | leaf, root_bytes=0x4000)
    memory.put(SECOND + 0x4000 + 8 * 2, FIRST >> 2 | LEAF)
    return base


def test_a_nested_walk():
    """Stage 2 translates stage 1's entries and its result (RISCV-LVL-7)."""
    memory = Memory()
    base = nested(memory)
    walked = translate(memory.load, structures(), base, DEVICE, IOVA + 0x18, write=True)
    assert isinstance(walked.outcome, Translation)
    assert (walked.outcome.start, walked.outcome.size_lg2, walked.outcome.pa) == (IOVA, 12, 0xABC000)
    assert [seen.stage for seen in walked.trace if not seen.structure] == ["2", "2", "1"] * 3 + ["2", "2", "2"]


def test_nested_refusals():
    """Stage 2 refuses a write to the page, and the address of a stage-1 entry."""
    memory = Memory()
    base = nested(memory, leaf=LEAF & ~4)
    refused = translate(memory.load, structures(), base, DEVICE, IOVA, write=True).outcome
    assert isinstance(refused, Refusal)
    assert (refused.kind, refused.stage, refused.target, refused.gpa) == ("permission", "2", "input", 0x5000)
    memory.put(SECOND + 0x4000 + 8 * 2, 0)
    refused = translate(memory.load, structures(), base, DEVICE, IOVA, write=True).outcome
    assert (refused.kind, refused.target, refused.gpa) == ("not-present", "table", FIRST + 8 * (IOVA >> 30))


def test_a_process_directory_in_guest_memory():
    """Its pages are guest physical (RISCV-PC-7): found through stage 2, and refused with it."""
    memory = Memory()
    base = directory(memory, DEVICE, (1 | PDTV, atp(SV39, SECOND, 7), 0, atp(1, 0x5000)))
    table(memory, SECOND, (0, 0, 5), 0xABC000 >> 2 | LEAF, root_bytes=0x4000)
    memory.page(0xABC000)
    memory.put(0xABC000 + 16 * 3, 1 | 9 << 12, atp(SV39, FIRST))
    walked = translate(memory.load, structures(), base, DEVICE, IOVA, pasid=3)
    pc = next(seen.answer for seen in walked.trace if seen.structure == "pc")
    assert (pc.stage1.root_pa, pc.stage2.tag) == (FIRST, 7)
    memory.put(SECOND + 0x5000 + 8 * 5, 0)
    refused = translate(memory.load, structures(), base, DEVICE, IOVA, pasid=3).outcome
    place = (refused.kind, refused.target, refused.structure, refused.gpa)
    assert place == ("not-present", "structure", "pc", 0x5000 + 16 * 3)
