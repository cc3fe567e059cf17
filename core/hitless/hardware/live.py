"""Changes of live structures as steps of a plan: a new root, a device that comes, goes, moves or is cut off.

A vendor says in rounds how one entry comes to say something else; a plan is what they are carried out by, checked
by and shown as.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from attrs import define, field

from hitless.hardware.structures import Fetch, StructureEntry, Structures
from hitless.plan import Barrier, Clean, Invalidate, Step, StoreStructure, Wait
from hitless.units import WORD_MAX


@define
class Later:
    """Memory as it will be after the structure stores of some steps."""

    memory: Callable[[int], int]
    words: dict[int, int] = field(factory=dict)

    def load(self, pa: int) -> int:
        """The word at an address."""
        word = self.words.get(pa)
        return self.memory(pa) if word is None else word

    def after(self, steps: Iterable[Step]) -> None:
        """Take in what steps store to structures."""
        for step in steps:
            if isinstance(step, StoreStructure):
                self.words.update((step.pa + 8 * i, word) for i, word in enumerate(step.new))


class Round(NamedTuple):
    """Stores, each ordered before the next; then, ordered behind them, commands; then a wait of each unit with any."""

    stores: list[Step]
    commands: list[Invalidate]


def change_rounds(
    unit: str,
    structures: Structures,
    base: int,
    entry: StructureEntry,
    what: str,
    load: Callable[[int], int],
    *,
    coherent: bool,
) -> list[Round]:
    """How one live entry of a unit comes to say something else.

    Args:
        unit: whose entry.
        structures: the vendor's.
        base: the unit's register.
        entry: what it shall say.
        what: why, for people: as :class:`hitless.plan.StoreStructure` has it.
        load: reads one word.
        coherent: whether the unit snoops the CPU's caches; if not, every store is cleaned.

    Raises:
        HitlessError: the structures cannot say it.
    """
    rounds: list[Round] = []
    later = Later(load)
    for each in structures.change(base, entry, load):
        stores: list[Step] = []
        for pa, expected, new in each.stores:
            name = _structure_at(structures, base, entry, later.load, pa)
            store = StoreStructure(unit, entry.device, entry.pasid, name, what, pa, expected, new)
            stores += [*([Barrier()] if stores else []), store, *([] if coherent else [Clean(pa, 8 * len(new))])]
            later.after([store])
        rounds.append(Round(stores, [Invalidate(unit, entry.tag, words, 0, WORD_MAX) for words in each.commands]))
    return rounds


def joined_rounds(changes: Sequence[Sequence[Round]]) -> list[Step]:
    """The steps of several changes side by side: all first rounds, then all second ones, ..."""
    steps: list[Step] = []
    for number in range(max(map(len, changes), default=0)):
        now = [rounds[number] for rounds in changes if number < len(rounds)]
        commands = [command for each in now for command in each.commands]
        stores = [step for each in now for step in each.stores]
        steps += [*stores, Barrier(), *commands] if stores else commands
        steps += [Wait(unit) for unit in dict.fromkeys(command.unit for command in commands)]
    return steps


def _structure_at(structures: Structures, base: int, entry: StructureEntry, load: Callable[[int], int], pa: int) -> str:
    """The name of the structure that a request reads at an address; empty: it does not come so far."""
    at = structures.start(base, entry.device, entry.pasid)
    while isinstance(at, Fetch) and at.stage2 is None:
        if at.pa <= pa < at.pa + 8 * at.words:
            return at.structure
        at = structures.step(at, tuple(load(at.pa + 8 * i) for i in range(at.words)))
    return ""
