"""Batches of changes as the rounds of a plan: what :class:`hitless.refresh.assemble.Assembler` does one by one."""

from collections.abc import Iterator, Sequence

import numpy as np

from hitless.bits import BoolArray, U64Array, as_words
from hitless.plan import Barrier, Cleans, Fills, Folds, PlanStep, Release, Stores
from hitless.refresh.assemble import Assembler
from hitless.refresh.batch.changes import BatchChanges, ChangeBatch, Stage, Targets, folds_between
from hitless.refresh.batch.spans import u64
from hitless.refresh.batch.words import hardware_bits, kinds
from hitless.refresh.recipes import Recipe, Scope

_WORD = 8


def prepare(assembler: Assembler, fills: Sequence[Fills]) -> list[PlanStep]:
    """Fill the new tables, push them out of the cache where a walker does not snoop, and order them."""
    steps: list[PlanStep] = [each for each in fills if len(each.pa)]
    if not steps:
        return []
    if not assembler.coherent:
        steps += [Cleans(each.pa, 1 << each.size_lg2) for each in fills if len(each.pa)]
    return [*steps, Barrier()]


def isolate(assembler: Assembler, changes: BatchChanges) -> list[PlanStep]:
    """Everything that has to stand before the owner changes."""
    return [*_stage(assembler, changes.cut), *_stage(assembler, changes.wipe)]


def refresh(assembler: Assembler, changes: BatchChanges) -> list[PlanStep]:
    """Everything that follows the owner change; frees tables at its end."""
    steps = list(_stage(assembler, changes.place, changes.owed))
    if len(changes.unlinked):
        steps.append(Release(changes.unlinked))
    return steps


def _stage(assembler: Assembler, stage: Stage, owed: Targets | None = None) -> Iterator[PlanStep]:
    """The rounds of one stage: all first stores, what closes them, all second stores, ..."""
    recipes = [assembler.recipe(batch.first) for batch in stage.batches]
    words = [batch.old for batch in stage.batches]
    rounds = max((len(recipe.rounds) for recipe in recipes), default=1 if owed else 0)
    for number in range(rounds):
        targets = [owed] if owed and number == 0 else []
        stored = False
        for i, (batch, recipe) in enumerate(zip(stage.batches, recipes, strict=True)):
            if number >= len(recipe.rounds):
                continue
            this = recipe.rounds[number]
            word = np.broadcast_to(as_words(this.word(batch.old, batch.new)), batch.old.shape)
            for stores in _stores(assembler, batch, recipe, number, words[i], word):
                yield stores
                if not assembler.coherent:
                    yield Cleans(stores.pa, _WORD)
            stored = True
            if this.scope is not Scope.NONE:
                standing = words[i] if number else None
                targets.append(_owing(assembler, batch, standing, tables=this.scope is Scope.TABLE))
            words[i] = word
        if stored:
            yield Barrier()
        if targets:
            yield from assembler.close(Targets.all_of(targets).joined())


def _owing(assembler: Assembler, batch: ChangeBatch, standing: U64Array | None, *, tables: bool) -> Targets:
    """What a cache may hold of the old words, or of those that an earlier round stored."""
    targets = batch.targets
    targets.tables = np.broadcast_to(np.bool_(tables), targets.first.shape)
    if standing is not None:
        leaf, _ = kinds(assembler.fmt, standing, batch.level.number)
        targets.level = np.where(leaf, u64(batch.level.number), targets.level)
    return targets


def _stores(
    assembler: Assembler, batch: ChangeBatch, recipe: Recipe, number: int, expected: U64Array, word: U64Array
) -> Iterator[Stores]:
    """One round's stores of a batch: together, as far as hardware may change the same bits of what stands there."""
    what = batch.kind if len(recipe.rounds) == 1 else f"{batch.kind}-{number + 1}"
    level = batch.level.number
    folds = _folding(batch, word)
    # All entries of a batch are leaves, pointers or empty at first; what an earlier round stored may be anything.
    known = [(None, hardware_bits(assembler.fmt, int(expected[0]), level))] if number == 0 else None
    for which, bits in known or _by_hardware(assembler, expected, level):
        if which is None:
            yield Stores(what, level, bits, batch.pa, expected, word, batch.iova, folds)
        else:
            index = np.flatnonzero(which)
            mine = None if folds is None else folds_between(folds, folds.first[index], folds.first[index + 1])
            pa, iova = batch.pa[which], batch.iova[which]
            yield Stores(what, level, bits, pa, expected[which], word[which], iova, mine)


def _by_hardware(assembler: Assembler, words: U64Array, level: int) -> Iterator[tuple[BoolArray | None, int]]:
    """The entries by what a walker may set in them: leaves, pointers, or nothing."""
    leaf, pointer = kinds(assembler.fmt, words, level)
    for which in (leaf, pointer, ~(leaf | pointer)):
        if which.any():
            bits = hardware_bits(assembler.fmt, int(words[int(np.argmax(which))]), level)
            yield None if which.all() else which, bits


def _folding(batch: ChangeBatch, word: U64Array) -> Folds | None:
    """Where A and D of what is replaced go, of those stores whose word cannot hold them."""
    if batch.folds is None:
        return None
    folded = (word == 0) | (word == batch.new)
    if folded.all():
        return batch.folds
    if not folded.any():
        return None
    first, stop = batch.folds.first[:-1], batch.folds.first[1:]
    return folds_between(batch.folds, first, np.where(folded, stop, first))


__all__ = ["isolate", "prepare", "refresh"]
