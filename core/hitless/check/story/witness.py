"""Finds the interleaving behind a violation: which request to make when, so that a replay ends in what a rule forbids.

A violation says what may happen. The search replays the plan with requests at the moments that matter, the simplest
first; what it gives has happened once.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice, product

from attrs import define, evolve, field, frozen

from hitless.check.replay import Replay
from hitless.check.replay.cached import Outcome
from hitless.check.replay.scene import Scene
from hitless.check.report import Violation
from hitless.check.rules import OutcomeRule, Seen, all_rules
from hitless.check.story import endings
from hitless.check.story.endings import Ask, Ending, Look
from hitless.check.subject import Subject
from hitless.errors import BadInput, BusError
from hitless.plan import Barrier, Call, Fill, Invalidate, Own, Release, Store, StoreStructure, Wait
from hitless.refresh.levels import table_levels
from hitless.units import PAGE_LG2, SPACE, align_down

_MOST_TRIALS, _FEWEST_TRIALS, _MOST_STEPS = 1500, 40, 1 << 21
"""So many scripts are tried, but of long plans so few that no more steps than that are done, unless that is too few."""
_MOST_STORES = 12
_UNSAFE = frozenset({"machine-check", "poison", "integrity"})


@frozen
class Script:
    """What happens beside the plan's steps.

    Args:
        scene: where it begins.
        looks: walks before steps, in order.
        until: so many steps are done, then comes the ending.
        ending: what is asked then.
        iova: the address that it is about.
        code: the lines of a program that assert what was seen.
    """

    scene: Scene
    looks: tuple[Look, ...]
    until: int
    ending: Ending
    iova: int
    code: tuple[str, ...] = ()

    def perform(self, replay: Replay) -> list[str]:
        """Do it; the lines of a program that assert what was seen, none if it was not what the rule forbids."""
        for look in self.looks:
            replay.run(look.before)
            look.do(replay)
        replay.run(self.until)
        return self.ending(replay)


def find_script(subject: Subject, violation: Violation) -> Script | None:
    """The simplest script that ends in a violation; None if no request shows it, or the search gave up."""
    search = _Search(subject, violation)
    trials = max(_FEWEST_TRIALS, min(_MOST_TRIALS, _MOST_STEPS // max(len(subject.steps), 1)))
    for script in islice(search.scripts(), trials):
        if code := search.attempt(script):
            return evolve(script, code=tuple(code))
    return None


@define(eq=False)
class _Search:
    """Scripts for one violation."""

    subject: Subject
    violation: Violation
    _readings: dict[object, list[tuple[tuple[tuple[int, int], ...], int]]] = field(factory=dict)

    # -- trying

    def attempt(self, script: Script) -> list[str]:
        """Replay a script: the lines that assert what was seen, if it is what the rule forbids."""
        try:
            with Replay.of(script.scene, self.subject.steps) as replay:
                return script.perform(replay)
        except BadInput:  # no such pointer, or no such piece, at that moment
            return []

    @cached_property
    def scene(self) -> Scene:
        return Scene.of(self.subject, self.iovas)

    @cached_property
    def steps(self) -> list[object]:
        return [step for _, step in self.subject.steps]

    @cached_property
    def iovas(self) -> list[int]:
        """Addresses that the violation may be seen at."""
        found = [self.violation.start, align_down(max(self.violation.end - 1, 0), PAGE_LG2)]
        if self.violation.rule in _PHYSICAL:
            found = list(_iovas_of(self.subject, self.violation))
        return list(dict.fromkeys(found))

    # -- moments

    @property
    def ends(self) -> list[int]:
        """How many steps are done when it is seen: with the step that broke the rule, or just before it."""
        last = len(self.steps)
        return [last] if self.violation.step >= last else [self.violation.step + 1, self.violation.step]

    def moments(self, end: int, since: int = 0) -> list[int]:
        """Before which steps a walk may make a difference, the likeliest first."""
        kinds = Barrier | Own | Call | Invalidate | Wait | Release
        born = max(self.violation.born, 0)
        numbers = [number for number in range(end) if isinstance(self.steps[number], kinds)]
        between = sorted(numbers, key=lambda number: (number < born, number))
        found = dict.fromkeys([self.violation.born, self.violation.until, end, *between, 0])
        return [each for each in found if since <= each <= end and each >= 0]

    def asks(self, *, writes: bool = True) -> Iterator[Ask]:
        """Requests: through each unit and ATC, reads first."""
        names = [unit.name for unit in self.subject.units]
        for iova, write in product(self.iovas, (False, True) if writes else (False,)):
            for number, unit in enumerate(self.subject.units):
                name = "" if unit.name == names[0] else unit.name
                tag = None if names.index(unit.name) == number else unit.tag
                for device in (None, *unit.devices):
                    yield Ask(iova, write, name, tag, device)

    def looks(self, ask: Ask, before: int, earlier: tuple[Look, ...] = ()) -> Iterator[Look]:
        """Every walk of a request at a moment: from the root and from stale pointers, reading what it may read."""
        key = (ask.iova, ask.unit, ask.tag, before, earlier)
        if key not in self._readings:
            found = []
            with Replay.of(self.scene, self.subject.steps) as replay:
                try:
                    for look in earlier:
                        replay.run(look.before)
                        look.do(replay)
                except BadInput:  # what it finds is not cached in such pieces
                    self._readings[key] = []
                    return
                replay.run(before)
                at = {"unit": ask.unit, "tag": ask.tag}
                for table in (0, *(replay.pointers(ask.iova, **at) if earlier else ())):  # type: ignore[arg-type]
                    readings = replay.readings(ask.iova, **at, table=table)  # type: ignore[arg-type]
                    found += [(tuple(older.items()), table) for older in readings]
            self._readings[key] = found
        for older, table in self._readings[key]:
            yield Look(before, ask, older, table)

    # -- scripts

    def scripts(self) -> Iterator[Script]:
        """Scripts that may end in the violation, the simplest first."""
        made = self._special()
        if made is not None:
            yield from made
        elif self.violation.end - self.violation.start >= SPACE:
            return  # of a device that has left, no single request
        elif isinstance(self.rule, OutcomeRule):
            if self.violation.where == "memory":
                yield from self._by_walk()
            else:
                yield from self._by_structure()
                yield from self._by_cache()
            yield from self._by_pointer()

    @cached_property
    def rule(self) -> object:
        return next((rule for rule in all_rules(self.subject) if rule.id == self.violation.rule), None)

    def script(self, looks: Iterable[Look], until: int, ending: Ending, iova: int) -> Script:
        return Script(self.scene, tuple(looks), until, ending, iova)

    def wrong(self, iova: int, until: int) -> Callable[[Outcome], bool]:
        """What of an outcome the rule itself says."""
        rule, violation = self.rule, self.violation
        run = next(iter(self.subject.truth.inside(iova, iova + 1)), None)
        moments = ("isolated", "ended" if until == len(self.steps) else "running")

        def judged(outcome: Outcome) -> bool:
            if outcome.text != violation.seen and iova == violation.start:
                return False
            pa, attrs, fault = outcome
            seen = Seen(iova, iova + 1, run, fault, pa, attrs, fault in _UNSAFE, "", violation.where, None)
            return isinstance(rule, OutcomeRule) and any(
                rule.judge(seen._replace(moment=moment), self.subject) for moment in moments
            )

        return judged

    def _by_walk(self) -> Iterator[Script]:
        """Memory, or an older word of it, is at fault."""
        for ask, until in product(self.asks(), self.ends):
            for look in self.looks(ask, until):
                yield self.script((), until, endings.walks(look, self.wrong(ask.iova, until)), ask.iova)

    def _by_cache(self) -> Iterator[Script]:
        """A translation was held, or used, at an earlier moment."""
        ways = [endings.hits, endings.completes_late]
        for ended in ways if self.violation.where == "cache" else reversed(ways):
            for ask, until, (before, piece) in self._earlier():
                for look in self.looks(ask, before):
                    ending = ended(ask, self.wrong(ask.iova, until))
                    yield self.script((look._replace(piece=piece),), until, ending, ask.iova)

    def _by_structure(self) -> Iterator[Script]:
        """A structure was held that memory does not hold any more."""
        if any(isinstance(step, StoreStructure) for step in self.steps):
            for ask, until in product(self.asks(), self.ends):
                look = Look(until, ask, held=True)
                yield self.script((), until, endings.walks(look, self.wrong(ask.iova, until)), ask.iova)

    def _earlier(self) -> Iterator[tuple[Ask, int, tuple[int, int]]]:
        """Requests, ends, and moments with pieces: the likely moments of all before the others."""
        likely = {self.violation.born, self.violation.until}
        pieces = (0, *self.subject.vendor.hardware.pieces_lg2)
        for chosen in (True, False):
            for ask, until in product(self.asks(), self.ends):
                moments = [each for each in self.moments(until) if (each in likely) is chosen]
                for before, piece in product(moments, pieces):
                    yield ask, until, (before, piece)

    def _by_pointer(self) -> Iterator[Script]:
        """A pointer was held that leads to what is wrong; what it leads to may have been held, too."""
        ended = endings.completes_late if self.violation.where == "flight" else endings.hits
        for ask, until, (before, piece) in self._earlier():
            if piece:
                continue
            for first in self.looks(ask, before):
                wrong = self.wrong(ask.iova, until)
                for second in self.looks(ask, until, (first,)):
                    if second.table:
                        yield self.script((first,), until, endings.walks(second, wrong), ask.iova)
                for moment in self.moments(until, before):
                    for second in self.looks(ask, moment, (first,)):
                        if second.table:
                            yield self.script((first, second), until, ended(ask, wrong), ask.iova)

    # -- rules that are no outcome of one request

    def _special(self) -> Iterator[Script] | None:
        made = {
            "K1": self._conflicts,
            "B1": self._boundaries,
            "S1": lambda: self._plain(endings.sizes_differ(self.violation.start)),
            "R1": self._freed,
            "F2": self._left,
            "W1": self._illegal,
            "A1": lambda: self._plain(endings.races(), before=True),
            "M1": self._merges,
            "H1": lambda: self._plain(endings.outstanding(), before=True),
            "E1": self._covers,
            "T1": self._tables,
        }.get(self.violation.rule)
        return None if made is None else made()

    def _plain(self, ending: Ending, *, before: bool = False) -> Iterator[Script]:
        """No request at all: what there is after the step, or before it."""
        for until in reversed(self.ends) if before else self.ends:
            yield self.script((), until, ending, self.iovas[0])

    def _conflicts(self) -> Iterator[Script]:
        for ask, until, (before, piece) in self._earlier():
            for look in self.looks(ask, before):
                first = look._replace(piece=piece)
                for second in self.looks(ask, until, (first,)):
                    ending = endings.conflicts(ask, self.subject.vendor.hardware)
                    yield self.script((first, second._replace(overtakes=True)), until, ending, ask.iova)

    def _boundaries(self) -> Iterator[Script]:
        edge = self.violation.start + 1
        if self.violation.where == "memory":
            for until in reversed(self.ends):
                yield self.script((), until, endings.spans_in_memory(edge), edge - 1)
            return
        for ask, until, (before, piece) in self._earlier():
            for look in self.looks(ask, before):
                yield self.script((look._replace(piece=piece),), until, endings.spans_cached(ask, edge), ask.iova)

    def _freed(self) -> Iterator[Script]:
        pa = self.violation.start
        for ask, until in product(self.asks(writes=False), self.ends):
            for look in self.looks(ask, until):
                yield self.script((), until, endings.reads_freed(look, pa), ask.iova)
        for ask, until, (before, piece) in self._earlier():
            for first in self.looks(ask, before) if not piece else ():
                for second in self.looks(ask, until, (first,)):
                    yield self.script((first,), until, endings.reads_freed(second, pa), ask.iova)

    def _left(self) -> Iterator[Script]:
        if any(isinstance(step, StoreStructure) for step in self.steps):
            for ask, until in product(self.asks(writes=False), self.ends):
                yield self.script((), until, endings.holds_structure(ask), ask.iova)
        for ask, until, (before, piece) in self._earlier():
            for look in self.looks(ask, before):
                yield self.script((look._replace(piece=piece),), until, endings.left_behind(ask), ask.iova)
        for ask, until, (before, piece) in self._earlier():  # put there by a walk that began at a stale pointer
            for first in self.looks(ask, before) if not piece else ():
                for moment in self.moments(until, before):
                    for second in self.looks(ask, moment, (first,)):
                        yield self.script((first, second), until, endings.left_behind(ask), ask.iova)

    def _illegal(self) -> Iterator[Script]:
        fmt = self.subject.vendor.page_format
        for size in fmt.leaf_sizes:
            if size.entries_lg2:
                yield from self._plain(endings.run_disagrees(self.iovas[0], size.lg2))
        step = self.steps[self.violation.step] if self.violation.step < len(self.steps) else None
        if isinstance(step, Invalidate):
            yield from self._plain(endings.refused(step.unit))
        elif isinstance(step, Store):
            yield from self._plain(endings.illegal(step.pa, step.level))
        elif isinstance(step, Fill):
            levels = table_levels((each for _, each in self.subject.steps), fmt)
            yield from self._plain(endings.illegal(self.violation.start, levels[step.pa]))

    def _merges(self) -> Iterator[Script]:
        for iova in self.iovas:
            yield self.script((), self.violation.step, endings.changes(iova, self.violation.step), iova)

    def _covers(self) -> Iterator[Script]:
        first, last = self.violation.start, self.violation.end - 1
        yield from self._plain(endings.covers(self.violation.step, first, last))

    def _tables(self) -> Iterator[Script]:
        pa = self.violation.start
        yield from self._plain(endings.table_is_owned(pa))
        for ask, until in product(self.asks(), self.ends):
            for look in self.looks(ask, until) if ask.write else ():
                yield self.script((), until, endings.reaches_table(look, pa), ask.iova)


_PHYSICAL = frozenset({"R1", "W1", "T1"})


def _iovas_of(subject: Subject, violation: Violation) -> Iterator[int]:
    """IOVAs for a violation that names a physical address: what goes through the table, or leads to it."""
    pa, fmt = violation.start, subject.vendor.page_format
    stores = [step for _, step in subject.steps if isinstance(step, Store)]
    linked = {int(fmt.table_pa(word)): iova for word, iova in _pointers(subject) if fmt.present(word)}
    if pa in linked:
        yield linked[pa]
    step = subject.steps[violation.step][1] if violation.step < len(subject.steps) else None
    if isinstance(step, Store):
        yield step.iova
    elif step is None:
        yield violation.start  # of a run, W1 names IOVAs
    with Replay.of(Scene.of(subject, [each.iova for each in stores[:_MOST_STORES]]), subject.steps) as replay:
        replay.run(min(violation.step + 1, len(subject.steps)))
        for store in stores[:_MOST_STORES]:
            leaf = replay.leaf(store.iova)
            if leaf is not None and leaf.oa <= pa < leaf.oa + (1 << leaf.size_lg2):
                yield leaf.iova + pa - leaf.oa
    yield from (store.iova for store in stores[:_MOST_STORES])
    yield from (run.start for run in subject.truth.converting[:1])


def _pointers(subject: Subject) -> Iterator[tuple[int, int]]:
    """Every pointer that memory held before the plan, or that the plan makes: its word, the first IOVA behind it."""
    fmt, memory = subject.vendor.page_format, subject.memory
    pending = [(subject.root_pa, subject.root_level if subject.root_level >= 0 else fmt.top.number, 0)]
    for _, step in subject.steps:
        if isinstance(step, Store) and step.level and fmt.present(step.new) and not fmt.is_leaf(step.new, step.level):
            yield step.new, step.iova
    while pending:
        table_pa, number, base = pending.pop()
        level = fmt.levels[number]
        if not number:
            continue
        try:
            words = memory.view(table_pa, 1 << level.bits).tolist()
        except BusError:
            continue
        for index, word in enumerate(words):
            if word and fmt.present(word) and not fmt.is_leaf(word, number):
                iova = fmt.canonical(base + (index << level.lo))
                yield word, iova
                pending.append((int(fmt.table_pa(word)), fmt.child_level(word, number), base + (index << level.lo)))


__all__ = ["Script", "find_script"]
