"""The arena: words at any base address, and a bus error with the address for everything else."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.errors import BusError, HitlessError
from hitless.memory import Arena, PhysicalMemory

PAGE = 0x1000
BASES = [0, PAGE, 0x1_0000_0000, 2**52 - 4 * PAGE, 2**64 - 4 * PAGE]


def addresses(*values: int) -> np.ndarray:
    """A uint64 array."""
    return np.array(values, dtype=np.uint64)


@pytest.fixture(params=BASES, ids=hex)
def arena(request):
    """Four pages at a base address, the top of a 52-bit and of a 64-bit space among them."""
    with Arena(request.param, 4 * PAGE) as memory:
        yield memory


def test_an_arena_is_physical_memory():
    """The type checker accepts an arena where the interface is asked for."""
    memory: PhysicalMemory = Arena(0, PAGE)
    assert memory.load(0) == 0


def test_first_and_last_word(arena):
    """The first and the last word hold all 64 bits, as plain ints."""
    last = arena.base + arena.size - 8
    arena.store(arena.base, 1)
    arena.store(last, 2**64 - 1)
    assert (arena.load(arena.base), arena.load(last)) == (1, 2**64 - 1)
    assert type(arena.load(last)) is int


def test_outside_is_a_bus_error_with_the_address(arena):
    """Each method names the first address that is outside, and the memory's range."""
    end = arena.base + arena.size
    for pa in (arena.base - 8, end, end + 2**60):
        attempts = [
            lambda pa=pa: arena.load(pa),
            lambda pa=pa: arena.store(pa, 0),
            lambda pa=pa: arena.store32(pa, 0),
            lambda pa=pa: arena.compare_exchange(pa, 0, 0),
            lambda pa=pa: arena.view(pa, 1),
        ]
        if 0 <= pa < 2**64:
            attempts.append(lambda pa=pa: arena.gather(addresses(arena.base, pa)))
            attempts.append(lambda pa=pa: arena.scatter(addresses(pa, arena.base), addresses(1, 1)))
        for attempt in attempts:
            with pytest.raises(BusError) as caught:
                attempt()
            assert caught.value.pa == pa
            assert f"[{arena.base:#x}, {end:#x})" in str(caught.value)
    assert not arena.view(arena.base, arena.size // 8).any(), "a refused access wrote something"


@pytest.mark.parametrize("offset", [1, 2, 4, 7])
def test_misaligned_is_a_bus_error(arena, offset):
    """Words are 8-byte aligned; 32-bit stores 4-byte aligned."""
    pa = arena.base + 8 + offset
    attempts = [
        lambda: arena.load(pa),
        lambda: arena.store(pa, 0),
        lambda: arena.compare_exchange(pa, 0, 0),
        lambda: arena.view(pa, 1),
        lambda: arena.gather(addresses(pa)),
        lambda: arena.scatter(addresses(pa), addresses(1)),
    ]
    if offset % 4:
        attempts.append(lambda: arena.store32(pa, 0))
    for attempt in attempts:
        with pytest.raises(BusError, match="bus error") as caught:
            attempt()
        assert caught.value.pa == pa
        assert "multiple of" in caught.value.why


def test_bus_error_names_the_first_bad_address_of_an_array(arena):
    """In a batch the first offender is named, whatever is wrong with it."""
    odd = arena.base + 9
    with pytest.raises(BusError) as caught:
        arena.gather(addresses(arena.base, odd, (arena.base + 4 * PAGE) % 2**64))
    assert caught.value.pa == odd


def test_store32_changes_half_a_word(arena):
    """Each 4-byte address writes its little-endian half and leaves the other."""
    pa = arena.base + 16
    arena.store(pa, 0x1111_2222_3333_4444)
    arena.store32(pa, 0xAAAA_BBBB)
    assert arena.load(pa) == 0x1111_2222_AAAA_BBBB
    arena.store32(pa + 4, 0xCCCC_DDDD)
    assert arena.load(pa) == 0xCCCC_DDDD_AAAA_BBBB


def test_a_word_that_does_not_fit_is_refused(arena):
    """More than 64 (or 32) bits, or a negative number, is an error and not a truncation."""
    for word in (-1, 2**64):
        with pytest.raises(ValueError):
            arena.store(arena.base, word)
    for word in (-1, 2**32):
        with pytest.raises(ValueError):
            arena.store32(arena.base, word)
    assert arena.load(arena.base) == 0


def test_compare_exchange_stores_only_what_was_expected(arena):
    """The word that was found comes back; it is replaced only if it was the expected one."""
    pa = arena.base + 8
    assert arena.compare_exchange(pa, 0, 7) == 0
    assert arena.compare_exchange(pa, 0, 9) == 7
    assert arena.load(pa) == 7


def test_compare_exchange_loses_no_update_between_threads():
    """Four threads that count with compare_exchange lose no count."""
    arena = Arena(0, PAGE)

    def count() -> None:
        for _ in range(2000):
            seen = arena.load(8)
            while (found := arena.compare_exchange(8, seen, seen + 1)) != seen:
                seen = found

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert arena.load(8) == 8000


def test_view_is_live_and_writable(arena):
    """A view shows later stores, and what is written to it is in memory."""
    view = arena.view(arena.base + PAGE, 512)
    assert view.dtype == np.uint64
    arena.store(arena.base + PAGE, 5)
    assert int(view[0]) == 5
    view[511] = 2**64 - 1
    assert arena.load(arena.base + 2 * PAGE - 8) == 2**64 - 1


def test_view_up_to_the_end(arena):
    """A view may be all of memory, or nothing at its end, and never one word more."""
    assert arena.view(arena.base, arena.size // 8).size == arena.size // 8
    assert arena.view(arena.base + arena.size, 0).size == 0
    with pytest.raises(BusError):
        arena.view(arena.base, arena.size // 8 + 1)
    with pytest.raises(BusError):
        arena.view(arena.base + 8, -1)


def test_contains(arena):
    """A range is contained if all of it is."""
    end = arena.base + arena.size
    assert arena.contains(arena.base, arena.size)
    assert arena.contains(end - 8, 8)
    assert arena.contains(end, 0)
    assert not arena.contains(end - 8, 16)
    assert not arena.contains(arena.base - 8, 16)
    assert not arena.contains(arena.base, -8)


def test_gather_keeps_the_shape_and_is_a_copy():
    """The result has the addresses' shape and does not change with memory."""
    arena = Arena(0, PAGE)
    arena.store(8, 3)
    words = arena.gather(addresses(0, 8, 16, 8).reshape(2, 2))
    arena.store(8, 4)
    assert words.tolist() == [[0, 3], [0, 3]]
    assert words.dtype == np.uint64


def test_arrays_must_be_uint64_and_match():
    """Signed or float arrays, and arrays of different shape, are refused before anything is written."""
    arena = Arena(0, PAGE)
    for pas in (np.array([8]), np.array([8.0])):
        with pytest.raises(ValueError):
            arena.gather(pas)
    with pytest.raises(ValueError):
        arena.scatter(addresses(0, 8), addresses(1))
    with pytest.raises(ValueError):
        arena.scatter(addresses(0), np.array([1]))
    assert not arena.view(0, 512).any()


@given(
    st.lists(
        st.tuples(st.integers(0, 511), st.integers(0, 2**64 - 1)),
        min_size=1,
        max_size=40,
        unique_by=lambda pair: pair[0],
    ),
    st.sampled_from(BASES),
)
def test_scatter_then_gather_is_the_same_as_single_words(pairs, base):
    """A batch does what single stores do, and a gather what single loads do."""
    batch, single = Arena(base, 4 * PAGE), Arena(base, 4 * PAGE)
    pas = [base + 8 * index for index, _ in pairs]
    words = [word for _, word in pairs]
    batch.scatter(addresses(*pas), addresses(*words))
    for pa, word in zip(pas, words, strict=True):
        single.store(pa, word)
    assert batch.view(base, 2048).tolist() == single.view(base, 2048).tolist()
    assert batch.gather(addresses(*pas)).tolist() == [single.load(pa) for pa in pas] == words


def test_one_tebibyte_opens_at_once_and_costs_nothing():
    """Only pages that are touched are committed, the last one included."""
    base = 0x1000_0000_0000
    with Arena(base, 1 << 40) as arena:
        arena.store(base + (1 << 40) - 8, 42)
        assert arena.load(base + (1 << 40) - 8) == 42
        assert arena.load(base + (1 << 39)) == 0


def test_after_close_every_access_is_a_bus_error():
    """A closed arena says so, closing twice is harmless, and a view that is still held stays valid."""
    arena = Arena(0x1000, PAGE)
    view = arena.view(0x1000, 512)
    view[0] = 9
    arena.close()
    arena.close()
    for attempt in (
        lambda: arena.load(0x1000),
        lambda: arena.store(0x1000, 1),
        lambda: arena.compare_exchange(0x1000, 0, 1),
        lambda: arena.gather(addresses(0x1000)),
        lambda: arena.view(0x1000, 1),
    ):
        with pytest.raises(BusError, match="bus error") as caught:
            attempt()
        assert "closed" in caught.value.why
    assert int(view[0]) == 9


@pytest.mark.parametrize(("base", "size"), [(4, 8), (0, 12), (0, 0), (-8, 16), (2**64 - 8, 16), (0, -8)])
def test_an_arena_is_whole_words_below_2_64(base, size):
    """A base or size that makes no memory is refused."""
    with pytest.raises(ValueError, match="whole 64-bit words"):
        Arena(base, size)


def test_more_than_the_address_space_is_a_clear_error():
    """What the system cannot reserve is reported with the size."""
    with pytest.raises(HitlessError, match="cannot reserve 0x4000000000000000"):
        Arena(0, 1 << 62)
