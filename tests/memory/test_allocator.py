"""Memory for page tables, against a plain model: zeroed, aligned, disjoint, and undone exactly."""

import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.errors import HitlessError, OutOfTableMemory
from hitless.memory import Arena, BadFree, PageAllocator

PAGE = 0x1000


def make(base: int = 0x10_0000, size: int = 64 * PAGE) -> tuple[Arena, PageAllocator]:
    """An allocator over all of a small arena."""
    arena = Arena(base, size)
    return arena, PageAllocator(arena, base, size)


def scribble(arena: Arena, pa: int, size_lg2: int) -> None:
    """Write every word of a block."""
    arena.view(pa, 1 << size_lg2 - 3)[:] = 0xDEAD_BEEF_0000_0001


def test_blocks_are_zeroed_and_naturally_aligned():
    """Each block is aligned to its own size, in absolute addresses, and all zero."""
    arena, allocator = make(base=0x10_3000)
    for size_lg2 in (12, 14, 3, 16, 12, 13, 9):
        pa = allocator.allocate(size_lg2)
        assert pa % (1 << size_lg2) == 0
        assert not arena.view(pa, 1 << size_lg2 - 3).any()
        scribble(arena, pa, size_lg2)


def test_the_last_freed_block_comes_first():
    """Free lists are last in, first out."""
    _, allocator = make()
    first, second, _ = (allocator.allocate() for _ in range(3))
    allocator.free(first)
    allocator.free(second)
    assert [allocator.allocate(), allocator.allocate()] == [second, first]


def test_all_of_the_memory_can_be_given_out():
    """The alignment gap of a large block is used for small ones; only then is memory exhausted."""
    _, allocator = make(base=0x10_1000, size=15 * PAGE)
    blocks = {allocator.allocate(15)} | {allocator.allocate() for _ in range(7)}
    assert len(blocks) == 8
    assert allocator.used_bytes == allocator.size
    with pytest.raises(OutOfTableMemory):
        allocator.allocate()


def test_a_larger_free_block_is_split_when_nothing_else_is_left():
    """A freed 16K block serves four 4K ones; freed in reverse they are a 16K block again."""
    _, allocator = make(size=4 * PAGE)
    allocator.free(allocator.allocate(14), 14)
    guard = allocator.allocate(14)
    allocator.free(guard, 14)
    blocks = [allocator.allocate() for _ in range(4)]
    assert sorted(blocks) == [0x10_0000 + n * PAGE for n in range(4)]
    for pa in reversed(blocks):
        allocator.free(pa)
    assert allocator.allocate(14) == 0x10_0000


def test_a_gap_that_is_not_next_stays_free_where_it_is():
    """Frees in another order than the reverse lose no memory and give none out twice."""
    _, allocator = make(size=8 * PAGE)
    first = allocator.allocate()
    large = allocator.allocate(13)  # leaves the gap of one page behind `first`
    allocator.free(first)
    allocator.free(large, 13)
    blocks = [allocator.allocate() for _ in range(8)]
    assert sorted(blocks) == [0x10_0000 + n * PAGE for n in range(8)]


def test_exhausted_memory_names_size_and_amount():
    """The error says what was asked for and how much there is; nothing changed."""
    _, allocator = make(size=2 * PAGE)
    allocator.allocate()
    before = allocator.state()
    with pytest.raises(OutOfTableMemory) as caught:
        allocator.allocate(13)
    text = str(caught.value)
    assert "8K" in text
    assert "4K of 8K are used" in text
    assert "[0x100000, 0x102000)" in text
    assert allocator.state() == before


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fail_after_fails_the_nth_allocation_once(n):
    """The n-th allocation from now fails and changes nothing; then all succeed again."""
    _, allocator = make()
    allocator.fail_after(n)
    for _ in range(n - 1):
        allocator.allocate()
    before = allocator.state()
    with pytest.raises(OutOfTableMemory) as caught:
        allocator.allocate()
    assert "fail_after" in caught.value.why
    assert allocator.state() == before
    allocator.allocate()


def test_fail_after_none_disarms():
    """A failure that was asked for can be taken back; less than 1 has no meaning."""
    _, allocator = make()
    allocator.fail_after(1)
    allocator.fail_after(None)
    allocator.allocate()
    with pytest.raises(ValueError):
        allocator.fail_after(0)


def test_wrong_frees_are_bugs():
    """Freeing twice, with another size, inside a block, or what was never given out: exit status 3."""
    arena, allocator = make()
    pa = allocator.allocate(13)
    scribble(arena, pa, 13)
    before = allocator.state()
    for wrong_pa, size_lg2, why in (
        (pa, 12, "allocated with 8K"),
        (pa + PAGE, 12, "inside an allocated block"),
        (pa + 32 * PAGE, 12, "not allocated"),
        (0x7000_0000, 12, "not allocated"),
    ):
        with pytest.raises(BadFree) as caught:
            allocator.free(wrong_pa, size_lg2)
        assert isinstance(caught.value, HitlessError)
        assert caught.value.exit_status == 3
        assert why in caught.value.why
        assert hex(wrong_pa) in str(caught.value)
    assert allocator.state() == before
    assert arena.view(pa, 1024).all(), "a refused free wiped memory"
    allocator.free(pa, 13)
    with pytest.raises(BadFree):
        allocator.free(pa, 13)


def test_used_and_peak():
    """Bytes and pages in use, and the most there were since the last reset."""
    _, allocator = make()
    first, second = allocator.allocate(), allocator.allocate(14)
    small = allocator.allocate(6)
    assert (allocator.used_bytes, allocator.used_pages, allocator.peak_pages) == (PAGE * 5 + 64, 6, 6)
    allocator.free(small, 6)
    allocator.free(second, 14)
    assert (allocator.used_pages, allocator.peak_pages) == (1, 6)
    allocator.reset_peak()
    assert allocator.peak_pages == 1
    allocator.free(first)
    assert (allocator.used_bytes, allocator.peak_pages) == (0, 1)


def test_in_use_finds_any_address_of_a_block():
    """Every byte of an allocated block is in use, and no byte beside it, whatever sizes there are."""
    _, allocator = make(base=0, size=64 * PAGE)
    blocks = {allocator.allocate(size_lg2): size_lg2 for size_lg2 in (12, 6, 14, 12)}
    for pa in range(0, 64 * PAGE, 32):
        expected = any(start <= pa < start + (1 << size_lg2) for start, size_lg2 in blocks.items())
        assert allocator.in_use(pa) == expected, hex(pa)


@pytest.mark.parametrize(("base", "size"), [(0, 0), (4, 8), (0, 12), (0, 5 * PAGE), (4 * PAGE, 8), (-8, 8)])
def test_table_memory_must_lie_in_memory(base, size):
    """A range that is not whole words, or not memory, is refused."""
    with pytest.raises(ValueError):
        PageAllocator(Arena(0, 4 * PAGE), base, size)
    with pytest.raises(ValueError):
        make()[1].allocate(2)


SIZES = st.sampled_from([12, 12, 12, 12, 13, 14, 16, 6, 3])
OPERATIONS = st.lists(st.one_of(SIZES, st.integers(-100, -1)), max_size=60)


def play(arena: Arena, allocator: PageAllocator, live: list[tuple[int, int]], operations: list[int]) -> None:
    """Allocate for a positive number, free one of the live blocks for a negative one."""
    for operation in operations:
        if operation > 0:
            try:
                pa = allocator.allocate(operation)
            except OutOfTableMemory:
                continue
            live.append((pa, operation))
            scribble(arena, pa, operation)
        elif live:
            allocator.free(*live.pop(operation % len(live)))


@settings(max_examples=150)
@given(OPERATIONS, st.sampled_from([0, 0x10_1000, 0x10_0048, 2**52 - 24 * PAGE]))
def test_random_use_against_a_plain_model(operations, base):
    """Blocks are aligned, inside, disjoint and zero; free memory is zero; the numbers add up."""
    size = 24 * PAGE
    arena, allocator = make(base, size)
    live: list[tuple[int, int]] = []
    for operation in operations:
        before = len(live)
        known = set(live)
        if operation > 0:
            try:
                pa = allocator.allocate(operation)
            except OutOfTableMemory:
                continue
            assert base <= pa
            assert pa + (1 << operation) <= base + size
            assert pa % (1 << operation) == 0
            assert all(pa + (1 << operation) <= p or p + (1 << lg2) <= pa for p, lg2 in known)
            assert not arena.view(pa, 1 << operation - 3).any()
            scribble(arena, pa, operation)
            live.append((pa, operation))
        else:
            play(arena, allocator, live, [operation])
            assert len(live) == max(before - 1, 0)
    assert allocator.used_bytes == sum(1 << lg2 for _, lg2 in live)
    expected = [0] * (size // 8)
    for pa, lg2 in live:
        index = (pa - base) // 8
        expected[index : index + (1 << lg2 - 3)] = [0xDEAD_BEEF_0000_0001] * (1 << lg2 - 3)
    assert arena.view(base, size // 8).tolist() == expected
    # What is left is given out once, too.
    play(arena, allocator, live, [12] * 24 + [3] * 512 * 2)
    words = [word for pa, lg2 in live for word in range(pa, pa + (1 << lg2), 8)]
    assert len(words) == len(set(words))


@settings(max_examples=200)
@given(OPERATIONS, st.lists(SIZES, max_size=30), st.sampled_from([0x10_1000, 0x10_0048]))
def test_reverse_frees_restore_the_exact_state(history, sizes, base):
    """Whatever went before, allocations that are freed in reverse order leave no trace."""
    arena, allocator = make(base, 24 * PAGE)
    live: list[tuple[int, int]] = []
    play(arena, allocator, live, history)
    before, words = allocator.state(), arena.view(base, 24 * PAGE // 8).tobytes()
    made: list[tuple[int, int]] = []
    play(arena, allocator, made, sizes)
    for pa, size_lg2 in reversed(made):
        allocator.free(pa, size_lg2)
    assert allocator.state() == before
    assert arena.view(base, 24 * PAGE // 8).tobytes() == words


@given(OPERATIONS, st.lists(SIZES, min_size=1, max_size=20))
def test_equal_states_give_the_same_blocks(history, sizes):
    """What state() compares is all that decides which addresses come out next."""
    twins = [make(0x10_1000, 24 * PAGE) for _ in range(2)]
    for arena, allocator in twins:
        play(arena, allocator, [], history)
    first, second = twins
    assert first[1].state() == second[1].state()
    blocks: list[list[tuple[int, int]]] = [[], []]
    for (arena, allocator), made in zip(twins, blocks, strict=True):
        play(arena, allocator, made, sizes)
    assert blocks[0] == blocks[1]


def test_threads_never_share_a_block():
    """Blocks that several threads hold at a time are disjoint, and all come back."""
    arena, allocator = make(size=1024 * PAGE)
    clean = allocator.used_bytes
    failures: list[str] = []

    def work(mark: int) -> None:
        choose = random.Random(mark)
        held: list[int] = []
        for _ in range(400):
            if held and choose.random() < 0.5:
                pa = held.pop(choose.randrange(len(held)))
                if not (arena.view(pa, 512) == mark).all():
                    failures.append(f"{pa:#x} was written by another thread")
                allocator.free(pa)
            else:
                pa = allocator.allocate()
                if arena.view(pa, 512).any():
                    failures.append(f"{pa:#x} was not zero")
                arena.view(pa, 512)[:] = mark
                held.append(pa)
        for pa in held:
            allocator.free(pa)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert allocator.used_bytes == clean


MANY = st.tuples(st.just("many"), st.integers(0, 40), st.sampled_from([3, 9, 12, 13]))
FREE_MANY = st.tuples(st.just("free"), st.integers(0, 2**32), st.sampled_from([9, 12, 13]))
ONE = st.tuples(st.just("one"), st.just(1), st.sampled_from([3, 12, 14, 16]))
FAIL = st.tuples(st.just("fail"), st.integers(1, 50), st.just(0))


@given(st.lists(MANY | FREE_MANY | ONE | FAIL, max_size=40))
@settings(deadline=None)
def test_many_at_once_are_as_many_one_by_one(steps):
    """The same addresses in the same order, the same failures, and the same state after each step."""
    (arena, bulk), (other, single) = (make(base=0x10_1000, size=96 * PAGE) for _ in range(2))
    held: dict[int, list[int]] = {}
    for what, n, size_lg2 in steps:
        if what == "fail":
            bulk.fail_after(n)
            single.fail_after(n)
        elif what == "free":
            pas = random.Random(n).sample(held.get(size_lg2, []), len(held.get(size_lg2, [])) * (n % 5) // 4)
            pas = [sorted(pas), sorted(pas, reverse=True), pas][n % 3]
            held[size_lg2] = [pa for pa in held.get(size_lg2, []) if pa not in pas]
            bulk.free_many(np.array(pas, dtype=np.uint64), size_lg2)
            for pa in pas:
                single.free(pa, size_lg2)
        else:
            found, wanted = [], []
            try:
                for _ in range(n):
                    wanted.append(single.allocate(size_lg2))  # noqa: PERF401 - what there is already is given back
            except OutOfTableMemory:
                for pa in reversed(wanted):
                    single.free(pa, size_lg2)
                with pytest.raises(OutOfTableMemory):
                    bulk.allocate_many(n, size_lg2)
            else:
                found = bulk.allocate_many(n, size_lg2).tolist()
                assert found == wanted
                held.setdefault(size_lg2, []).extend(found)
                for pa in found:
                    scribble(arena, pa, size_lg2)
                    scribble(other, pa, size_lg2)
        assert bulk.state() == single.state()
        assert bulk.used_bytes == single.used_bytes
    assert np.array_equal(arena.view(arena.base, arena.size // 8), other.view(arena.base, arena.size // 8))
    assert all(bulk.in_use(pa) == single.in_use(pa) for pa in range(arena.base, arena.base + arena.size, 0x200))


def test_many_are_freed_all_or_none():
    """One that is not allocated, or twice there, and nothing is taken back."""
    _, allocator = make()
    pas = allocator.allocate_many(4)
    state = allocator.state()
    for bad in ([*pas.tolist(), 0x1000], [*pas.tolist(), int(pas[0])], [int(pas[0]) + 8], [1 << 40]):
        with pytest.raises(BadFree):
            allocator.free_many(np.array(bad, dtype=np.uint64))
        assert allocator.state() == state
