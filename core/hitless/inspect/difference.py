"""What changed in an address space from one image to another: cuts, merges, replaced leaves, conversions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from hitless.bits import U64Array
from hitless.inspect.entries import Kind
from hitless.inspect.opening import Space
from hitless.inspect.owners import Owners
from hitless.inspect.ranges import NOTHING, Leaves, joined
from hitless.inspect.wording import attributes_text, rights_text
from hitless.pagetable import PageFormat
from hitless.units import lg2_text

CHANGES = ("mapped", "unmapped", "replaced", "converted", "attributes", "cut", "merged")
"""In the order in which one goes before the other, where several are true."""


class Side(NamedTuple):
    """What one image says of a range: its output, and by which kind of leaf."""

    pa: int
    kind: Kind

    def as_json(self, fmt: PageFormat) -> dict[str, str]:
        return {
            "pa": f"{self.pa:#x}",
            "rights": rights_text(self.kind.rights),
            "leaf": lg2_text(self.kind.leaf_lg2),
            "attributes": attributes_text(fmt, self.kind.attrs),
        }


class Change(NamedTuple):
    """IOVAs ``[iova, iova + size)`` to which one thing happened; None: not mapped."""

    what: str
    iova: int
    size: int
    before: Side | None
    after: Side | None

    def as_json(self, fmt: PageFormat) -> dict[str, Any]:
        return {
            "change": self.what,
            "iova": f"{self.iova:#x}",
            "size": f"{self.size:#x}",
            "before": self.before and self.before.as_json(fmt),
            "after": self.after and self.after.as_json(fmt),
        }


class _Read(NamedTuple):
    """All ranges of a space."""

    leaves: Leaves
    kinds: list[Kind]


def changes(before: Space | None, after: Space | None, owners: tuple[Owners, Owners] | None = None) -> Iterator[Change]:
    """Every change, in the order of IOVAs; neighbours to which the same happened are one.

    ``owners``: of physical memory then and now; with them a page whose owner changed is ``converted``.
    """
    old, new = _read(before), _read(after)
    edges = _edges([old.leaves, new.leaves], owners or ())
    if edges.size < 2:
        return
    starts, sizes = edges[:-1], edges[1:] - edges[:-1]
    columns = (starts.tolist(), sizes.tolist(), *_at(old.leaves, starts), *_at(new.leaves, starts))
    last: Change | None = None
    for start, size, old_kind, old_pa, new_kind, new_pa in zip(*columns, strict=True):
        old_side = Side(old_pa, old.kinds[old_kind]) if old_kind >= 0 else None
        new_side = Side(new_pa, new.kinds[new_kind]) if new_kind >= 0 else None
        what = _what(old_side, new_side, owners)
        if what is None:
            continue
        found = Change(what, start, size, old_side, new_side)
        if last is not None and _follows(last, found):
            last = last._replace(size=last.size + size)
            continue
        if last is not None:
            yield last
        last = found
    if last is not None:
        yield last


def counted(found: list[Change]) -> dict[str, int]:
    """How many ranges to which each thing happened."""
    counts = Counter(each.what for each in found)
    return {what: counts[what] for what in CHANGES if counts[what]}


def _read(space: Space | None) -> _Read:
    if space is None:
        return _Read(NOTHING, [])
    return _Read(Leaves.of([NOTHING, *joined(space.reader.chunks())]), space.reader.entries.kinds.all)


def _edges(both: Sequence[Leaves], owners: Sequence[Owners]) -> U64Array:
    """Where anything begins or ends, and where the owner changes inside a range."""
    found = [part for each in both for part in (each.iovas, each.iovas + each.sizes)]
    for leaves, who in product(both, owners):
        first = np.searchsorted(who.starts, leaves.pas, side="right")
        last = np.searchsorted(who.starts, leaves.pas + leaves.sizes, side="left")
        found += [
            who.starts[first[at] : last[at]] - leaves.pas[at] + leaves.iovas[at]
            for at in np.flatnonzero(last > first).tolist()
        ]
    return np.unique(np.concatenate(found))


def _at(leaves: Leaves, starts: U64Array) -> tuple[list[int], list[int]]:
    """At each place: the kind (-1: nothing is mapped), and the output address."""
    if not leaves.iovas.size:
        return [-1] * starts.size, [0] * starts.size
    at = np.maximum(np.searchsorted(leaves.iovas, starts, side="right") - 1, 0)
    offsets = starts - leaves.iovas[at]
    inside = (starts >= leaves.iovas[at]) & (offsets < leaves.sizes[at])
    return np.where(inside, leaves.kinds[at], -1).tolist(), np.where(inside, leaves.pas[at] + offsets, 0).tolist()


def _what(old: Side | None, new: Side | None, owners: tuple[Owners, Owners] | None) -> str | None:
    if old is None or new is None:
        if old is new:
            return None
        return "unmapped" if new is None else "mapped"
    if old.pa != new.pa:
        return "replaced"
    if owners is not None and owners[0].owner(old.pa) != owners[1].owner(new.pa):
        return "converted"
    if old.kind[:2] != new.kind[:2]:
        return "attributes"
    if old.kind.leaf_lg2 != new.kind.leaf_lg2:
        return "cut" if new.kind.leaf_lg2 < old.kind.leaf_lg2 else "merged"
    return None


def _follows(last: Change, found: Change) -> bool:
    if last.what != found.what or last.iova + last.size != found.iova:
        return False
    return _seamless(last.before, found.before, last.size) and _seamless(last.after, found.after, last.size)


def _seamless(a: Side | None, b: Side | None, size: int) -> bool:
    if a is None or b is None:
        return a is b
    return a.kind == b.kind and a.pa + size == b.pa
