"""What a domain's ownership has to say about one plan: the vendor's strategy, asked in IOVAs."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from attrs import define

from hitless.guest_memfd.conversion import ChangeRun, ChangeRuns, Conversion
from hitless.guest_memfd.guest import HOST
from hitless.iommufd import many
from hitless.ownership import (
    ANY_LG2,
    Block,
    Choreography,
    Close,
    Follow,
    OwnerChange,
    Ownership,
    OwnerTable,
    size_class,
)
from hitless.plan import Call, Invalidate, Own, Owns, PlanStep, Step, Store, Wait
from hitless.refresh.changes import Change, Stages

if TYPE_CHECKING:
    from hitless.iommufd.domain import Domain

_OWNING = frozenset({Own, Owns, Call})


@define
class DomainOwners:
    """Ownership's part in one plan of a domain; answers :class:`hitless.refresh.target.Owners`.

    Args:
        conversion: what the plan is for; None: no owner changes.
        runs: the part of it whose owner changes between the plan's sections.
    """

    domain: "Domain"
    conversion: Conversion | None = None
    runs: Sequence[ChangeRun] = ()

    @property
    def plain(self) -> bool:
        """Whether no leaf's size matters to the owner table, and nobody but the host stores or sends commands."""
        kind = type(self.domain.choreography)
        return not self._carries_all and not self._sizes_matter and kind.close is Ownership.close

    @property
    def _carries_all(self) -> bool:
        ownership = self.domain.choreography
        return ownership.carries_all and type(ownership).carry is not Ownership.carry

    @property
    def _sizes_matter(self) -> bool:
        return self.domain.reaches_private and bool(self.domain.choreography.size_classes)

    def follow(self, iova: int, pa: int, from_lg2: int, to_lg2: int) -> Follow:
        """Entries of the owner table matter where the domain's devices use guest-owned pages through its leaves."""
        ownership = self.domain.choreography
        classes = ownership.size_classes
        if not classes or not self.domain.reaches_private:
            return Follow.FREE
        old, new = size_class(from_lg2, classes), size_class(to_lg2, classes)
        if old == new:
            return Follow.FREE
        if to_lg2 < from_lg2:
            owners = self.domain.owners
            if owners.owner(pa) == HOST or size_class(owners.entry_lg2(pa), classes) == new:
                return Follow.FREE
        elif self.domain.owner(iova, self.conversion) == HOST:
            return Follow.FREE
        return ownership.follow(from_lg2, to_lg2)

    def carry(self, store: Store, change: Change, close: Close) -> Sequence[Step] | None:
        """Who makes a store, where it is not the host."""
        domain = self.domain
        if not (change.together or self._carries_all):
            return None
        fmt = domain.vendor.page_format.largest  # the plan may let the root grow
        size_lg2 = fmt.levels[change.level].lo
        leaf = next((each for each in (change.old, change.new) if each and fmt.is_leaf(each, change.level)), None)
        pa = 0 if leaf is None else int(fmt.leaf_oa(leaf, change.level))
        owner = domain.owner(change.iova, self.conversion)
        block = Block(pa, size_lg2, HOST if owner is None else owner, change.together)
        allow_break = domain.settings.allow_break
        return domain.choreography.carry(domain.owners, store, block, close, allow_break=allow_break)

    def close(self, commands: Sequence[Invalidate | Wait]) -> Sequence[Step]:
        """Who closes a round, where it is not the host."""
        return self.domain.choreography.close(commands)

    def change(self, changes: Stages, isolate: Sequence[PlanStep]) -> Choreography:
        """The vendor's choreography, on the owner table as isolate leaves it."""
        table = self.domain.owners
        if not _OWNING.isdisjoint(map(type, isolate)):
            table = table.copy()
            for each in isolate:
                for step in each.effects if isinstance(each, Call) else (each,):
                    if isinstance(step, Own | Owns):
                        table.apply(step)
        return self.choreography(table, changes)

    def choreography(self, table: OwnerTable, changes: Stages) -> Choreography:
        """The steps that change owners of :attr:`runs`, on an owner table as it stands by then."""
        if not self.runs:
            return Choreography()
        if type(self.runs) is ChangeRuns and not self._sizes_matter:
            return self._own(table, many.owner_changes(self.runs))
        sized = self._sized(changes)
        found: list[OwnerChange] = []
        for start, end, old_owner, new_owner, old_pa, new_pa in self.runs:
            if old_pa != new_pa and old_owner != HOST:
                found.append(OwnerChange(old_pa, old_pa + end - start, HOST))
            if old_pa != new_pa and new_owner == HOST:
                continue
            if sized is None:
                found.append(OwnerChange(new_pa, new_pa + end - start, new_owner))
            else:
                found += [
                    OwnerChange(new_pa + a - start, new_pa + b - start, new_owner, leaf_lg2)
                    for a, b, leaf_lg2 in sized.over(start, end, new_pa)
                ]
        return self._own(table, _joined(found))

    def _own(self, table: OwnerTable, changes: Sequence[OwnerChange]) -> Choreography:
        return self.domain.choreography.own(
            table,
            changes,
            trusted=self.domain.reaches_private,
            allow_break=self.domain.settings.allow_break,
        )

    def _sized(self, changes: Stages) -> "_Sizes | None":
        """The leaves that map what converts when its owner changes, by guest physical address; None: no matter."""
        domain = self.domain
        if not self._sizes_matter:
            return None
        targets = [*(change.target for change in changes.place), *changes.owed]
        found = []
        for target in targets:
            found += [(*gpas, target.leaf_lg2) for gpas in domain.gpas(target.first, target.last + 1)]
        return _Sizes(sorted(set(found)), _largest(domain))


def _joined(changes: list[OwnerChange]) -> list[OwnerChange]:
    """Sorted changes with adjacent ones of one kind as one."""
    if len(changes) < 2:
        return changes
    found: list[OwnerChange] = []
    for each in sorted(changes):
        if found and found[-1].end_pa == each.start_pa and found[-1][2:] == each[2:]:
            found[-1] = found[-1]._replace(end_pa=each.end_pa)
        else:
            found.append(each)
    return found


class _Sizes:
    """Leaf sizes by range, sorted; where aliases differ, the smaller one counts.

    A new table counts as one leaf there: what it holds is as large as ``largest_lg2``, and what the two addresses have
    in common, allow.
    """

    def __init__(self, ranges: list[tuple[int, int, int]], largest_lg2: int) -> None:
        self._ranges = ranges
        self._largest_lg2 = largest_lg2
        self._reach = list(accumulate((end for _, end, _ in ranges), max))

    def over(self, start: int, end: int, pa: int) -> Iterator[tuple[int, int, int]]:
        """A range that leads to an address, by leaf size, in order."""
        at = start
        most = min(self._largest_lg2, _common_lg2(start, pa)) if self._ranges else ANY_LG2
        while at < end:
            size, stop = most, end
            index = bisect_right(self._reach, at)
            while index < len(self._ranges):
                low, high, lg2 = self._ranges[index]
                if low > at:
                    stop = min(stop, low)
                    break
                if high > at:
                    size, stop = min(size, lg2), min(stop, high)
                index += 1
            last = stop
            yield at, last, size
            at = last


def entry_lg2(domain: "Domain", start: int, pa: int) -> int:
    """log2 of the largest owner entries that memory may have whose first page, at a GPA, lies at an address.

    No larger than the hunk, than what the two addresses have in common, or, where devices use it, than a leaf.
    """
    largest = min(domain.guest.hunk_lg2, _common_lg2(start, pa))
    return min(largest, _largest(domain)) if domain.reaches_private else largest


def _largest(domain: "Domain") -> int:
    """log2 of the size of the largest leaf that the domain lays out."""
    return domain.planner.assembler.rules.leaf_lg2s[-1]


def _common_lg2(start: int, pa: int) -> int:
    """log2 of the largest leaf that can lead from one address to the other."""
    apart = start ^ pa
    return (apart & -apart).bit_length() - 1 if apart else ANY_LG2


__all__ = ["DomainOwners", "entry_lg2"]
