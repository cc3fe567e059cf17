"""Mapping: raw words of memory, walked by core, beside a plain dictionary of what is mapped."""

import random
from collections.abc import Iterator

import pytest

from hitless.check.stage import Setting, Stage, Unfit
from hitless.conformance.cases import Case
from hitless.conformance.failing import fail, require
from hitless.conformance.kit import Kit
from hitless.errors import Refused
from hitless.guest_memfd.backing import GUEST, HOST
from hitless.iommufd import Domain
from hitless.memory import PhysicalMemory
from hitless.pagetable import Leaf, PageFormat, count_leaves, entry_pa, table_leaves
from hitless.pagetable.format import Position, WalkFault
from hitless.units import lg2_text

_MEMORY = 64 << 20
_CONVERSIONS = 12


def walk(memory: PhysicalMemory, fmt: PageFormat, root_pa: int, iova: int) -> Leaf | WalkFault:
    """What the raw words in memory make of an IOVA; every word on the way has to be legal."""
    at: Position | Leaf | WalkFault = fmt.start(root_pa, iova)
    while isinstance(at, Position):
        word = memory.load(entry_pa(fmt.levels[at.level], at.table_pa, iova))
        if fmt.present(word) and (faults := list(fmt.faults(word, at.level))):
            fail(f"{fmt.name}: memory holds {word:#x} at {fmt.levels[at.level]} for {iova:#x}: {faults[0]}")
        at = fmt.step(at, word)
    return at


class Expected:
    """The dictionary: page of the guest to address and owner, kept by this test alone."""

    def __init__(self, stage: Stage) -> None:
        self.page = 1 << max(stage.vendor.page_format.leaf_lg2s[0], 12)
        self.stage = stage
        self.pages = dict.fromkeys(range(0, stage.setting.memory, self.page), GUEST)

    def convert(self, start: int, end: int, owner: int) -> None:
        """Pages get an owner."""
        for gpa in range(start, end, self.page):
            self.pages[gpa] = owner

    def check(self, what: str, pages: list[int]) -> None:
        """Memory says of some pages what the dictionary does, in every address space."""
        for domain in self.stage.domains:
            for gpa in pages:
                self._check_page(what, domain, gpa)

    def _check_page(self, what: str, domain: Domain, gpa: int) -> None:
        fmt, owner = domain.vendor.page_format, self.pages.get(gpa)
        found = walk(domain.memory, fmt, domain.planner.root_pa, gpa)
        name, backing = fmt.name, self.stage.guest.backing
        if owner is None or not domain.policy.maps(owner):
            require(isinstance(found, WalkFault), f"{name}: {what}: {gpa:#x} must not be mapped, a walk finds {found}")
            return
        pa = backing.pa(gpa, owner)
        got = found.oa + gpa - found.iova if isinstance(found, Leaf) else None
        require(
            got == pa,
            f"{name}: {what}: {gpa:#x} must lead to {pa:#x}, a walk of memory finds {found}",
            do="compare leaf(), leaf_oa() and the recipes: the words were laid out by the format itself",
        )


def stages(at: Case, **more: object) -> Iterator[Stage]:
    """A stage of the configuration; skipped where no guest fits."""
    memory = min(_MEMORY, 1 << at.format.iova_bits - 1)
    lowest = max(at.format.leaf_lg2s[0], 12)
    hunk_lg2 = min(max(21, lowest), memory.bit_length() - 1)
    setting = Setting(memory=memory, hunk_lg2=hunk_lg2, **more)  # type: ignore[arg-type]
    try:
        with Stage.open(at.vendor, setting) as stage:
            yield stage
    except Unfit as unfit:
        pytest.skip(unfit.what)


def _edges(expected: Expected, start: int, end: int, rng: random.Random) -> list[int]:
    """Pages at the edges of a range, inside it, and anywhere."""
    page, pages = expected.page, list(expected.pages)
    near = [start - page, start, end - page, end, rng.randrange(start, end, page)]
    return [gpa for gpa in near if gpa in expected.pages] + rng.sample(pages, min(4, len(pages)))


@pytest.mark.iommu("MAP1", each="configuration")
def test_what_is_mapped_is_mapped(kit: Kit, at: Case) -> None:
    """At the guest's start, and when all of it is shared, each page leads where the dictionary says."""
    for stage in stages(at):
        expected = Expected(stage)
        some = [gpa for i, gpa in enumerate(expected.pages) if i % 7 == 0] + [max(expected.pages)]
        expected.check("at the start", some)
        _convert(stage, expected, 0, stage.setting.memory, HOST)
        expected.check("all shared", some)
        beyond = stage.setting.memory
        if at.format.canonical(beyond) == beyond and beyond >> at.format.iova_bits == 0:
            expected.check("beyond the guest", [beyond])


def _convert(stage: Stage, expected: Expected, start: int, end: int, owner: int) -> None:
    """Convert a range, unless this hardware refuses."""
    try:
        stage.convert([(start, end)], owner)
    except Refused:
        return
    expected.convert(start, end, owner)


@pytest.mark.iommu("MAP2", each="configuration")
def test_random_conversions(kit: Kit, at: Case) -> None:
    """After each of some random conversions, memory says what the dictionary does."""
    for backing in ("separate", "in-place"):
        for stage in stages(at, backing=backing, merge="at_once"):
            expected, rng = Expected(stage), random.Random(at.title)
            for number in range(_CONVERSIONS):
                start = rng.randrange(0, stage.setting.memory, expected.page)
                count = rng.choice((1, 1, 2, 16, 512))
                end = min(start + count * expected.page, stage.setting.memory)
                _convert(stage, expected, start, end, rng.choice((HOST, HOST, GUEST)))
                what = f"{backing}, conversion {number} of [{start:#x}, {end:#x})"
                expected.check(what, _edges(expected, start, end, rng))


@pytest.mark.iommu("MAP3", each="configuration")
def test_what_is_unmapped_is_gone(kit: Kit, at: Case) -> None:
    """Truncating unmaps exactly the range; when all is truncated, only the root table is left."""
    for stage in stages(at):
        expected, page = Expected(stage), 0
        _convert(stage, expected, 0, stage.setting.memory, HOST)
        page, half = expected.page, stage.setting.memory // 2
        domain = stage.domains[0]
        try:
            domain.revoke(half + page, half + 3 * page)
            for gpa in (half + page, half + 2 * page):
                del expected.pages[gpa]
            expected.check("after truncating two pages", [half, half + page, half + 2 * page, half + 3 * page])
            domain.revoke(0, stage.setting.memory)
        except Refused as refused:
            pytest.skip(f"{refused.reason}: {refused.what}")
        left = list(table_leaves(domain.memory, at.format, domain.planner.root_pa))
        require(not left, f"{at.title}: all is truncated, and memory still maps {left[:1]}")
        used = stage.machine.tables.used_bytes
        root = 1 << at.format.top.table_lg2
        require(used == root, f"{at.title}: all is truncated, and {used - root} bytes of tables are still in use")


@pytest.mark.iommu("MAP4", each="configuration")
def test_leaves_are_as_large_as_allowed(kit: Kit, at: Case) -> None:
    """A shared guest is mapped by the largest leaves that its folios allow; so it is again after a page came back."""
    for stage in stages(at, merge="at_once"):
        expected, domain = Expected(stage), stage.domains[0]
        if not domain.policy.maps(HOST):
            pytest.skip("shared memory is mapped in another half of the address space")
        _convert(stage, expected, 0, stage.setting.memory, HOST)
        sizes = domain.planner.assembler.rules.leaf_lg2s
        largest = max(lg2 for lg2 in sizes if lg2 <= stage.setting.hunk_lg2)
        want = stage.setting.memory >> largest
        before = count_leaves(domain.memory, at.format, domain.planner.root_pa)
        require(
            before[largest] == want,
            f"{at.title}: {want} leaves of {lg2_text(largest)} map the guest, memory holds"
            f" { ({lg2_text(lg2): count for lg2, count in before.items()}) }",
        )
        page = stage.setting.memory // 2
        try:
            stage.convert([(page, page + expected.page)], GUEST)
            stage.convert([(page, page + expected.page)], HOST)
        except Refused as refused:
            pytest.skip(f"{refused.reason}: {refused.what}")
        after = count_leaves(domain.memory, at.format, domain.planner.root_pa)
        require(
            after == before,
            f"{at.title}: a page went and came back, and the leaves are {dict(after)}, not {dict(before)}",
        )
