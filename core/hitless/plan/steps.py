"""The steps of a plan.

Steps are made once per conversion, so they are slotted and unfrozen (a frozen attrs class costs
several times as much to make). Nobody changes one after the planner has handed it out, but for
mutation tests, which are meant to.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from attrs import define, field


class FillRun(NamedTuple):
    """``entries`` words from ``pa`` on: ``first``, ``first + increment``, ... modulo 2**64."""

    pa: int
    entries: int
    first: int
    increment: int


@define
class Fill:
    """Words into a table that no walker can reach yet: a run, and words that override it.

    ``size_lg2`` is the table's size; what neither a run nor an override names stays 0.
    """

    pa: int
    size_lg2: int
    runs: list[FillRun] = field(factory=list)
    overrides: list[tuple[int, int]] = field(factory=list)


@define
class Clean:
    """Push a range out of the CPU's cache, for walkers that do not snoop."""

    pa: int
    size: int


@define
class Barrier:
    """Earlier stores become visible to a walker before later ones, and before the doorbell."""


@define
class Store:
    """One aligned compare-and-exchange of an entry that a walker can reach.

    Args:
        pa: address of the entry.
        expected, new: the words.
        hardware: bits that hardware may set in the entry at any time. Where memory differs from
            ``expected`` only in them, they are folded and the store is tried again.
        fold: leaf entries (address, count) of the new tables to fold them into: in a cut, where
            the new word is a pointer. Empty: they are folded into the new word.
        spread: entries (address, count) that get them besides the new word: the run that the
            entry is a part of. What is empty stays so.
        what: ``cut``, ``merge``, ``replace``, ``wipe``, ``map``, ``prune``, ``resize``, with ``-N``
            for round N of a recipe of several.
        level: the entry's level, 0 = smallest page.
        iova: first IOVA that the entry translates.
    """

    pa: int
    expected: int
    new: int
    hardware: int
    what: str
    level: int
    iova: int
    fold: list[tuple[int, int]] = field(factory=list)
    spread: list[tuple[int, int]] = field(factory=list)


@define
class StoreStructure:
    """One aligned compare-and-exchange of a structure that a unit may read at any time.

    Args:
        unit: whose structure.
        device, pasid: whose requests it is about.
        structure: its name in the vendor's layouts (``dte``, ``context``, ``ste``); empty: not told.
        what: ``grow``, ``attach``, ``detach``, ``replace`` or ``block``.
        pa: of the first word.
        expected, new: one word, or two where hardware reads them as one.
    """

    unit: str
    device: int
    pasid: int | None
    structure: str
    what: str
    pa: int
    expected: tuple[int, ...]
    new: tuple[int, ...]


@define
class Invalidate:
    """One encoded command, to one unit, for one tag.

    ``first`` and ``last`` (inclusive) are the IOVAs that the planner asked to have covered.
    """

    unit: str
    tag: int
    words: tuple[int, ...]
    first: int
    last: int


@define
class Wait:
    """The completion command of one unit; bounded in time."""

    unit: str


@define
class Own:
    """A change of owners by the host or its firmware, in the owner table that the IOMMU consults.

    Args:
        op: the instruction or call (``RMPUPDATE``, ``PSMASH``, ...).
        start_pa, end_pa: the physical range.
        owner: the new owner's number (0 = host).
        size_lg2: size of the owner table's entries afterwards.
        drops: whether the operation itself also drops cached verdicts of the range: ``none``,
            ``iotlb`` or ``iotlb+atc``.
    """

    op: str
    start_pa: int
    end_pa: int
    owner: int
    size_lg2: int
    drops: str = "none"


@define
class Call:
    """A request to firmware, a TDX module or an RMM: what the host cannot do itself, or not unnoticed.

    It may be answered busy or partial, and is made again until all is done, refused, or the bound is reached.

    Args:
        op: the request (``PSMASH_IO``, ``TDH.MEM.PAGE.DEMOTE``, ...).
        start_pa, end_pa: the physical range that it is about.
        effects: what it does, in order: it changes owners and entries of tables, and may invalidate what is cached. A
            store settles at once where requests are held, else with a barrier, as anywhere.
        held: requests are held until it answers, so that none sees what lies between two effects.
    """

    op: str
    start_pa: int
    end_pa: int
    effects: list["Store | Clean | Barrier | Own | Invalidate | Wait"] = field(factory=list)
    held: bool = False


class Fold(NamedTuple):
    """A and D of the entries of a table, saved into what replaced them.

    Args:
        entry_pa: the first entry that gets them; what is empty by then stays so.
        table_pa, entries: whose they are.
        hardware: the bits that hardware sets; they are OR-ed.
        targets: how many adjacent entries get the bits of all.
        times: so many of it side by side, in both tables.
        clears: bits that hardware clears instead (Arm's read-only bit of a clean page).
    """

    entry_pa: int
    table_pa: int
    entries: int
    hardware: int
    targets: int = 1
    times: int = 1
    clears: int = 0


@define
class Release:
    """Tables (address, size_lg2) that may be freed now, after ``fold`` saved A and D from them."""

    tables: Sequence[tuple[int, int]]
    fold: list[Fold] = field(factory=list)


Step: TypeAlias = Fill | Clean | Barrier | Store | StoreStructure | Invalidate | Wait | Own | Call | Release


def effects_of(steps: Iterable[Step]) -> Iterator[Step]:
    """Steps one by one, with what a call does in the call's place."""
    for step in steps:
        if isinstance(step, Call):
            yield from step.effects
        else:
            yield step
