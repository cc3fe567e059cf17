"""Hardware that marks pages accessed and dirty while a plan runs, at a chosen moment: rule D1."""

from collections.abc import Callable, Sequence

from attrs import define, field

from hitless.bits import U64Array
from hitless.check.stage import Stage
from hitless.iommufd import Domain
from hitless.memory import Arena
from hitless.pagetable import Leaf, Position, WalkFault, entry_pa
from hitless.plan import Clean, Invalidate, Step, Wait


@define(eq=False)
class RacingMemory:
    """An arena that lets somebody in before each compare-and-exchange."""

    arena: Arena
    before: Callable[[], None]

    def compare_exchange(self, pa: int, expected: int, new: int) -> int:
        self.before()
        return self.arena.compare_exchange(pa, expected, new)

    def exchange(self, pas: U64Array, expected: U64Array, new: U64Array) -> U64Array:
        self.before()
        return self.arena.exchange(pas, expected, new)

    def load(self, pa: int) -> int:
        return self.arena.load(pa)

    def store(self, pa: int, word: int) -> None:
        self.arena.store(pa, word)

    def store32(self, pa: int, word: int) -> None:
        self.arena.store32(pa, word)

    def view(self, pa: int, count: int) -> U64Array:
        return self.arena.view(pa, count)

    def gather(self, pas: U64Array) -> U64Array:
        return self.arena.gather(pas)

    def scatter(self, pas: U64Array, words: U64Array) -> None:
        self.arena.scatter(pas, words)

    def contains(self, pa: int, size: int) -> bool:
        return self.arena.contains(pa, size)


@define(eq=False)
class Race:
    """Writes to pages at chosen moments of a run; a moment is between two steps, or before a compare-and-exchange.

    Args:
        writes: (moment, IOVA): the device writes to the page then.
        holds: the walker found the pages' entries before the plan, and uses them as long as it may.
        copy: of a run it marks the entry so many behind the page's own, round about.
        moments: how many there have been.
        written: pages that were really written to, by way of an entry that marks them.
    """

    stage: Stage
    domain: Domain
    writes: Sequence[tuple[int, int]]
    holds: bool
    copy: int = 0
    moments: int = 0
    written: list[int] = field(factory=list)
    _held: dict[int, tuple[int, int]] = field(factory=dict)
    _moved: set[int] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        if self.holds:
            self._held = {iova: found for _, iova in self.writes if (found := self._entry(iova)) is not None}

    def run(self, do: Callable[[], object]) -> None:
        """Let hardware write while something runs."""
        executor = self.domain.executor
        memory, between = executor.memory, executor.between
        executor.memory = RacingMemory(self.stage.machine.arena, self._moment)
        executor.between = self._step
        try:
            do()
        finally:
            executor.memory, executor.between = memory, between

    def _step(self, step: Step | None) -> None:
        """The wait behind a change ends what the walker may hold of the old tables."""
        if not isinstance(step, Invalidate | Clean):  # between commands nothing differs
            self._moment()
        if isinstance(step, Wait):
            self._moved |= {iova for iova, held in self._held.items() if self._entry(iova) != held}

    def _moment(self) -> None:
        for at, iova in self.writes:
            if at == self.moments:
                self._write(iova)
        self.moments += 1

    def _write(self, iova: int) -> None:
        """What a walker does for a write: it marks the leaf that translates it, in one piece."""
        found = self._held.get(iova) if iova not in self._moved else None
        found = found or self._entry(iova)
        if found is None:
            return
        pa, level = found
        fmt, arena = self.domain.vendor.page_format, self.stage.machine.arena
        word = arena.load(pa)
        if not (fmt.present(word) and fmt.is_leaf(word, level)):
            return
        own, count = (iova >> fmt.levels[level].lo), 1 << fmt.leaf_size(int(fmt.leaf_lg2(word, level))).entries_lg2
        pa += 8 * ((own + self.copy) % count - own % count)
        arena.store(pa, marked(self.domain, arena.load(pa), level))
        self.written.append(iova)

    def _entry(self, iova: int) -> tuple[int, int] | None:
        """Address and level of the leaf entry that translates an IOVA."""
        found = self._walk(iova)
        return None if isinstance(found, WalkFault) else found

    def _walk(self, iova: int) -> tuple[int, int] | WalkFault:
        fmt, arena = self.domain.vendor.page_format, self.stage.machine.arena
        at = fmt.start(self.domain.planner.root_pa, iova)
        while isinstance(at, Position):
            level, pa = at.level, entry_pa(fmt.levels[at.level], at.table_pa, iova)
            found = fmt.step(at, arena.load(pa))
            if isinstance(found, Leaf):
                return pa, level
            at = found
        return at

    def forgotten(self) -> list[int]:
        """Pages that were written to, are mapped, and are marked nowhere."""
        return [iova for iova in self.written if not self._is_marked(iova)]

    def _is_marked(self, iova: int) -> bool:
        """Whether any entry of the leaf that translates a page is marked."""
        found = self._walk(iova)
        if isinstance(found, WalkFault):
            return found.kind == "not-present"  # not mapped: it was reported when it was unmapped
        pa, level = found
        fmt, arena = self.domain.vendor.page_format, self.stage.machine.arena
        size = fmt.leaf_size(int(fmt.leaf_lg2(arena.load(pa), level)))
        count = 1 << size.entries_lg2
        first = pa - 8 * ((iova >> fmt.levels[level].lo) % count)
        words = [arena.load(first + 8 * i) for i in range(count)]
        return any(word == marked(self.domain, word, level) for word in words)


def marked(domain: Domain, word: int, level: int) -> int:
    """A leaf as hardware leaves it after a write."""
    fmt = domain.vendor.page_format
    clears = fmt.hardware_clears(level)
    return (word | fmt.hardware_set(level)) & ~clears
