"""The owner check inside the checker: verdicts over ranges, and which IOVAs an owner change concerns."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from attrs import define, field

from hitless.check.held import Held
from hitless.check.subject import Subject
from hitless.ownership import Ownership, OwnerTable, Verdict
from hitless.plan import Own
from hitless.units import SPACE, align_down, align_up, joined


@define(eq=False)
class Verdicts:
    """The owner table as it stands, and what it says.

    Args:
        cached: whether the verdict is cached with the translation; if not, each access is checked.

    ``_by_pa`` holds (start, end, IOVA) of all guest memory, by physical address; ``_reach`` how far the first so many
    reach, so that one large run does not make each search start before it.
    """

    ownership: Ownership
    owners: OwnerTable
    trusted: bool
    cached: bool
    pieces_lg2: tuple[int, ...]
    largest_lg2: int
    _by_pa: list[tuple[int, int, int]] = field(factory=list)
    _reach: list[int] = field(factory=list)
    _everything: bool = False

    @classmethod
    def of(cls, subject: Subject) -> "Verdicts":
        """The verdicts of a subject, on a copy of its owner table."""
        ownership = subject.vendor.ownership
        by_pa = sorted(
            {(pa, pa + run.end - run.start, run.start) for run in subject.truth.runs for pa in (run.old_pa, run.new_pa)}
        )
        reach = list(accumulate((end for _, end, _ in by_pa), max))
        owners = subject.owners.copy()
        return cls(
            ownership,
            owners,
            subject.trusted,
            ownership.cached,
            subject.vendor.hardware.pieces_lg2,
            subject.vendor.page_format.leaf_lg2s[-1],
            by_pa,
            reach,
            not by_pa,
        )

    def at(self, pa: int, leaf_lg2: int) -> Verdict:
        """The verdict on one access."""
        return self.ownership.verdict(self.owners, pa, leaf_lg2, self.trusted)

    def over(self, start: int, end: int, oa: int, leaf_lg2: int) -> Iterator[tuple[int, int, Verdict]]:
        """Verdicts on ``[start, end)`` that maps to ``oa`` on through leaves of a size, as few runs as there are.

        One verdict holds for the naturally aligned block of its size; inside a run of one owner and
        entry size all blocks have the same.
        """
        at = start
        while at < end:
            pa = oa + at - start
            verdict = self.at(pa, leaf_lg2)
            size_lg2 = min(verdict.size_lg2, leaf_lg2)
            stop_pa = align_down(pa, size_lg2) + (1 << size_lg2)
            run_start, run_end = self.owners.run(pa)
            if run_start <= align_down(pa, size_lg2):
                stop_pa = max(stop_pa, align_down(run_end, size_lg2))
            stop = min(end, at + stop_pa - pa)
            yield at, stop, verdict
            at = stop

    def lost(self, fact: Held) -> Iterator[tuple[int, int]]:
        """The parts of what was granted once that would not be cached in this shape now."""
        size = 1 << fact.piece_lg2
        for start, end, verdict in self.over(fact.start, fact.end, fact.oa, fact.leaf_lg2):
            largest = min(fact.leaf_lg2, verdict.size_lg2)
            same = fact.piece_lg2 == largest or (fact.piece_lg2 < largest and fact.piece_lg2 in self.pieces_lg2)
            if not verdict.ok or not same:
                yield max(start // size * size, fact.start), min(-(-end // size) * size, fact.end)

    def apply(self, step: Own) -> None:
        """Do an owner change."""
        self.owners.apply(step)

    def affected(self, step: Own) -> list[tuple[int, int]]:
        """IOVAs that lead, or led, to pages whose verdict an owner change may change, whole check units."""
        unit_lg2 = min(self.at(step.start_pa, self.largest_lg2).size_lg2, self.largest_lg2)
        if self._everything:
            return [(0, SPACE)]
        low, high = align_down(step.start_pa, unit_lg2), align_up(step.end_pa, unit_lg2)
        found = []
        at = bisect_right(self._reach, low)
        while at < len(self._by_pa) and self._by_pa[at][0] < high:
            start, end, iova = self._by_pa[at]
            at += 1
            a, b = max(start, low), min(end, high)
            if a < b:
                found.append((iova + a - start, iova + b - start))
        return joined(found)
