"""Runs through the planner, by raw words: against a plain dictionary of what is mapped, at every step of a plan."""

import random

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from hitless.errors import Refused
from hitless.memory import Arena, PageAllocator
from hitless.pagetable import READ, WRITE
from hitless.plan import Fill, Invalidate, Release, Store, Wait, format_plan, parse_plan
from hitless.refresh.assemble import Assembler, UnitPort
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Target
from hitless.refresh.executor import Executor
from hitless.refresh.planner import Planner
from hitless.refresh.recipes import (
    Impossible,
    Recipe,
    Recipes,
    Round,
    Scope,
    SplitRules,
    break_before_make,
    new_word,
    one_store,
)
from hitless.refresh.target import PlanRequest, Segment
from run_formats import FORMATS, Raw

BASE, PAGE = 0x1000_0000, 0x1000
LEAF, TABLE, NONE = (one_store(scope, "x") for scope in (Scope.LEAF, Scope.TABLE, Scope.NONE))
RECIPES = Recipes(cut=LEAF, merge=TABLE, replace=LEAF, wipe=LEAF, map=NONE, prune=TABLE)
IN_PLACE = Recipes(cut=LEAF, merge=TABLE, replace=LEAF, wipe=LEAF, map=NONE, prune=TABLE, resize=LEAF)
BBM = Recipes(
    cut=LEAF, merge=TABLE, replace=break_before_make(Scope.LEAF, "x"), wipe=LEAF, map=NONE, prune=TABLE, resize=LEAF
)
KINDS = {"swap": RECIPES, "in place": IN_PLACE, "break": BBM}


class Commands:
    """Commands that say the target and nothing else."""

    atc_after_wait = False

    def invalidate(self, target, tag):
        return [(target.first, target.last, target.leaf_lg2, int(target.tables))]

    def invalidate_tag(self, tag):
        return [(0, (1 << 24) - 1, 24, 1)]

    def invalidate_device(self, target, device):
        return []


class Unit:
    """A port that answers at once."""

    name, fenced = "iommu0", False

    def submit(self, words):
        pass

    def complete(self):
        pass


class Space:
    """One address space of a test format, a dictionary beside it, and a look at both between all steps.

    ``pages``: page number to (output page, writable). ``dirty``: pages that a device wrote.
    """

    def __init__(self, fmt, recipes=RECIPES, sizes=None, seed=0, allow_break=False):
        self.fmt, self.rng = fmt, random.Random(seed)
        self.arena = Arena(BASE, 1 << 20)
        self.tables = PageAllocator(self.arena, BASE, 1 << 20)
        self.root = self.tables.allocate(7)
        rules = SplitRules(sizes or fmt.leaf_lg2s, "x")
        unit = UnitPort("iommu0", 1, Commands())
        self.assembler = Assembler(fmt, rules, recipes, (unit,), True, allow_break, "test")
        self.planner = Planner(self.arena, self.tables, self.assembler, self.root)
        self.executor = Executor(self.arena, self.tables, {"iommu0": Unit()}, None, between=self.between)
        self.pages, self.dirty = {}, set()
        self.converting = set()
        self.plan = None

    def look(self, page):
        return Raw(self.arena.load, self.root, page * PAGE)

    def between(self, step):
        """DMA writes a few pages; every neighbour must lead where it led."""
        for page in self.rng.sample(range(1024), 3):
            self.write(page)
        for page in self.watched:
            self.same(page)

    def write(self, page):
        found = self.look(page)
        if found.oa is not None and found.writable:
            self.arena.store(found.pa, found.word | 0x60)
            self.dirty.add(page)

    def same(self, page):
        found, want = self.look(page), self.pages.get(page)
        if page in self.converting:
            return
        if want is None:
            assert found.oa is None, (hex(page), hex(found.word))
            return
        assert found.oa is not None, (hex(page), self.plan)
        assert (found.oa >> 12, found.writable) == want, (hex(page), hex(found.word))

    def layout(self, after):
        """The layout source of a dictionary: maximal stretches."""

        def segments(start, end):
            at = start >> 12
            while at < end >> 12:
                first, stop = after.get(at), at + 1
                while stop < end >> 12 and self.continues(first, stop - at, after.get(stop)):
                    stop += 1
                attrs = self.fmt.default_attrs(READ | (WRITE if first and first[1] else 0))
                yield Segment(at << 12, stop << 12, first[0] << 12 if first else None, attrs if first else 0)
                at = stop

        return segments

    @staticmethod
    def continues(first, away, this):
        if first is None or this is None:
            return first is this
        return (first[0] + away, first[1]) == this

    def change(self, ranges, after, **how):
        """Convert: the dictionary becomes ``after``, which differs only in the ranges."""
        request = PlanRequest(tuple((a << 12, b << 12) for a, b in ranges), self.layout(after), **how)
        prepared = self.planner.plan("test", request)
        self.plan = prepared.plan
        assert parse_plan(format_plan(prepared.plan)) == prepared.plan
        self.converting = {page for a, b in ranges for page in range(a, b)}
        near = {page ^ bit for a, b in ranges for page in (a, b - 1) for bit in (1, 2, 4, 8, 16, 64, 256)}
        self.watched = sorted(near - self.converting)
        self.executor.run(step for _, step in prepared.plan.steps())
        self.dirty -= {page for page in self.converting if self.pages.get(page) != after.get(page)}
        self.pages, self.converting = dict(after), set()
        self.check()
        return prepared

    def check(self):
        """Every page is as the dictionary says, every run is whole, and nobody's D is lost."""
        for page in range(min(max(self.pages, default=0) + 64, 4096)):
            self.same(page)
            found = self.look(page)
            if found.oa is not None:
                assert found.whole, (hex(page), [hex(word) for word in found.run])
                assert found.dirty or page not in self.dirty, hex(page)

    def map(self, first, count, to, writable=1, **how):
        return self.change([(first, first + count)], {**self.pages, **lead(first, count, to, writable)}, **how)

    def sizes(self, first, count):
        """log2 of the sizes of the leaves of pages, in order."""
        found, at = [], first
        while at < first + count:
            look = self.look(at)
            found.append(look.size_lg2 if look.oa is not None else 0)
            at += 1 << look.size_lg2 - 12 if look.oa is not None else 1
        return found


def lead(first, count, to, writable=1):
    """Pages in a row that lead to pages in a row."""
    return {first + i: (to + i, writable) for i in range(count)}


def stores(prepared, section):
    """The stores of a section."""
    return [step for step in prepared.plan.section(section) if isinstance(step, Store)]


@pytest.mark.parametrize(
    ("name", "first", "count", "to", "sizes"),
    [
        ("copies", 0, 8, 0x100, [15]),
        ("copies", 1, 15, 0x101, [12, 13, 14, 15]),
        ("copies", 2, 5, 0x102, [13, 13, 12]),
        ("copies", 0, 4096, 0x1000, [20] * 16),
        ("copies", 8, 24 + 64, 0x108, [15, 16, 17, 17]),
        ("copies", 0, 16, 0x101, [12] * 16),
        ("steps", 0, 16, 0x204, [14] * 4),
        ("steps", 3, 6, 0x103, [12, 14, 12]),
        ("steps", 0, 128, 0x140, [18, 18]),
        ("steps", 48, 64, 0x130, [16, 16, 16, 16]),
    ],
)
def test_a_map_lays_out_the_largest_leaves(name, first, count, to, sizes):
    """Each the largest to which both addresses are aligned and that still fits, runs among them."""
    space = Space(FORMATS[name]())
    space.map(first, count, to)
    found = space.sizes(first, count)
    assert found == sizes


def test_only_sizes_that_the_rules_list_are_laid_out():
    """A vendor that lists no runs gets none."""
    space = Space(FORMATS["copies"](), sizes=(12, 16, 20))
    space.map(0, 24, 0x100)
    assert space.sizes(0, 24) == [16] + [12] * 8


@pytest.mark.parametrize("name", FORMATS)
def test_one_store_swaps_the_table_of_a_run_that_is_divided(name):
    """The new table says the same but for the run; its pointer is swapped, all below it goes, then it is freed."""
    space = Space(FORMATS[name]())
    space.map(0, 12, 0x100)
    old = space.look(0).first
    prepared = space.change([(5, 6)], {**space.pages, 5: (0x999, 1)})
    swap, *more = stores(prepared, "isolate")
    assert (swap.what, swap.level, swap.iova, more) == ("resize", 1, 0, [])
    commands = [step.words for step in prepared.plan.isolate if isinstance(step, Invalidate)]
    assert commands == [(0, 0xFFFF, 16, 1)]
    kinds = [type(step).__name__ for step in prepared.plan.isolate]
    assert kinds == ["Store", "Barrier", "Invalidate", "Wait", "Release"]
    release = prepared.plan.isolate[-1]
    assert release.tables == [(old, 7)]
    assert not space.tables.in_use(old) or space.look(0).first != old
    assert space.sizes(0, 12) == ([14, 12, 12, 13, 14] if name == "copies" else [14, 12, 12, 12, 12, 14])


@pytest.mark.parametrize("name", FORMATS)
def test_a_recipe_rewrites_each_entry_of_the_run_in_place(name):
    """No table is built; every command covers the whole run, and there is one wait."""
    space = Space(FORMATS[name](), IN_PLACE)
    space.map(0, 12, 0x100)
    before = space.tables.used_pages
    prepared = space.change([(5, 6)], {**space.pages, 5: (0x999, 1)})
    first, entries, lg2 = (0, 8, 15) if name == "copies" else (4, 4, 14)
    found = stores(prepared, "isolate")
    assert [(step.what, step.iova) for step in found] == [("resize", (first + i) << 12) for i in range(entries)]
    commands = [step.words for step in prepared.plan.isolate if isinstance(step, Invalidate)]
    assert commands == [(first << 12, (first + entries << 12) - 1, lg2, 0)]
    assert sum(isinstance(step, Wait) for step in prepared.plan.isolate) == 1
    assert space.tables.used_pages == before


def test_run_mix_alone_is_enough_for_rewriting_in_place():
    """A format that declares it needs no recipe of its own."""
    space = Space(FORMATS["copies"](run_mix=True))
    space.map(0, 8, 0x100)
    prepared = space.change([(5, 6)], {**space.pages, 5: (0x999, 1)})
    assert {step.what for step in stores(prepared, "isolate")} == {"resize"}
    assert not any(isinstance(step, Release) for step in prepared.plan.isolate)


def test_a_run_of_large_leaves_is_resized_and_then_cut():
    """A page of a 256K run: plain leaves first, then a table in one's place; each with its own wait."""
    space = Space(FORMATS["steps"](), IN_PLACE)
    space.map(0, 64, 0x100)
    assert space.sizes(0, 64) == [18]
    prepared = space.change([(21, 22)], {**space.pages, 21: (0x999, 1)})
    assert [step.what for step in stores(prepared, "isolate")] == ["resize"] * 4 + ["cut"]
    assert space.sizes(0, 64) == [16, 14, 12, 12, 12, 12, 14, 14, 16, 16]


def test_a_swapped_table_leads_to_new_tables_below():
    """The same with a swap: one store in all."""
    space = Space(FORMATS["steps"]())
    space.map(0, 64, 0x100)
    prepared = space.change([(21, 22)], {**space.pages, 21: (0x999, 1)})
    assert [(step.what, step.level) for step in stores(prepared, "isolate")] == [("resize", 2)]
    assert sum(isinstance(step, Fill) for step in prepared.plan.prepare) == 2


def test_a_run_in_the_root_can_only_be_rewritten_in_place():
    """No pointer leads to the root: refused with reason and ways out, unless a recipe or run_mix allows it."""

    class Wide(FORMATS["copies"]):
        leaf_sizes = (*FORMATS["copies"].leaf_sizes, type(FORMATS["copies"].leaf_sizes[0])(21, 2, 1))

    space = Space(Wide())
    space.map(0, 512, 0x200)
    assert space.sizes(0, 512) == [21]
    with pytest.raises(Refused, match="root") as caught:
        space.change([(5, 6)], {**space.pages, 5: (0x999, 1)})
    assert caught.value.reason == "run-in-root"
    again = Space(Wide(run_mix=True))
    again.map(0, 512, 0x200)
    again.change([(5, 6)], {**again.pages, 5: (0x999, 1)})


def test_an_impossible_resize_is_refused_and_may_be_broken():
    """A vendor's Impossible says why; allow_break uses its breaking recipe; joins are not even tried."""
    impossible = Impossible("x.no", "no", "x", "do", break_before_make(Scope.LEAF, "x"))
    recipes = Recipes(cut=LEAF, merge=TABLE, replace=LEAF, wipe=LEAF, map=NONE, prune=TABLE, resize=impossible)
    space = Space(FORMATS["steps"](), recipes)
    space.map(0, 4, 0x100)
    with pytest.raises(Refused) as caught:
        space.change([(1, 2)], {**space.pages, 1: (0x999, 1)})
    assert caught.value.reason == "x.no"
    for page in range(8, 12):
        space.map(page, 1, 0x100 + page, merge=True)
    assert space.sizes(8, 4) == [12] * 4
    broken = Space(FORMATS["steps"](), recipes, allow_break=True)
    broken.map(0, 4, 0x100)
    broken.watch = False
    request = PlanRequest(((0x1000, 0x2000),), broken.layout({**broken.pages, 1: (0x999, 1)}))
    steps = broken.planner.plan("test", request).plan.isolate
    assert [step.new for step in steps if isinstance(step, Store)][:4] == [0] * 4


@pytest.mark.parametrize(("kind", "rounds"), [("swap", 2), ("in place", 2), ("break", 2)])
def test_a_whole_run_is_emptied_before_it_leads_elsewhere(kind, rounds):
    """Its entries never lead to different places at one time: mistake 8 of the list."""
    space = Space(FORMATS["copies"](), KINDS[kind])
    space.map(0, 8, 0x100)
    prepared = space.map(0, 8, 0x200)
    found = stores(prepared, "refresh")
    assert [step.what for step in found] == ["replace-1"] * 8 + ["replace-2"] * 8
    assert [step.new for step in found[:8]] == [0] * 8
    assert len({step.new for step in found[8:]}) == 1
    assert space.sizes(0, 8) == [15]


def test_with_run_mix_a_whole_run_is_still_emptied_before_it_leads_elsewhere():
    """The mix that hardware allows is one of sizes, not one of addresses."""
    space = Space(FORMATS["copies"](run_mix=True))
    space.map(0, 8, 0x100)
    words = ["replace-1"] * 8 + ["replace-2"] * 8
    assert [step.what for step in stores(space.map(0, 8, 0x200), "refresh")] == words


@pytest.mark.parametrize("kind", ["swap", "in place"])
@pytest.mark.parametrize("name", FORMATS)
def test_leaves_become_runs_again(name, kind):
    """With merge, pages that lead on as one run are one; without, they stay."""
    space = Space(FORMATS[name](), KINDS[kind])
    space.map(0, 12, 0x100)
    before = space.sizes(0, 12), space.tables.used_pages
    there = {**space.pages, 5: (0x999, 1)}
    space.change([(5, 6)], there)
    assert space.sizes(0, 12) != before[0]
    space.change([(5, 6)], {**there, **lead(5, 1, 0x105)}, merge=True)
    assert (space.sizes(0, 12), space.tables.used_pages) == before
    again = space.change([(0, 1)], dict(space.pages), merge=True)
    assert stores(again, "isolate") + stores(again, "refresh") == []


@pytest.mark.parametrize("kind", ["swap", "in place"])
def test_joins_at_two_levels_in_one_plan(kind):
    """A table with a new run, linked by a table in which two leaves become one: the last pointer is the right one."""
    space = Space(FORMATS["copies"](), KINDS[kind])
    home = {**lead(0, 8, 0x100), **lead(32, 32, 0x120)}
    space.change([(0, 8), (32, 64)], home)
    space.change([(3, 4), (40, 41)], {**home, 3: (0x999, 1), 40: (0x998, 1)})
    space.change([(3, 4), (40, 41)], home, merge=True)
    assert space.sizes(0, 8) + space.sizes(32, 32) == [15, 17]


@pytest.mark.parametrize("kind", ["swap", "in place"])
@pytest.mark.parametrize("name", FORMATS)
def test_d_that_is_set_while_leaves_become_a_run_is_not_lost(name, kind):
    """Also D of a leaf beside the new run, which only moves to another table."""
    space = Space(FORMATS[name](), KINDS[kind])
    space.map(8, 2, 0x90)
    space.map(0, 4, 0x100)
    space.change([(1, 2)], {**space.pages, 1: (0x999, 1)})

    def late(step):
        if isinstance(step, Store) and step.what == "resize":
            for page in (2, 9):
                found = old[page]
                space.arena.store(found.pa, space.arena.load(found.pa) | 0x40)
            space.executor.between = lambda step: None

    old = {page: space.look(page) for page in (2, 9)}
    space.executor.between = late
    space.change([(1, 2)], {**space.pages, **lead(1, 1, 0x101)}, merge=True)
    assert space.sizes(0, 4) == [14]
    assert space.look(2).dirty
    assert space.look(9).dirty


@pytest.mark.parametrize("kind", ["swap", "in place"])
def test_a_join_may_follow_a_merge(kind):
    """Two tables become two leaves, which become a run one level up."""
    space = Space(FORMATS["copies"](), KINDS[kind])
    after = lead(0, 32, 0x100)
    space.map(0, 32, 0x100)
    assert space.sizes(0, 32) == [17]
    space.change([(3, 4), (20, 21)], {**after, 3: (0x999, 1), 20: (0x998, 1)})
    prepared = space.change([(3, 4), (20, 21)], after, merge=True)
    assert space.sizes(0, 32) == [17]
    kinds = [step.what for step in stores(prepared, "refresh")]
    assert kinds[:4] == ["replace", "replace", "merge", "merge"]
    assert set(kinds[4:]) == {"resize"}


@pytest.mark.parametrize("kind", ["swap", "in place"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("copy", [0, 1, 3])
def test_d_of_one_copy_is_the_runs(name, kind, copy):
    """D in one entry may mean any page of the run: after it is taken apart, every part says dirty."""
    space = Space(FORMATS[name](), KINDS[kind])
    space.map(0, 8, 0x100)
    first = space.look(4)
    space.arena.store(first.first + 8 * copy, first.run[copy] | 0x40)
    space.between = lambda step: None
    space.executor.between = space.between
    space.change([(5, 6)], {**space.pages, 5: (0x999, 1)})
    assert all(space.look(page).dirty for page in (4, 6, 7))
    assert space.look(0).dirty == (name == "copies")


@pytest.mark.parametrize("kind", ["swap", "in place"])
@pytest.mark.parametrize("name", FORMATS)
def test_d_that_is_set_while_the_run_is_resized_is_not_lost(name, kind):
    """A walker sets D in an old copy after the plan was made, before its store: it spreads over the run."""
    space = Space(FORMATS[name](), KINDS[kind])
    space.map(0, 8, 0x100)
    old = space.look(7)

    def late(step):
        if isinstance(step, Store):
            space.arena.store(old.pa, space.arena.load(old.pa) | 0x40)
            space.executor.between = lambda step: None

    space.executor.between = late
    space.change([(5, 6)], {**space.pages, 5: (0x999, 1)})
    assert all(space.look(page).dirty for page in (4, 6, 7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
@profile(max_examples=25)
@given(data=st.data())
def test_after_any_changes_every_page_is_as_the_dictionary_says(name, kind, data):
    """Random maps, conversions and wipes: no neighbour moves at any step, every run is whole, no D is lost."""
    space = Space(FORMATS[name](), KINDS[kind], seed=data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        space.map(0, 1024, 0x1000)
    for _ in range(data.draw(st.integers(1, 5))):
        after, ranges = dict(space.pages), []
        for _ in range(data.draw(st.integers(1, 3))):
            first = data.draw(st.integers(0, 255) | st.integers(0, 1023))
            count = data.draw(st.sampled_from([1, 1, 1, 2, 3, 4, 8, 16, 31, 32, 64, 256]))
            what = data.draw(st.sampled_from(["wipe", "home", "home", "aligned", "odd", "read-only"]))
            to = {"aligned": 0x2000 + first, "odd": 0x3001 + first}.get(what, 0x1000 + first)
            ranges.append((first, first + count))
            for i in range(count):
                if what == "wipe":
                    after.pop(first + i, None)
                else:
                    after[first + i] = (to + i, 0 if what == "read-only" else 1)
        how = {"merge": data.draw(st.booleans()), "wipe_first": data.draw(st.booleans())}
        owed = tuple((a << 12, b << 12) for a, b in joined(ranges)) if data.draw(st.booleans()) else ()
        space.change(joined(ranges), after, owed=owed, **how)


def joined(ranges):
    """Sorted and disjoint."""
    found = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


@pytest.mark.parametrize("kind", ["swap", "in place"])
def test_unmap_remap_lays_runs_out_again(kind):
    """The baseline: every entry of a touched run is cleared, and the whole run comes back."""
    space = Space(FORMATS["copies"](), KINDS[kind])
    space.map(0, 8, 0x100)
    space.watched = []
    request = PlanRequest(((0x5000, 0x6000),), space.layout(space.pages), remap=True)
    prepared = space.planner.plan("test", request)
    assert [step.what for step in stores(prepared, "isolate")] == ["wipe"] * 8
    assert [step.what for step in stores(prepared, "refresh")] == ["map"] * 8


def invalidated(prepared):
    """What the commands of a plan say, in order: their targets' leaf sizes (log2), and whether pointers go too."""
    return [step.words[2:] for _, step in prepared.plan.steps() if isinstance(step, Invalidate)]


def test_a_later_round_invalidates_what_the_round_before_it_stored():
    """A merge in two rounds: small leaves and their pointer go with the first, one large leaf with the second."""
    twice = Recipe((Round(new_word, Scope.TABLE, "new"), Round(new_word, Scope.LEAF, "new")), "x")
    recipes = Recipes(cut=LEAF, merge=twice, replace=LEAF, wipe=LEAF, map=NONE, prune=TABLE)
    space = Space(FORMATS["copies"](), recipes, sizes=(12, 16))
    home = lead(0, 16, 0x100)
    space.change([(0, 16)], home)
    space.change([(3, 4)], {**home, 3: (0x999, 1)})
    merged = space.change([(3, 4)], home, merge=True)
    assert space.sizes(0, 16) == [16]
    assert invalidated(merged)[-2][1] == 1
    assert invalidated(merged)[-1] == (16, 0)


def test_what_goes_before_is_not_owed_again_where_the_owner_has_changed():
    """Only what lies wholly inside what resize, cut or wipe takes away; a placed or merged leaf takes nothing."""

    def change(kind, first, last):
        return Change(kind, 0x100, 0, first << 12, 1, 3, Target(first << 12, (last << 12) - 1, 12, 0, True))

    def owed(first, last):
        return Target(first << 12, (last << 12) - 1, 12, 0, False)

    changes = Changes(
        resize=[change("resize", 16, 32)],
        cut=[change("cut", 0, 64), change("cut", 100, 110)],
        wipe=[change("wipe", 200, 201)],
        place=[change("map", 300, 310)],
        merge=[change("merge", 400, 416)],
    )
    gone = [owed(40, 41), owed(60, 64), owed(100, 110), owed(200, 201)]
    stay = [owed(60, 65), owed(99, 101), owed(110, 111), owed(300, 301), owed(400, 401)]
    changes.owed = sorted(gone + stay)
    changes.settle()
    assert changes.owed == sorted(stay)
