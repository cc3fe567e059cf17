"""Attaching: all devices or none, and PASIDs of one device with address spaces of their own."""

import random

import pytest

from hitless.errors import HitlessError, OutOfTableMemory
from hitless.hardware.dma import DmaEngine, Lane
from hitless.hardware.facts import Drops
from hitless.hardware.translator import Translated
from hitless.iommufd import Area, Domain, Ioas
from hitless.plan import Invalidate
from hitless.refresh.commands import Target
from stand import PAGE, M, Stand

STAGE_1 = [
    ("amd", "amd/v2", {"snp": False}),
    ("intel", "intel/first-stage", {"mode": "scalable"}),
    ("arm_smmu", "arm_smmu/stage1", {}),
]
FAR, HERE = 1 << 30, 8 * M + PAGE


class TwoSpaces:
    """Device 8 without a PASID in one domain, PASID 3 of it in another, whose IOVAs are a gigabyte higher."""

    def __init__(self, vendor, page_format, features, seed=0):
        self.stand = Stand(
            vendor,
            "separate",
            features=features,
            page_format=page_format,
            memory=64 * M,
            hunk_lg2=22,
            ats=True,
            seed=seed,
        )
        self.plain = self.stand.domain
        self.unit = self.plain.units[0]
        self.pasid = Domain.open(
            "pasid",
            self.plain.vendor,
            self.stand.guest,
            self.stand.machine.arena,
            self.stand.machine.tables,
            [(self.unit, self.plain.vendor.structures.stage1_tag(1, 3), [(8, True)])],
            ioas=Ioas([Area(FAR, 0, 64 * M)]),
            pasid=3,
        )
        self.stand.guest.notifiers.append(self.pasid)
        self.engine = DmaEngine(
            self.stand.guest,
            [Lane(self.unit, self.pasid.attachments[0])],
            self.pasid.default_attrs,
            random.Random(seed),
            self.pasid.policy.maps_private,
            8,
            self.pasid.view.points,
        )
        self.stand.guest.watchers.append(self)
        self.pasid.executor.between = lambda step: self.engine.burst()
        self.mutate = None

    def begin(self, conversion):
        self.engine.begin(conversion, list(conversion.ranges))
        if self.mutate:
            self.mutate(self.pasid.pending(conversion).plan)

    def end(self, conversion):
        self.engine.end(conversion)

    def faults(self):
        seen = self.engine.counters
        return seen.neighbour_faults + seen.neighbour_misrouted + seen.converted_misrouted + seen.stale


@pytest.mark.parametrize("vendor", STAGE_1, ids=[vendor for vendor, _, _ in STAGE_1])
def test_a_pasid_has_an_address_space_of_its_own(vendor):
    """One device, two spaces: each IOVA leads where its own tables say; conversions reach both, with ATS too."""
    spaces = TwoSpaces(*vendor)
    stand, unit = spaces.stand, spaces.unit
    stand.share(8 * M, 8 * M)
    page = stand.guest.pa(8 * M)
    for attachment, iova, other in (
        (spaces.plain.attachments[0], 8 * M, FAR + 8 * M),
        (spaces.pasid.attachments[0], FAR + 8 * M, 8 * M),
    ):
        found = unit.translate(attachment, iova, True)
        assert isinstance(found, Translated) and found.pa == page
        assert unit.translate(attachment, other, True) == "not-present"
    for start, size, share in ((HERE, PAGE, False), (HERE, PAGE, True), (12 * M, 4 * M, False)):
        (stand.share if share else stand.hide)(start, size)
    assert stand.violations() == {}
    assert spaces.faults() == 0
    assert spaces.engine.counters.neighbour > 100


@pytest.mark.parametrize("vendor", STAGE_1, ids=[vendor for vendor, _, _ in STAGE_1])
def test_what_a_device_holds_for_a_pasid_has_commands_of_its_own(vendor):
    """An ATC command without the PASID leaves what was translated with it: stale after the refresh."""
    found = 0
    for seed in range(6):
        spaces = TwoSpaces(*vendor, seed=seed)
        spaces.stand.share(8 * M, 8 * M)
        for _ in range(20):
            spaces.unit.translate(spaces.pasid.attachments[0], FAR + HERE, True)
        encoder = spaces.plain.vendor.commands

        def without_pasid(plan, encoder=encoder):
            for step in [*plan.isolate, *plan.refresh]:
                for effect in encoder.decode(step.words) if isinstance(step, Invalidate) else ():
                    if isinstance(effect, Drops) and effect.device == 8:
                        whole = Target(effect.first, effect.last, 12, 0, tables=False)
                        (step.words,) = encoder.invalidate_device(whole, 8)

        spaces.mutate = without_pasid
        spaces.stand.hide(HERE)
        found += spaces.faults()
    assert found


@pytest.mark.parametrize("vendor", ["amd", "intel", "arm_smmu"])
def test_a_domain_that_cannot_be_made_leaves_nothing(vendor):
    """No memory for its tables: devices are detached again, the root is free, the others are translated as before."""
    stand = Stand(vendor, "separate", memory=64 * M, hunk_lg2=22)
    stand.share(8 * M, 8 * M)
    unit, tables = stand.domain.units[0], stand.machine.tables
    attached = dict(unit.attachments)
    used = tables.used_bytes
    tables.fail_after(2)
    with pytest.raises(OutOfTableMemory):
        Domain.open("more", stand.domain.vendor, stand.guest, stand.machine.arena, tables, [(unit, 2, [(9, False)])])
    assert (tables.used_bytes, dict(unit.attachments)) == (used, attached)
    found = unit.translate(stand.domain.attachments[0], 8 * M, True)
    assert isinstance(found, Translated) and found.pa == stand.guest.pa(8 * M)


def test_what_structures_cannot_say_is_refused_and_undone():
    """A second unit without room: the first one forgets the devices too."""
    stand = Stand("amd", "separate", memory=64 * M, hunk_lg2=22, units=2)
    units, used = stand.domain.units, stand.machine.tables.used_bytes
    with pytest.raises(HitlessError):
        Domain.open(
            "more",
            stand.domain.vendor,
            stand.guest,
            stand.machine.arena,
            stand.machine.tables,
            [(units[0], 2, [(16, False)]), (units[1], 2, [(1 << 20, False)])],
        )
    assert stand.machine.tables.used_bytes == used
    assert {device for device, _ in units[0].attachments} == {8}
