"""K1, R1, W1, A1, M1, H1, E1, T1: what steps store, submit, free and leave behind."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar

from attrs import define, field

from hitless.bits import MASK64
from hitless.check.engine import Engine
from hitless.check.held import Held, Link
from hitless.check.rules.base import Rule, describe
from hitless.check.spans import FaultSpan, LeafSpan, PointerSpan, Table
from hitless.hardware.facts import Drops, Effect, Illegal
from hitless.ownership import FIRMWARE, HOST
from hitless.pagetable import WRITE
from hitless.plan import Fill, Invalidate, Own, Release, Store, Wait
from hitless.refresh.commands import Target, aligned_blocks, join_targets
from hitless.refresh.levels import table_levels
from hitless.units import WORD_MAX, align_down, align_up, joined, lg2_text


class NoConflict(Rule):
    """K1: a relation of two leaves that one cache may hold together."""

    id: ClassVar[str] = "K1"
    sentence: ClassVar[str] = "never two cached entries of different shape for one address where hardware may conflict"
    do: ClassVar[str] = "make the old entry go, and wait, before the new one can be cached"

    def readable(self, engine: Engine, span: LeafSpan | FaultSpan) -> None:
        hardware = engine.subject.vendor.hardware
        if not (hardware.size_conflict or hardware.address_conflict or hardware.size_address_conflict):
            return
        if not isinstance(span, LeafSpan) or not span.stable:
            return
        size_lg2 = span.leaf_lg2
        low, high = align_down(span.start, size_lg2), align_up(span.end, size_lg2)
        for fact in engine.facts.over(low, high):
            if fact.kind or not fact.stable or not fact.alive & engine.places.caches:
                continue
            size = fact.leaf_lg2 != size_lg2 and (hardware.run_conflict or fact.level != span.level)
            address = fact.oa - fact.start != span.oa - span.start
            if not (
                (size and hardware.size_conflict)
                or (address and hardware.address_conflict)
                or (size and address and hardware.size_address_conflict)
            ):
                continue
            start, end = max(fact.start, low), min(fact.end, high)
            if _grants(engine, span, start, end):
                differs = " and ".join(name for name, is_so in (("size", size), ("address", address)) if is_so)
                text = f"two entries that differ in {differs} may be cached for one address"
                seen = f"beside {describe(span, engine.subject)}"
                held = describe(fact, engine.subject)
                self.broken(engine, start, end, text, seen=seen, where="cache", held=held, born=fact.born)


def _grants(engine: Engine, span: LeafSpan, start: int, end: int) -> bool:
    """Whether the owner check lets the new leaf into the cache beside the old one."""
    if not engine.verdicts.cached:
        return True
    verdicts = engine.verdicts.over(start, end, span.oa + start - span.start, span.leaf_lg2)
    return any(verdict.ok for _, _, verdict in verdicts)


class FreedTables(Rule):
    """R1."""

    id: ClassVar[str] = "R1"
    sentence: ClassVar[str] = "no table is freed while a walker or a walk cache can still reach it"
    do: ClassVar[str] = "unlink the table, invalidate pointers too, and wait, before it is released"

    def released(self, engine: Engine, step: Release, reachable: Sequence[int]) -> None:
        for pa in reachable:
            link = next((each for each in engine.links.stale if each.child == pa and each.alive), None)
            held = "" if link is None else describe(link, engine.subject)
            by = "memory still links it" if link is None else "a cached pointer may still lead to it"
            born = -1 if link is None else link.born
            where = "memory" if link is None else "cache"
            self.broken(engine, pa, pa + 4096, f"a table is freed while {by}", where=where, held=held, born=born)

    def relinked(self, engine: Engine, table_pa: int) -> None:
        self.broken(engine, table_pa, table_pa + 4096, "a table that was freed is linked again", where="memory")


@define(eq=False)
class LegalWords(Rule):
    """W1: stored words, filled words, and commands."""

    id: ClassVar[str] = "W1"
    sentence: ClassVar[str] = "every word stored is a legal encoding"
    do: ClassVar[str] = "mend the encoder that made the word"
    _levels: dict[int, int] | None = None

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        self._word(engine, step.pa, step.new, step.level)

    def filled(self, engine: Engine, step: Fill) -> None:
        fmt = engine.subject.vendor.page_format
        if self._levels is None:
            self._levels = table_levels((each for _, each in engine.subject.steps), fmt)
        level = self._levels.get(step.pa)
        if level is None:
            return  # it is linked nowhere, so no walker reads it
        for run in step.runs:
            self._word(engine, run.pa, run.first, level)
            if run.entries > 1:
                last = (run.first + (run.entries - 1) * run.increment) & MASK64
                self._word(engine, run.pa + 8 * (run.entries - 1), last, level)
        for pa, word in step.overrides:
            self._word(engine, pa, word, level)

    def _word(self, engine: Engine, pa: int, word: int, level: int) -> None:
        fmt = engine.subject.vendor.page_format
        for fault in fmt.faults(word, level):
            self.broken(engine, pa, pa + 8, f"the word {word:#x} is illegal at {fmt.levels[level]}: {fault}")
            return

    def submitted(self, engine: Engine, step: Invalidate, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Illegal):
                words = " ".join(f"{word:#x}" for word in step.words)
                text = f"the command {words} is illegal: {effect.why}"
                self.broken(engine, step.first, step.last + 1, text, why=effect.source)


class NoWriterBeside(Rule):
    """A1, as far as one plan shows it: every store finds what it expects."""

    id: ClassVar[str] = "A1"
    sentence: ClassVar[str] = (
        "a conversion is carried out whole, or leaves every translation as the present owners want it"
    )
    do: ClassVar[str] = "order the two writers: conversions whose spans overlap, and map or unmap beside them"

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        if (old ^ step.expected) & ~step.hardware & MASK64:
            text = f"the entry holds {old:#x} where the plan expects {step.expected:#x}: it stops half way"
            self.broken(engine, step.iova, step.iova + 1, text)


class MergesEquals(Rule):
    """M1."""

    id: ClassVar[str] = "M1"
    sentence: ClassVar[str] = "a merge joins only leaves that differ in nothing but A and D"
    do: ClassVar[str] = "leave the table as it is, or make its leaves equal first"

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        if table is None:
            return
        index = (step.pa - table.pa) >> 3
        before, after = engine.reader.entry(table, index, old), engine.reader.entry(table, index, step.new)
        if not (isinstance(before, PointerSpan) and isinstance(after, LeafSpan)):
            return
        for _, span in engine.reader.below(before.child, before.start, before.end):
            if isinstance(span, PointerSpan):
                continue
            same = isinstance(span, LeafSpan) and (
                span.oa - span.start == after.oa - after.start
                and span.rights == after.rights
                and (span.attrs ^ after.attrs) & ~engine.subject.vendor.page_format.hardware_set(0) == 0
            )
            if not same:
                text = "a merge joins what is not equal"
                held = describe(span, engine.subject)
                self.broken(engine, span.start, span.end, text, held=held, seen=describe(after, engine.subject))
                return


@define(eq=False)
class WaitsFirst(Rule):
    """H1."""

    id: ClassVar[str] = "H1"
    sentence: ClassVar[str] = "nothing is freed or reported complete while a wait is outstanding"
    do: ClassVar[str] = "submit the wait behind the commands, and poll it"
    _outstanding: dict[str, list[Invalidate]] = field(factory=dict)

    def submitted(self, engine: Engine, step: Invalidate, effects: Sequence[Effect]) -> None:
        self._outstanding.setdefault(step.unit, []).append(step)

    def waited(self, engine: Engine, step: Wait) -> None:
        self._outstanding.pop(step.unit, None)

    def released(self, engine: Engine, step: Release, reachable: Sequence[int]) -> None:
        """Commands for other addresses, of another plan, are no matter."""
        for pa, _ in step.tables:
            table = engine.links.tables.get(pa)
            if table is not None:
                self._look(engine, "a table is freed", table.base, engine.reader.end(table) - 1)

    def ended(self, engine: Engine) -> None:
        self._look(engine, "refresh returns", 0, WORD_MAX)

    def _look(self, engine: Engine, what: str, first: int, last: int) -> None:
        for unit, commands in self._outstanding.items():
            late = [each for each in commands if each.first <= last and first <= each.last]
            if late:
                text = f"{what} while {len(late)} commands of {unit} are outstanding"
                self.broken(engine, late[0].first, min(late[-1].last, WORD_MAX) + 1, text)
                return


@define(eq=False)
class SmallestCommand(Rule):
    """E1: commands are compared with what the stores since the last wait took away."""

    id: ClassVar[str] = "E1"
    sentence: ClassVar[str] = "no command covers more than the smallest legal one for the old leaves that it targets"
    do: ClassVar[str] = "invalidate the old leaf, no more; a whole tag only above the declared threshold"
    _unit: dict[str, "_Needed"] = field(factory=dict)
    _device: dict[str, "_Needed"] = field(factory=dict)

    def went_stale(self, engine: Engine, fact: Held | Link) -> None:
        if isinstance(fact, Held) and not fact.alive & ~engine.places.structures:
            return  # a fault that structures give, which no ranged command takes
        if isinstance(fact, Link):
            self._need(engine, Target(fact.start, fact.end - 1, fact.span_lg2, None, True))
        else:
            self._need(engine, _leaves(fact))

    def stored(self, engine: Engine, step: Store, table: Table | None, old: int) -> None:
        fmt = engine.subject.vendor.page_format
        if fmt.present(old):
            lo = fmt.levels[step.level].lo
            self._need(engine, Target(step.iova, step.iova + (1 << lo) - 1, lo, step.level, False))

    def owned(self, engine: Engine, step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        """After an owner change an invalidation is owed for what converted, whole leaves."""
        subject = engine.subject
        for start, end in ranges if subject.vendor.ownership.invalidate_after else ():
            for run in (each for each in subject.truth.inside(start, end) if each.converts):
                for span in engine.walks.spans(run.start, run.end):
                    if isinstance(span, LeafSpan):
                        self._need(engine, _leaves(span))

    def _need(self, engine: Engine, target: Target) -> None:
        for unit in engine.subject.units:
            for needed in (self._unit, self._device):
                needed.setdefault(unit.name, _Needed()).add(target)

    def waited(self, engine: Engine, step: Wait) -> None:
        """What was commanded is gone; what was not is still to be commanded."""
        for needs in (self._unit, self._device):
            if step.unit in needs:
                needs[step.unit].waited()

    def submitted(self, engine: Engine, step: Invalidate, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Drops) and engine.subject.vendor.page_format.stage in effect.stages:
                needed = (self._unit if effect.device is None else self._device).get(step.unit, _Needed())
                self._compare(engine, step, effect, needed)

    def _compare(self, engine: Engine, step: Invalidate, drops: Drops, needed: "_Needed") -> None:
        needed.commanded.append((drops.first, drops.last + 1))
        if engine.subject.together or (drops.device is not None and engine.places.nested):
            return  # one plan's command may do for the other; a device of a nested guest has addresses of its own
        if engine.rooting.moves_behind(step.unit):
            return
        if needed.covers(drops.first, drops.last) or self._nothing_smaller(engine, step, drops, needed.targets):
            return
        pages = (drops.last - drops.first + 1) >> 12
        text = f"a command covers [{drops.first:#x}, {drops.last:#x}], {pages:,} pages, more than what was replaced"
        self.broken(engine, drops.first, drops.last + 1, text, why=drops.source)

    @staticmethod
    def _nothing_smaller(engine: Engine, step: Invalidate, drops: Drops, needed: set[Target]) -> bool:
        """Whether the vendor has no smaller command, or the whole tag is cheaper by its declared cost."""
        encoder, rules = engine.subject.vendor.commands, engine.subject.vendor.split_rules
        pasid = () if drops.pasid is None else (drops.pasid,)
        count = 0
        for target in join_targets(list(needed)):
            words = (
                encoder.invalidate(target, step.tag)
                if drops.device is None
                else encoder.invalidate_device(target, drops.device, *pasid)
            )
            if step.words in words:
                return True
            count += len(words)
            if count > rules.whole_tag_commands:
                return drops.device is None and step.words in encoder.invalidate_tag(step.tag)
        return False


def _leaves(run: Held | LeafSpan) -> Target:
    """The whole leaves that a run of them touches."""
    size = run.leaf_lg2
    first, last = run.start >> size << size, ((run.end - 1 >> size) + 1 << size) - 1
    return Target(first, last, size, run.level, False)


@define(eq=False)
class _Needed:
    """What stores took away since the last wait; its ranges are joined when somebody asks."""

    targets: set[Target] = field(factory=set)
    commanded: list[tuple[int, int]] = field(factory=list)
    _joined: list[tuple[int, int]] | None = None

    def add(self, target: Target) -> None:
        self.targets.add(target)
        self._joined = None

    def covers(self, first: int, last: int) -> bool:
        """Whether all of a range (inclusive) is needed."""
        if self._joined is None:
            self._joined = joined((target.first, target.last + 1) for target in self.targets)
        return _inside(self._joined, first, last)

    def waited(self) -> None:
        """Forget what commands covered wholly."""
        commanded = joined(self.commanded)
        stay = {target for target in self.targets if not _inside(commanded, target.first, target.last)}
        self.targets, self.commanded, self._joined = stay, [], None


def _inside(ranges: list[tuple[int, int]], first: int, last: int) -> bool:
    at = bisect_right(ranges, (first, WORD_MAX << 1)) - 1
    return at >= 0 and ranges[at][0] <= first and last < ranges[at][1]


@define(eq=False)
class TablesAreHost(Rule):
    """T1: tables that the plan fills, the root, and what units use beside tables."""

    id: ClassVar[str] = "T1"
    sentence: ClassVar[str] = (
        "no page in use as table, structure or queue is guest-owned, or mapped writable for a device"
    )
    do: ClassVar[str] = "take table memory from host pages that no address space maps"
    _tables: list[tuple[int, int]] | None = None
    _looked: bool = False

    def _known(self, engine: Engine) -> list[tuple[int, int]]:
        if self._tables is None:
            fills = {(step.pa, step.size_lg2) for _, step in engine.subject.steps if isinstance(step, Fill)}
            fmt = engine.subject.vendor.page_format
            units = {block for start, end in engine.subject.in_use for block in aligned_blocks(start, end - 1, 64)}
            self._tables = sorted({*fills, *units, (engine.root.pa, fmt.top.table_lg2)})
        return self._tables

    def entered(self, engine: Engine, section: str) -> None:
        """What is in use when the plan begins."""
        if engine.now == 0 and not self._looked:
            self._looked = True
            for pa, size_lg2 in self._known(engine):
                for start, end, owner, _ in engine.verdicts.owners.entries(pa, pa + (1 << size_lg2)):
                    if owner not in (HOST, FIRMWARE):
                        self.broken(engine, start, end, "a page in use is guest-owned", where="memory")

    def readable(self, engine: Engine, span: LeafSpan | FaultSpan) -> None:
        if isinstance(span, LeafSpan) and span.rights & WRITE:
            end = span.oa + span.end - span.start
            for pa, size_lg2 in self._inside(engine, span.oa, end):
                text = f"what is in use at {pa:#x} ({lg2_text(size_lg2)}) is mapped writable"
                self.broken(engine, pa, pa + (1 << size_lg2), text, where="memory", held=describe(span, engine.subject))
                return

    def filled(self, engine: Engine, step: Fill) -> None:
        if engine.verdicts.owners.owner(step.pa) != HOST:
            self.broken(engine, step.pa, step.pa + (1 << step.size_lg2), "a table is filled in a guest-owned page")

    def owned(self, engine: Engine, step: Own, ranges: Sequence[tuple[int, int]]) -> None:
        if step.owner != HOST:
            for pa, size_lg2 in self._inside(engine, step.start_pa, step.end_pa):
                self.broken(engine, pa, pa + (1 << size_lg2), "a page in use becomes guest-owned")

    def _inside(self, engine: Engine, start: int, end: int) -> list[tuple[int, int]]:
        known = self._known(engine)
        at = max(bisect_right(known, (start, 64)) - 1, 0)
        found = []
        while at < len(known) and known[at][0] < end:
            if known[at][0] + (1 << known[at][1]) > start:
                found.append(known[at])
            at += 1
        return found
