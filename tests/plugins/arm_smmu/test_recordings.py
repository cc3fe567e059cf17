"""What recorded configurations and protection bits become, from the choices that are stated for the recordings."""

import pytest

from hitless.pagetable import Position
from hitless_arm_smmu.stage1 import ArmStage1
from hitless_arm_smmu.stage2 import ArmStage2

READ, WRITE, CACHE, NOEXEC, MMIO, PRIV = 1, 2, 4, 8, 16, 32


def config(fmt: str, *features: str, vasz: int = 48, oasz: int = 48, granule: int = 12) -> dict[str, object]:
    """A recording's config, with the name of its kind."""
    return {"fmt": fmt, "vasz": vasz, "oasz": oasz, "granule": granule, "features": list(features), "coherent": 1}


@pytest.mark.parametrize(
    ("told", "stage"),
    [
        (config("arm_s1"), 1),
        (config("arm_s2"), 2),
        (config("armv8"), 1),
        (config("armv8", "s2"), 2),
        (config("amdv1"), 0),
        (config("x86_64"), 0),
    ],
)
def test_each_recording_is_answered_by_one_stage(told, stage):
    """The kind, or the feature s2, tells the stage; other kinds are nobody's here."""
    assert (ArmStage1.from_recording(told) is not None) == (stage == 1)
    assert (ArmStage2.from_recording(told) is not None) == (stage == 2)
    assert set(ArmStage1.recorded_as) == {"arm_s1", "armv8"}
    assert set(ArmStage2.recorded_as) == {"arm_s2", "armv8"}


@pytest.mark.parametrize(
    ("told", "sizes"),
    [
        (config("arm_s1"), (12, 21, 30)),
        (config("armv8"), (12, 16, 21, 25, 30, 34)),
        (config("arm_s1", granule=14), (14, 25)),
        (config("armv8", granule=14), (14, 21, 25, 30)),
        (config("arm_s1", granule=16), (16, 29)),
        (config("arm_s1", granule=16, vasz=52, oasz=52), (16, 29, 42)),
        (config("armv8", "lpa", "lva", granule=16, vasz=52, oasz=52), (16, 21, 29, 34, 42, 47)),
        (config("armv8", "lpa2", vasz=52, oasz=52), (12, 16, 21, 25, 30, 34, 39, 43)),
    ],
)
def test_leaf_sizes_of_recordings(told, sizes):
    """Runs are armv8's alone; widths give the largest block."""
    fmt = ArmStage1.from_recording(told)
    assert fmt is not None
    assert fmt.leaf_lg2s == sizes
    assert (fmt.iova_bits, fmt.oa_bits) == (told["vasz"], told["oasz"])


@pytest.mark.parametrize(
    ("told", "level", "entries"),
    [
        (config("arm_s2", vasz=40, oasz=44), 3, 2),
        (config("arm_s2", vasz=40, oasz=40), 2, 1024),
        (config("armv8", "s2", vasz=40, oasz=44), 2, 1024),
        (config("arm_s2", granule=14), 2, 4096),
        (config("armv8", "s2", "lpa2", vasz=52, oasz=52), 3, 8192),
        (config("armv8", "s2", vasz=36, oasz=36), 2, 64),
    ],
)
def test_roots_of_recordings(told, level, entries):
    """arm_s2 concatenates tables only where it is mandatory, armv8 whenever at most 16 are left."""
    fmt = ArmStage2.from_recording(told)
    assert fmt is not None
    assert (fmt.top.number, 1 << fmt.top.bits) == (level, entries)


@pytest.mark.parametrize(
    ("told", "prot", "word"),
    [
        (config("arm_s1"), READ | WRITE | CACHE, 0xF47),
        (config("arm_s1"), READ | WRITE, 0xE43),
        (config("arm_s1"), READ | CACHE, 0xFC7),
        (config("arm_s1"), READ | WRITE | MMIO | CACHE, 0xF4B),
        (config("arm_s1"), READ | WRITE | CACHE | PRIV, 0xF07),
        (config("arm_s1"), READ | WRITE | CACHE | NOEXEC, 0x60_0000_0000_0F47),
        (config("armv8"), READ | WRITE | CACHE | NOEXEC, 0x40_0000_0000_0F47),
        (config("arm_s1"), WRITE, 0xE43),
        (config("arm_s1", "hd"), READ | WRITE, 0x8_0000_0000_0E43),
        (config("armv8", "dbm"), READ | WRITE, 0x8_0000_0000_0E43),
        (config("armv8", "dbm"), READ, 0xEC3),
        (config("arm_s1", "ns"), READ | WRITE, 0xE63),
        (config("armv8", "lpa2", vasz=52, oasz=52), READ | WRITE | CACHE, 0xC47),
        (config("arm_s2"), READ | WRITE | CACHE, 0x7FF),
        (config("arm_s2"), READ, 0x657),
        (config("arm_s2"), WRITE | CACHE, 0x7BF),
        (config("arm_s2"), READ | WRITE | MMIO, 0x6C7),
        (config("arm_s2", "s2fwb"), READ | WRITE | CACHE, 0x7DB),
        (config("arm_s2", "s2fwb"), READ | WRITE, 0x6D7),
        (config("arm_s2"), READ | PRIV, 0x657),
        (config("arm_s2"), READ | NOEXEC, 0x60_0000_0000_0657),
        (config("armv8", "s2"), READ | NOEXEC, 0x40_0000_0000_0657),
        (config("armv8", "s2", "lpa2", vasz=52, oasz=52), READ | WRITE | CACHE, 0x4FF),
    ],
)
def test_a_page_of_each_protection(told, prot, word):
    """The whole word of a page at address 0."""
    fmt = ArmStage1.from_recording(told) or ArmStage2.from_recording(told)
    assert fmt is not None
    attrs = fmt.from_prot(prot, told)
    assert attrs is not None
    assert fmt.leaf(12, 0, attrs) == word
    assert fmt.attrs(word, 0) == attrs


@pytest.mark.parametrize("told", [config("arm_s1"), config("arm_s2"), config("armv8"), config("armv8", "s2")])
@pytest.mark.parametrize("prot", [0, CACHE, MMIO | NOEXEC | PRIV])
def test_neither_right_is_an_error(told, prot):
    """A mapping that grants nothing is refused."""
    fmt = ArmStage1.from_recording(told) or ArmStage2.from_recording(told)
    assert fmt is not None
    assert fmt.from_prot(prot, told) is None


def test_ttbr1_and_ns_of_recordings():
    """ttbr1 is the upper half; ns sets bit 63 in tables."""
    upper = ArmStage1.from_recording(config("arm_s1", "ttbr1", granule=14))
    secure = ArmStage1.from_recording(config("arm_s1", "ns"))
    assert upper is not None
    assert secure is not None
    assert isinstance(upper.start(0x4000, 0xFFFF_0000_0000_0000), Position)
    assert secure.table(1, 0x1000) == 0x8000_0000_0000_1003
