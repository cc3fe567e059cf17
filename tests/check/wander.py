"""The machine once more, without any short cut: one run of it, move by move, each move drawn at random.

The oracle fills caches as far as they go and forgets nothing. A run here holds what it happens to hold. So runs see
only what the oracle says may be seen; and many runs of a small case see all of it.
"""

import random
from collections.abc import Callable
from itertools import combinations
from typing import TypeVar

from attrs import define, field

from check.mini import Case
from check.oracle import Command, Seen, Use, leads, leads_into, shape, whole
from check.world import READ, WRITE, Found, Leaf, Outcome, Pointer, World
from hitless.plan import Barrier, Call, Invalidate, Own, Step, Store, Wait

T = TypeVar("T")


@define
class Run:
    """One unit and tag, and the moves between two steps."""

    case: Case
    unit: tuple[str, int, tuple[int, ...]]
    rng: random.Random
    world: World = field(init=False)
    root: Pointer = field(init=False)
    pending: dict[tuple[int, int], Command] = field(factory=dict)
    pointers: set[Pointer] = field(factory=set)
    caches: dict[int | None, set[Leaf]] = field(init=False)
    uses: set[Use] = field(factory=set)
    results: set[tuple[str, int | None, int, bool, Outcome]] = field(factory=set)
    pairs: set = field(factory=set)
    freed: set[int] = field(factory=set)
    flown: set[tuple[str, int, bool, int]] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        bits = self.case.facts.bits
        self.world = World(self.case)
        self.root = Pointer(0, 12 + sum(bits), len(bits) - 1, self.case.root, 12)
        self.caches = {device: set() for device in (None, *self.unit[2])}

    def run(self, moves: int) -> list[Seen]:
        """The whole plan, with so many moves before the first step and after each."""
        seen = [self._between(moves)]
        for index, (_, step) in enumerate(self.case.steps):
            if isinstance(step, Call) and step.held:
                self._held(index, step)
                seen.append(self._between(moves))
                continue
            parts = []
            for part, effect in enumerate(step.effects if isinstance(step, Call) else [step]):
                self._step((index, part), effect, self._move)
                parts.append(self._between(moves))
            seen.append(whole(parts) if parts else seen[-1])
        return seen

    def _held(self, index: int, call: Call) -> None:
        """A call during which nothing walks and no request is made: commands take effect, and stores settle."""
        self.world.step(Barrier())
        for part, effect in enumerate(call.effects):
            self._step((index, part), effect, self._take_effect)
            if isinstance(effect, Store):
                self.world.settle(effect.pa)

    def _step(self, index: tuple[int, int], step: Step, move: Callable[[], None]) -> None:
        """A step, or one effect of a call; a wait makes moves until no command is pending."""
        self.world.step(step)
        match step:
            case Invalidate(unit=name) if name == self.unit[0]:
                command = Command.decode(step.words, self.case.facts)
                if command.concerns(self.unit[1], self.unit[2]):
                    self.pending[index] = command
            case Wait(unit=name) if name == self.unit[0]:
                while self.pending:
                    move()
                self._complete()
            case Own() if step.drops != "none":
                for device, cache in self.caches.items():
                    if device is None or step.drops == "iotlb+atc":
                        cache -= {leaf for leaf in cache if leads_into(leaf, step)}
                self.uses = {use for use in self.uses if not leads(use.leaf, use.page, step)}

    def _complete(self) -> None:
        """A wait: some requests have ended for certain."""
        facts = self.case.facts
        declared = {READ: facts.drains_reads, WRITE: facts.drains_writes}
        left = {use for use in self.uses if not (declared[use.write] if use.ends is None else use.ends)}
        self.uses = {use._replace(ends=None) for use in left}

    def _between(self, moves: int) -> Seen:
        self.results, self.pairs, self.freed, self.flown = set(), set(), set(), set()
        self._look()
        for _ in range(moves):
            self._move()
            self._look()
        return Seen(*map(frozenset, (self.results, self.pairs, self.freed, self.flown)))

    def _look(self) -> None:
        """Note what is cached together, and what is in flight."""
        name, tag, _ = self.unit
        for device, cache in self.caches.items():
            place = ("tlb", name, str(tag)) if device is None else ("atc", str(device))
            for one, other in combinations({shape(leaf) for leaf in cache if leaf.pa is not None}, 2):
                if one[0] < other[0] + (1 << other[1]) and other[0] < one[0] + (1 << one[1]):
                    self.pairs.add((place, frozenset((one, other))))
        self.flown |= {(name, use.page, use.write, use.leaf.pa + use.page - use.leaf.start) for use in self.uses}

    # -- moves

    def _some(self, things: set[T] | list[T]) -> T:
        return self.rng.choice(sorted(things, key=repr))

    def _move(self) -> None:
        draw = self.rng.random()
        device = self._some([*self.caches])
        page, write = self.rng.randrange(self.case.facts.pages) << 12, self.rng.random() < 0.5
        if draw < 0.6:
            self._walk(device, page, write)
        elif draw < 0.85:
            self._hit(device, page, write)
        elif draw < 0.9:
            self._forget()
        elif draw < 0.95:
            self._take_effect()
        elif self.uses:
            self.uses.discard(self._some(self.uses))

    def _walk(self, device: int | None, page: int, write: bool) -> None:
        """A request's walk, from the root or a cached pointer, one readable value an entry."""
        at = self._some(
            [self.root, *(each for each in self.pointers if page in range(each.start, each.start + (1 << each.lg2)))]
        )
        while True:
            self.freed.update(pa for pa, lg2 in self.world.released if pa <= at.table < pa + (1 << lg2))
            lo, bits = self.case.facts.lo(at.level), self.case.facts.bits[at.level]
            index = page >> lo & (1 << bits) - 1
            found = Found(*(set() for _ in Found._fields))
            word = self._some(self.world.readable(at.table + 8 * index))
            self.world.entry(at.level, page >> lo << lo, lo, at.rights, word, found)
            if not found.pointers:
                break
            at = self._some(found.pointers)
            if self.rng.random() < 0.5:
                self.pointers.add(at)
        for of, wrote, kind in found.faults:
            if (of, wrote) == (page, write):
                self._result(device, page, write, ("fault", kind))
        pieces = {leaf for leaf in found.leaves if page in leaf.pages()}
        if pieces and (page, write) not in {fault[:2] for fault in found.faults if fault[2] != "not-present"}:
            leaf = self._some(pieces)
            self._enter(device, leaf)
            self._use(None, device, leaf, page, write)

    def _enter(self, device: int | None, leaf: Leaf) -> None:
        """Into the TLB, into the device's ATC, into both, or into none."""
        for cache in {None, device}:
            if self.rng.random() < 0.6 and (cache is None or leaf.pa is not None):
                self.caches[cache].add(leaf)

    def _hit(self, device: int | None, page: int, write: bool) -> None:
        """A request uses what the unit, or the device, holds."""
        of = self._some([None, device])
        leaves = {leaf for leaf in self.caches[of] if page in leaf.pages()}
        if leaves:
            leaf = self._some(leaves)
            if of is None and device is not None and leaf.pa is not None and self.rng.random() < 0.5:
                self.caches[device].add(leaf)
            self._use(of, device, leaf, page, write)

    def _use(self, of: int | None, device: int | None, leaf: Leaf, page: int, write: bool) -> None:
        outcome = self.world.outcome(leaf, page, write)
        self._result(device, page, write, outcome)
        if outcome[0] == "pa":
            self.uses.add(Use(of, leaf, page, write))

    def _result(self, device: int | None, page: int, write: bool, outcome: Outcome) -> None:
        self.results.add((self.unit[0], device, page, write, outcome))

    def _forget(self) -> None:
        cache = self._some([self.pointers, *self.caches.values()])
        if cache:
            cache.discard(self._some(cache))

    def _take_effect(self) -> None:
        ordered = self.case.facts.atc_in_order
        ready = [
            at for at, each in self.pending.items() if each.device is None or not ordered or at == min(self.pending)
        ]
        if not ready:
            return
        command = self.pending.pop(self._some(ready))
        self.pointers = {each for each in self.pointers if not command.targets_pointer(each)}
        for device, cache in self.caches.items():
            cache -= {leaf for leaf in cache if command.targets_leaf(device, leaf)}
        self.uses = {
            use._replace(ends=use.ends or command.ends[use.write])
            if command.ends != (None, None) and command.targets_leaf(use.device, use.leaf)
            else use
            for use in self.uses
        }
