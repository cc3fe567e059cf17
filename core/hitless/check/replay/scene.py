"""Where a replay begins: the tables that matter, as Fills; the owners that matter, as Own steps; the units."""

from collections.abc import Iterable, Iterator

from attrs import frozen

from hitless.check.shadow import Words
from hitless.check.subject import CheckUnit, Subject
from hitless.errors import BusError
from hitless.hardware.structures import Fetch
from hitless.hardware.vendor import Vendor
from hitless.memory import Arena
from hitless.ownership import HOST
from hitless.pagetable import PageFormat, Position, entry_pa
from hitless.plan import Fill, FillRun, Own, Plan, Release, Section, Step, Store, StoreStructure, effects_of, parse_plan
from hitless.refresh.levels import table_levels
from hitless.units import PAGE_LG2, align_down, align_up

_AROUND_LG2 = 30
"""Owners are taken over for naturally aligned blocks of this size around what is reached."""


@frozen
class Scene:
    """An address space before a plan, as far as some IOVAs and the plan itself concern it.

    Args:
        vendor: resolved for format and features.
        root_pa: the root table.
        units: where the address space may be cached.
        trusted: whether its devices are trusted.
        root_level: its level, where it may grow: the vendor's format is the larger one; -1: the top.
        before: the tables as Fills (section prepare), owners that are not the host's as Own steps (section own).
    """

    vendor: Vendor
    root_pa: int
    units: tuple[CheckUnit, ...]
    trusted: bool
    before: Plan
    root_level: int = -1

    @classmethod
    def of(cls, subject: Subject, iovas: Iterable[int]) -> "Scene":
        """The scene of a subject."""
        before, iovas = Plan("before"), list(iovas)
        tables = dict(_tables(subject, iovas))
        linked = {pa for iova in iovas for pa, _ in _from_root(subject, iova)}
        new = {step.pa for _, step in subject.steps if isinstance(step, Fill)} - linked
        for pa, size_lg2 in sorted(tables.items()):  # a new table is empty, whatever its memory was used for
            before.prepare.append(Fill(pa, size_lg2) if pa in new else table_as_fill(subject.memory, pa, size_lg2))
        before.prepare += _structures(subject)
        before.own += _owners(subject, iovas)
        return cls(subject.vendor, subject.root_pa, subject.units, subject.trusted, before, subject.root_level)

    def memory(self, steps: Iterable[tuple[Section, Step]]) -> Arena:
        """Memory that holds all tables of the scene and of a plan, all of it 0; close it."""
        fmt = self.vendor.page_format
        blocks = [(self.root_pa, fmt.levels[self.root_level].table_lg2)]
        for step in [*self.before.prepare, *effects_of(each for _, each in steps)]:
            match step:
                case Fill():
                    blocks.append((step.pa, step.size_lg2))
                case Store():
                    blocks.append((step.pa, 3))
                case StoreStructure():
                    blocks.append((step.pa, 4))
                case Release():
                    blocks += step.tables
        base = align_down(min(pa for pa, _ in blocks), PAGE_LG2)
        return Arena(base, align_up(max(pa + (1 << size_lg2) for pa, size_lg2 in blocks), PAGE_LG2) - base)


def _tables(subject: Subject, iovas: list[int]) -> Iterator[tuple[int, int]]:
    """Tables (address, size_lg2) that walks of some IOVAs may read, and that the plan's steps touch."""
    fmt, memory = subject.vendor.page_format, subject.memory
    yield subject.root_pa, fmt.levels[subject.root_level].table_lg2
    filled = table_levels((step for _, step in subject.steps), fmt)
    for step in effects_of(each for _, each in subject.steps):
        match step:
            case Store():
                size_lg2 = fmt.levels[step.level].table_lg2
                yield align_down(step.pa, size_lg2), size_lg2
                for word in (step.expected, step.new):
                    yield from _below(fmt, memory, word, step.level, [*iovas, step.iova])
            case Fill():
                yield step.pa, step.size_lg2
                for _, word in step.overrides if step.pa in filled else ():
                    yield from _below(fmt, memory, word, filled[step.pa], iovas)
            case Release():
                yield from step.tables
    for iova in iovas:
        yield from _from_root(subject, iova)


def _from_root(subject: Subject, iova: int) -> Iterator[tuple[int, int]]:
    fmt = subject.vendor.page_format
    return _path(fmt, subject.memory, subject.begin(iova))


def _below(fmt: PageFormat, memory: Words, word: int, level: int, iovas: list[int]) -> Iterator[tuple[int, int]]:
    """The tables of walks that go on at a pointer."""
    if level and fmt.present(word) and not fmt.is_leaf(word, level):
        for iova in iovas:
            yield from _path(
                fmt, memory, Position(fmt.stage, fmt.child_level(word, level), fmt.table_pa(word), iova, 3)
            )


def _path(fmt: PageFormat, memory: Words, at: object) -> Iterator[tuple[int, int]]:
    while isinstance(at, Position):
        level = fmt.levels[at.level]
        try:
            word = memory.load(entry_pa(level, at.table_pa, at.iova))
        except BusError:  # nothing is there: the walk ends
            return
        yield at.table_pa, level.table_lg2
        at = fmt.step(at, word)


def _structures(subject: Subject) -> Iterator[Fill]:
    """The structures that a plan changes, and those that lead to them, page by page."""
    structures = subject.vendor.structures
    pages: dict[int, dict[int, int]] = {}
    for unit in subject.units if structures is not None else ():
        for device, pasid in unit.requesters:
            at = structures.start(unit.base, device, pasid)  # type: ignore[union-attr]
            while isinstance(at, Fetch) and at.stage2 is None:
                words = tuple(subject.memory.load(at.pa + 8 * i) for i in range(at.words))
                for i, word in enumerate(words):
                    pages.setdefault(align_down(at.pa, PAGE_LG2), {})[at.pa + 8 * i] = word
                at = structures.step(at, words)  # type: ignore[union-attr]
    for page, told in pages.items():
        yield Fill(page, PAGE_LG2, overrides=[(pa, word) for pa, word in sorted(told.items()) if word])


def table_as_fill(memory: Words, pa: int, size_lg2: int) -> Fill:
    """A table as the Fill that makes it; three and more words in a line are one run."""
    words: list[int] = memory.view(pa, 1 << size_lg2 - 3).tolist()
    fill, at = Fill(pa, size_lg2), 0
    while at < len(words):
        end = at + 1
        step = words[end] - words[at] if end < len(words) else 0
        while end < len(words) and words[end] - words[end - 1] == step:
            end += 1
        if end - at >= 3 or not words[at]:
            if words[at] or step:
                fill.runs.append(FillRun(pa + 8 * at, end - at, words[at], step % (1 << 64)))
            at = end
        else:
            fill.overrides.append((pa + 8 * at, words[at]))
            at += 1
    return fill


def _owners(subject: Subject, iovas: list[int]) -> Iterator[Own]:
    """Entries of the owner table that are not the host's 4K ones, around what converts and what is reached."""
    steps = effects_of(step for _, step in subject.steps)
    ranges = [(step.start_pa, step.end_pa) for step in steps if isinstance(step, Own)]
    reached = [run for iova in iovas for run in subject.truth.inside(iova, iova + 1)]
    for run in [*subject.truth.converting, *reached]:
        ranges += [(pa, pa + run.end - run.start) for pa in (run.old_pa, run.new_pa)]
    blocks: list[tuple[int, int]] = []
    for start, end in sorted((align_down(a, _AROUND_LG2), align_up(b, _AROUND_LG2)) for a, b in ranges):
        if blocks and start <= blocks[-1][1]:
            blocks[-1] = blocks[-1][0], max(blocks[-1][1], end)
        else:
            blocks.append((start, end))
    for start, end in blocks:
        for a, b, owner, size_lg2 in subject.owners.entries(start, end):
            if owner != HOST or size_lg2 != PAGE_LG2:
                yield Own("BEFORE", a, b, owner, size_lg2)


def parse_steps(text: str) -> list[tuple[Section, Step]]:
    """Steps from a plan's text form, in exactly their order: a section may come more than once.

    Raises:
        BadInput: a line is not understood.
    """
    steps: list[tuple[Section, Step]] = []
    part: list[str] = []
    for line in [*text.splitlines(), "["]:
        if line.startswith("["):
            steps += parse_plan("\n".join(part)).steps()
            part = []
        part.append(line)
    return steps
