"""From changes to a plan: recipes, rounds of all changes joined, invalidations merged, one wait a round."""

from collections.abc import Iterable, Sequence
from functools import partial

from attrs import field, frozen

from hitless.errors import Refused
from hitless.pagetable import LeafSize, PageFormat
from hitless.plan import Barrier, Call, Clean, Fill, Invalidate, Release, Step, Store, Wait
from hitless.refresh.batch.changes import Targets
from hitless.refresh.changes import Change, Changes
from hitless.refresh.commands import Encoder, Target, Words, join_targets
from hitless.refresh.recipes import (
    Impossible,
    Recipe,
    Recipes,
    Round,
    Scope,
    SplitRules,
    empty,
    new_word,
    one_store,
)
from hitless.refresh.target import NO_OWNERS, Owners
from hitless.units import WORD_MAX

_EVERYTHING = Target(0, WORD_MAX, 12, None, tables=True)
_SWAP = one_store(Scope.TABLE, "no translation changes: the new table says what the old one says")
_ROOT_RUN = Impossible(
    "run-in-root",
    "the run stands in the root table, to which no pointer leads that could be swapped, and its entries may not be "
    "rewritten one by one",
    "R1",
    "use a table of more levels, or lay out no runs of this size",
)


@frozen
class UnitPort:
    """A unit that a domain is attached to, as its plans see it.

    ``devices`` are the ids of attached devices with ATS on. ``nested``: their guest's stage 1 stands over these
    tables, so that no range of the domain's says which IOVAs they hold. ``pasid``: of their requests.
    """

    name: str
    tag: int
    encoder: Encoder
    devices: tuple[int, ...] = ()
    nested: bool = False
    pasid: int | None = None


@frozen
class Assembler:
    """Turns changes into steps for one address space.

    Args:
        coherent: whether the walkers snoop the CPU's caches; if not, every store is cleaned.
        allow_break: use a breaking recipe where there is no hitless one, instead of refusing.
        sizes: leaves by level, as the builder has found them.
        names: of the units, each once.
    """

    fmt: PageFormat
    rules: SplitRules
    recipes: Recipes
    units: tuple[UnitPort, ...]
    coherent: bool
    allow_break: bool
    who: str
    sizes: dict[int, list[LeafSize]] = field(factory=dict, init=False, eq=False, repr=False)
    names: tuple[str, ...] = field(init=False, eq=False, repr=False)

    @names.default
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(unit.name for unit in self.units))

    def recipe(self, change: Change) -> Recipe:
        """The recipe for a change.

        Raises:
            Refused: there is no hitless one, and breaking is not allowed.
        """
        found = self._resize(change) if change.kind == "resize" else self.recipes.of(change.kind)
        if isinstance(found, Recipe):
            return self._whole_run(found) if change.kind == "replace" and self._mixes(change) else found
        if found is None:
            found = _ROOT_RUN
        if self.allow_break and found.breaking is not None:
            return found.breaking
        raise self._refusal(found, change)

    @property
    def in_place(self) -> bool:
        """Whether runs are resized by rewriting their entries, instead of swapping the table."""
        return self.fmt.run_mix or self.recipes.resize is not None

    @property
    def joins(self) -> bool:
        """Whether leaves may become runs again: not where that would be refused."""
        resize = self.recipes.resize
        return not isinstance(resize, Impossible) or (self.allow_break and resize.breaking is not None)

    def _resize(self, change: Change) -> Recipe | Impossible | None:
        """A pointer to another table that says the same, or one entry of a run."""
        if not self.fmt.is_leaf(change.old, change.level):
            return _SWAP
        if self.recipes.resize is None and self.fmt.run_mix:
            return one_store(Scope.LEAF, "run_mix")
        return self.recipes.resize

    def _whole_run(self, replace: Recipe) -> Recipe:
        """Replace all entries of a run: they are emptied first, unless the recipe does so itself."""
        if len(replace.rounds) > 1 or not isinstance(self.recipes.map, Recipe):
            return replace
        appears = self.recipes.map.rounds[-1].scope
        return Recipe((Round(empty, Scope.LEAF, "0"), Round(new_word, appears, "new")), replace.source)

    def _mixes(self, change: Change) -> bool:
        """Whether one store would leave a run whose entries lead to different places."""
        return change.target.leaf_lg2 > self.fmt.levels[change.level].lo

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

    def isolate(self, changes: Changes, owners: Owners = NO_OWNERS) -> list[Step]:
        """Everything that has to stand before the owner changes."""
        steps = self._stage(changes.resize, owners)
        if changes.swapped:
            steps.append(Release(list(changes.swapped), list(changes.swap_folds)))
        for stage in (changes.cut, changes.cut_together, changes.wipe):
            if stage:
                steps += self._stage(stage, owners)
        return steps

    def refresh(self, changes: Changes, owners: Owners = NO_OWNERS) -> list[Step]:
        """Everything that follows the owner change; frees tables at its end."""
        steps = self._stage(changes.place, owners, changes.owed)
        for stage in (changes.merge_together, changes.merge, changes.join):
            if stage:
                steps += self._stage(stage, owners)
        if changes.unlinked or changes.freed:
            steps.append(Release([*changes.unlinked, *changes.freed], list(changes.folds)))
        return steps

    def clean(self, changes: Sequence[Change], owners: Owners = NO_OWNERS) -> list[Step]:
        """Take the marks of writes out of leaves; when it has been waited for, every later write is marked."""
        return self._stage(changes, owners)

    def _stage(self, changes: Sequence[Change], owners: Owners, owed: Sequence[Target] = ()) -> list[Step]:
        """The rounds of one stage: all changes' first stores, what closes them, all second stores, ..."""
        steps: list[Step] = []
        if not changes and not owed:
            return steps
        under_way = [(change, self.recipe(change).rounds, change.old) for change in changes]
        targets, number = [*owed], 0
        while under_way or targets:
            stores: list[Step] = []
            left = []
            for change, rounds, old in under_way:
                this, several = rounds[number], len(rounds) > 1
                word = this.word(change.old, change.new)
                store = self._store(change, old, word, number if several else None)
                gone = () if this.scope is Scope.NONE else (self._gone(change, old, number, this.scope),)
                steps_of, closed = self._made(store, change, gone, owners)
                stores += steps_of
                if not closed:
                    targets += gone
                if number + 1 < len(rounds):
                    left.append((change, rounds, word))
            steps += stores
            if Store in map(type, stores):
                steps.append(Barrier())
            if targets:
                steps += owners.close(self.close(join_targets(targets)))
            under_way, targets, number = left, [], number + 1
        return steps

    def _made(
        self, store: Store, change: Change, gone: Sequence[Target], owners: Owners
    ) -> tuple[Sequence[Step], bool]:
        """The steps that make a store, and whether they invalidate what it replaces."""
        if not owners.plain:
            carried = owners.carry(store, change, partial(self.close, gone))
            if carried is not None:
                return carried, any(isinstance(each, Call) and _closes(each) for each in carried)
        return ((store,) if self.coherent else (store, Clean(change.pa, 8))), False

    def _gone(self, change: Change, word: int, number: int, scope: Scope) -> Target:
        """What has to go once a store has replaced a word."""
        target = self._standing(change, word) if number else change.target
        tables = scope is Scope.TABLE
        return target if target.tables is tables else target._replace(tables=tables)

    def _standing(self, change: Change, word: int) -> Target:
        """What a cache may hold of the word that an earlier round stored: what was before it is invalidated."""
        target = change.target
        if not self.fmt.present(word) or not self.fmt.is_leaf(word, change.level):
            return target
        whole = self.fmt.levels[change.level].lo
        return target if target.leaf_lg2 > whole else target._replace(leaf_lg2=whole, level=change.level)

    def _store(self, change: Change, expected: int, word: int, number: int | None) -> Store:
        hardware = self._hardware(expected, change.level)
        what = change.kind if number is None else f"{change.kind}-{number + 1}"
        fold = change.fold if not word or word == change.new else []
        return Store(change.pa, expected, word, hardware, what, change.level, change.iova, fold, change.spread)

    def _hardware(self, word: int, level: int) -> int:
        """Bits that a walker may set in an entry while it stands: A and D of a leaf, A of a pointer."""
        if not self.fmt.present(word):
            return 0
        if self.fmt.is_leaf(word, level):
            return self.fmt.hardware_set(level)
        layout = self.fmt.layout("table", level)
        return layout.hardware if layout else 0

    def close(self, targets: Sequence[Target]) -> list[Invalidate | Wait]:
        """Invalidate joined targets on every unit, and wait for every unit."""
        steps: list[Invalidate | Wait] = []
        between: list[Invalidate | Wait] = []
        late: list[Invalidate | Wait] = []
        for unit in self.units:
            steps += self._commands(unit, targets)
            here = targets
            if unit.nested:
                nested = _invalidates(unit, _EVERYTHING, unit.encoder.invalidate_nested(unit.tag))
                here = [_EVERYTHING]
                if unit.encoder.nested_after_wait:
                    between += nested
                else:
                    steps += nested
            if unit.devices:
                devices = [step for device in unit.devices for step in self._atc(unit, here, device)]
                if unit.encoder.atc_after_wait:
                    late += devices
                else:
                    steps += devices
        steps += [Wait(name) for name in self.names]
        if between:
            steps += between
            steps += _waits([unit for unit in self.units if unit.nested])
        if late:
            steps += late
            steps += _waits([unit for unit in self.units if unit.devices])
        return steps

    def _commands(self, unit: UnitPort, targets: Sequence[Target]) -> list[Invalidate | Wait]:
        limit = self.rules.whole_tag_commands
        if len(targets) <= limit:  # no target takes less than one command
            steps: list[Invalidate | Wait] = []
            for target in targets:
                steps += _invalidates(unit, target, unit.encoder.invalidate(target, unit.tag))
                if len(steps) > limit:
                    break
            else:
                return steps
        last = int(targets.last.max()) if isinstance(targets, Targets) else max(target.last for target in targets)
        whole = Target(targets[0].first, last, 12, None, True)
        return list(_invalidates(unit, whole, unit.encoder.invalidate_tag(unit.tag)))

    def _atc(self, unit: UnitPort, targets: Sequence[Target], device: int) -> list[Invalidate | Wait]:
        pasid = () if unit.pasid is None else (unit.pasid,)
        return [
            step
            for target in targets
            for step in _invalidates(unit, target, unit.encoder.invalidate_device(target, device, *pasid))
        ]


def _invalidates(unit: UnitPort, target: Target, commands: Sequence[Words]) -> list[Invalidate | Wait]:
    name, tag, first, last = unit.name, unit.tag, target.first, target.last
    return [Invalidate(name, tag, words, first, last) for words in commands]


def _waits(units: Sequence[UnitPort]) -> list[Invalidate | Wait]:
    """One wait for each unit."""
    return [Wait(name) for name in dict.fromkeys([unit.name for unit in units])]


def _closes(call: Call) -> bool:
    """Whether a call itself invalidates what its stores replace."""
    return any(isinstance(effect, Wait) for effect in call.effects)
