"""What a plan leaves behind: entries in caches (F2), runs that do not agree (W1), rights that are too narrow (N1)."""

import attrs
import pytest

from hitless.check import check
from hitless.check.mutants import situations
from hitless.check.mutants.running import nearby_of
from hitless.check.replay.scene import table_as_fill
from hitless.check.stage import mutated
from hitless.pagetable import entry_pa
from hitless.plan import Barrier, Fill, Invalidate, Release, Store
from hitless.plugin import VendorRegistry


def taken(vendor, page_format, situation, change, **features):
    """The rules that break when the steps of a right plan are changed."""
    record, _ = nearby_of(VendorRegistry.installed([vendor]), vendor, page_format, features)
    with situation.opened(record) as (stage, sizes):
        subject = situation.take(stage, sizes)
        assert check(subject).rules == ()
        return check(mutated(subject, change(list(subject.steps)))).rules


def test_pieces_of_the_old_leaf_are_left():
    """VT-d may cache a 2M leaf as 4K pieces: without the cut's command neighbours' pieces stay (INTEL-LIVE-1)."""

    def no_first_command(steps):
        first = next(i for i, (_, step) in enumerate(steps) if isinstance(step, Invalidate))
        return steps[:first] + steps[first + 1 :]

    assert taken("intel", "intel/second-stage", situations.HIDE, no_first_command) == ("F2",)


def test_a_pointer_is_left_though_its_table_is_kept():
    """A merge whose table is never freed breaks nothing now; but a cached pointer may lead there for ever."""

    def kept(steps):
        steps = [each for each in steps if not isinstance(each[1], Release)]
        merge = next(i for i, (_, step) in enumerate(steps) if isinstance(step, Store) and step.what == "merge")
        return [each for i, each in enumerate(steps) if i < merge or not isinstance(each[1], Invalidate)]

    assert taken("intel", "intel/second-stage", situations.MERGE, kept) == ("F2",)


@pytest.mark.parametrize("page_format", ["arm_smmu/stage1", "arm_smmu/stage2"])
def test_one_entry_of_a_run_leads_elsewhere(page_format):
    """A contiguous run of 64K whose pages lead to two places is no legal table, however it is cached (ARM-DESC-11)."""

    def elsewhere(steps):
        resize = [i for i, (_, step) in enumerate(steps) if isinstance(step, Store) and step.what == "resize"]
        section, first = steps[resize[0]]
        moved = attrs.evolve(first, new=first.expected ^ 1 << 21)
        return [(section, moved), (section, Barrier())]

    rules = taken("arm_smmu", page_format, situations.HIDE_IN_RUN, elsewhere, contiguous=True)
    assert "W1" in rules


def test_a_run_with_a_hole_at_rest():
    """An emptied entry is covered by a cached copy of its run: it may be empty for a while, not for good."""

    def hole(steps):
        resize = [i for i, (_, step) in enumerate(steps) if isinstance(step, Store) and step.what == "resize"]
        section, first = steps[resize[0]]
        return [(section, attrs.evolve(first, new=0)), (section, Barrier())]

    assert "W1" in taken("arm_smmu", "arm_smmu/stage2", situations.HIDE_IN_RUN, hole, contiguous=True)


def test_a_mix_of_forms_where_it_is_not_allowed():
    """Copies of a size-7 run are not rewritten one by one, unless the hardware is said to take it (AMD-LIVE-6)."""
    record, _ = nearby_of(VendorRegistry.installed(["amd"]), "amd", "amd/v1", {"size7": True, "rewrite_copies": True})
    forbids, _ = nearby_of(VendorRegistry.installed(["amd"]), "amd", "amd/v1", {"size7": True})
    with situations.HIDE_IN_RUN.opened(record) as (stage, sizes):
        subject = situations.HIDE_IN_RUN.take(stage, sizes)
        assert check(subject).rules == ()
        assert check(attrs.evolve(subject, vendor=forbids)).rules == ("W1",)


@pytest.mark.parametrize(
    ("vendor", "page_format", "write"), [("amd", "amd/v1", 1 << 62), ("intel", "intel/second-stage", 2)]
)
def test_a_pointer_that_grants_less_than_its_leaves(vendor, page_format, write):
    """The rights of a walk are those of all its entries: writes to neighbours fault (AMD-PTE-6, INTEL-SS-4)."""

    def narrow(steps):
        cut = next(i for i, (_, step) in enumerate(steps) if isinstance(step, Store) and step.what == "cut")
        section, step = steps[cut]
        assert step.new & write
        return [*steps[:cut], (section, attrs.evolve(step, new=step.new & ~write)), *steps[cut + 1 :]]

    assert taken(vendor, page_format, situations.HIDE, narrow) == ("N1",)


@pytest.mark.parametrize(("vendor", "page_format"), [("amd", "amd/v1"), ("intel", "intel/second-stage")])
def test_a_pointer_that_is_stored_again_is_not_left_behind(vendor, page_format):
    """The same word at each level of a walk: memory could put the cached pointers there again; no command is owed."""
    record, _ = nearby_of(VendorRegistry.installed([vendor]), vendor, page_format, {})
    fmt = record.page_format
    with situations.SHOW.opened(record) as (stage, sizes):
        (domain,) = stage.domains
        table, iova = domain.planner.root_pa, sizes.base
        for level in range(fmt.top.number, 0, -1):
            entry = entry_pa(fmt.levels[level], table, iova)
            word = stage.machine.arena.load(entry)
            again = Store(entry, word, word, 0, "map", level, iova)
            right = stage.subject(domain, stage.truth(domain), [("refresh", again), ("refresh", Barrier())])
            assert check(right).rules == ()
            table = int(fmt.table_pa(word))


def test_a_pointer_that_was_another_meanwhile_is():
    """From the table to a copy and back: a cached pointer may lead to the copy for ever."""
    record, _ = nearby_of(VendorRegistry.installed(["amd"]), "amd", "amd/v1", {})
    fmt = record.page_format
    with situations.SHOW.opened(record) as (stage, sizes):
        (domain,) = stage.domains
        table, iova, arena = domain.planner.root_pa, sizes.base, stage.machine.arena
        for level in (3, 2):
            table = int(fmt.table_pa(arena.load(entry_pa(fmt.levels[level], table, iova))))
        entry = entry_pa(fmt.levels[1], table, iova)
        word = arena.load(entry)
        copy = table_as_fill(arena, int(fmt.table_pa(word)), 12)
        pa = stage.machine.tables.allocate(12)
        moved = Fill(
            pa,
            12,
            [run._replace(pa=run.pa - copy.pa + pa) for run in copy.runs],
            [(at - copy.pa + pa, each) for at, each in copy.overrides],
        )
        steps = [moved, Barrier()]
        for old, new in ((word, fmt.table(1, pa)), (fmt.table(1, pa), word)):
            steps += [Store(entry, old, new, 0, "map", 1, iova), Barrier()]
        subject = stage.subject(domain, stage.truth(domain), [("refresh", step) for step in steps])
        assert check(subject).rules == ("F2",)
