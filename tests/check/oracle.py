"""The machine of docs/checker.md, enumerated state by state: what the checker is checked against.

It shares nothing with the checker but the plan's steps: it decodes entries and commands from the bits that
``mini`` lays down. It is slow and plain. Four remarks keep it small; the page shows each of them:

- What memory and the owner table hold depends on the position in the plan alone: only ``World`` knows it.
- Units share nothing else, and neither do tags: each (unit, tag) is enumerated alone, with its unit's whole queue.
- Only Forgetting and a command that takes effect (and an owner change that invalidates) remove anything, and
  having more cached never disables a move. So after each move caches are filled until nothing new can enter
  (``_fill``). That state holds everything that the machine could hold there; by Forgetting it may hold any part of
  it, any two entries together. What is left to enumerate is when each command takes effect.
- A request in flight changes nothing but itself. States that differ only in what is in flight are joined.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple, TypeAlias

from attrs import define, field, frozen

from check.mini import Case, Facts
from check.world import READ, WRITE, Leaf, Outcome, Pointer, World
from hitless.hardware.facts import Match
from hitless.plan import Barrier, Call, Invalidate, Own, Step, Store, Wait

# -- what is cached, pending and in flight


class Use(NamedTuple):
    """A request in flight: the device whose ATC gave the leaf (None: the unit), the leaf, and the request.

    ``ends``: whether the next wait ends it, once a command that says so took effect; None: the wait says.
    """

    device: int | None
    leaf: Leaf
    page: int
    write: bool
    ends: bool | None = None


class State(NamedTuple):
    """Everything of a unit and tag that the moves depend on, beside the position in the plan."""

    pending: frozenset[int]  # indices of Invalidate steps
    pointers: frozenset[Pointer]
    tlb: frozenset[Leaf]
    atcs: tuple[frozenset[Leaf], ...]


States: TypeAlias = dict[State, frozenset[Use]]


@frozen
class Command:
    """A drop, decoded from its words."""

    facts: Facts
    leaves: bool
    pointers: bool
    device: int | None
    tag: int | None
    tag_mask: int
    first: int
    last: int
    levels: tuple[int, ...]
    ends: tuple[bool | None, bool | None]  # of reads, of writes

    @classmethod
    def decode(cls, words: tuple[int, ...], facts: Facts) -> "Command":
        bits = [bool(words[0] >> n & 1) for n in range(16)]
        of = words[0] >> 16 & 0xFFFF
        return cls(
            facts,
            leaves=bits[4],
            pointers=bits[5],
            device=of if bits[7] else None,
            tag=None if bits[6] else of,
            tag_mask=0xFFF0 if bits[14] else 0xFFFF,
            first=(words[1] & 0xFFFFFFFF) * 4096,
            last=(words[1] >> 32) * 4096 + 4095,
            levels=tuple(n - 10 for n in range(10, 14) if bits[n]) or (0, 1, 2, 3),
            ends=(bits[8], bits[9]) if facts.drains_in_command else (None, None),
        )

    def concerns(self, tag: int, devices: tuple[int, ...]) -> bool:
        """Whether it may target anything of an address space at all."""
        if self.device is not None:
            return self.device in devices
        return self.tag is None or self.tag & self.tag_mask == tag & self.tag_mask

    def _matches(self, how: Match, start: int, lg2: int) -> bool:
        last = start + (1 << lg2) - 1
        if how is Match.PIECE_INSIDE:
            return self.first <= start and last <= self.last
        return self.first <= last and start <= self.last

    def targets_leaf(self, device: int | None, leaf: Leaf) -> bool:
        """Whether it targets a leaf in a device's ATC, or in the unit (None)."""
        if not self.leaves or device != self.device or leaf.level not in self.levels:
            return False
        if self.facts.leaf_match is Match.LEAF_OVERLAPS:
            return self._matches(Match.PIECE_OVERLAPS, leaf.whole, leaf.whole_lg2)
        return self._matches(self.facts.leaf_match, leaf.start, leaf.lg2)

    def targets_pointer(self, pointer: Pointer) -> bool:
        """Whether it targets a pointer in the unit."""
        if not self.pointers or self.device is not None:
            return False
        return self._matches(self.facts.table_match, pointer.start, pointer.lg2)


# -- what was seen


@frozen
class Seen:
    """What may happen between two steps (or over the whole plan); the fields are those of the checker's Observation."""

    results: frozenset[tuple[str, int | None, int, bool, Outcome]] = frozenset()
    pairs: frozenset[tuple[tuple[str, ...], frozenset[tuple[int, int, int, int]]]] = frozenset()
    freed: frozenset[int] = frozenset()
    flight: frozenset[tuple[str, int, bool, int]] = frozenset()

    def __or__(self, other: "Seen") -> "Seen":
        """Both; what is in flight adds up as well."""
        return Seen(
            self.results | other.results,
            self.pairs | other.pairs,
            self.freed | other.freed,
            self.flight | other.flight,
        )


def enumerate_plan(case: Case) -> list[Seen]:
    """What may happen before the first step, and then after each step until the next.

    ``flight`` of the last one is what may be in flight when the plan has ended.
    """
    of_units = [_UnitTag(case, name, tag, devices).run() for name, tag, devices in case.units]
    return [_union(moment) for moment in zip(*of_units, strict=True)]


def whole(moments: Iterable[Seen]) -> Seen:
    """Everything that may happen up to the last moment, and what may be in flight then."""
    moments = list(moments)
    united = _union(moments)
    return Seen(united.results, united.pairs, united.freed, moments[-1].flight)


def _union(seen: Iterable[Seen]) -> Seen:
    united = Seen()
    for each in seen:
        united |= each
    return united


# -- the enumeration


@define
class _UnitTag:
    """One unit under one tag."""

    case: Case
    name: str
    tag: int
    devices: tuple[int, ...]
    world: World = field(init=False)
    root: Pointer = field(init=False)
    commands: dict[tuple[int, int], Command] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        bits = self.case.facts.bits
        self.world = World(self.case)
        self.root = Pointer(0, 12 + sum(bits), len(bits) - 1, self.case.root, 12)

    def run(self) -> list[Seen]:
        """Do the plan."""
        empty = State(frozenset(), frozenset(), frozenset(), (frozenset(),) * len(self.devices))
        states, seen = self._take_effect({empty: frozenset()})
        moments = [seen]
        for index, (_, step) in enumerate(self.case.steps):
            if isinstance(step, Call) and not step.held:
                parts = []
                for part, effect in enumerate(step.effects):
                    states, seen = self._take_effect(self._step(states, (index, part), effect))
                    parts.append(seen)
                moments.append(whole(parts) if parts else moments[-1])
                continue
            arriving = (
                self._held(states, index, step) if isinstance(step, Call) else self._step(states, (index, 0), step)
            )
            states, seen = self._take_effect(arriving)
            moments.append(seen)
        return moments

    def _held(self, states: States, index: int, call: Call) -> States:
        """A call during which no request is made, and nothing walks; commands take effect all the same."""
        self.world.step(Barrier())
        for part, effect in enumerate(call.effects):
            if isinstance(effect, Wait):
                states = self._quietly(states)
            states = self._step(states, (index, part), effect)
            if isinstance(effect, Store):
                self.world.settle(effect.pa)
        return states

    def _quietly(self, states: States) -> States:
        """All states that these may become by commands alone."""
        todo, done = dict(states), dict[State, frozenset[Use]]()
        while todo:
            most = max(len(state.pending) for state in todo)
            for state in [state for state in todo if len(state.pending) == most]:
                done[state] = uses = todo.pop(state)
                for number in self._may_take_effect(state.pending):
                    _join(todo, *self._dropped(state, uses, number))
        return done

    def _step(self, states: States, index: tuple[int, int], step: Step) -> States:
        """The plan's next step, in every state that it may find."""
        self.world.step(step)
        match step:
            case Invalidate(unit=self.name):
                command = Command.decode(step.words, self.case.facts)
                if command.concerns(self.tag, self.devices):
                    self.commands[index] = command
                    return {state._replace(pending=state.pending | {index}): uses for state, uses in states.items()}
            case Wait(unit=self.name):
                return {state: self._waited(uses) for state, uses in states.items() if not state.pending}
            case Own() if step.drops != "none":
                after: States = {}
                for state, uses in states.items():
                    _join(after, self._owner_drops(state, step), {u for u in uses if not leads(u.leaf, u.page, step)})
                return after
        return states

    def _waited(self, uses: frozenset[Use]) -> frozenset[Use]:
        """What is still in flight after a wait. A command's word on it counts for one wait."""
        facts = self.case.facts
        declared = {READ: facts.drains_reads, WRITE: facts.drains_writes}
        return frozenset(
            use._replace(ends=None) for use in uses if not (declared[use.write] if use.ends is None else use.ends)
        )

    @staticmethod
    def _owner_drops(state: State, own: Own) -> State:
        """An owner change that also invalidates: the TLB, or the TLB and the ATCs."""
        tlb = frozenset(leaf for leaf in state.tlb if not leads_into(leaf, own))
        atcs = state.atcs
        if own.drops == "iotlb+atc":
            atcs = tuple(frozenset(leaf for leaf in atc if not leads_into(leaf, own)) for atc in atcs)
        return state._replace(tlb=tlb, atcs=atcs)

    # -- between two steps: caches fill, requests are made, commands take effect

    def _take_effect(self, arriving: States) -> tuple[States, Seen]:
        """All states that these may become before the next step, and what may be seen in them.

        A state leads only to states with one command less pending: those with most come first.
        """
        todo: States = {}
        for state, uses in arriving.items():
            _join(todo, self._fill(state), uses)
        done: States = {}
        seen = Seen()
        while todo:
            most = max(len(state.pending) for state in todo)
            for state in [state for state in todo if len(state.pending) == most]:
                now, requests = self._requests(state)
                seen |= now
                done[state] = uses = todo.pop(state) | requests
                for index in self._may_take_effect(state.pending):
                    self._effect(state, uses, index, todo)
        flight = {
            (self.name, use.page, use.write, use.leaf.pa + use.page - use.leaf.start)
            for use in frozenset().union(*done.values())
        }
        return done, seen | Seen(flight=frozenset(flight))

    def _fill(self, state: State) -> State:
        """Moves 1 and 3 until nothing new can enter: TLB and ATCs hold all that they could hold."""
        pointers = {self.root, *state.pointers}
        tlb = set(state.tlb)
        todo = list(pointers)
        while todo:
            found = self.world.look(todo.pop())
            todo += found.pointers - pointers
            pointers |= found.pointers
            tlb |= found.leaves
        given = {leaf for leaf in tlb if leaf.pa is not None}
        atcs = tuple(atc | given for atc in state.atcs)
        return State(state.pending, frozenset(pointers - {self.root}), frozenset(tlb), atcs)

    def _may_take_effect(self, pending: frozenset[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Move 5: any order, but an ATC's command follows those before it where the vendor declares so."""
        for index in pending:
            ordered = self.case.facts.atc_in_order and self.commands[index].device is not None
            if not ordered or index == min(pending):
                yield index

    def _effect(self, state: State, uses: frozenset[Use], index: tuple[int, int], todo: States) -> None:
        """One pending command takes effect; then caches fill again."""
        left, uses = self._dropped(state, uses, index)
        _join(todo, self._fill(left), uses)

    def _dropped(self, state: State, uses: frozenset[Use], index: tuple[int, int]) -> tuple[State, frozenset[Use]]:
        """What one pending command leaves."""
        command = self.commands[index]
        left = State(
            state.pending - {index},
            frozenset(pointer for pointer in state.pointers if not command.targets_pointer(pointer)),
            frozenset(leaf for leaf in state.tlb if not command.targets_leaf(None, leaf)),
            tuple(
                frozenset(leaf for leaf in atc if not command.targets_leaf(device, leaf))
                for device, atc in zip(self.devices, state.atcs, strict=True)
            ),
        )
        if command.ends != (None, None):
            uses = frozenset(
                use._replace(ends=use.ends or command.ends[use.write])
                if command.targets_leaf(use.device, use.leaf)
                else use
                for use in uses
            )
        return left, uses

    def _requests(self, state: State) -> tuple[Seen, set[Use]]:
        """Every request that may be made in a state: what it gets, what it uses; and what is cached together."""
        found = [self.world.look(pointer) for pointer in (self.root, *state.pointers)]
        results = {
            (self.name, device, page, write, ("fault", kind))
            for each in found
            for page, write, kind in each.faults
            for device in (None, *self.devices)
        }
        uses: set[Use] = set()
        for device, leaves in ((None, state.tlb), *zip(self.devices, state.atcs, strict=True)):
            for leaf in leaves:
                for page in leaf.pages():
                    for write in (READ, WRITE):
                        outcome = self.world.outcome(leaf, page, write)
                        askers = (None, *self.devices) if device is None else (device,)
                        results |= {(self.name, asker, page, write, outcome) for asker in askers}
                        if outcome[0] == "pa":
                            uses.add(Use(device, leaf, page, write))
        pairs = {(("tlb", self.name, str(self.tag)), pair) for pair in _pairs(state.tlb)}
        for device, atc in zip(self.devices, state.atcs, strict=True):
            pairs |= {(("atc", str(device)), pair) for pair in _pairs(atc)}
        freed = frozenset[int]().union(*(each.freed for each in found))
        return Seen(frozenset(results), frozenset(pairs), freed), uses


def _join(states: States, state: State, uses: Iterable[Use]) -> None:
    """Add a state; what is in flight adds up."""
    states[state] = states.get(state, frozenset()) | frozenset(uses)


def leads(leaf: Leaf, page: int, own: Own) -> bool:
    """Whether a request's page lies in the range of an owner change."""
    return leaf.pa is not None and own.start_pa <= leaf.pa + page - leaf.start < own.end_pa


def leads_into(leaf: Leaf, own: Own) -> bool:
    """Whether any page of a leaf does."""
    return any(leads(leaf, page, own) for page in leaf.pages())


def shape(leaf: Leaf) -> tuple[int, int, int | None, int]:
    """What an Observation tells of a leaf."""
    return leaf.start, leaf.lg2, leaf.pa, leaf.whole_lg2


def _pairs(leaves: frozenset[Leaf]) -> Iterator[frozenset[tuple[int, int, int, int]]]:
    """Any two different leaves of one cache that overlap."""
    shapes = {shape(leaf) for leaf in leaves if leaf.pa is not None}
    for one, other in combinations(shapes, 2):
        if one[0] < other[0] + (1 << other[1]) and other[0] < one[0] + (1 << one[1]):
            yield frozenset((one, other))
