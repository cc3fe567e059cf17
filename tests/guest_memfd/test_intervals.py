"""The interval map against a plain list with one value per place."""

import random
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.guest_memfd import intervals
from hitless.guest_memfd.intervals import IntervalMap

END = 40


@pytest.fixture(params=[4, 1024], ids=["chunks-of-4", "one-chunk"], scope="module", autouse=True)
def chunk(request):
    """Everything holds with chunks so small that sets and runs reach across several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_CHUNK", request.param)
        yield


@st.composite
def spans(draw, end=END):
    """A range of ``[0, end)`` that may be empty or all of it."""
    start = draw(st.integers(0, end))
    return start, draw(st.integers(start, end))


SETS = st.lists(st.tuples(spans(), st.integers(0, 2)), max_size=40)


def play(sets) -> tuple[IntervalMap, list[int]]:
    """The same sets, in the map and in a list."""
    found, model = IntervalMap(1, END), [1] * END
    for (start, end), value in sets:
        found.set(start, end, value)
        model[start:end] = [value] * (end - start)
    return found, model


def model_runs(model: list[int], start: int, end: int) -> list[tuple[int, int, int]]:
    """The runs of a part of the list."""
    runs, at = [], start
    for value, group in groupby(model[start:end]):
        size = len(list(group))
        runs.append((at, at + size, value))
        at += size
    return runs


@given(SETS)
def test_every_place_has_the_value_set_last(sets):
    """Get agrees with a plain list at every place."""
    found, model = play(sets)
    assert [found.get(at) for at in range(END)] == model


@given(SETS, spans())
def test_runs_are_the_models_and_joined(sets, span):
    """Runs covers the range without gaps, cut off at both ends, and equal neighbours are one run."""
    found, model = play(sets)
    assert list(found.runs(*span)) == model_runs(model, *span)
    assert found.transitions == [(start, value) for start, _, value in model_runs(model, 0, END)]
    assert len(found) == len(found.transitions)


@given(SETS, spans(), st.integers(0, 3))
def test_find_gives_the_runs_with_a_value(sets, span, value):
    """Find is runs with one value."""
    found, model = play(sets)
    expected = [(start, end) for start, end, held in model_runs(model, *span) if held == value]
    assert list(found.find(*span, value)) == expected


@given(SETS, spans())
def test_uniform_says_whether_there_is_one_value(sets, span):
    """Uniform agrees with the set of values in the list."""
    found, model = play(sets)
    assert found.uniform(*span) == (len(set(model[slice(*span)])) <= 1)


@given(SETS, spans().filter(lambda span: span[0] < span[1]), st.integers(0, 3), st.data())
def test_nearest_run_with_a_value(sets, span, value, data):
    """The run at the place, else the fewest runs away (the later one of two), inside the range only."""
    found, model = play(sets)
    at = data.draw(st.integers(span[0], span[1] - 1))
    runs = model_runs(model, *span)
    here = next(index for index, (start, end, _) in enumerate(runs) if start <= at < end)
    candidates = [(abs(i - here), i < here, run[:2]) for i, run in enumerate(runs) if run[2] == value]
    assert found.nearest(at, value, *span) == (min(candidates)[2] if candidates else None)


@given(SETS, SETS)
def test_a_copy_is_equal_and_changes_on_its_own(sets, more):
    """A copy equals its origin until one of them changes; equality is that of all values."""
    found, model = play(sets)
    twin = found.copy()
    assert twin == found
    changed = list(model)
    for (start, end), value in more:
        twin.set(start, end, value)
        changed[start:end] = [value] * (end - start)
    assert [found.get(at) for at in range(END)] == model
    assert (twin == found) == (changed == model)


def test_maps_of_another_size_or_type_are_not_equal():
    """Equality needs the same space, too."""
    assert IntervalMap(0, 4) != IntervalMap(0, 5)
    assert IntervalMap(0, 4) == IntervalMap(0, 4)
    assert IntervalMap(0, 4) != [0, 0, 0, 0]


def test_runs_are_those_of_the_call():
    """A loop over runs may change the map: what it goes through stays what it was."""
    found = IntervalMap(0, 100)
    found.set(10, 20, 1)
    seen = []
    for start, end, value in found.runs(0, 100):
        found.set(start, end, 1 - value)
        seen.append((start, end, value))
    assert seen == [(0, 10, 0), (10, 20, 1), (20, 100, 0)]
    assert found.transitions == [(0, 1), (10, 0), (20, 1)]


def test_the_last_page_of_a_64_bit_space():
    """The default space ends at the last page of 64-bit addresses, and that page can be set."""
    found = IntervalMap(7)
    last = 2**52 - 1
    found.set(last, last + 1, 8)
    assert (found.get(last), found.get(last - 1)) == (8, 7)
    assert list(found.runs(0, 2**52)) == [(0, last, 7), (last, last + 1, 8)]
    assert found.nearest(0, 8, 0, 2**52) == (last, last + 1)


def test_outside_is_an_error():
    """Places and ranges outside the space, or backwards, are refused and change nothing."""
    found = IntervalMap(0, 16)
    for at in (-1, 16):
        with pytest.raises(IndexError):
            found.get(at)
    for start, end in ((-1, 4), (4, 17), (5, 4)):
        for use in (
            lambda s=start, e=end: found.set(s, e, 1),
            lambda s=start, e=end: found.runs(s, e),
            lambda s=start, e=end: found.uniform(s, e),
            lambda s=start, e=end: found.nearest(4, 0, s, e),
        ):
            with pytest.raises(IndexError):
                use()
    with pytest.raises(IndexError):
        found.nearest(9, 0, 0, 8)
    with pytest.raises(ValueError):
        IntervalMap(0, 0)
    assert found == IntervalMap(0, 16)


def test_many_scattered_pages():
    """Fifty thousand transitions, set in random order and taken back, leave the first map."""
    choose = random.Random(7)
    pages = choose.sample(range(0, 2**24, 2), 25_000)
    found = IntervalMap(1, 2**24)
    for page in pages:
        found.set(page, page + 1, 0)
    assert len(found) in {50_000, 50_001}
    ordered = sorted(pages)
    assert [start for start, _ in found.find(0, 2**24, 0)] == ordered
    assert found.nearest(ordered[9] + 1, 0, 0, 2**24) in {
        (ordered[9], ordered[9] + 1),
        (ordered[10], ordered[10] + 1),
    }
    choose.shuffle(pages)
    for page in pages:
        found.set(page, page + 1, 1)
    assert found == IntervalMap(1, 2**24)
    assert found.transitions == [(0, 1)]


# -- many at once

VALUES = st.integers(0, 2)


@st.composite
def batches(draw):
    """Sorted, disjoint ranges, some of them adjacent, each with a value."""
    cuts = sorted(draw(st.sets(st.integers(0, END), max_size=24)))
    pairs = [pair for pair in pairwise(cuts) if draw(st.booleans())]
    return [(*pair, draw(VALUES)) for pair in pairs]


def words(values) -> np.ndarray:
    """A uint64 array."""
    return np.array(list(values), dtype=np.uint64)


@pytest.mark.parametrize("one_by_one", [0, 10**9])
@given(sets=SETS, batch=batches(), single=st.none() | VALUES)
def test_many_ranges_are_set_as_one_after_the_other(one_by_one, sets, batch, single):
    """A batch gives each of its ranges its value, or all of them one, and what is equal is one run."""
    found, model = play(sets)
    for start, end, value in batch:
        model[start:end] = [value if single is None else single] * (end - start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_ONE_BY_ONE", one_by_one)
        columns = [words(each) for each in zip(*batch, strict=True)] if batch else [words([])] * 3
        found.set_many(*columns[:2], columns[2] if single is None else single)
    assert found.transitions == [(start, value) for start, _, value in model_runs(model, 0, END)]


@pytest.mark.parametrize("one_by_one", [0, 10**9])
@given(sets=SETS, span=spans(), places=st.lists(st.integers(0, END - 1)))
def test_columns_are_the_runs(one_by_one, sets, span, places):
    """Columns, counts, and the runs at many places say what the scalar questions say."""
    found, model = play(sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_ONE_BY_ONE", one_by_one)
        starts, values = found.columns(*span)
        ends, at = found.runs_at(words(places))
        assert found.get_many(words(places)).tolist() == [model[place] for place in places]
    expected = model_runs(model, *span)
    assert list(zip(starts.tolist(), values.tolist(), strict=True)) == [(low, value) for low, _, value in expected]
    assert found.count(*span) == len(expected)
    assert list(zip(ends.tolist(), at.tolist(), strict=True)) == [
        (found.run(place)[1], model[place]) for place in places
    ]


@given(SETS, batches(), batches())
def test_a_copy_shares_nothing_that_changes(sets, one, other):
    """Batches set in a map and in its copy do not meet, whoever is first."""
    found, model = play(sets)
    twin, changed = found.copy(), list(model)
    for each, values, batch in ((twin, changed, one), (found, model, other)):
        for start, end, value in batch:
            values[start:end] = [value] * (end - start)
        if batch:
            each.set_many(*(words(column) for column in zip(*batch, strict=True)))
    assert [found.get(at) for at in range(END)] == model
    assert [twin.get(at) for at in range(END)] == changed


def test_columns_that_were_handed_out_stay():
    """Arrays of a map do not follow what is set later, and do not keep it from being set."""
    found = IntervalMap(0, 16)
    starts, values = found.columns(0, 16)
    found.set(2, 4, 1)
    found.set_many(words([6]), words([8]), 1)
    assert (starts.tolist(), values.tolist()) == ([0], [0])
    assert [start for start, _ in found.transitions] == [0, 2, 4, 6, 8]


def test_a_batch_outside_the_space_is_refused():
    """As a single range is; nothing has changed then."""
    found = IntervalMap(0, 16)
    with pytest.raises(IndexError):
        found.set_many(words([3, 12]), words([4, 17]), 1)
    with pytest.raises(IndexError):
        found.get_many(words([16]))
    assert found == IntervalMap(0, 16)
