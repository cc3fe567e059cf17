"""RMP and leaves of a trusted device: they change their size together, by the firmware engine, or not at all."""

import pytest

from hitless.check import check
from hitless.check.stage import Setting, Stage
from hitless.errors import OwnerChangeRefused, Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.pagetable import table_leaves
from hitless.plan import Call, Own, Store
from hitless.refresh.executor import Answer
from stand import PAGE, G, M, Stand, registry

PAGE_IN = [(G + 5 * PAGE, G + 6 * PAGE)]
SEQUENCE = (
    (PAGE_IN, HOST),
    (PAGE_IN, GUEST),
    ([(G + 2 * M, G + 4 * M)], HOST),
    ([(G + 2 * M + PAGE, G + 2 * M + 2 * PAGE)], GUEST),
    ([(G + 2 * M, G + 4 * M)], GUEST),
    ([(G + M, G + 5 * M)], HOST),
    ([(G + M, G + 5 * M)], GUEST),
)
"""Pages, a 2M block, and what reaches over the edges of three, there and back."""


def amd(engine):
    """The vendor with an engine."""
    return registry("amd").resolve("amd", "amd/v1", {"engine": engine})


def agree(domain, guest):
    """Every guest-owned page's leaf and RMP entry have one size class, by a look at memory and owner table."""
    for leaf in table_leaves(domain.memory, domain.vendor.page_format, domain.planner.root_pa):
        for start, end, owner, lg2 in domain.owners.entries(leaf.oa, leaf.oa + (1 << leaf.size_lg2)):
            if owner == GUEST and (leaf.size_lg2 >= 21) != (lg2 >= 21):
                return f"leaf {leaf.iova:#x} of 2**{leaf.size_lg2}, entry [{start:#x}, {end:#x}) of 2**{lg2}"
    return ""


@pytest.mark.parametrize("merge", ["never", "at_once"])
@pytest.mark.parametrize("backing", ["in-place", "separate", "scattered"])
@pytest.mark.parametrize("engine", ["smash", "smash+unsmash"])
def test_conversions_under_a_trusted_device_are_hitless(engine, backing, merge):
    """No rule breaks in any plan of the sequence, and at rest both tables agree."""
    with Stage.open(amd(engine), Setting(backing, memory=2 * G, trusted=True, merge=merge)) as stage:
        for ranges, owner in SEQUENCE:
            for subject in stage.plans(ranges, owner):
                assert [each.what for each in check(subject).violations] == []
            stage.convert(ranges, owner)
            assert agree(stage.domains[0], stage.guest) == ""


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("drops", ["no", "iotlb", "iotlb+atc"])
@pytest.mark.parametrize("boundary", ["every_transition", "check_unit"])
def test_b1_and_s1_hold_in_all_their_settings(boundary, drops, trusted):
    """Wherever leaves have to end, whatever RMPUPDATE drops, for trusted devices and others."""
    features = {"engine": "smash+unsmash", "boundary": boundary, "rmpupdate_drops": drops}
    vendor = registry("amd").resolve("amd", "amd/v1", features)
    for backing in ("in-place", "separate"):
        setting = Setting(backing, memory=2 * G, trusted=trusted, merge="at_once")
        with Stage.open(vendor, setting) as stage:
            for ranges, owner in SEQUENCE:
                for subject in stage.plans(ranges, owner):
                    assert [each.what for each in check(subject).violations] == []
                stage.convert(ranges, owner)


def test_a_page_takes_two_cuts_and_one_call():
    """The 1G leaf is cut to 2M by the host, whose class does not change; then entry and RMP go to 4K in one request."""
    with Stage.open(amd("smash"), Setting("in-place", memory=2 * G, trusted=True)) as stage:
        (subject,) = stage.plans(PAGE_IN, HOST)
        steps = [step for _, step in subject.steps if isinstance(step, Store | Call | Own)]
        kinds = [(type(step).__name__, getattr(step, "op", "") or step.what) for step in steps]
        assert kinds == [("Store", "cut"), ("Call", "PSMASH_IO"), ("Own", "RMPUPDATE")]
        call = steps[1]
        assert call.held
        assert [type(effect) for effect in call.effects] == [Store, Own]
        pa = stage.guest.pa(G)
        assert (call.effects[1].start_pa, call.effects[1].end_pa, call.effects[1].size_lg2) == (pa, pa + 2 * M, 12)


def test_without_unsmash_nothing_merges_over_4k_entries():
    """merge=at_once joins no guest-owned page that the RMP holds in 4K, and still joins what the host owns."""
    with Stage.open(amd("smash"), Setting("in-place", memory=2 * G, trusted=True, merge="at_once")) as stage:
        stage.convert(PAGE_IN, HOST)
        stage.convert(PAGE_IN, GUEST)
        domain = stage.domains[0]
        pa = stage.guest.pa(G)
        assert domain.owners.sizes(pa, pa + 2 * M) == {12}
        assert domain.merges == 0
        stage.convert([(G, G + 2 * M)], HOST)
        assert domain.merges == 1


def test_with_unsmash_all_is_as_before():
    """A page that goes and comes back leaves one 1G leaf and 2M entries, and no table behind."""
    with Stage.open(amd("smash+unsmash"), Setting("in-place", memory=2 * G, trusted=True, merge="at_once")) as stage:
        used = stage.machine.tables.used_pages
        stage.convert(PAGE_IN, HOST)
        assert stage.machine.tables.used_pages == used + 2
        stage.convert(PAGE_IN, GUEST)
        domain, pa = stage.domains[0], stage.guest.pa(G)
        assert stage.machine.tables.used_pages == used
        assert domain.owners.sizes(pa, pa + G) == {21}


def test_without_an_engine_it_is_refused():
    """With the reason, and the ways out; a whole 2M block needs no smash."""
    with Stage.open(amd("none"), Setting("in-place", memory=2 * G, trusted=True)) as stage:
        before = stage.machine.tables.state()
        with pytest.raises(Refused) as caught:
            stage.plans(PAGE_IN, HOST)
        assert caught.value.reason == "amd.trusted-smash"
        assert stage.machine.tables.state() == before
        (subject,) = stage.plans([(G, G + 2 * M)], HOST)
        assert not check(subject).violations


@pytest.mark.parametrize("policy", ["match", "wipe"])
def test_a_device_that_reaches_nothing_private_needs_no_engine(policy):
    """Untrusted, or wiped: PSMASH is the host's own, since nobody uses the pages through a leaf."""
    setting = Setting("in-place", memory=2 * G, trusted=policy == "wipe", policy=policy)
    with Stage.open(amd("none"), setting) as stage:
        (subject,) = stage.plans(PAGE_IN, HOST)
        assert not check(subject).violations
        assert [step.op for _, step in subject.steps if isinstance(step, Own)] == ["PSMASH", "RMPUPDATE"]


# -- what the engine answers


def stand(engine="smash+unsmash"):
    """A guest with one trusted device that does DMA at every moment."""
    return Stand("amd", "in-place", {"engine": engine}, 2 * G, settings={"trusted": True, "merge": "at_once"})


def test_a_refused_smash_changes_nothing_for_good():
    """The conversion is refused; owners, translations and tables are as before, and it can be asked again."""
    here = stand()
    used, gpa = here.machine.tables.used_pages, G + 5 * PAGE
    here.domain.executor.firmware = lambda call, done: Answer(0, "the page is not exclusive (0x07)")
    with pytest.raises(OwnerChangeRefused, match="not exclusive"):
        here.share(gpa)
    assert here.guest.owner(gpa) == GUEST
    assert here.machine.tables.used_pages == used
    assert agree(here.domain, here.guest) == ""
    assert here.engine.counters.neighbour_faults == 0
    assert here.domain.fenced == []
    here.domain.executor.firmware = lambda call, done: Answer(len(call.effects) - done)
    here.share(gpa)
    assert here.guest.owner(gpa) == HOST


def test_a_refused_unsmash_leaves_the_table_in_use():
    """The page is the guest's again; leaves and RMP stay at 4K, and the table that is linked still is not freed."""
    here = stand()
    gpa = G + 5 * PAGE
    here.share(gpa)
    used = here.machine.tables.used_pages
    here.domain.executor.firmware = lambda call, done: Answer(0, "invalid size (0x06)")
    here.hide(gpa)
    assert here.guest.owner(gpa) == GUEST
    assert here.machine.tables.used_pages == used
    assert agree(here.domain, here.guest) == ""
    assert here.engine.counters.neighbour_faults == 0


def test_busy_is_asked_again():
    """A few busy answers cost calls, and nothing else."""
    here, calls = stand("smash"), []

    def busy(call, done):
        calls.append(call.op)
        return Answer(0) if len(calls) < 5 else Answer(len(call.effects) - done)

    here.domain.executor.firmware = busy
    here.share(G + 5 * PAGE)
    assert calls == ["PSMASH_IO"] * 5
    assert here.domain.executor.counters.calls == 5
    assert here.engine.counters.neighbour_faults == 0
    assert here.guest.held == []


def test_what_never_answers_is_fenced():
    """Every device of the domain is blocked, and the old memory is never given back."""
    here = stand("smash")
    here.domain.executor.firmware = lambda call, done: Answer(0)
    here.share(G + 5 * PAGE)
    assert here.domain.fenced == ["iommu0"]
    assert all(each.blocked for each in here.domain.units[0].attachments.values())
    assert here.guest.held


def test_half_a_smash_is_finished_by_asking_again():
    """Entry swapped, RMP not yet: the call is made again; what DMA sees in between is the engine's doing, and safe."""
    here = stand("smash")
    here.domain.executor.firmware = lambda call, done: Answer(1)
    here.share(G + 5 * PAGE)
    assert here.domain.fenced == []
    assert agree(here.domain, here.guest) == ""
    assert here.engine.counters.neighbour_misrouted == 0
