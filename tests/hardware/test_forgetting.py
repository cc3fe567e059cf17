"""An owner table's own invalidation by physical address: many ranges at once go as one after the other."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from hitless.columns import Ranges
from hitless.hardware.caches import Cache, CachedLeaf
from hitless.hardware.unit import Unit

PAGES = [0, 1, 2, 3, 4, 15, 16, 17, 31, 32, 511, 512, (1 << 52) - 1]


def unit(ended):
    """What forgetting needs of a unit: caches, one device's own, and requests in flight; who ends is noted."""

    def cache():
        found = Cache()
        for page in PAGES:
            for lg2 in (12, 16):
                pa = page << 12 >> lg2 << lg2
                found.add_leaf(CachedLeaf(pa, lg2, pa, 3, 0, 0, pa, lg2, True))
        return found

    flying = [
        SimpleNamespace(
            translated=SimpleNamespace(pa=page * 4096 + 8), finish=lambda request: ended.append(request.translated.pa)
        )
        for page in PAGES
    ]
    device = SimpleNamespace(atc=cache())
    return SimpleNamespace(requests=SimpleNamespace(caches={1: cache()}), attachments={8: device}, in_flight=flying)


def left(one):
    """The leaves that are still cached, and the requests that are still in flight."""
    caches = [one.requests.caches[1], one.attachments[8].atc]
    held = [
        sorted(leaf for pages in each.leaves.values() for here in pages.values() for leaf in here) for each in caches
    ]
    return held, [request.translated.pa for request in one.in_flight]


@given(st.sets(st.sampled_from(PAGES), min_size=1), st.booleans())
def test_many_ranges_go_as_one_after_the_other(pages, devices):
    """Leaves of every cache that is asked for, and requests that are in flight to the ranges."""
    ranges = [(page << 12, page + 1 << 12) for page in sorted(pages)]
    ended, singly = [], []
    one, other = unit(ended), unit(singly)
    Unit.forget_pas(one, Ranges.of(ranges), devices=devices)
    for start, end in ranges:
        Unit.forget_pa(other, start, end, devices=devices)
    assert left(one) == left(other)
    assert sorted(ended) == sorted(singly) == [page * 4096 + 8 for page in sorted(pages)]
