"""What an emulated unit shows of a vendor, with ``--iommu-machine qemu``: walks, and scenarios that are carried out."""

from collections.abc import Mapping
from typing import Any

import pytest

from hitless.check.suite import ground_of
from hitless.check.witness import compare_with, emulated_features, witness
from hitless.conformance.cases import Case
from hitless.conformance.failing import fail, require
from hitless.conformance.kit import Kit
from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.machine import check_emulated

_WALKS = 2_000


def _features(kit: Kit, at: Case) -> Mapping[str, Any]:
    """The features of the emulated unit; a skip where there is none."""
    try:
        features = emulated_features(kit.registry, kit.vendor, at.format.name, {})
        check_emulated(kit.registry.resolve(kit.vendor, at.format.name, features))
    except NoEmulator as error:
        pytest.skip(f"{error.what} ({error.why})" if error.why else error.what)
    return features


@pytest.mark.iommu("EMU1", each="emulated")
def test_walks_agree(kit: Kit, at: Case) -> None:
    """Random tables lead an emulated unit where they lead the walker, but for declared deviations."""
    features = _features(kit, at)
    found = compare_with(kit.registry.resolve(kit.vendor, at.format.name, features), features, _WALKS)
    require(
        not found.faults,
        f"{at.title}: {len(found.faults)} of {found.asked} walks differ: {'; '.join(found.faults[:3])}",
        why=f"QEMU {found.version} walked the same table",
        do="mend the format, or declare what this QEMU does otherwise as a Deviation of the emulator",
    )


@pytest.mark.iommu("EMU2", each="carried out")
def test_scenarios_are_carried_out(kit: Kit, at: Case) -> None:
    """With DMA before, between and after all steps nothing breaks that a device can see."""
    features = _features(kit, at)
    row = witness(ground_of(kit.registry, kit.vendor, at.format.name, features), features, at.value)
    if row.outcome == "violated":
        broken = ", ".join(f"{rule} {count} times" for rule, count in row.rules.items() if count)
        fail(
            f"{at.title}: {at.value.id} breaks {broken}",
            why="an emulated device saw it",
            do="hitless check --machine qemu tells the same",
        )
    if row.outcome != "ok":
        pytest.skip(row.reason)
