"""Structures: what a unit reads before it comes to page tables."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field

from hitless.bits import MASK64
from hitless.conformance.cases import Case
from hitless.conformance.failing import asked, fail, hexed, require
from hitless.conformance.kit import Kit
from hitless.conformance.words import Chain, SpecWords, StructureWord
from hitless.errors import HitlessError
from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    StageRoot,
    StructureEntry,
    StructureImage,
    Structures,
)
from hitless.units import align_up

_MOST_READS = 12
_ROOTS = (0x4000_0000, 0x5000_0000, 0x6000_0000)


@define
class Memory:
    """A plain dictionary of words, with an allocator that only goes up."""

    words: dict[int, int] = field(factory=dict)
    next_pa: int = 0x100_0000

    def allocate(self, size_lg2: int = 12) -> int:
        """A naturally aligned block."""
        at = align_up(self.next_pa, size_lg2)
        self.next_pa = at + (1 << size_lg2)
        return at

    def load(self, pa: int) -> int:
        """One word; 0 where nothing was written."""
        return self.words.get(pa, 0)

    def write(self, image: StructureImage) -> None:
        """Everything that an image holds."""
        for pa, words in (*image.writes, *image.guest_writes):
            for number, word in enumerate(words):
                self.words[pa + 8 * number] = word


def structures_of(at: Case) -> Structures:
    """The vendor's structures; without any the test fails, unless a capability waives it."""
    found = at.vendor.structures
    if found is None:
        fail(
            f"{at.title}: hook structures is not implemented",
            do="implement it, or declare a Capability that waives STR1 to STR5, and what holds root and tag instead",
        )
    return found


def read(
    structures: Structures, base: int, device: int, pasid: int | None, load: Callable[[int], int]
) -> Found | BadStructure:
    """What the structures say of a device's requests."""
    found, reads = structures.start(base, device, pasid), 0
    while isinstance(found, Fetch):
        reads += 1
        require(reads <= _MOST_READS, f"structures: device {device:#x} takes more than {_MOST_READS} reads")
        words = tuple(load(found.pa + 8 * number) for number in range(found.words))
        found = structures.step(found, words)
    return found


# -- the specification's words


@pytest.mark.iommu("STR1", each="format")
def test_every_structure_has_a_word(kit: Kit, at: Case) -> None:
    """Each structure that the vendor lays out stands in the spec words."""
    structures = structures_of(at)
    if not isinstance(kit.words, SpecWords):
        fail(f"{at.title}: {kit.words}")
    seen = {each.name for each in kit.words.structure}
    seen |= {each.structure for chain in kit.words.chain for each in chain.read}
    missing = sorted(set(structures.layouts) - seen)
    do = "add a [[structure]] with name, words, fields and source, or a [[chain]] that reads it"
    require(not missing, f"{at.title}: no words of the specification for {', '.join(missing)}", do=do)


@pytest.mark.iommu("STR1", each="structure word")
def test_spec_words_of_structures(kit: Kit, at: Case) -> None:
    """The vendor's layout reads each field as the specification does, and finds nothing illegal."""
    word: StructureWord = at.value
    layout = structures_of(at).layouts.get(word.name)
    if layout is None:
        fail(f"{at.title}: there is no layout of a structure {word.name!r}")
    told = {name: value for name, value in layout.decode(word.words).items() if value}
    require(
        told == {name: value for name, value in word.fields.items() if value},
        f"{at.title}: {word.name} {hexed(word.words)} has the fields {_fields(word.fields)} ({word.source}), the layout"
        f" reads {_fields(told)}",
    )
    faults = list(layout.faults(word.words))
    require(
        not faults, f"{at.title}: {word.name} {hexed(word.words)} is legal ({word.source}), the layout says {faults}"
    )


def _fields(fields: dict[str, int]) -> str:
    return ", ".join(f"{name}={value:#x}" for name, value in sorted(fields.items())) or "none"


@pytest.mark.iommu("STR1", each="chain")
def test_chains_of_structures(kit: Kit, at: Case) -> None:
    """For a device the unit reads exactly what the specification says, where it says, and comes to what it says."""
    chain: Chain = at.value
    structures = structures_of(at)
    found: Fetch | Found | BadStructure = asked(
        f"{at.title}: start({chain.base:#x}, {chain.device:#x})",
        lambda: structures.start(chain.base, chain.device, chain.pasid),
    )
    for step in chain.read:
        wanted = (step.structure, step.pa, len(step.words))
        right = isinstance(found, Fetch) and (found.structure, found.pa, found.words) == wanted
        require(
            right,
            f"{at.title}: device {chain.device:#x}: next is read {len(step.words)} words of {step.structure} at"
            f" {step.pa:#x} ({chain.source}), the vendor says {found}",
        )
        assert isinstance(found, Fetch)
        fetch = found
        found = asked(f"{at.title}: step({step.structure})", lambda: structures.step(fetch, step.words))
    _check_found(at, chain, found)


def _check_found(at: Case, chain: Chain, found: Fetch | Found | BadStructure) -> None:
    told = f"device {chain.device:#x} of the example ({chain.source})"
    for name, value in chain.found.items():
        got = _attribute(found, name)
        require(got == value, f"{at.title}: {told}: {name} is {hexed(value)}, the vendor says {hexed(got)}: {found}")


def _attribute(found: Fetch | Found | BadStructure, name: str) -> Any:
    """One attribute of what was found, in the words of the examples."""
    if name == "bad":
        return found.kind if isinstance(found, BadStructure) else None
    if isinstance(found, Found) and name in ("root1", "tag1", "format1", "root2", "tag2", "format2"):
        root = found.stage1 if name[-1] == "1" else found.stage2
        if root is None:
            return None
        return {"root": root.root_pa, "tag": root.tag, "format": root.page_format.name}[name[:-1]]
    return getattr(found, name, None)


# -- what is written is read


def entries_of(at: Case) -> list[StructureEntry]:
    """Three devices of two domains, each in the slot of its format's stage."""
    fmt, made = at.format, []
    for device, root_pa, tag in zip((8, 9, 0x10), _ROOTS, (5, 5, 6), strict=True):
        root = StageRoot(fmt, root_pa, tag)
        stage1, stage2 = (root, None) if fmt.stage == "1" else (None, root)
        made.append(StructureEntry(device, None, stage1, stage2, tag))
    return made


def _set_up(at: Case) -> tuple[Structures, StructureImage, Memory]:
    structures, memory = structures_of(at), Memory()
    try:
        image = structures.setup(entries_of(at), memory)
    except HitlessError as error:
        fail(f"{at.title}: setup of three devices is refused: {error}", do="or declare the combination impossible")
    memory.write(image)
    return structures, image, memory


def _leads(found: Found | BadStructure, entry: StructureEntry) -> bool:
    """Whether what was found is what an entry says."""
    if not isinstance(found, Found) or found.mode != "translate" or found.tag != entry.tag:
        return False
    pairs = ((found.stage1, entry.stage1), (found.stage2, entry.stage2))
    return all(_same_root(one, other) for one, other in pairs)


def _same_root(one: StageRoot | None, other: StageRoot | None) -> bool:
    if one is None or other is None:
        return one is other
    same_format = (one.page_format.name, one.page_format.levels) == (other.page_format.name, other.page_format.levels)
    return same_format and (one.root_pa, one.tag) == (other.root_pa, other.tag)


@pytest.mark.iommu("STR2", each="configuration")
def test_setup_leads_to_the_tables(kit: Kit, at: Case) -> None:
    """For each device, reading what setup wrote comes to the root, format and tag that it was given."""
    structures, image, memory = _set_up(at)
    for entry in entries_of(at):
        found = read(structures, image.base, entry.device, None, memory.load)
        require(_leads(found, entry), f"{at.title}: setup of {_entry(entry)} leads to {found}")


def _entry(entry: StructureEntry) -> str:
    root = entry.stage1 or entry.stage2
    return f"device {entry.device:#x} with root {root.root_pa if root else 0:#x}, tag {entry.tag}"


@pytest.mark.iommu("STR3", each="configuration")
def test_strangers_are_not_translated(kit: Kit, at: Case) -> None:
    """A device that setup was not told of is refused; so is one that was blocked while others go on."""
    structures, image, memory = _set_up(at)
    for device in (7, 0x11, 0x1FF):
        found = asked(
            f"{at.title}: start({device:#x})", lambda: read(structures, image.base, device, None, memory.load)
        )
        reached = isinstance(found, Found) and found.mode != "abort"
        require(not reached, f"{at.title}: nobody named device {device:#x}, and it may reach memory: {found}")
    blocked, *others = entries_of(at)
    _change(at, structures, image, memory, blocked._replace(blocked=True))
    found = read(structures, image.base, blocked.device, None, memory.load)
    reached = isinstance(found, Found) and found.mode != "abort"
    require(not reached, f"{at.title}: {_entry(blocked)} is blocked, and may still reach memory: {found}")
    for entry in others:
        found = read(structures, image.base, entry.device, None, memory.load)
        require(_leads(found, entry), f"{at.title}: {_entry(blocked)} is blocked, and {_entry(entry)} leads to {found}")


def _change(at: Case, structures: Structures, image: StructureImage, memory: Memory, entry: StructureEntry) -> None:
    """Do a live change; each store has to find what it expects, and each command has to be legal."""
    rounds = asked(f"{at.title}: change({_entry(entry)})", lambda: structures.change(image.base, entry, memory.load))
    require(rounds, f"{at.title}: change({_entry(entry)}) does nothing")
    for each in rounds:
        for store in each.stores:
            held = tuple(memory.load(store.pa + 8 * i) for i in range(len(store.expected)))
            require(
                held == store.expected,
                f"{at.title}: a store to {store.pa:#x} expects {hexed(store.expected)}, memory holds {hexed(held)}",
            )
            for number, word in enumerate(store.new):
                memory.words[store.pa + 8 * number] = word & MASK64


@pytest.mark.iommu("STR4", each="configuration")
def test_a_live_entry_changes(kit: Kit, at: Case) -> None:
    """A device gets another root; it leads there, the others where they did, and a command tells the unit."""
    structures, image, memory = _set_up(at)
    entry, *others = entries_of(at)
    root = entry.stage1 or entry.stage2
    assert root is not None
    moved = root._replace(root_pa=0x7000_0000)
    new = entry._replace(stage1=moved) if entry.stage1 else entry._replace(stage2=moved)
    rounds = structures.change(image.base, new, memory.load)
    told = any(each.commands for each in rounds)
    require(told, f"{at.title}: change() sends no command: a unit may go on with the structure that it holds")
    _change(at, structures, image, memory, new)
    for each in (new, *others):
        found = read(structures, image.base, each.device, None, memory.load)
        require(_leads(found, each), f"{at.title}: after {_entry(new)} was changed, {_entry(each)} leads to {found}")


@pytest.mark.iommu("STR5", each="configuration")
def test_structures_are_legal_by_their_layouts(kit: Kit, at: Case) -> None:
    """Everything that is read on the way of a device has a layout, which finds nothing wrong."""
    structures, image, memory = _set_up(at)
    for entry in entries_of(at):
        for fetch, words in _fetches(structures, image.base, entry.device, memory):
            layout = structures.layouts.get(fetch.structure)
            if layout is None:
                fail(f"{at.title}: structure {fetch.structure!r} has no layout")
            require(
                layout.width == 64 * fetch.words,
                f"{at.title}: {fetch.structure} has {fetch.words} words, its layout {layout.width} bits",
            )
            faults = list(layout.faults(words))
            require(not faults, f"{at.title}: {fetch.structure} {hexed(words)} of {_entry(entry)}: {'; '.join(faults)}")


def _fetches(structures: Structures, base: int, device: int, memory: Memory) -> Iterator[tuple[Fetch, tuple[int, ...]]]:
    found = structures.start(base, device, None)
    for _ in range(_MOST_READS):
        if not isinstance(found, Fetch):
            return
        words = tuple(memory.load(found.pa + 8 * number) for number in range(found.words))
        yield found, words
        found = structures.step(found, words)
