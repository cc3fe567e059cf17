"""QEMU's walk beside ours, on random tables: no difference that is not known."""

import attrs
import pytest

from hitless.hardware.emulator import Deviation
from hitless.machine.qemu.compare import Comparison, compare
from qemu_stand import FORMATS, emulated, machine_of, unit_of

G = 1 << 30
OTHERS = (
    *(("amd", "amd/v1", {"mode": mode}) for mode in (1, 2, 3, 5, 6)),
    ("intel", "intel/second-stage", {"mode": "scalable"}),
    ("intel", "intel/second-stage", {"aw": 39, "haw": 39, "mgaw": 39}),
    *(("arm_smmu", f"arm_smmu/stage{stage}", {"granule": each}) for stage in (1, 2) for each in ("16K", "64K")),
    *(("arm_smmu", "arm_smmu/stage2", {"ipa_bits": bits}) for bits in (32, 40, 42)),
    ("arm_smmu", "arm_smmu/stage1", {"va_bits": 39}),
    *((vendor, each, {"mode": mode}) for vendor, each in FORMATS if vendor == "riscv" for mode in ("sv39", "sv57")),
)


def compared(vendor: str, page_format: str, count: int, seed: int = 0, change=lambda record: record, **features):
    """The record, and what a comparison on it came to; ``change`` may break it before."""
    record = change(emulated(vendor, page_format, **features))
    with machine_of(record, guest_bytes=8 * G) as machine:
        return record, compare(machine, record, unit_of(machine, record), count, seed=seed)


@pytest.mark.parametrize(("vendor", "page_format"), FORMATS, ids=[name for _, name in FORMATS])
def test_two_thousand_translations(vendor, page_format):
    """Every size of leaf, both rights, holes, the edges of the address space: QEMU and our walker agree."""
    record, found = compared(vendor, page_format, 2_000)
    assert found.faults == []
    assert found.asked >= 1_990
    sizes = {size.lg2 for size in record.page_format.leaf_sizes if record.emulator.runs or not size.entries_lg2}
    missing = sizes - set(found.sizes)
    assert all(lg2 >= min(record.emulator.oa_bits, record.page_format.oa_bits) - 8 for lg2 in missing), missing
    assert min(found.by_dma, found.by_trace, found.refused) > 200


@pytest.mark.parametrize(("vendor", "page_format", "features"), OTHERS, ids=[f"{f}-{c}" for _, f, c in OTHERS])
def test_other_configurations(vendor, page_format, features):
    """The same for other widths, granules and modes, in fewer requests."""
    _, found = compared(vendor, page_format, 250, 1, **features)
    assert found.faults == []
    assert found.asked >= 240


class _Shifted:
    """A page format that says that every leaf leads one page further."""

    def __init__(self, fmt):
        self._fmt = fmt

    def __getattr__(self, name):
        return getattr(self._fmt, name)

    def step(self, position, word):
        found = self._fmt.step(position, word)
        return found._replace(oa=found.oa + 0x1000) if hasattr(found, "oa") else found


def test_a_wrong_walker_is_noticed():
    """If our walker were wrong, every translation would be a difference that nothing explains."""

    def change(record):
        shifted = _Shifted(record.page_format)
        structures = type(record.structures)(record.page_format, record.features)
        structures._formats._second = dict.fromkeys(structures._formats._second, shifted)
        return attrs.evolve(record, structures=structures)

    _, found = compared("intel", "intel/second-stage", 200, change=change)
    assert len(found.unexplained) == sum(found.sizes.values()) > 100
    assert "ours" in found.faults[0]


def test_a_deviation_that_excuses_too_much_fails():
    """At 5 per cent of the requests a known deviation still explains, above it does not."""
    found = Comparison(asked=100)
    found.excused["acme.rare"] = 5
    assert found.faults == []
    found.excused["acme.often"] = 6
    assert found.faults == ["acme.often excuses 6 of 100 requests"]


def test_a_known_deviation_is_counted():
    """AMD's emulation translates addresses above the root: explained, and counted by its id."""
    _, found = compared("amd", "amd/v1", 2_000, 3)
    assert found.faults == []
    assert 0 < found.excused["amd.above-the-root"] < 100


def test_a_deviation_has_versions():
    """It explains nothing in a version that does not have it."""
    known = Deviation("acme.x", "seen", lambda asked: True, since=(8, 0), before=(10, 1))
    assert [known.explains(each, None) for each in ((7, 2), (8, 0), (10, 0), (10, 1))] == [False, True, True, False]
