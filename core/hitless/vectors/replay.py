"""Replays recorded operations on tables of our own: every map and unmap is a plan."""

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field

from hitless.errors import HitlessError
from hitless.memory import Arena, PageAllocator
from hitless.pagetable import Leaf, PageFormat, Position, WalkFault, table_leaves, translate, walk
from hitless.plan import Own, Owns
from hitless.refresh.assemble import Assembler
from hitless.refresh.executor import Executor
from hitless.refresh.planner import Planner
from hitless.refresh.recipes import Recipes, Scope, SplitRules, one_store
from hitless.refresh.target import PlanRequest, Segment
from hitless.units import joined
from hitless.vectors.recording import Case, Op

_ARENA_BYTES = 1 << 28
_STORE = one_store(Scope.NONE, "no unit is attached")
_RECIPES = Recipes(cut=_STORE, merge=_STORE, replace=_STORE, wipe=_STORE, map=_STORE, prune=_STORE)


class _NoOwners:
    def apply(self, own: Own | Owns) -> None:
        """No owner changes here."""


@define(eq=False)
class Replay:
    """One address space, without units, in a format that answers a recording.

    Args:
        fmt: the format; a root that grows replaces it.
        config: the case's, with the recording's ``fmt``.
        notes: what the replay did otherwise than a driver of ours would, by operation.
    """

    fmt: PageFormat
    config: dict[str, Any]
    arena: Arena
    tables: PageAllocator
    executor: Executor
    root_pa: int
    notes: list[str] = field(factory=list)

    @classmethod
    def of(cls, fmt: PageFormat, config: dict[str, Any]) -> "Replay":
        """An empty address space whose tables lie where the recorded ones do, if the format can address them there."""
        base = int(config["arena_pa"], 16)
        if base + _ARENA_BYTES > 1 << fmt.oa_bits:
            base = max(0, (1 << fmt.oa_bits) - _ARENA_BYTES)
        arena = Arena(base, _ARENA_BYTES)
        tables = PageAllocator(arena, base, _ARENA_BYTES)
        executor = Executor(arena, tables, {}, _NoOwners())
        return cls(fmt, config, arena, tables, executor, tables.allocate(fmt.top.table_lg2))

    def close(self) -> None:
        """Give the memory back."""
        self.arena.close()

    def do(self, op: Op) -> str:
        """One operation; what came out otherwise than recorded, or an empty text."""
        match op.op:
            case "map":
                return self._map(op)
            case "unmap":
                return self._unmap(op)
            case "phys":
                found = translate(self.arena, self.fmt, self.root_pa, op.iova) or 0
                return "" if found == op.pa else f"{op.iova:#x} leads to {found:#x}, not to {op.pa:#x}"
            case "dirty":
                return self._write(op)
            case _:
                return self._read_dirty(op)

    # -- map and unmap

    def _map(self, op: Op) -> str:
        if op.ret == 0 and not self._fault(op) and any(self._leaves(op.iova, op.iova + op.size)):
            self.notes.append(
                f"a map over what is mapped, which the recorded driver drops silently: unmapped first ({op.iova:#x})"
            )
            self._request(op.iova, op.iova + op.size, None, 0)
        why = self.map(op)
        if bool(why) == (op.ret != 0):
            return ""
        return f"map of {op.iova:#x} fails: {why}" if why else f"map of {op.iova:#x} must fail ({op.ret}), and does not"

    def map(self, op: Op) -> str:
        """Map; why it cannot be done, or an empty text. What fails changes nothing."""
        if why := self._fault(op):
            return why
        if any(self._leaves(op.iova, op.iova + op.size)):
            return "something is mapped there"
        try:
            self._request(op.iova, op.iova + op.size, op.pa, self.fmt.from_prot(op.prot, self.config) or 0)
        except HitlessError as error:
            return error.what
        return ""

    def _fault(self, op: Op) -> str:
        """Why a map cannot be made."""
        if self.fmt.from_prot(op.prot, self.config) is None:
            return f"protection {op.prot} is an error"
        self._grow(op.iova + op.size - 1)
        sizes = self.sizes()
        ends = [self.fmt.start(self.root_pa, at) for at in (op.iova, op.iova + op.size - 1)]
        if op.size <= 0 or not sizes or (op.iova | op.pa | op.size) & ((1 << sizes[0]) - 1):
            return "it is not aligned to the smallest leaf"
        if any(isinstance(each, WalkFault) for each in ends) or op.size > 1 << self.fmt.iova_bits:
            return f"the input is wider than {self.fmt.iova_bits} bits"
        if op.pa + op.size > 1 << self.fmt.oa_bits:
            return f"the output is wider than {self.fmt.oa_bits} bits"
        return ""

    def _grow(self, iova: int) -> None:
        """Put levels on top until the root can index an IOVA, where the format has more."""
        while isinstance(self.fmt.start(self.root_pa, iova), WalkFault) and (larger := self.fmt.grown()) is not None:
            root = self.tables.allocate(larger.top.table_lg2)
            self.arena.store(root, larger.table(larger.top.number, self.root_pa))
            self.fmt, self.root_pa = larger, root

    def sizes(self) -> tuple[int, ...]:
        """log2 of the leaf sizes that the recording allows."""
        allowed = int(self.config["pgsizes"], 16)
        return tuple(lg2 for lg2 in self.fmt.leaf_lg2s if not allowed or allowed >> lg2 & 1)

    def _request(self, start: int, end: int, pa: int | None, attributes: int) -> None:
        """Plan and execute: ``[start, end)`` leads to ``pa`` on, or nowhere; tables that map nothing are freed."""

        def layout(a: int, b: int) -> Iterator[Segment]:
            yield Segment(a, b, None if pa is None else pa + a - start, attributes)

        assembler = Assembler(self.fmt, SplitRules(self.sizes(), "recorded"), _RECIPES, (), True, False, "vectors")
        planner = Planner(self.arena, self.tables, assembler, self.root_pa)
        request = PlanRequest(((start, end),), layout, merge=pa is None)
        self.executor.run(step for _, step in planner.plan("vectors", request).plan.steps())

    def _unmap(self, op: Op) -> str:
        self.unmap(op.iova, op.size, op.unmapped)
        return ""

    def unmap(self, iova: int, size: int, most: int | None = None) -> int:
        """Remove leaves, and say how many bytes: none from one's inside on, all of one that the end lies inside.

        ``most``: stop after so many bytes. Drivers differ in whether they stop at a gap, or before a leaf that the
        end lies inside; their choice is recorded.
        """
        end = iova + size
        first, last = self._at(iova), self._at(end - 1)
        if (first and first.iova != iova) or isinstance(self.fmt.start(0, end - 1), WalkFault):
            return 0
        if last:
            end = max(end, last.iova + (1 << last.size_lg2))
        gone = 0
        for leaf in sorted(self._leaves(iova, end), key=lambda each: each.iova):
            if most is not None and gone >= most:
                end = leaf.iova
                break
            gone += 1 << leaf.size_lg2
        if end > iova:
            self._request(iova, end, None, 0)
        return gone

    def _at(self, iova: int) -> Leaf | None:
        found = walk(self.arena.load, self.fmt, self.fmt.start(self.root_pa, iova))
        return found if isinstance(found, Leaf) else None

    def _leaves(self, start: int, end: int) -> Iterator[Leaf]:
        return table_leaves(self.arena, self.fmt, self.root_pa, start, end)

    # -- dirty bits

    def _write(self, op: Op) -> str:
        """What a walker does on a write: D in the entry that it used."""
        leaf = self._at(op.iova)
        if (leaf is None) != (op.ret != 0):
            return f"{op.iova:#x} is {'not ' if leaf is None else ''}mapped"
        if leaf is not None:
            ones, zeros = self.fmt.dirty_bits(leaf.level)
            pa = self._entries(leaf)[(op.iova - leaf.iova) >> self.fmt.levels[leaf.level].lo]
            self.arena.store(pa, (self.arena.load(pa) | ones) & ~zeros)
        return ""

    def _read_dirty(self, op: Op) -> str:
        """Dirty leaves of a range, a run as one; D is cleared in all their entries unless ``noclear``."""
        found = []
        for leaf in list(self._leaves(op.iova, op.iova + op.size)):
            ones, zeros = self.fmt.dirty_bits(leaf.level)
            entries = self._entries(leaf)
            words = [self.arena.load(pa) for pa in entries]
            if not any(word & ones or ~word & zeros for word in words):
                continue
            found.append((leaf.iova, leaf.iova + (1 << leaf.size_lg2)))
            if not op.noclear:
                for pa, word in zip(entries, words, strict=True):
                    self.arena.store(pa, word & ~ones | zeros)
        recorded = [(iova, iova + size) for iova, size in op.dirty]
        if joined(found) == joined(recorded):
            return ""
        return f"dirty is {_ranges(sorted(found))}, not {_ranges(recorded)}"

    def _entries(self, leaf: Leaf) -> list[int]:
        """Addresses of the entries that make up a leaf."""
        at: Position | Leaf | WalkFault = self.fmt.start(self.root_pa, leaf.iova)
        level = self.fmt.levels[leaf.level]
        while isinstance(at, Position) and at.level != leaf.level:
            above = self.fmt.levels[at.level]
            index = at.iova >> above.lo & ((1 << above.bits) - 1)
            at = self.fmt.step(at, self.arena.load(at.table_pa + 8 * index))
        if not isinstance(at, Position):
            raise TypeError(f"no table of level {leaf.level} leads to {leaf.iova:#x}")
        first = at.table_pa + 8 * (leaf.iova >> level.lo & ((1 << level.bits) - 1))
        return [first + 8 * i for i in range(1 << max(0, leaf.size_lg2 - level.lo))]


def replayed(fmt: PageFormat, case: Case, config: dict[str, Any]) -> "Iterator[tuple[int, Replay, str]]":
    """The address space before the first operation (0) and after each (counted), with what came out otherwise."""
    replay = Replay.of(fmt, config)
    try:
        yield 0, replay, ""
        for number, op in enumerate(case.ops, 1):
            yield number, replay, replay.do(op)
    finally:
        replay.close()


def _ranges(ranges: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"[{start:#x}, {end:#x})" for start, end in ranges) or "nothing"
