"""TDX Connect: the private half of a guest's address space, which its trusted devices reach through the secure EPT.

The secure EPT is a second-stage table that the TDX module owns: the host asks for each change of it by calls, and a
trusted unit of the module's own walks it. A new table page is filled by the module inside the call that links it; a
plan shows that as a Fill, which nothing can reach before. What else the module keeps in entries that are not present
is invisible to a walker, and stands as 0 here.

Facts: INTEL-TDX-*.
"""

from collections.abc import Iterator, Mapping, Sequence

from hitless.bits import get
from hitless.errors import Refused
from hitless.ownership import (
    GUEST,
    HOST,
    Block,
    Choreography,
    Close,
    Follow,
    OwnerChange,
    Ownership,
    OwnerTable,
    Policy,
    Verdict,
    size_class,
)
from hitless.plan import Call, Invalidate, Own, Step, Store, Wait
from hitless.units import align_down, align_up
from hitless_intel.second_stage import ADDRESS

_PAGE_LG2 = 12
_SIZES = (12, 21, 30)
"""Sizes of PAMT entries and of secure EPT leaves (INTEL-TDX-12)."""


class SecureEpt(Ownership):
    """The secure EPT and the PAMT, which records who owns a page and in which size it is mapped.

    Nothing of it is checked, or cached, by the unit: the module keeps both in line.

    Args:
        blocking: entries are blocked while they are demoted or promoted.
        outcome: what becomes of a request that reaches a page of another owner.
    """

    policies: Mapping[str, Policy] = {"wipe": Policy("wipe", maps_private=True, maps_shared=False)}
    default_policy = "wipe"
    cached = False
    invalidate_after = False
    size_classes = _SIZES

    def __init__(self, *, blocking: bool, outcome: str) -> None:
        self._blocking = blocking
        self._outcome = outcome

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        """A private KeyID is for the guest's own pages, and for requests of trusted devices (INTEL-TDX-15)."""
        if not trusted:
            return Verdict(False, _PAGE_LG2, "owner", "the secure EPT is walked for trusted devices only")
        if table.owner(pa) == GUEST:
            return Verdict(True, _PAGE_LG2)
        return Verdict(False, _PAGE_LG2, self._outcome, "a page that is not the guest's was reached with its KeyID")

    # -- sizes

    def follow(self, from_lg2: int, to_lg2: int) -> Follow:
        """A leaf and its PAMT entry change size in one call; no promotion is worth blocked DMA (INTEL-TDX-9)."""
        return Follow.NEVER if self._blocking and to_lg2 > from_lg2 else Follow.TOGETHER

    # -- who stores

    def carry(
        self, table: OwnerTable, store: Store, block: Block, close: Close, *, allow_break: bool
    ) -> Sequence[Step] | None:
        """Every store is the module's, which makes it visible before its call answers.

        Raises:
            Refused: a demotion that blocks the entry meanwhile.
        """
        kind = store.what.partition("-")[0]
        start, end = block.start_pa, block.start_pa + (1 << block.size_lg2)
        if kind == "cut":
            return self._demote(store, start, end, close, allow_break=allow_break)
        if kind == "merge":
            own = Own("TDH.MEM.PAGE.PROMOTE", start, end, GUEST, block.size_lg2)
            return [Call("TDH.MEM.PAGE.PROMOTE", start, end, [store, *close(), own], held=True)]
        if kind == "prune":
            return [Call("TDH.MEM.RANGE.BLOCK", *_table_page(store.expected), [store], held=True)]
        if kind == "map" and block.start_pa == 0:
            return [Call("TDH.MEM.SEPT.ADD", *_table_page(store.new), [store], held=True)]
        op = "TDH.MEM.RANGE.BLOCK" if kind == "wipe" else "TDG.MEM.PAGE.ACCEPT"
        return [Call(op, start, end, [store], held=True)]

    def _demote(self, store: Store, start: int, end: int, close: Close, *, allow_break: bool) -> Sequence[Step]:
        """One leaf into 512 of the next level; with blocking the entry translates nothing meanwhile (INTEL-TDX-8)."""
        below = _SIZES[_SIZES.index((end - start).bit_length() - 1) - 1]
        own = Own("TDH.MEM.PAGE.DEMOTE", start, end, GUEST, below)
        if not self._blocking:
            return [Call("TDH.MEM.PAGE.DEMOTE", start, end, [store, own], held=True)]
        if not allow_break:
            raise _refusal(start, end)
        blocked = Store(store.pa, store.expected, 0, store.hardware, "cut-1", store.level, store.iova, store.fold)
        linked = Store(store.pa, 0, store.new, 0, "cut-2", store.level, store.iova)
        return [
            Call("TDH.MEM.RANGE.BLOCK", start, end, [blocked], held=True),
            *self.close(close()),
            Call("TDH.MEM.PAGE.DEMOTE", start, end, [linked, own], held=True),
        ]

    def close(self, commands: Sequence[Invalidate | Wait]) -> Sequence[Step]:
        """The module tracks what was blocked, and sends commands to the trusted queue (INTEL-TDX-14)."""
        return [Call("TDH.MEM.TRACK", 0, 0, list(commands))]

    # -- who owns

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        """Take away pages that are blocked and tracked; add pages, which nothing reaches before the guest accepts."""
        steps = []
        for start, end, owner, leaf_lg2 in changes:
            if owner == HOST:
                steps.append(Own("TDH.MEM.PAGE.REMOVE", start, end, HOST, _PAGE_LG2))
            else:
                found = _blocks(start, end, size_class(leaf_lg2, _SIZES))
                steps += [Own("TDH.MEM.PAGE.AUG", a, b, owner, size) for a, b, size in found]
        return Choreography(own=steps)

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        largest = _PAGE_LG2 if owner == HOST else size_class(hunk_lg2, _SIZES)
        for start, end, size in _blocks(start_pa, end_pa, largest):
            table.set(start, end, owner, size)


def _blocks(start: int, end: int, largest_lg2: int) -> Iterator[tuple[int, int, int]]:
    """A range as naturally aligned blocks, as large as there are: (start, end, log2 of their size), in order."""
    if largest_lg2 == _PAGE_LG2:
        yield start, end, _PAGE_LG2
        return
    below = _SIZES[_SIZES.index(largest_lg2) - 1]
    low, high = align_up(start, largest_lg2), align_down(end, largest_lg2)
    if low >= high:
        yield from _blocks(start, end, below)
        return
    if start < low:
        yield from _blocks(start, low, below)
    yield low, high, largest_lg2
    if high < end:
        yield from _blocks(high, end, below)


def _table_page(pointer: int) -> tuple[int, int]:
    """The page of the table that an entry points to."""
    pa = get(pointer, ADDRESS) << ADDRESS.lo
    return pa, pa + (1 << _PAGE_LG2)


def _refusal(start: int, end: int) -> Refused:
    return Refused(
        "intel.tdx-demote",
        "cannot demote a leaf of the secure EPT hitlessly",
        who="intel",
        where=f"leaf of [{start:#x}, {end:#x})",
        rule="N1: DMA to a neighbour never faults (INTEL-TDX-8, INTEL-TDX-9)",
        why="the leaf is blocked until it is demoted, and translates nothing meanwhile",
        do="convert whole leaves, use a module that demotes without blocking "
        '(features.sept_resize = "non-blocking"), or set allow_break = true on the domain',
    )
