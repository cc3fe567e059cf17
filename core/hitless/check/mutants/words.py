"""Words that differ from a right one in one bit: found by asking the format, not by knowing it."""

from collections.abc import Iterator

from hitless.check.shadow import Filled
from hitless.check.subject import Subject
from hitless.pagetable import READ, WRITE, Leaf, PageFormat, Position, WalkFault, entry_pa
from hitless.plan import Fill, Step


def _flips(word: int) -> Iterator[int]:
    """The word with one bit cleared, then with one bit set."""
    for wanted in (1, 0):
        for i in range(64):
            if word >> i & 1 == wanted:
                yield word ^ 1 << i


def _leaf(fmt: PageFormat, word: int, level: int) -> Leaf | None:
    """The leaf that a walk finds."""
    found = fmt.step(Position(fmt.stage, level, 0, 0, READ | WRITE), word)
    return found if isinstance(found, Leaf) and not fmt.faults(word, level) else None


def narrower_pointer(fmt: PageFormat, word: int, level: int) -> int | None:
    """A pointer to the same table that lets no writes through; None: pointers carry no rights."""
    for other in _flips(word):
        same = fmt.present(other) and not fmt.is_leaf(other, level) and not fmt.faults(other, level)
        if same and fmt.table_pa(other) == fmt.table_pa(word) and not fmt.rights(other, level) & WRITE:
            return other
    return None


def other_attributes(fmt: PageFormat, word: int, level: int) -> int | None:
    """A leaf with the same address and rights, one attribute of which is another."""
    own = _leaf(fmt, word, level)
    hardware = fmt.hardware_set(level)
    for other in _flips(word):
        found = _leaf(fmt, other, level)
        if own is None or found is None or (found.attrs ^ own.attrs) & ~hardware == 0:
            continue
        same = (found.oa, found.size_lg2, found.rights) == (own.oa, own.size_lg2, own.rights)
        if same and fmt.cacheable(other, level) == fmt.cacheable(word, level):
            return other
    return None


def illegal(fmt: PageFormat, word: int, level: int) -> int | None:
    """The word with one reserved bit set."""
    layout = fmt.layout("leaf" if fmt.is_leaf(word, level) else "table", level)
    bits = layout.mask("reserved") if layout else 0
    return next((other for other in _flips(word) if (other ^ word) & bits and fmt.malformed(other, level)), None)


def filled_word(steps: Iterator[Step], pa: int) -> int | None:
    """What a plan's Fills put at an address; None: no table of theirs is there."""
    for step in steps:
        if isinstance(step, Fill) and step.pa <= pa < step.pa + (1 << step.size_lg2):
            return Filled.of(step).load(pa)
    return None


def entry_of(subject: Subject, iova: int) -> tuple[int, int, int]:
    """The leaf entry that translates an IOVA before a plan: its address, its word and its level."""
    fmt = subject.vendor.page_format
    at: Position | Leaf | WalkFault = fmt.start(subject.root_pa, iova)
    pa = word = level = 0
    while isinstance(at, Position):
        level, pa = at.level, entry_pa(fmt.levels[at.level], at.table_pa, iova)
        word = subject.memory.load(pa)
        at = fmt.step(at, word)
    return pa, word, level
