"""Memory as the walkers of a replay may read it: the words, and the older ones that have not gone out of sight yet."""

from attrs import define, field

from hitless.bits import U64Array
from hitless.memory import PhysicalMemory
from hitless.plan import Clean, Fill, Step, Store, StoreStructure


@define(eq=False)
class _Older:
    """What one store or Fill overwrote, from ``pa`` on; ``cleaned``: the next barrier ends it."""

    pa: int
    words: U64Array
    cleaned: bool

    @property
    def end(self) -> int:
        return self.pa + 8 * len(self.words)


@define(eq=False)
class Readable:
    """The words that a walker may read.

    Args:
        memory: as the steps leave it.
        coherent: walkers snoop, so that a barrier alone makes a store visible.
    """

    memory: PhysicalMemory
    coherent: bool
    _older: list[_Older] = field(factory=list)

    def before(self, step: Step) -> None:
        """A step is about to be done: keep what it overwrites."""
        if isinstance(step, Store):
            self._keep(step.pa, 1)
        elif isinstance(step, StoreStructure):
            self._keep(step.pa, len(step.new))
        elif isinstance(step, Fill):
            self._keep(step.pa, 1 << step.size_lg2 - 3)

    def _keep(self, pa: int, count: int) -> None:
        self._older.append(_Older(pa, self.memory.view(pa, count).copy(), self.coherent))

    def clean(self, step: Clean) -> None:
        """A range leaves the CPU's cache."""
        for each in self._older:
            each.cleaned = each.cleaned or (step.pa <= each.pa and each.end <= step.pa + step.size)

    def barrier(self) -> None:
        """What was stored before, and cleaned where that is needed, is all that can be read from now on."""
        self._older = [each for each in self._older if not each.cleaned]

    def older(self, pa: int) -> list[int]:
        """The words that may be read instead of what memory holds, the oldest first."""
        found = [int(each.words[(pa - each.pa) >> 3]) for each in self._older if each.pa <= pa < each.end]
        now = self.memory.load(pa)
        return [word for word in dict.fromkeys(found) if word != now]

    def why(self, pa: int) -> str:
        """Why an older word of an address may be read; empty: none may."""
        if not self.older(pa):
            return ""
        if all(each.cleaned for each in self._older if each.pa <= pa < each.end):
            return "no barrier stands behind the store yet"
        return "the store was not pushed out of the CPU's cache, and this walker does not snoop"
