"""Runs of configurations with address spaces, PASIDs, guests' own tables, and roots that grow."""

from pathlib import Path

import attrs
import pytest

from hitless.check import check
from hitless.check.stage import mutated, subject_of
from hitless.check.subject import Truth
from hitless.config import load_checked, load_text, open_registry
from hitless.hardware.facts import Drops
from hitless.plan import Invalidate, StoreStructure
from hitless.refresh.commands import Target
from hitless.run import run_log
from hitless.run.world import open_world

ROOT = Path(__file__).parents[2]
SHORT = ROOT / "examples" / "short.log"


def run(name, **options):
    """The short log through an example configuration."""
    return run_log(*load_checked(ROOT / "examples" / f"{name}.toml"), SHORT, **options)


def test_guests_with_tables_of_their_own():
    """Arm stage 1 over 2, AMD v2 over v1, VT-d first over second stage: nothing breaks, in DMA and in every plan."""
    result = run("nested", check="all")
    assert result.status == 0
    told = [(row.format, row.stage1, row.ioas) for row in result.rows]
    assert told == [
        ("amd/v1", "amd/v2", "drivers"),
        ("intel/second-stage", "intel/first-stage", "drivers"),
        ("arm_smmu/stage2", "arm_smmu/stage1", "drivers"),
    ]
    for row in result.rows:
        assert not row.violations and row.checked == result.log.conversions
        assert row.dma.neighbour > 300 and row.dma.converted > 50 and row.cuts
        assert row.as_json()["stage1"] == row.stage1


def test_several_address_spaces_behind_one_unit():
    """Plain requests, two PASIDs, and a device of another domain: each space follows every conversion that it maps."""
    result = run("spaces", check="all")
    assert result.status == 0
    assert {row.domain: row.pasid for row in result.rows if row.pasid is not None} == {
        "arm-pasid5": 5,
        "amd-pasid5": 5,
        "amd-pasid6": 6,
        "intel-pasid5": 5,
    }
    for row in result.rows:
        assert not row.violations and row.done.stores and row.dma.neighbour > 100


def test_a_root_that_grows_in_a_run():
    """The first conversion beyond 512 GiB grows the root by a level, under DMA to what lies below."""
    result = run("growing", check="all")
    assert result.status == 0
    (row,) = result.rows
    assert not row.violations and row.checked > 20 and row.leaves
    config, registry = load_checked(ROOT / "examples" / "growing.toml")
    world = open_world(config, config.domains, registry, "refresh", 0)
    try:
        domain = world.stations[0].domain
        world.guest.convert([(0x1000, 0x2000)], 0)
        plan = world.guest.plan([(0x4000_0000, 0x4000_1000)], 0)[0].plan
        assert [step.what for step in plan.isolate if isinstance(step, StoreStructure)] == ["grow"]
        assert len(domain.root.page_format.levels) == 3
        world.guest.convert([(0x4000_0000, 0x4000_1000)], 0)
        assert len(domain.root.page_format.levels) == 4
    finally:
        world.close()


def test_the_same_seed_gives_the_same_run():
    """Domains that share a unit, too."""
    rows = [[row.as_json() for row in run("spaces", seed=3, limit=20).rows] for _ in range(2)]
    for row in [*rows[0], *rows[1]]:
        del row["seconds"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("vendor", "features"), [("amd", {"snp": False}), ("arm_smmu", {}), ("intel", {})])
def test_a_plan_that_forgets_a_pasid_is_caught(vendor, features):
    """The checker knows a device's translations by their PASID: a command for plain requests leaves them."""
    text = (ROOT / "examples" / "spaces.toml").read_text()
    text = text.replace('{ id = 0x10, domain = "intel-pasid5" }', '{ id = 0x10, domain = "intel-pasid5", ats = true }')
    config = load_text(text)
    registry = open_registry(config)
    world = open_world(config, config.domains, registry, "refresh", 0)
    try:
        domain = next(s.domain for s in world.stations if s.domain.name.startswith(vendor[:3]) and s.row.pasid == 5)
        world.guest.convert([(0, 4 << 20)], 0)
        ranges = [(0x5000, 0x6000)]
        conversion = world.guest.conversion(ranges, 1)
        plan = world.guest.plan(ranges, 1)[[s.domain for s in world.stations].index(domain)].plan
        truth = Truth.of(world.guest, domain.default_attrs, conversion.runs)
        right = subject_of(domain, truth, list(plan.steps()))
        assert not check(right).violations

        def without_pasid(step):
            for effect in domain.vendor.commands.decode(step.words) if isinstance(step, Invalidate) else ():
                if isinstance(effect, Drops) and effect.device is not None:
                    target = Target(effect.first, effect.last, 12, 0, tables=False)
                    (words,) = domain.vendor.commands.invalidate_device(target, effect.device)
                    return attrs.evolve(step, words=words)
            return step

        wrong = mutated(right, [(section, without_pasid(step)) for section, step in right.steps])
        assert "F1" in check(wrong).rules
    finally:
        world.close()


def test_the_guest_holds_its_own_tables(tmp_path):
    """A conversion of one of their pages is refused and counted; the others are done."""
    config, registry = load_checked(ROOT / "examples" / "nested.toml", ["arm_smmu"])
    log = tmp_path / "short.log"
    line = "kvm_convert_memory start {:#x} size 0x1000 {}\n"
    log.write_text(
        line.format(0xFF00_0000, "shared_to_private")
        + line.format(0x1000, "private_to_shared")
        + line.format(0x1000, "shared_to_private")
    )
    result = run_log(config, registry, log)
    assert result.status == 2
    assert dict(result.rows[0].refused) == {"pinned": 1}
    assert any("is pinned" in problem for problem in result.problems)
    assert result.log.pages == 2
