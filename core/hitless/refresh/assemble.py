"""From changes to a plan: recipes, rounds of all changes joined, invalidations merged, one wait a round."""

from collections.abc import Iterable, Sequence

from attrs import frozen

from hitless.errors import Refused
from hitless.pagetable import PageFormat
from hitless.plan import Barrier, Clean, Fill, Invalidate, Release, Step, Store, Wait
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Encoder, Target, Words, join_targets
from hitless.refresh.recipes import Impossible, Recipe, Recipes, Scope, SplitRules


@frozen
class UnitPort:
    """A unit that a domain is attached to, as its plans see it.

    ``devices`` are the ids of attached devices with ATS on.
    """

    name: str
    tag: int
    encoder: Encoder
    devices: tuple[int, ...] = ()


@frozen
class Assembler:
    """Turns changes into steps for one address space.

    Args:
        coherent: whether the walkers snoop the CPU's caches; if not, every store is cleaned.
        allow_break: use a breaking recipe where there is no hitless one, instead of refusing.
    """

    fmt: PageFormat
    rules: SplitRules
    recipes: Recipes
    units: tuple[UnitPort, ...]
    coherent: bool
    allow_break: bool
    who: str

    def recipe(self, change: Change) -> Recipe:
        """The recipe for a change.

        Raises:
            Refused: there is no hitless one, and breaking is not allowed.
        """
        found = self.recipes.of(change.kind)
        if isinstance(found, Recipe):
            return found
        if self.allow_break and found.breaking is not None:
            return found.breaking
        raise self._refusal(found, change)

    def _refusal(self, found: Impossible, change: Change) -> Refused:
        return Refused(
            found.reason,
            f"cannot {change.kind} a live entry hitlessly",
            who=self.who,
            where=f"{self.fmt.levels[change.level]} iova {change.iova:#x} entry {change.old:#x}",
            rule=f"N1: DMA to a neighbour never faults ({found.source})",
            why=found.why,
            do=found.do,
        )

    def prepare(self, fills: Iterable[Fill]) -> list[Step]:
        """Fill the new tables, push them out of the cache where a walker does not snoop, and order them."""
        steps: list[Step] = list(fills)
        if not steps:
            return []
        if not self.coherent:
            steps += [Clean(fill.pa, 1 << fill.size_lg2) for fill in steps if isinstance(fill, Fill)]
        return [*steps, Barrier()]

    def isolate(self, changes: Changes) -> list[Step]:
        """Everything that has to stand before the owner changes."""
        return self._stage(changes.cut) + self._stage(changes.wipe)

    def refresh(self, changes: Changes) -> list[Step]:
        """Everything that follows the owner change; frees tables at its end."""
        steps = self._stage(changes.place, changes.owed) + self._stage(changes.merge)
        if changes.unlinked or changes.freed:
            steps.append(Release([*changes.unlinked, *changes.freed], list(changes.folds)))
        return steps

    def _stage(self, changes: Sequence[Change], owed: Sequence[Target] = ()) -> list[Step]:
        """The rounds of one stage: all changes' first stores, what closes them, all second stores, ..."""
        steps: list[Step] = []
        recipes = [self.recipe(change) for change in changes]
        words = [change.old for change in changes]
        for number in range(max((len(recipe.rounds) for recipe in recipes), default=1 if owed else 0)):
            targets = list(owed) if number == 0 else []
            stores: list[Step] = []
            for i, (change, recipe) in enumerate(zip(changes, recipes, strict=True)):
                if number >= len(recipe.rounds):
                    continue
                this = recipe.rounds[number]
                word = this.word(change.old, change.new)
                stores += self._store(change, words[i], word, number if len(recipe.rounds) > 1 else None)
                words[i] = word
                if this.scope is not Scope.NONE:
                    targets.append(change.target._replace(tables=this.scope is Scope.TABLE))
            steps += stores
            if stores:
                steps.append(Barrier())
            if targets:
                steps += self._close(join_targets(targets))
        return steps

    def _store(self, change: Change, expected: int, word: int, number: int | None) -> list[Step]:
        hardware = self._hardware(expected, change.level)
        what = change.kind if number is None else f"{change.kind}-{number + 1}"
        store = Store(change.pa, expected, word, hardware, what, change.level, change.iova)
        if word == change.new:
            store.fold = change.fold
        return [store] if self.coherent else [store, Clean(change.pa, 8)]

    def _hardware(self, word: int, level: int) -> int:
        """Bits that a walker may set in an entry while it stands: A and D of a leaf, A of a pointer."""
        if not self.fmt.present(word):
            return 0
        if self.fmt.is_leaf(word, level):
            return self.fmt.hardware_set(level)
        layout = self.fmt.layout("table", level)
        return layout.hardware if layout else 0

    def _close(self, targets: Sequence[Target]) -> list[Step]:
        """Invalidate on every unit, and wait for every unit."""
        steps: list[Step] = []
        late: list[Step] = []
        for unit in self.units:
            steps += self._commands(unit, targets)
            devices = [step for device in unit.devices for step in self._atc(unit, targets, device)]
            if devices and unit.encoder.atc_after_wait:
                late += devices
            else:
                steps += devices
        steps += [Wait(name) for name in dict.fromkeys(unit.name for unit in self.units)]
        if late:
            steps += late
            steps += [Wait(name) for name in dict.fromkeys(unit.name for unit in self.units if unit.devices)]
        return steps

    def _commands(self, unit: UnitPort, targets: Sequence[Target]) -> list[Step]:
        steps: list[Step] = []
        for target in targets:
            steps += _invalidates(unit, target, unit.encoder.invalidate(target, unit.tag))
            if len(steps) > self.rules.whole_tag_commands:
                whole = Target(targets[0].first, max(t.last for t in targets), 12, None, True)
                return list(_invalidates(unit, whole, unit.encoder.invalidate_tag(unit.tag)))
        return steps

    def _atc(self, unit: UnitPort, targets: Sequence[Target], device: int) -> list[Step]:
        return [
            step
            for target in targets
            for step in _invalidates(unit, target, unit.encoder.invalidate_device(target, device))
        ]


def _invalidates(unit: UnitPort, target: Target, commands: Sequence[Words]) -> list[Step]:
    return [Invalidate(unit.name, unit.tag, words, target.first, target.last) for words in commands]
