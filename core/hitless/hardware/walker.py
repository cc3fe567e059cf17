"""A translation as a sequence of reads: structures, then stage 1, stage 2, or stage 1 over stage 2.

One algorithm, which never touches memory itself: :func:`find` and :func:`through` ask a :class:`Sight` what each
structure, root and entry says. The running model answers from memory and from what is cached, at random;
:func:`translate` answers from plain memory, and keeps a trace of it.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias

from attrs import define, field

from hitless.errors import BusError
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, Structures
from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault, entry_pa
from hitless.units import PAGE_LG2

Target: TypeAlias = Literal["input", "table", "structure"]
"""What is being translated: the request's address, or the guest physical one of a stage-1 entry or a structure."""
Step: TypeAlias = Position | Leaf | WalkFault
"""Where a walk of one stage stands."""


class Sight(Protocol):
    """What a walk sees of the machine: each answer is what hardware would find there, and at this moment."""

    def structure(self, fetch: Fetch, pa: int | None) -> Fetch | Found | BadStructure | None:
        """What a structure leads to.

        ``pa`` None: the structure has a guest physical address that stage 2 has not translated yet. Then only a
        cache can answer; None asks for the translation, and the question comes again.
        """

    def begin(self, root: StageRoot, address: int, want: int, target: Target, *, nested: bool) -> Step:
        """Where the walk of one stage begins: at the root, at a table further down, or at a leaf that is cached.

        ``want`` is READ or WRITE; ``nested``: another stage is involved, whose results are cached beside this one's.
        """

    def entry(self, root: StageRoot, position: Position, pa: int, target: Target, *, nested: bool) -> Step:
        """What the entry at ``pa``, a host physical address, leads to."""


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


def find(structures: Structures, base: int, device: int, pasid: int | None, sight: Sight) -> Found | Refusal:
    """From the base register to what the structures say of a device."""
    at: Fetch | Found | BadStructure | None = structures.start(base, device, pasid)
    while isinstance(at, Fetch):
        fetch = at
        at = sight.structure(fetch, fetch.pa if fetch.stage2 is None else None)
        if at is None and fetch.stage2 is not None:
            leaf = _stage(fetch.stage2, fetch.pa, READ, "structure", None, sight, nested=True)
            if isinstance(leaf, Refusal):
                return leaf._replace(structure=fetch.structure)
            at = sight.structure(fetch, leaf.oa + fetch.pa - leaf.iova)
    if isinstance(at, BadStructure):
        return Refusal(at.kind, structure=at.structure, pa=at.pa, words=at.words, why=at.why)
    if at is None:
        raise TypeError("a sight that translated a structure's address must answer")
    return at


def through(found: Found, iova: int, want: int, sight: Sight) -> Translation | Refusal:
    """Through the tables that structures named; ``want`` is READ or WRITE."""
    first, second = found.stage1, found.stage2
    if found.mode == "abort":
        return Refusal("blocked")
    if found.mode == "bypass":
        start = iova >> PAGE_LG2 << PAGE_LG2
        at = Translation(start, PAGE_LG2, start, found.rights, None, None)
    elif first is not None and second is not None:
        upper = _stage(first, iova, want, "input", second, sight, nested=True)
        if isinstance(upper, Refusal):
            return upper
        lower = _stage(second, upper.oa + iova - upper.iova, want, "input", None, sight, nested=True)
        if isinstance(lower, Refusal):
            return lower
        at = _joined(iova, upper, lower, found.rights)
    else:
        alone: StageRoot = first or second  # type: ignore[assignment]
        leaf = _stage(alone, iova, want, "input", None, sight, nested=False)
        if isinstance(leaf, Refusal):
            return leaf
        _, _, start, size_lg2, oa, rights, _, _ = leaf
        at = Translation(start, size_lg2, oa, rights & found.rights, *((leaf, None) if first else (None, leaf)))
    if not at.rights & want:  # the tables grant it, so the structures do not
        return Refusal("permission")
    return at


def _joined(iova: int, stage1: Leaf, stage2: Leaf, rights: int) -> Translation:
    """Both stages' leaves as one translation around an IOVA."""
    size_lg2 = min(stage1.size_lg2, stage2.size_lg2)
    start = iova >> size_lg2 << size_lg2
    gpa = stage1.oa + start - stage1.iova
    return Translation(
        start, size_lg2, stage2.oa + gpa - stage2.iova, stage1.rights & stage2.rights & rights, stage1, stage2
    )


def _stage(
    root: StageRoot, address: int, want: int, target: Target, under: StageRoot | None, sight: Sight, *, nested: bool
) -> Leaf | Refusal:
    """One stage, whose tables lie in host memory, or ``under`` a stage 2 in guest physical memory."""
    levels = root.page_format.levels
    at = sight.begin(root, address, want, target, nested=nested)
    pa = 0
    while type(at) is Position:
        pa = entry_pa(levels[at.level], at.table_pa, at.iova)
        if under is not None:
            leaf = _stage(under, pa, READ, "table", None, sight, nested=True)
            if isinstance(leaf, Refusal):
                return leaf
            pa = leaf.oa + pa - leaf.iova
        at = sight.entry(root, at, pa, target, nested=nested)
    if type(at) is Leaf and at.rights & want:
        return at
    kind = at.kind if type(at) is WalkFault else "permission"
    stage = root.page_format.stage
    words = (at.word,) if pa else ()  # type: ignore[union-attr]
    return Refusal(kind, stage, at.level, target, address if stage == "2" else None, "", pa, words)


# -- plain memory


class Seen(NamedTuple):
    """One read of a translation.

    Args:
        structure: its name; empty: an entry of a table of ``level``, in a walk of ``stage``.
        target: what was being translated.
        pa, words: what was read where; no words: there is no memory.
        answer: what they lead to.
    """

    structure: str
    stage: str
    level: int
    target: Target
    pa: int
    words: tuple[int, ...]
    answer: Fetch | Found | BadStructure | Step


@define
class PlainMemory:
    """The sight of memory as it stands, without any cache.

    Args:
        load: reads one word; BusError where there is no memory.
        structures: whose steps structures are read by.
        trace: every read, in order.
    """

    load: Callable[[int], int]
    structures: Structures
    trace: list[Seen] = field(factory=list)

    def structure(self, fetch: Fetch, pa: int | None) -> Fetch | Found | BadStructure | None:
        if pa is None:
            return None
        words, answer = read_structure(self.load, self.structures, fetch, pa)
        self.trace.append(Seen(fetch.structure, "", 0, "input", pa, words, answer))
        return answer

    def begin(self, root: StageRoot, address: int, want: int, target: Target, *, nested: bool) -> Step:
        return root.page_format.start(root.root_pa, address)

    def entry(self, root: StageRoot, position: Position, pa: int, target: Target, *, nested: bool) -> Step:
        words: tuple[int, ...] = ()
        try:
            words = (self.load(pa),)
            answer = root.page_format.step(position, words[0])
        except BusError:
            answer = no_memory(position)
        self.trace.append(Seen("", position.stage, position.level, target, pa, words, answer))
        return answer


def no_memory(position: Position) -> WalkFault:
    """The fault of an entry that cannot be read."""
    return WalkFault(position.stage, position.level, position.iova, 0, "fetch")


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
    found = find(structures, base, device, pasid, memory)
    outcome = found if isinstance(found, Refusal) else through(found, iova, WRITE if write else READ, memory)
    return Walked(outcome, memory.trace)
