"""What a plan changes, before it becomes steps: changes of entries, by stage."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from attrs import define, field

from hitless.plan import Fold
from hitless.refresh.commands import Target
from hitless.refresh.recipes import Kind


@define
class Change:
    """One reachable entry that gets a new word.

    Args:
        kind: which recipe applies.
        pa, level, iova: the entry; the first IOVA that it translates.
        old, new: its words before and after the whole recipe.
        target: what a cache may hold of the old word; of a run's entry, all of the run.
        fold: leaf entries (address, count) of new tables that take over A and D.
        spread: entries (address, count) that get A and D besides the new word: the whole run.
        together: an entry of the owner table changes its size with it.
    """

    kind: Kind
    pa: int
    level: int
    iova: int
    old: int
    new: int
    target: Target
    fold: list[tuple[int, int]] = field(factory=list)
    spread: list[tuple[int, int]] = field(factory=list)
    together: bool = False


class Stages(Protocol):
    """What others read of a plan's changes, however they are kept: as lists, or as columns.

    See :class:`Changes` for what each is.
    """

    @property
    def resize(self) -> Sequence[Change]: ...
    @property
    def swapped(self) -> Sequence[tuple[int, int]]: ...
    @property
    def swap_folds(self) -> Sequence[Fold]: ...
    @property
    def cut(self) -> Sequence[Change]: ...
    @property
    def cut_together(self) -> Sequence[Change]: ...
    @property
    def wipe(self) -> Sequence[Change]: ...
    @property
    def place(self) -> Sequence[Change]: ...
    @property
    def merge_together(self) -> Sequence[Change]: ...
    @property
    def merge(self) -> Sequence[Change]: ...
    @property
    def join(self) -> Sequence[Change]: ...
    @property
    def owed(self) -> Sequence[Target]: ...
    @property
    def unlinked(self) -> Sequence[tuple[int, int]]: ...
    @property
    def unplaced(self) -> Sequence[tuple[int, int]]: ...
    @property
    def freed(self) -> Sequence[tuple[int, int]]: ...
    @property
    def folds(self) -> Sequence[Fold]: ...

    def all(self) -> list[Change]:
        """Every change, in the order of the stages."""


@define
class Changes:
    """All changes of one plan, by the stage in which they happen.

    Stages run in this order, each with its own wait: resize, cut, cut_together, wipe | (owner change) |
    place, merge_together, merge, join.

    Args:
        cut_together, merge_together: cuts and merges with which entries of the owner table change their size.
        resize: runs that are taken apart; join: leaves that become runs.
        swapped: tables whose pointers ``resize`` swaps, freed at once after its wait; swap_folds:
            where A and D of them go.
        owed: what has to be invalidated after the owner change though no entry changes.
        unlinked: tables that ``wipe`` unlinks, to be freed at the end.
        unplaced: new tables that only ``place`` links.
        freed: tables that ``merge`` and ``join`` replace, to be freed at the end.
        folds: where A and D of those tables go.
    """

    resize: list[Change] = field(factory=list)
    swapped: list[tuple[int, int]] = field(factory=list)
    swap_folds: list[Fold] = field(factory=list)
    cut: list[Change] = field(factory=list)
    cut_together: list[Change] = field(factory=list)
    wipe: list[Change] = field(factory=list)
    place: list[Change] = field(factory=list)
    merge_together: list[Change] = field(factory=list)
    merge: list[Change] = field(factory=list)
    join: list[Change] = field(factory=list)
    owed: list[Target] = field(factory=list)
    unlinked: list[tuple[int, int]] = field(factory=list)
    unplaced: list[tuple[int, int]] = field(factory=list)
    freed: list[tuple[int, int]] = field(factory=list)
    folds: list[Fold] = field(factory=list)

    def settle(self) -> None:
        """Where the owner has changed already, what is invalidated before ``place`` is owed no more.

        A cache could hold the old verdict only of the leaves that stood then, and those are what goes.
        """
        gone = [change.target for change in (*self.resize, *self.cut, *self.wipe)]
        reach = sorted({(target.first, target.last) for target in gone})
        firsts = [first for first, _ in reach]
        reach_last = list(accumulate((last for _, last in reach), max))

        def done(target: Target) -> bool:
            at = bisect_right(firsts, target.first)
            return at > 0 and target.last <= reach_last[at - 1]

        self.owed = [target for target in self.owed if not done(target)]

    def all(self) -> list[Change]:
        """Every change, in order of the stages."""
        return [
            *self.resize,
            *self.cut,
            *self.cut_together,
            *self.wipe,
            *self.place,
            *self.merge_together,
            *self.merge,
            *self.join,
        ]
