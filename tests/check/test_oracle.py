"""The oracle on cases that a reader can follow: each expected set was derived by hand from docs/checker.md."""

import pytest
from attrs import evolve

from check.mini import ANY_TAG, DEVICE, DRAIN_WRITES, LEAVES, POINTERS, RW, Case, Facts, M, N, R, U, drop, leaf, pointer
from check.oracle import Seen, enumerate_plan, whole
from check.world import READ, WRITE
from hitless.hardware.facts import Match
from hitless.plan import Barrier, Clean, Fill, Invalidate, Own, Release, Store, Wait
from hitless.plan.steps import FillRun

# Four pages. A root at 0x1000 with two entries of 8K each; tables of two entries of 4K below it.
ROOT, TABLE, OTHER = 0x1000, 0x1100, 0x1200
A, B, C = 0x100000, 0x200000, 0x300000
NOT_PRESENT, OWNER, PERMISSION = ("fault", "not-present"), ("fault", "owner"), ("fault", "permission")
PAGE = 0x1000


def store(pa: int, word: int) -> Store:
    """A store of an entry; the oracle looks at address and word only."""
    return Store(pa, 0, word, 0, "replace", 0, 0)


def invalidate(first: int, last: int, bits: int = LEAVES, of: int = 1, unit: str = "u0") -> Invalidate:
    """A drop of pages (inclusive) of a tag or device."""
    return Invalidate(unit, of, drop(first, last, of, bits), first * PAGE, last * PAGE + 0xFFF)


BARRIER, WAIT = Barrier(), Wait("u0")
REPLACE = store(ROOT + 8, leaf(C))
"""The leaf of pages 2 and 3 gets another address."""


def case(*steps, words=None, devices=(), owners=None, units=None, trusted=False, **facts) -> Case:
    """Pages 0 and 1 at A, pages 2 and 3 at B, in two leaves of 8K; or what ``words`` says."""
    return Case(
        Facts(**facts),
        words or {ROOT: leaf(A), ROOT + 8: leaf(B)},
        ROOT,
        units or (("u0", 1, devices),),
        owners or {},
        trusted,
        [("refresh", step) for step in steps],
    )


def gets(seen: Seen, page: int, write: bool = READ, device: int | None = None, unit: str = "u0") -> set:
    """Everything that a request may get at a moment; of translations only the address."""
    found = {result[4] for result in seen.results if result[:4] == (unit, device, page * PAGE, write)}
    return {what[1] if what[0] == "pa" else what for what in found}


def story(made: Case, page: int, **request) -> list[set]:
    """What a request may get before the first step, and after each."""
    return [gets(seen, page, **request) for seen in enumerate_plan(made)]


def end(made: Case, page: int, **request) -> set:
    """What a request may get after the last step."""
    return story(made, page, **request)[-1]


def test_a_leaf_that_was_replaced_is_used_until_the_wait():
    """Old and new from the store on, only new after the wait; the neighbour sees nothing."""
    made = case(REPLACE, BARRIER, invalidate(2, 3), WAIT)
    assert story(made, 2) == [{B}, {B, C}, {B, C}, {B, C}, {C}]
    assert story(made, 3)[-2:] == [{B + PAGE, C + PAGE}, {C + PAGE}]
    assert story(made, 0) == [{A}] * 5
    flights = [seen.flight for seen in enumerate_plan(made)]
    assert ("u0", 0x2000, WRITE, B) in flights[3]
    assert flights[4] == {
        ("u0", page * PAGE, write, pa)
        for page, pa in ((0, A), (1, A + PAGE), (2, C), (3, C + PAGE))
        for write in (READ, WRITE)
    }


def test_a_command_that_was_submitted_guarantees_nothing():
    """Without the wait, and without the command, the old leaf stays."""
    assert end(case(REPLACE, BARRIER, invalidate(2, 3)), 2) == {B, C}
    assert end(case(REPLACE, BARRIER, WAIT), 2) == {B, C}


def test_an_invalidation_before_the_barrier_guarantees_nothing():
    """The walker refills from the old word until the store has settled, even if the barrier comes before the wait."""
    assert end(case(REPLACE, invalidate(2, 3), BARRIER, WAIT), 2) == {B, C}
    assert end(case(REPLACE, invalidate(2, 3), WAIT, BARRIER), 2) == {B, C}
    assert end(case(invalidate(2, 3), WAIT, REPLACE, BARRIER), 2) == {B, C}


def test_a_walker_that_does_not_snoop_reads_the_old_word_until_clean_and_barrier():
    """Clean counts only after the store and before the barrier; a snooping walker needs none."""
    clean, close = Clean(ROOT + 8, 8), (invalidate(2, 3), WAIT)
    assert end(case(REPLACE, BARRIER, *close, coherent=False), 2) == {B, C}
    assert end(case(clean, REPLACE, BARRIER, *close, coherent=False), 2) == {B, C}
    assert end(case(REPLACE, BARRIER, clean, *close, coherent=False), 2) == {B, C}
    assert end(case(REPLACE, Clean(ROOT, 8), BARRIER, *close, coherent=False), 2) == {B, C}
    assert end(case(REPLACE, clean, BARRIER, *close, coherent=False), 2) == {C}


def test_two_stores_before_a_barrier_leave_three_readable_values():
    """Each value is readable until the store after it has settled."""
    again = store(ROOT + 8, leaf(A))
    assert story(case(REPLACE, again, BARRIER), 2, write=READ)[-2:] == [{A, B, C}] * 2
    assert end(case(REPLACE, again, BARRIER, invalidate(2, 3), WAIT), 2) == {A}
    half_cleaned = (REPLACE, Clean(ROOT + 8, 8), again, BARRIER, invalidate(2, 3), WAIT)
    assert end(case(*half_cleaned, coherent=False), 2) == {A, C}


def test_a_stale_pointer_brings_an_invalidated_leaf_back():
    """After table -> leaf a leaf-only command is not enough, and the table may not be freed."""
    words = {ROOT: pointer(TABLE), TABLE: leaf(A), TABLE + 8: leaf(B)}
    merge, free = store(ROOT, leaf(C)), Release([(TABLE, 4)])
    leaves_only = case(merge, BARRIER, invalidate(0, 1), WAIT, free, words=words)
    assert story(leaves_only, 1) == [{B}, *[{B, C + PAGE}] * 5]
    assert [seen.freed for seen in enumerate_plan(leaves_only)] == [frozenset()] * 5 + [{TABLE}]
    both = case(merge, BARRIER, invalidate(0, 1, LEAVES | POINTERS), WAIT, free, words=words)
    assert story(both, 1)[-2:] == [{C + PAGE}] * 2
    assert whole(enumerate_plan(both)).freed == frozenset()
    early = case(merge, BARRIER, invalidate(0, 1, LEAVES | POINTERS), free, WAIT, words=words)
    assert [seen.freed for seen in enumerate_plan(early)][-2:] == [{TABLE}, frozenset()]


def test_leaves_and_pointers_in_two_commands_of_one_wait_are_not_enough():
    """Commands take effect in any order: the leaf goes first and comes back by the pointer."""
    words = {ROOT: pointer(TABLE), TABLE: leaf(A), TABLE + 8: leaf(B)}
    merge, leaves, pointers = store(ROOT, leaf(C)), invalidate(0, 1, LEAVES), invalidate(0, 1, POINTERS)
    assert end(case(merge, BARRIER, leaves, pointers, WAIT, words=words), 0) == {A, C}
    assert end(case(merge, BARRIER, pointers, leaves, WAIT, words=words), 0) == {A, C}
    assert end(case(merge, BARRIER, pointers, WAIT, leaves, WAIT, words=words), 0) == {C}
    assert end(case(merge, BARRIER, leaves, WAIT, pointers, WAIT, words=words), 0) == {A, C}


@pytest.mark.parametrize(("in_order", "stale"), [(False, {B, C}), (True, {C})])
def test_an_atc_is_refilled_from_a_tlb_that_is_not_invalidated_yet(in_order, stale):
    """One wait for both is enough only where the ATC's command follows the unit's."""
    unit, atc = invalidate(2, 3), invalidate(2, 3, LEAVES | DEVICE, of=7)
    one_wait = case(REPLACE, BARRIER, unit, atc, WAIT, devices=(7,), atc_in_order=in_order)
    assert end(one_wait, 2, device=7) == stale
    assert end(one_wait, 2) == {C}
    wrong_order = case(REPLACE, BARRIER, atc, unit, WAIT, devices=(7,), atc_in_order=in_order)
    assert end(wrong_order, 2, device=7) == {B, C}
    two_waits = case(REPLACE, BARRIER, unit, WAIT, atc, WAIT, devices=(7,), atc_in_order=in_order)
    assert story(two_waits, 2, device=7)[-3:] == [{B, C}, {B, C}, {C}]
    forgotten = case(REPLACE, BARRIER, unit, WAIT, devices=(7,), atc_in_order=in_order)
    assert (end(forgotten, 2, device=7), end(forgotten, 2)) == ({B, C}, {C})


@pytest.mark.parametrize(
    ("match", "pieces", "page_2", "page_3"),
    [
        (Match.PIECE_INSIDE, (), True, True),  # the 8K leaf reaches out of the range
        (Match.PIECE_INSIDE, (12,), True, True),  # the same, though the 4K piece of page 2 goes
        (Match.PIECE_OVERLAPS, (), False, False),
        (Match.PIECE_OVERLAPS, (12,), False, True),  # the 4K piece of page 3 stays
        (Match.LEAF_OVERLAPS, (12,), False, False),
    ],
)
def test_what_a_command_smaller_than_the_leaf_leaves(match, pieces, page_2, page_3):
    """A command for page 2 after a store to the 8K leaf of pages 2 and 3."""
    made = case(REPLACE, BARRIER, invalidate(2, 2), WAIT, leaf_match=match, pieces=pieces)
    assert end(made, 2) == {C} | ({B} if page_2 else set())
    assert end(made, 3) == {C + PAGE} | ({B + PAGE} if page_3 else set())


def test_a_command_for_another_level_or_tag_or_unit_leaves_the_leaf():
    """Level 1 held the leaf; a command for every tag reaches it under a wrong one."""
    assert end(case(REPLACE, BARRIER, invalidate(2, 3, LEAVES | 1 << 10), WAIT), 2) == {B, C}
    assert end(case(REPLACE, BARRIER, invalidate(2, 3, LEAVES | 1 << 11), WAIT), 2) == {C}
    assert end(case(REPLACE, BARRIER, invalidate(2, 3, of=2), WAIT), 2) == {B, C}
    assert end(case(REPLACE, BARRIER, invalidate(2, 3, LEAVES | ANY_TAG, of=2), WAIT), 2) == {C}
    units = (("u0", 1, ()), ("u1", 1, ()))
    one_of_two = case(REPLACE, BARRIER, invalidate(2, 3), WAIT, Wait("u1"), units=units)
    assert (end(one_of_two, 2), end(one_of_two, 2, unit="u1")) == ({C}, {B, C})


@pytest.mark.parametrize(
    ("drops", "in_tlb", "in_atc"), [("none", {B}, {B}), ("iotlb", set(), {B}), ("iotlb+atc", set(), set())]
)
def test_a_cached_verdict_outlives_the_owner_change(drops, in_tlb, in_atc):
    """Where the verdict is cached, only an invalidation ends it; the operation's own may do."""
    own = Own("SET", B, B + PAGE, 1, 12, drops)
    made = case(own, devices=(7,), verdict_cached=True)
    assert story(made, 2) == [{B}, {OWNER} | in_tlb]
    assert end(made, 2, device=7) == {OWNER} | in_tlb | in_atc
    assert end(made, 3, device=7) == {B + PAGE}
    closed = case(
        own, invalidate(2, 2), WAIT, invalidate(2, 2, LEAVES | DEVICE, of=7), WAIT, devices=(7,), verdict_cached=True
    )
    assert end(closed, 2, device=7) == {OWNER}


def test_a_verdict_that_is_not_cached_is_asked_at_each_use():
    """The owner change counts at once, for the TLB and for the ATC; what is in flight goes on."""
    made = case(Own("SET", B, B + PAGE, 1, 12), devices=(7,))
    for device in (None, 7):
        assert story(made, 2, device=device) == [{B}, {OWNER}]
    assert ("u0", 0x2000, WRITE, B) in enumerate_plan(made)[-1].flight
    drained = enumerate_plan(evolve(made, steps=[*made.steps, ("refresh", WAIT)]))[-1]
    assert not any(pa == B for _, _, _, pa in drained.flight)


def test_a_verdict_holds_for_no_more_than_its_size():
    """Verdicts of a page each: an 8K leaf is cached as its two pages; one of 8K makes it one."""
    per_page = whole(enumerate_plan(case(REPLACE, verdict_cached=True, verdict_unit="page")))
    pieces = {(0x2000 + at, 12, pa + at, 13) for at in (0, PAGE) for pa in (B, C)}
    assert {each for _, pair in per_page.pairs for each in pair} == pieces
    whole_leaf = whole(enumerate_plan(case(REPLACE, verdict_cached=True, verdict_unit="two")))
    assert whole_leaf.pairs == {(("tlb", "u0", "1"), frozenset({(0x2000, 13, B, 13), (0x2000, 13, C, 13)}))}


def test_what_a_wait_does_not_drain_stays_in_flight():
    """Writes are not drained here: a write by the old leaf may be under way, though no new one can begin."""
    made = case(REPLACE, BARRIER, invalidate(2, 3), WAIT, drains_writes=False)
    last = enumerate_plan(made)[-1]
    assert gets(last, 2, WRITE) == {C}
    assert ("u0", 0x2000, WRITE, B) in last.flight
    assert ("u0", 0x2000, READ, B) not in last.flight


def test_a_command_may_say_what_the_wait_behind_it_drains():
    """The command's bit wins over the wait's declaration, for what it targets and for one wait."""
    steps = (REPLACE, BARRIER, invalidate(2, 3, LEAVES | DRAIN_WRITES), WAIT)
    for declared in (False, True):
        made = case(*steps, drains_in_command=True, drains_reads=declared, drains_writes=declared)
        flight = enumerate_plan(made)[-1].flight
        assert ("u0", 0x2000, WRITE, B) not in flight
        assert ("u0", 0x2000, READ, B) in flight
    again = enumerate_plan(case(*steps, WAIT, drains_in_command=True))[-1].flight
    assert ("u0", 0x2000, READ, B) not in again


@pytest.mark.parametrize(("device_drains", "stays"), [(0, True), (DRAIN_WRITES, False)])
def test_a_command_speaks_for_what_was_used_from_its_own_cache(device_drains, stays):
    """The unit's command drains writes that used the TLB; those that used the ATC wait for the device's command."""
    unit, atc = invalidate(2, 3, LEAVES | DRAIN_WRITES), invalidate(2, 3, LEAVES | DEVICE | device_drains, of=7)
    made = case(REPLACE, BARRIER, unit, WAIT, atc, WAIT, devices=(7,), drains_in_command=True, drains_writes=False)
    flights = [seen.flight for seen in enumerate_plan(made)]
    assert ("u0", 0x2000, WRITE, B) in flights[4]
    assert (("u0", 0x2000, WRITE, B) in flights[-1]) is stays


def test_an_owner_change_that_invalidates_ends_requests_to_the_range():
    """Those to its pages, whatever they used; not those to the next page."""
    made = case(Own("SET", B, B + PAGE, 1, 12, "iotlb+atc"), devices=(7,), verdict_cached=True)
    flight = enumerate_plan(made)[-1].flight
    assert ("u0", 0x2000, WRITE, B) not in flight
    assert ("u0", 0x3000, WRITE, B + PAGE) in flight


def test_a_cut_makes_pairs_and_break_before_make_does_not():
    """Old leaf and new pages may be cached together, unless there was a wait between them."""
    fill = Fill(TABLE, 4, [FillRun(TABLE, 2, leaf(B), PAGE)])
    cut = (fill, BARRIER, store(ROOT + 8, pointer(TABLE)), BARRIER, invalidate(2, 3), WAIT)
    old, low, high = (0x2000, 13, B, 13), (0x2000, 12, B, 12), (0x3000, 12, B + PAGE, 12)
    place = ("tlb", "u0", "1")
    moments = enumerate_plan(case(*cut))
    assert moments[2].pairs == frozenset()
    assert moments[3].pairs == {(place, frozenset({old, low})), (place, frozenset({old, high}))}
    assert moments[-1].pairs == frozenset()
    assert all(gets(seen, 2) == {B} for seen in moments)
    broken = (*cut[:2], store(ROOT + 8, 0), BARRIER, invalidate(2, 3), WAIT, *cut[2:4])
    seen = whole(enumerate_plan(case(*broken)))
    assert seen.pairs == frozenset()
    assert gets(seen, 2) == {B, NOT_PRESENT}


def test_a_link_before_its_fill_has_settled_faults():
    """Any part of the table may still read as 0."""
    fill = Fill(TABLE, 4, [FillRun(TABLE, 2, leaf(B), PAGE)], [(TABLE + 8, leaf(C))])
    made = case(fill, store(ROOT + 8, pointer(TABLE)), BARRIER)
    assert story(made, 3) == [{B + PAGE}, {B + PAGE}, {B + PAGE, C, NOT_PRESENT}, {B + PAGE, C}]


def test_a_cached_not_present_entry_outlives_the_map():
    """Where the vendor caches them a map needs an invalidation, by leaf; an ATC holds none."""
    words = {ROOT: leaf(A), ROOT + 8: 0}
    steps = (REPLACE, BARRIER, invalidate(2, 3), WAIT)
    assert story(case(*steps, words=words), 2) == [{NOT_PRESENT}, {NOT_PRESENT, C}, {C}, {C}, {C}]
    cached = case(*steps, words=words, devices=(7,), caches_not_present=True)
    assert story(cached, 2)[-3:] == [{NOT_PRESENT, C}, {NOT_PRESENT, C}, {C}]
    assert end(cached, 2, device=7) == {C}
    assert whole(enumerate_plan(cached)).pairs == frozenset()


def test_a_leaf_that_takes_part_in_no_conflict_is_cached_like_any():
    """The bit spares a conflict, which is the rule's matter; caches hold the leaf all the same."""
    words = {ROOT: leaf(A), ROOT + 8: leaf(B, RW | U)}
    moments = enumerate_plan(case(REPLACE, BARRIER, words=words))
    assert gets(moments[-1], 2) == {B, C}
    assert len(whole(moments).pairs) == 1


def test_rights_are_those_of_the_whole_walk_and_of_what_is_cached():
    """A pointer without W takes it from the leaf below; a stale leaf without W still refuses."""
    words = {ROOT: pointer(TABLE, R), TABLE: leaf(A), TABLE + 8: leaf(B)}
    made = case(store(ROOT, pointer(TABLE)), BARRIER, words=words)
    assert story(made, 0, write=READ) == [{A}] * 3
    assert story(made, 0, write=WRITE) == [{PERMISSION}, {A, PERMISSION}, {A, PERMISSION}]


def test_each_entry_of_a_run_gives_the_whole():
    """Four pages in one table: pages 0 and 1 are a run and cached as 8K; page 2 alone is a plain leaf."""
    words = {ROOT: leaf(A, RW | N), ROOT + 8: leaf(A, RW | N), ROOT + 16: leaf(B), ROOT + 24: leaf(C, RW | M)}
    moments = enumerate_plan(case(store(ROOT + 8, leaf(C)), words=words, bits=(2,)))
    assert [gets(moments[0], page) for page in range(4)] == [{A}, {A + PAGE}, {B}, {C}]
    assert gets(moments[1], 1) == {A + PAGE, C}
    assert moments[1].pairs == {(("tlb", "u0", "1"), frozenset({(0, 13, A, 13), (PAGE, 12, C, 12)}))}


def test_reserved_bits_and_pointers_below_the_last_level_fault():
    """And such an entry is not cached, even where not-present ones are."""
    words = {ROOT: pointer(TABLE), ROOT + 8: leaf(B) | 1 << 7, TABLE: pointer(OTHER), TABLE + 8: leaf(A, RW | N)}
    made = case(store(ROOT + 8, leaf(B)), BARRIER, words=words, caches_not_present=True)
    reserved = ("fault", "reserved")
    assert story(made, 2) == [{reserved}, {reserved, B}, {B}]
    assert (end(made, 0), end(made, 1)) == ({reserved}, {reserved})
