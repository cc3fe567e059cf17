"""A translation as a sequence of reads: structures, then stage 1, stage 2, or stage 1 over stage 2.

One algorithm, which never touches memory itself. :func:`find` and :func:`through` are generators of questions, and
whoever drives them answers each with what was found: from memory, from a cache, or from both at different moments.
The running model answers from its caches; :func:`translate` answers from plain memory and keeps the trace.
"""

from collections.abc import Callable, Generator
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from attrs import define, field

from hitless.errors import BusError
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, Structures
from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault, entry_pa
from hitless.units import PAGE_LG2

Target: TypeAlias = Literal["input", "table", "structure"]
"""What is being translated: the request's address, or the guest physical one of a stage-1 entry or a structure."""


class ReadStructure(NamedTuple):
    """What does this structure say? Answered with what its words lead to: another one, or the end.

    ``pa`` None: its address is a guest physical one that stage 2 has not translated yet. Then only a cache can
    answer; None asks for the translation, and the question comes again.
    """

    fetch: Fetch
    pa: int | None


class Begin(NamedTuple):
    """Where does the walk of one stage begin? Answered with the root's position, a lower one, or a cached leaf.

    ``nested``: another stage is involved, whose results are cached beside this one's.
    """

    root: StageRoot
    address: int
    want: int
    target: Target
    nested: bool


class ReadEntry(NamedTuple):
    """What does the entry at ``pa`` say? Answered with what it leads to; ``pa`` is a host physical address."""

    root: StageRoot
    position: Position
    pa: int
    target: Target
    nested: bool


Question: TypeAlias = ReadStructure | Begin | ReadEntry
Answer: TypeAlias = Fetch | Found | BadStructure | Position | Leaf | WalkFault | None


class Translation(NamedTuple):
    """What a request's address leads to: ``[start, start + 2**size_lg2)`` of IOVAs, to ``pa`` and up.

    Of a nested translation the smaller leaf gives the size, and both must grant a right. The leaves keep their own
    attributes, since formats combine them each in its own way. Neither leaf: the device bypasses translation.
    """

    start: int
    size_lg2: int
    pa: int
    rights: int
    stage1: Leaf | None
    stage2: Leaf | None


class Refusal(NamedTuple):
    """Why a request got no translation.

    Args:
        kind, stage, level, target, gpa, structure, pa: as in :class:`hitless.hardware.facts.FaultRecord`.
        words: of the entry or structure that refused; empty where none was read.
        why: of a bad structure, in words.
    """

    kind: str
    stage: str = ""
    level: int = 0
    target: Target = "input"
    gpa: int | None = None
    structure: str = ""
    pa: int = 0
    words: tuple[int, ...] = ()
    why: str = ""


R = TypeVar("R")
Walk: TypeAlias = Generator[Question, Any, R]


def find(structures: Structures, base: int, device: int, pasid: int | None) -> Walk[Found | Refusal]:
    """From the base register to what the structures say of a device."""
    at = structures.start(base, device, pasid)
    while type(at) is Fetch:
        fetch = at
        if fetch.stage2 is None:
            at = yield ReadStructure(fetch, fetch.pa)
            continue
        at = yield ReadStructure(fetch, None)
        if at is None:
            leaf = yield from _stage(fetch.stage2, fetch.pa, READ, "structure", None, nested=True)
            if isinstance(leaf, Refusal):
                return leaf._replace(structure=fetch.structure)
            at = yield ReadStructure(fetch, leaf.oa + fetch.pa - leaf.iova)
    if type(at) is BadStructure:
        return Refusal(at.kind, structure=at.structure, pa=at.pa, words=at.words, why=at.why)
    return at  # type: ignore[return-value]


def through(found: Found, iova: int, want: int) -> Walk[Translation | Refusal]:
    """Through the tables that structures named; ``want`` is READ or WRITE."""
    if found.mode == "abort":
        return Refusal("blocked")
    first, second = found.stage1, found.stage2
    if found.mode == "bypass" or (first or second) is None:
        start = iova >> PAGE_LG2 << PAGE_LG2
        at: Translation = Translation(start, PAGE_LG2, start, found.rights, None, None)
    elif first is None or second is None:
        alone: StageRoot = first or second  # type: ignore[assignment]
        leaf = yield from _stage(alone, iova, want, "input", None, nested=False)
        if isinstance(leaf, Refusal):
            return leaf
        halves = (leaf, None) if first else (None, leaf)
        at = Translation(leaf.iova, leaf.size_lg2, leaf.oa, leaf.rights & found.rights, *halves)
    else:
        upper = yield from _stage(first, iova, want, "input", second, nested=True)
        if isinstance(upper, Refusal):
            return upper
        lower = yield from _stage(second, upper.oa + iova - upper.iova, want, "input", None, nested=True)
        if isinstance(lower, Refusal):
            return lower
        at = joined(iova, upper, lower, found.rights)
    if not at.rights & want:  # the tables grant it, so the structures do not
        return Refusal("permission")
    return at


def joined(iova: int, stage1: Leaf, stage2: Leaf, rights: int) -> Translation:
    """Both stages' leaves as one translation around an IOVA."""
    size_lg2 = min(stage1.size_lg2, stage2.size_lg2)
    start = iova >> size_lg2 << size_lg2
    gpa = stage1.oa + start - stage1.iova
    return Translation(
        start, size_lg2, stage2.oa + gpa - stage2.iova, stage1.rights & stage2.rights & rights, stage1, stage2
    )


def _stage(
    root: StageRoot, address: int, want: int, target: Target, under: StageRoot | None, *, nested: bool
) -> Walk[Leaf | Refusal]:
    """One stage, whose tables lie in host memory, or ``under`` a stage 2 in guest physical memory."""
    fmt = root.page_format
    levels = fmt.levels
    at = yield Begin(root, address, want, target, nested)
    pa = 0
    while type(at) is Position:
        pa = entry_pa(levels[at.level], at.table_pa, at.iova)
        if under is not None:
            leaf = yield from _stage(under, pa, READ, "table", None, nested=True)
            if isinstance(leaf, Refusal):
                return leaf
            pa = leaf.oa + pa - leaf.iova
        at = yield ReadEntry(root, at, pa, target, nested)
    if type(at) is Leaf and at.rights & want:
        return at
    kind = at.kind if type(at) is WalkFault else "permission"
    gpa = address if fmt.stage == "2" else None
    return Refusal(kind, fmt.stage, at.level, target, gpa, "", pa, (at.word,) if pa else ())


def drive(walk: Walk[R], answer: Callable[[Question], Answer]) -> R:
    """Put every question of a walk to someone who answers; its result."""
    try:
        question = next(walk)
        while True:
            question = walk.send(answer(question))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


# -- plain memory


class Seen(NamedTuple):
    """One read of a translation: the question, the words that memory held, and what they led to."""

    question: ReadStructure | ReadEntry
    words: tuple[int, ...]
    answer: Answer


@define
class PlainMemory:
    """Answers from memory as it stands, without any cache.

    Args:
        load: reads one word; BusError where there is no memory.
        structures: None where no question asks for one.
        trace: every read, in order.
    """

    load: Callable[[int], int]
    structures: Structures | None = None
    trace: list[Seen] = field(factory=list)

    def __call__(self, question: Question) -> Answer:
        answer: Answer
        match question:
            case Begin(root, address):
                return root.page_format.start(root.root_pa, address)
            case ReadEntry():
                words, answer = read_entry(self.load, question)
            case ReadStructure(fetch, pa):
                if pa is None or self.structures is None:
                    return None
                words, answer = read_structure(self.load, self.structures, fetch, pa)
        self.trace.append(Seen(question, words, answer))
        return answer


def read_entry(load: Callable[[int], int], question: ReadEntry) -> tuple[tuple[int, ...], Position | Leaf | WalkFault]:
    """The entry's word, and what it leads to; a fault ``fetch`` where there is no memory."""
    root, position = question.root, question.position
    try:
        word = load(question.pa)
    except BusError:
        return (), WalkFault(position.stage, position.level, position.iova, 0, "fetch")
    return (word,), root.page_format.step(position, word)


def read_structure(
    load: Callable[[int], int], structures: Structures, fetch: Fetch, pa: int
) -> tuple[tuple[int, ...], Fetch | Found | BadStructure]:
    """The structure's words, and what they lead to; a BadStructure ``fetch`` where there is no memory."""
    try:
        words = tuple(load(pa + 8 * i) for i in range(fetch.words))
    except BusError as error:
        return (), BadStructure(fetch.structure, pa, (), "fetch", str(error))
    return words, structures.step(fetch, words)


@define
class Walked:
    """A translation as memory stands, and every read on the way."""

    outcome: Translation | Refusal
    trace: list[Seen]


def translate(
    load: Callable[[int], int],
    structures: Structures,
    base: int,
    device: int,
    iova: int,
    *,
    pasid: int | None = None,
    write: bool = False,
) -> Walked:
    """What a device's request gets, read from memory without any cache.

    ``load`` reads one 64-bit word, or raises BusError; ``base`` is the register that leads to the structures.
    """
    memory = PlainMemory(load, structures)
    found = drive(find(structures, base, device, pasid), memory)
    outcome = found if isinstance(found, Refusal) else drive(through(found, iova, WRITE if write else READ), memory)
    return Walked(outcome, memory.trace)
