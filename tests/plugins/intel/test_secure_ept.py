"""TDX Connect: the private half by calls. Words and orders are held against INTEL-TDX-* by hand."""

import random

import pytest

from hitless.check import check
from hitless.check.stage import Setting, Stage
from hitless.errors import HitlessError, OwnerChangeRefused, Pinned, Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.hardware.dma import DmaEngine, Lane
from hitless.iommufd import Area, Domain, Ioas
from hitless.ownership import Follow, OwnerChange, OwnerTable
from hitless.plan import Call, Invalidate, Own, Store, Wait, effects_of
from hitless.refresh.executor import Answer
from hitless_intel.secure_ept import SecureEpt
from stand import PAGE, G, M, Stand, registry

NON_BLOCKING = {"half": "private", "sept_resize": "non-blocking"}
BLOCKING = {"half": "private"}
PAGE_IN = [(G + 5 * PAGE, G + 6 * PAGE)]
SEQUENCE = (
    (PAGE_IN, HOST),
    (PAGE_IN, GUEST),
    ([(G + 2 * M, G + 4 * M)], HOST),
    ([(G + 2 * M + PAGE, G + 2 * M + 2 * PAGE)], GUEST),
    ([(G + M, G + 5 * M)], HOST),
    ([(G + M, G + 5 * M)], GUEST),
)
"""Pages, a 2M block, and what reaches over the edges of three, there and back."""


def intel(features):
    """The vendor with features."""
    return registry("intel").resolve("intel", "intel/second-stage", features)


def walk(memory, root, iova):
    """A walk by hand, 4 levels: the address and log2 of the leaf's size; None: R = W = 0 on the way (sheet 1.1)."""
    table = root
    for shift in (39, 30, 21, 12):
        word = memory.load(table + (iova >> shift & 0x1FF) * 8)
        if not word & 3:
            return None
        if shift == 12 or word & 1 << 7:
            assert word & 3 == 3
            base = word & (1 << 52) - (1 << shift)
            return base | iova & (1 << shift) - 1, shift
        table = word & (1 << 52) - (1 << 12)
    raise AssertionError("no leaf at the last level")


def agrees(domain, guest, pages):
    """Each private page is mapped where it lies, in the size of its PAMT entry; each shared one is not mapped."""
    for gpa in pages:
        found = walk(domain.memory, domain.planner.root_pa, gpa)
        if guest.owner(gpa) == HOST:
            assert found is None, hex(gpa)
            continue
        assert found is not None, hex(gpa)
        pa, size_lg2 = found
        assert pa == guest.pa(gpa)
        assert domain.owners.owner(pa) == GUEST
        assert domain.owners.entry_lg2(pa) == size_lg2, hex(gpa)


def asked(subject):
    """What a plan asks for, in order."""
    return [(section, step.op) for section, step in subject.steps if isinstance(step, Call | Own)]


# -- plans


@pytest.mark.parametrize("merge", ["never", "at_once"])
@pytest.mark.parametrize("backing", ["in-place", "separate", "scattered"])
def test_conversions_of_the_private_half_are_hitless(backing, merge):
    """With a module that does not block, no rule breaks in any plan, and SEPT and PAMT agree at rest."""
    with Stage.open(intel(NON_BLOCKING), Setting(backing, merge=merge)) as stage:
        pages = sorted({edge + step for r, _ in SEQUENCE for edge in r[0] for step in (-PAGE, 0, PAGE)})
        for ranges, owner in SEQUENCE:
            for subject in stage.plans(ranges, owner):
                assert [each.what for each in check(subject).violations] == []
            stage.convert(ranges, owner)
            agrees(stage.domains[0], stage.guest, pages)


def test_a_page_turns_shared_call_by_call():
    """Two demotes, one a level; track; block; track; and only then the page is removed (INTEL-TDX-8)."""
    with Stage.open(intel(NON_BLOCKING), Setting("in-place")) as stage:
        (subject,) = stage.plans(PAGE_IN, HOST)
        assert asked(subject) == [
            ("isolate", "TDH.MEM.PAGE.DEMOTE"),
            ("isolate", "TDH.MEM.PAGE.DEMOTE"),
            ("isolate", "TDH.MEM.TRACK"),
            ("isolate", "TDH.MEM.RANGE.BLOCK"),
            ("isolate", "TDH.MEM.TRACK"),
            ("own", "TDH.MEM.PAGE.REMOVE"),
        ]


def test_a_page_turns_private_call_by_call():
    """It is added first, and mapped when the guest accepts it (INTEL-TDX-19); then leaves are promoted."""
    with Stage.open(intel(NON_BLOCKING), Setting("in-place", merge="at_once")) as stage:
        stage.convert(PAGE_IN, HOST)
        (subject,) = stage.plans(PAGE_IN, GUEST)
        assert asked(subject) == [
            ("own", "TDH.MEM.PAGE.AUG"),
            ("refresh", "TDG.MEM.PAGE.ACCEPT"),
            ("refresh", "TDH.MEM.PAGE.PROMOTE"),
            ("refresh", "TDH.MEM.PAGE.PROMOTE"),
        ]


def test_the_host_stores_and_commands_nothing_itself():
    """Table and queue are the module's (INTEL-TDX-10, INTEL-TDX-14)."""
    with Stage.open(intel(NON_BLOCKING), Setting("separate", merge="at_once")) as stage:
        for ranges, owner in SEQUENCE:
            for subject in stage.plans(ranges, owner):
                mine = [step for _, step in subject.steps if isinstance(step, Store | Invalidate | Wait)]
                assert mine == []
                assert any(isinstance(step, Store) for step in effects_of(step for _, step in subject.steps))
            stage.convert(ranges, owner)


def test_many_pages_are_tracked_once():
    """One track for all that was blocked, as every page is blocked by a call of its own."""
    with Stage.open(intel(NON_BLOCKING), Setting("in-place")) as stage:
        stage.convert(PAGE_IN, HOST)
        (subject,) = stage.plans([(G + 8 * PAGE, G + 16 * PAGE)], HOST)
        found = [op for _, op in asked(subject)]
        assert found == ["TDH.MEM.RANGE.BLOCK"] * 8 + ["TDH.MEM.TRACK", "TDH.MEM.PAGE.REMOVE"]


def test_a_table_that_maps_nothing_is_unlinked_by_the_module():
    """A block of the pointer, a track that takes pointers along, and the table is freed."""
    with Stage.open(intel(NON_BLOCKING), Setting("in-place", merge="at_once")) as stage:
        stage.convert(PAGE_IN, HOST)
        used = stage.machine.tables.used_pages
        (subject,) = stage.plans([(G, G + 2 * M)], HOST)
        assert not check(subject).violations
        stage.convert([(G, G + 2 * M)], HOST)
        assert stage.machine.tables.used_pages == used - 1
        assert walk(stage.machine.arena, stage.domains[0].planner.root_pa, G) is None


# -- demotes that block


def test_a_demote_that_blocks_is_refused():
    """Nothing is changed, and the way out is named (INTEL-TDX-9)."""
    with Stage.open(intel(BLOCKING), Setting("in-place")) as stage:
        used = stage.machine.tables.used_bytes
        with pytest.raises(Refused) as caught:
            stage.plans(PAGE_IN, HOST)
        assert caught.value.reason == "intel.tdx-demote"
        assert "sept_resize" in caught.value.do
        assert stage.machine.tables.used_bytes == used


def test_done_all_the_same_it_faults_and_nothing_worse():
    """Block, track, demote: neighbours fault meanwhile (N1), and nobody reads what is not theirs."""
    with Stage.open(intel(BLOCKING), Setting("in-place", allow_break=True, hunk_lg2=21)) as stage:
        (subject,) = stage.plans(PAGE_IN, HOST)
        assert {each.rule for each in check(subject).violations} == {"N1"}
        assert [op for _, op in asked(subject)][:3] == ["TDH.MEM.RANGE.BLOCK", "TDH.MEM.TRACK", "TDH.MEM.PAGE.DEMOTE"]
        stage.convert(PAGE_IN, HOST)
        agrees(stage.domains[0], stage.guest, [G, G + 5 * PAGE, G + 6 * PAGE])


def test_whole_leaves_convert_without_a_demote():
    """Blocking or not: 2M of 2M leaves take no resize."""
    with Stage.open(intel(BLOCKING), Setting("separate", hunk_lg2=21)) as stage:
        for owner in (HOST, GUEST):
            (subject,) = stage.plans([(G, G + 2 * M)], owner)
            assert not check(subject).violations
            stage.convert([(G, G + 2 * M)], owner)
            agrees(stage.domains[0], stage.guest, [G, G + PAGE, G + 2 * M])


def test_nothing_is_promoted_where_that_would_block():
    """Leaves stay small when a page comes back; with ``non-blocking`` they join."""
    for features, sizes in ((BLOCKING, {12}), (NON_BLOCKING, {30})):
        with Stage.open(intel(features), Setting("in-place", merge="at_once")) as stage:
            stage.convert(PAGE_IN, HOST)
            stage.convert(PAGE_IN, GUEST)
            assert {walk(stage.machine.arena, stage.domains[0].planner.root_pa, G)[1]} == sizes
            agrees(stage.domains[0], stage.guest, [G, G + 5 * PAGE])


# -- the check, and what may be attached


@pytest.mark.parametrize("outcome", ["machine-check", "owner"])
def test_verdicts(outcome):
    """The guest's pages for its trusted devices; a page of anybody else is harmed, or the request aborted."""
    sept, table = SecureEpt(blocking=True, outcome=outcome), OwnerTable()
    table.set(0, 2 * M, GUEST, 21)
    assert sept.verdict(table, 0x5000, 21, trusted=True).ok
    assert sept.verdict(table, 2 * M, 12, trusted=True)[:3] == (False, 12, outcome)
    assert sept.verdict(table, 0x5000, 21, trusted=False)[:3] == (False, 12, "owner")


def test_sizes_follow_as_the_module_can():
    """A demote goes with its PAMT entry; a promote too, unless it blocks."""
    for blocking, up in ((True, Follow.NEVER), (False, Follow.TOGETHER)):
        sept = SecureEpt(blocking=blocking, outcome="owner")
        assert (sept.follow(30, 12), sept.follow(12, 21)) == (Follow.TOGETHER, up)


def test_pages_are_added_as_large_as_they_are_mapped():
    """Naturally aligned PAMT entries, none larger than the leaf (INTEL-TDX-12)."""
    sept = SecureEpt(blocking=True, outcome="owner")
    change = OwnerChange(2 * M - PAGE, 4 * M + PAGE, GUEST, 21)
    steps = sept.own(OwnerTable(), [change], trusted=True, allow_break=False).own
    assert steps == [
        Own("TDH.MEM.PAGE.AUG", 2 * M - PAGE, 2 * M, GUEST, 12),
        Own("TDH.MEM.PAGE.AUG", 2 * M, 4 * M, GUEST, 21),
        Own("TDH.MEM.PAGE.AUG", 4 * M, 4 * M + PAGE, GUEST, 12),
    ]
    small = sept.own(OwnerTable(), [change._replace(leaf_lg2=12)], trusted=True, allow_break=False).own
    assert small == [Own("TDH.MEM.PAGE.AUG", 2 * M - PAGE, 4 * M + PAGE, GUEST, 12)]


def test_ats_is_for_later_generations():
    """A trusted device with ATS is refused, unless the features say otherwise (INTEL-TDX-11)."""
    with pytest.raises(HitlessError, match="not for trusted devices"):
        Stand("intel", "in-place", BLOCKING, 2 * G, ats=True)
    assert Stand("intel", "in-place", {**BLOCKING, "trusted_ats": True}, 2 * G, ats=True).domain.settings.trusted


def test_only_the_private_half_resizes():
    """Features that say nothing of shared tables are impossible with them."""
    for feature in ({"sept_resize": "non-blocking"}, {"trusted_ats": True}):
        assert registry("intel").feature_faults("intel", feature, page_format="intel/second-stage")


# -- what runs


def stand(features=NON_BLOCKING, **more):
    """A guest with one trusted device that does DMA at every moment."""
    return Stand("intel", "in-place", features, 2 * G, settings={"merge": "at_once"}, **more)


def test_dma_of_a_trusted_device_goes_on():
    """No neighbour notices, whatever converts beside it."""
    here = stand(rate=48)
    for ranges, owner in SEQUENCE:
        here.guest.convert(ranges, owner)
    assert here.violations() == {}
    assert here.seen.near > 200


def test_both_halves_follow_one_conversion():
    """The alias pair: a page is reached by GPA while private, with the shared bit while shared, never by both."""
    here, bit = stand(), 1 << 47
    shared = intel({})
    unit = here.machine.add_unit("shared", shared)
    area = Area(bit, 0, 2 * G)
    other = Domain.open(
        "shared",
        shared,
        here.guest,
        here.machine.arena,
        here.machine.tables,
        [(unit, 1, [(9, False)])],
        ioas=Ioas([area]),
    )
    here.guest.notifiers.append(other)
    dma = DmaEngine(
        here.guest,
        [Lane(unit, unit.attachments[9, None])],
        other.default_attrs,
        random.Random(1),
        maps_private=False,
        rate=8,
        iovas=other.ioas.points,
    )
    here.guest.watchers.append(_Watching(dma))
    other.executor.between = lambda step: dma.burst()
    for ranges, owner in SEQUENCE:
        here.guest.convert(ranges, owner)
        for gpa in (G, G + 5 * PAGE, G + 2 * M, G + 2 * M + PAGE, G + 5 * M):
            private = walk(here.machine.arena, here.domain.planner.root_pa, gpa)
            public = walk(here.machine.arena, other.planner.root_pa, gpa | bit)
            assert (private is None) != (public is None)
            assert (private or public)[0] == here.guest.pa(gpa)
            assert (public is not None) == (here.guest.owner(gpa) == HOST)
    assert here.violations() == {}
    assert (dma.counters.neighbour_faults, dma.counters.machine_checks, dma.counters.stale) == (0, 0, 0)
    assert dma.counters.neighbour > 50


class _Watching:
    """Tells the other half's DMA what converts."""

    def __init__(self, dma):
        self.begin = lambda conversion: dma.begin(conversion, list(conversion.ranges))
        self.end = dma.end


def test_the_halves_are_ordered_by_the_owner_change():
    """Nothing is mapped in one half before it was unmapped, and tracked, in the other."""
    here = stand()
    other = intel({})
    unit = here.machine.add_unit("shared", other)
    second = Domain.open(
        "shared", other, here.guest, here.machine.arena, here.machine.tables, [(unit, 1, [(9, False)])]
    )
    here.guest.notifiers.append(second)
    done = []
    for domain in (here.domain, second):
        domain.executor.between = lambda step, name=domain.name: step is not None and done.append((name, step))
    here.guest.convert(PAGE_IN, HOST)
    removed = next(i for i, (_, step) in enumerate(done) if isinstance(step, Own) and step.op == "TDH.MEM.PAGE.REMOVE")
    mapped = next(i for i, (name, step) in enumerate(done) if name == "shared" and isinstance(step, Store))
    tracked = max(i for i, (_, step) in enumerate(done) if isinstance(step, Call) and step.op == "TDH.MEM.TRACK")
    assert tracked < removed < mapped


# -- pages that are held


def test_a_page_that_is_held_does_not_convert():
    """Prepare fails with the first offset that is held, and nothing changes; when it is let go, it converts."""
    here = stand()
    here.domain.pinned += [(G + 9 * PAGE, G + 10 * PAGE), (G + 7 * PAGE, G + 8 * PAGE), (0, PAGE)]
    used = here.machine.tables.used_bytes
    with pytest.raises(Pinned) as caught:
        here.share(G + 4 * PAGE, 8 * PAGE)
    assert caught.value.offset == G + 7 * PAGE
    assert here.machine.tables.used_bytes == used
    assert here.guest.owner(G + 4 * PAGE) == GUEST
    here.share(G + 4 * PAGE, 3 * PAGE)
    here.domain.pinned.clear()
    here.share(G + 7 * PAGE, 5 * PAGE)
    assert here.guest.owner(G + 7 * PAGE) == HOST


# -- what the module answers


def test_a_refused_demote_changes_nothing_for_good():
    """The conversion is refused; owners, translations and tables are as before, and it can be asked again."""
    here = stand()
    used = here.machine.tables.used_pages
    here.domain.executor.firmware = lambda call, done: (
        Answer(0, "TDX_OPERAND_INVALID") if call.op.endswith("DEMOTE") else Answer(len(call.effects) - done)
    )
    with pytest.raises(OwnerChangeRefused, match="OPERAND_INVALID"):
        here.share(G + 5 * PAGE)
    assert here.guest.owner(G + 5 * PAGE) == GUEST
    assert here.machine.tables.used_pages == used
    assert here.domain.fenced == []
    here.domain.executor.firmware = lambda call, done: Answer(len(call.effects) - done)
    here.share(G + 5 * PAGE)
    agrees(here.domain, here.guest, [G, G + 5 * PAGE, G + 6 * PAGE])
    assert here.violations() == {}


def test_an_interrupted_demote_is_called_again():
    """A demote may answer that it was interrupted (INTEL-TDX-16); it costs calls, and nothing else."""
    here, told = stand(), []

    def interrupted(call, done):
        told.append(call.op)
        return Answer(0) if call.op.endswith("DEMOTE") and told.count(call.op) < 4 else Answer(len(call.effects) - done)

    here.domain.executor.firmware = interrupted
    here.share(G + 5 * PAGE)
    assert told.count("TDH.MEM.PAGE.DEMOTE") == 5
    assert here.violations() == {}


def test_some_pages_blocked_and_then_a_refusal():
    """What was blocked is tracked all the same, the pages stay the guest's, and every one is mapped again."""
    here, blocked = stand(), []

    def firmware(call, done):
        if call.op == "TDH.MEM.RANGE.BLOCK":
            blocked.append(call.start_pa)
            if len(blocked) > 1:
                return Answer(0, "TDX_EPT_ENTRY_STATE_INCORRECT")
        return Answer(len(call.effects) - done)

    here.domain.executor.firmware = firmware
    with pytest.raises(OwnerChangeRefused):
        here.share(G + 5 * PAGE, 4 * PAGE)
    assert [here.guest.owner(G + page * PAGE) for page in range(4, 10)] == [GUEST] * 6
    agrees(here.domain, here.guest, [G + page * PAGE for page in range(4, 10)])
    assert here.domain.fenced == []


@pytest.mark.parametrize("refused", ["", "TDX_PREVIOUS_TLB_EPOCH_BUSY"])
def test_without_a_track_devices_are_blocked(refused):
    """What was blocked may still be used: a track that is refused, or never answered, ends in a fence."""
    here = stand()
    here.domain.executor.firmware = lambda call, done: (
        Answer(0, refused) if call.op == "TDH.MEM.TRACK" else Answer(len(call.effects) - done)
    )
    here.share(G + 5 * PAGE)
    assert here.domain.fenced == ["iommu0"]
    assert all(each.blocked for each in here.domain.units[0].attachments.values())
    assert here.guest.held


def test_one_trusted_queue_hangs_and_the_other_goes_on():
    """The rest of a track is done without the unit that does not answer."""
    here = stand(units=2)
    here.domain.units[0].hung = True
    here.share(G + 5 * PAGE)
    assert here.domain.fenced == ["iommu0"]
    assert here.guest.held
    assert not any(each.blocked for each in here.domain.units[1].attachments.values())
    agrees(here.domain, here.guest, [G, G + 5 * PAGE, G + 6 * PAGE])
    assert here.domain.executor.counters.waits == 2  # both tracks, on the unit that answers
    assert here.seen.neighbour_faults == 0
