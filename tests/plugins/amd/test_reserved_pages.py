"""What an AMD unit writes by itself is firmware's under SNP (AMD-RMP-16), and never a guest's (rule T1)."""

from hitless.check import check
from hitless.check.stage import Setting, Stage, mutated
from hitless.guest_memfd.guest import GUEST
from hitless.ownership import FIRMWARE, HOST
from hitless.plan import Own
from stand import PAGE, G, registry

SETTING = Setting("in-place", memory=2 * G)


def opened(**features):
    """A stage of a guest with one unit."""
    return Stage.open(registry("amd").resolve("amd", "amd/v1", features), SETTING)


def test_event_log_and_wait_store_are_firmwares():
    """Both, all of their pages; the command buffer stays the host's, who writes it."""
    with opened() as stage:
        owners, unit = stage.domains[0].owners, stage.machine.units["iommu0"]
        assert owners.owner(unit.wait_pa) == FIRMWARE
        last = unit.event_pa + unit.facts.event_entries * 16 - 1
        assert {owners.owner(pa) for pa in (unit.event_pa, last)} == {FIRMWARE}
        assert owners.owner(unit.queue_pa) == HOST


def test_without_snp_they_are_the_hosts():
    """There is no RMP then."""
    with opened(snp=False) as stage:
        assert stage.domains[0].owners.owner(stage.machine.units["iommu0"].wait_pa) == HOST


def test_a_unit_goes_on_waiting():
    """The page of the completion word is the unit's to write, whoever owns it: conversions go on."""
    with opened() as stage:
        stage.share(G + 5 * PAGE)
        (subject,) = stage.plans([(G + 5 * PAGE, G + 6 * PAGE)], GUEST)
        assert not check(subject).violations


def test_a_queue_that_is_given_away_breaks_t1():
    """Before a plan, or by it: the command buffer, the event log and the completion word."""
    with opened() as stage:
        (subject,) = stage.plans([(G + 5 * PAGE, G + 6 * PAGE)], 0)
        unit = stage.machine.units["iommu0"]
        for pa in (unit.queue_pa, unit.event_pa, unit.wait_pa):
            given = mutated(subject, [*subject.steps, ("own", Own("RMPUPDATE", pa, pa + PAGE, GUEST, 12))])
            assert set(check(given).rules) == {"T1"}
        subject.owners.set(unit.wait_pa, unit.wait_pa + PAGE, GUEST, 12)
        assert set(check(subject).rules) == {"T1"}
