"""The executor: does a plan's steps, one after the other, on memory and units."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import attrs
import numpy as np
from attrs import define, field

from hitless.bits import MASK64, U64Array, fill_ramp
from hitless.columns import Blocks
from hitless.errors import CallFailed, Raced, UnitTimeout
from hitless.memory import PhysicalMemory
from hitless.plan import (
    Barrier,
    Bulk,
    Call,
    Clean,
    Cleans,
    Fill,
    Fills,
    Fold,
    Invalidate,
    Invalidates,
    Own,
    Owns,
    PlanStep,
    Release,
    Step,
    Store,
    Stores,
    StoreStructure,
    Wait,
    format_step,
    singles,
)
from hitless.refresh.batch import bulk
from hitless.refresh.build import Tables, free_blocks
from hitless.refresh.commands import Words


class Port(Protocol):
    """What the executor needs of a unit; ``held``: no request is made, whatever it waits for."""

    name: str
    fenced: bool
    held: bool

    def submit(self, words: Words) -> None:
        """Write one command to the queue and ring the doorbell; waits for room in a full queue."""

    def complete(self) -> None:
        """Submit a wait and poll until it has completed; raises UnitTimeout."""


class OwnerChanges(Protocol):
    """What the executor needs of an owner table."""

    def apply(self, own: Own) -> None:
        """Change owners; may raise OwnerChangeRefused."""


class Answer(NamedTuple):
    """What firmware says to a call.

    Args:
        done: how many of the effects that were left it has done, in order.
        refused: why it will not do the rest; empty: it is done, or busy.
    """

    done: int
    refused: str = ""


_RAMPS = 64
"""So many increments are known at a time."""
_CALLS = 64
"""So often a call that is answered busy, or partial, is made again."""


def _obeys(call: Call, done: int) -> Answer:
    """Firmware that does all that it is asked."""
    return Answer(len(call.effects) - done)


@define
class Counters:
    """What an executor did to reachable entries and units."""

    stores: int = 0
    invalidations: int = 0
    invalidated_pages: int = 0
    waits: int = 0
    calls: int = 0


def _quiet(step: Step | None) -> None:
    """Nothing between the steps."""


@define
class Executor:
    """Executes steps on one machine.

    Args:
        memory, tables: where tables lie and come from.
        ports: units by name.
        owners: the owner table that Own steps change.
        between: called before and after every step with the step that follows (None after the
            last): where DMA goes on.
        covered: pages that an encoded command covers, for counting.
        firmware: answers a call of which so many effects are done already.
        left: of a call in which a unit did not answer, what was still to be done.
    """

    memory: PhysicalMemory
    tables: Tables
    ports: Mapping[str, Port]
    owners: OwnerChanges
    between: Callable[[Step | None], None] = _quiet
    covered: Callable[[str, Words], int] = lambda _unit, _words: 0
    firmware: Callable[[Call, int], Answer] = _obeys
    counters: Counters = field(factory=Counters)
    left: list[Call] = field(factory=list)
    _ramps: dict[int, U64Array] = field(factory=dict, init=False)
    _actions: Mapping[type[PlanStep], Callable[[Any], None]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._actions = {
            Store: self._store,
            StoreStructure: self._store_structure,
            Invalidate: self._invalidate,
            Wait: self._wait,
            Fill: self._fill,
            Own: self._own,
            Call: self._call,
            Release: self._release,
            Barrier: self._order,
            Clean: self._order,
        }

    def run(self, steps: Iterable[PlanStep]) -> None:
        """Do the steps in order.

        Raises:
            Raced: an entry held what neither plan nor hardware puts there.
            UnitTimeout: a unit did not answer; its port is fenced by the caller.
            OwnerChangeRefused: from an Own step.
            CallFailed: a call was refused, or never done.
        """
        if self.between is _quiet:
            for each in steps:
                self._actions.get(type(each), self._do_many)(each)
            return
        for step in singles(steps):
            if self.between is not _quiet:
                self.between(step)
            self._do(step)
        if self.between is not _quiet:
            self.between(None)

    def _do_many(self, step: Bulk) -> None:
        """A batch of steps at once: there is nobody who could look between them."""
        match step:
            case Fills():
                bulk.fill(self.memory, step)
            case Stores():
                self._store_many(step)
            case Cleans():
                pass
            case Invalidates() | Owns():
                for each in step.singles():
                    self._do(each)

    def _store_many(self, step: Stores) -> None:
        """Compare-and-exchange of all; those that held something else are then done one by one, in order."""
        found = self.memory.exchange(step.pa, step.expected, step.new)
        differs = np.flatnonzero(found != step.expected)
        self.counters.stores += len(step) - len(differs)
        for number in differs.tolist():
            self._store(step.single(number))

    def _do(self, step: Step) -> None:
        self._actions[type(step)](step)

    def _invalidate(self, step: Invalidate) -> None:
        port, counters = self.ports[step.unit], self.counters
        if not port.fenced:
            port.submit(step.words)
            counters.invalidations += 1
            counters.invalidated_pages += self.covered(step.unit, step.words)

    def _wait(self, step: Wait) -> None:
        port = self.ports[step.unit]
        if not port.fenced:
            port.complete()
            self.counters.waits += 1

    def _own(self, step: Own) -> None:
        self.owners.apply(step)

    def _order(self, step: Barrier | Clean) -> None:
        """This machine's stores are visible in order, and its walkers snoop."""

    def _call(self, call: Call) -> None:
        """Make a call until it is done; what it does is done as if by the host."""
        done = 0
        for _ in range(_CALLS):
            self.counters.calls += 1
            answer = self.firmware(call, done)
            self._serve(call, done, answer.done)
            done += answer.done
            if done == len(call.effects):
                return
            if answer.refused:
                raise CallFailed(call.op, done, answer.refused, where=format_step(call))
            self.between(None)
        raise CallFailed(call.op, done, "", where=format_step(call))

    def _serve(self, call: Call, done: int, count: int) -> None:
        """What firmware does in one go, after what it has done before; between two such, requests go on."""
        for port in self.ports.values():
            port.held = call.held
        try:
            for effect in call.effects[done : done + count]:
                done += 1
                self._do(effect)
                if not call.held:
                    self.between(None)
        except UnitTimeout:
            if rest := call.effects[done:]:
                self.left.append(attrs.evolve(call, effects=rest))
            raise
        finally:
            for port in self.ports.values():
                port.held = False

    def _fill(self, fill: Fill) -> None:
        memory = self.memory
        for pa, entries, first, increment in fill.runs:
            np.add(self._ramp(entries, increment), np.uint64(first), memory.view(pa, entries))
        for pa, word in fill.overrides:
            memory.store(pa, word)

    def _ramp(self, entries: int, increment: int) -> U64Array:
        """0, increment, ...: of the few increments that there are, a ramp is made once."""
        found = self._ramps.get(increment)
        if found is None or len(found) < entries:
            if len(self._ramps) >= _RAMPS:
                self._ramps.clear()
            found = np.empty(max(entries, 512), dtype=np.uint64)
            fill_ramp(found, 0, increment)
            self._ramps[increment] = found
        return found[:entries]

    def _store(self, step: Store) -> None:
        """Compare-and-exchange until memory holds the new word; fold what hardware set meanwhile."""
        expected, new = step.expected, step.new
        while (found := self.memory.compare_exchange(step.pa, expected, new)) != expected:
            if (found ^ step.expected) & ~step.hardware & MASK64:
                raise Raced(
                    f"entry at {step.pa:#x} holds {found:#x}, not {step.expected:#x}",
                    where=format_step(step),
                    why="neither this plan nor hardware stores such a word there",
                    do="two writers reach one table: every write has to be a plan",
                )
            for pa, count in (*step.fold, *step.spread):
                self._change(pa, count, *_by_hardware(step, found))
            expected, new = found, step.new if step.fold else self._folded(step, found)
        self.counters.stores += 1

    def _store_structure(self, step: StoreStructure) -> None:
        """Nothing happens in this machine between the words of one step: two of them are one store."""
        for i, (expected, new) in enumerate(zip(step.expected, step.new, strict=True)):
            found = self.memory.compare_exchange(step.pa + 8 * i, expected, new)
            if found != expected:
                raise Raced(
                    f"structure at {step.pa + 8 * i:#x} holds {found:#x}, not {expected:#x}",
                    who=step.unit,
                    where=format_step(step),
                    do="two writers reach one structure: every change has to be a plan",
                )
        self.counters.stores += 1

    def _folded(self, step: Store, found: int) -> int:
        """The new word with what hardware changed in the old one; an emptied entry keeps none."""
        if not step.new:
            return 0
        ones, zeros = _by_hardware(step, found)
        return (step.new | ones) & ~zeros

    def _change(self, pa: int, count: int, ones: int, zeros: int) -> None:
        """Set and clear bits in entries that walkers may change at the same time; what is empty stays so."""
        for at in range(pa, pa + 8 * count, 8):
            found = self.memory.load(at)
            while found and (new := (found | ones) & ~zeros) != found:
                found = self.memory.compare_exchange(at, found, new)

    def _release(self, step: Release) -> None:
        for fold in step.fold:
            for i in range(fold.times):
                self._fold(fold, fold.entry_pa + 8 * i * fold.targets, fold.table_pa + 8 * i * fold.entries)
        if any(port.fenced for port in self.ports.values()):
            return  # a unit that never answered may walk them still: they are never freed
        if isinstance(step.tables, Blocks):
            free_blocks(self.tables, step.tables)
            return
        for pa, size_lg2 in step.tables:
            self.tables.free(pa, size_lg2)

    def _fold(self, fold: Fold, entry_pa: int, table_pa: int) -> None:
        ones, both = 0, MASK64
        for word in self.memory.view(table_pa, fold.entries).tolist():
            if word:
                ones, both = ones | word, both & word
        self._change(entry_pa, fold.targets, ones & fold.hardware, ~both & fold.clears)


def _by_hardware(step: Store, found: int) -> tuple[int, int]:
    """The bits that hardware set, and those that it cleared, in an entry that was expected to hold another word."""
    return found & ~step.expected & step.hardware, step.expected & ~found & step.hardware
