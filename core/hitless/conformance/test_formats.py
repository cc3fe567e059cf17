"""Page formats: geometry, the specification's words, and the facts that every format owes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.bits import MASK64
from hitless.conformance.cases import Case
from hitless.conformance.failing import asked, fail, hexed, lines_of, require
from hitless.conformance.kit import Kit
from hitless.conformance.samples import attrs_samples, iova_samples, oa_samples
from hitless.pagetable import READ, WRITE, Leaf, LeafSize, PageFormat, Position, WalkFault
from hitless.units import lg2_text

WORDS = st.integers(0, MASK64)
QUICK = settings(deadline=None, derandomize=True, database=None, max_examples=40)
_RIGHTS = {"R": READ, "W": WRITE}


def entered(fmt: PageFormat, level: int, iova: int = 0) -> Position:
    """A walk that is about to read an entry of a table of a level."""
    return Position(fmt.stage, level, 0, iova, READ | WRITE)


# -- geometry


@pytest.mark.iommu("FMT1", each="configuration")
def test_geometry(kit: Kit, at: Case) -> None:
    """Levels are numbered from 0, each begins where the one below ends; sizes ascend and fit their level."""
    fmt, lo = at.format, at.format.levels[0].lo
    for number, level in enumerate(fmt.levels):
        require(level.number == number, f"{at.title}: levels[{number}] calls itself level {level.number}")
        require(level.lo == lo, f"{at.title}: {level} begins at bit {level.lo}, the one below ends at bit {lo}")
        require(level.bits > 0, f"{at.title}: {level} has no index bits")
        lo += level.bits
    require(fmt.iova_bits <= 64 and fmt.oa_bits <= 64, f"{at.title}: addresses are wider than 64 bits")
    require(fmt.leaf_lg2s, f"{at.title}: the format has no leaf")
    require(list(fmt.leaf_lg2s) == sorted(set(fmt.leaf_lg2s)), f"{at.title}: leaf_sizes must ascend: {fmt.leaf_lg2s}")
    spec = [level.spec_level for level in fmt.levels]
    require(len(set(spec)) == len(spec), f"{at.title}: two levels have one number of the vendor's: {spec}")


@pytest.mark.iommu("FMT1", each="level")
def test_a_level_has_its_layouts(kit: Kit, at: Case) -> None:
    """Where leaves are claimed their bits are declared; every level holds leaves or pointers, level 0 no pointers."""
    fmt, level = at.format, at.value.number
    leaf, table = fmt.layout("leaf", level), fmt.layout("table", level)
    require(leaf or table, f"{at.title}: {at.value} has neither leaves nor pointers")
    require(level or table is None, f"{at.title}: tables of {at.value} hold no pointers: nothing is below them")
    for size in fmt.leaf_sizes:
        if size.level == level:
            require(leaf, f"{at.title}: {lg2_text(size.lg2)} is claimed at {at.value}, which has no layout for leaves")
            expected = at.value.lo + size.entries_lg2
            require(
                size.lg2 == expected,
                f"{at.title}: a leaf of 2**{size.entries_lg2} entries at {at.value} maps {lg2_text(expected)},"
                f" not {lg2_text(size.lg2)}",
            )
    for layout in filter(None, (leaf, table)):
        require(layout.source.strip(), f"{at.title}: layout {layout.name!r} names no source")


# -- the specification's words


@pytest.mark.iommu("FMT2", each="leaf word")
def test_spec_words_of_leaves(kit: Kit, at: Case) -> None:
    """A leaf of each size is the word that the specification gives, and is read as such."""
    if at.value is None:
        why = kit.words if isinstance(kit.words, str) else "what the vendor says of itself proves nothing"
        do = "add a [[leaf]] with size, oa, word and source to the spec words"
        fail(f"{at.title}: no word of the specification for a leaf of {at.name}", why=why, do=do)
    fmt, word = at.format, at.value
    size = fmt.leaf_size(word.lg2)
    rights = sum(_RIGHTS[each] for each in word.rights)
    told = f"({word.source})"
    attributes = asked(f"{at.title}: default_attrs({word.rights})", lambda: fmt.default_attrs(rights))
    made = asked(f"{at.title}: leaf()", lambda: int(fmt.leaf(word.lg2, word.oa, attributes)))
    if made != word.word:
        fail(
            f"{at.title}: a {word.size} leaf to {word.oa:#x} with {word.rights} must be {word.word:#x}, not {made:#x}"
            f" {told}: bits {_bits(made ^ word.word)} differ",
            do=f"look at {lines_of(fmt, 'leaf', 'default_attrs')} and the layout, unless the example itself is wrong",
        )
    found = asked(f"{at.title}: step()", lambda: fmt.step(entered(fmt, size.level), word.word))
    if not isinstance(found, Leaf):
        fail(f"{at.title}: {word.word:#x} is a {word.size} leaf {told}, a walk makes of it: {found}")
    wanted = (word.lg2, word.oa, rights)
    got = (found.size_lg2, found.oa, found.rights)
    require(
        got == wanted,
        f"{at.title}: {word.word:#x} maps {word.size} to {word.oa:#x} with {word.rights} {told}, a walk finds"
        f" {lg2_text(found.size_lg2)} to {found.oa:#x} with rights {found.rights}",
    )


def _bits(word: int) -> str:
    return ", ".join(str(bit) for bit in range(64) if word >> bit & 1)


@pytest.mark.iommu("FMT3", each="pointer word")
def test_spec_words_of_pointers(kit: Kit, at: Case) -> None:
    """A pointer is the word that the specification gives, and leads to the table that it names."""
    if at.value is None:
        do = "add a [[pointer]] with level, child, word and source to the spec words"
        fail(f"{at.title}: no word of the specification for a pointer to a table", do=do)
    fmt, word = at.format, at.value
    level = fmt.spec_level(word.level)
    made = asked(f"{at.title}: table()", lambda: fmt.table(level.number, word.child))
    require(
        made == word.word,
        f"{at.title}: a pointer at {level} to {word.child:#x} must be {word.word:#x}, not {made:#x} ({word.source}):"
        f" bits {_bits(made ^ word.word)} differ",
        do=f"look at {lines_of(fmt, 'table')}, unless the example itself is wrong",
    )
    found = asked(f"{at.title}: step()", lambda: fmt.step(entered(fmt, level.number), word.word))
    right = isinstance(found, Position) and found.table_pa == word.child
    require(right, f"{at.title}: {word.word:#x} leads to the table at {word.child:#x}, a walk makes of it: {found}")


# -- what is put in comes out


@pytest.mark.iommu("FMT4", each="size")
def test_leaves_round_trip(kit: Kit, at: Case) -> None:
    """Size, address and attributes of a leaf come back from its word, which is legal."""
    fmt, size = at.format, at.value
    for attributes in attrs_samples(fmt):
        for oa in oa_samples(fmt, size.lg2):
            word = asked(f"{at.title}: leaf({at.name}, {oa:#x})", lambda: int(fmt.leaf(size.lg2, oa, attributes)))
            _check_leaf(at, word, size, oa, attributes)


def _check_leaf(at: Case, word: int, size: LeafSize, oa: int, attributes: int) -> None:
    fmt = at.format
    where = f"{at.title}: the {lg2_text(size.lg2)} leaf {word:#x} to {oa:#x}"
    faults = list(fmt.faults(word, size.level))
    require(bool(fmt.present(word)) and bool(fmt.is_leaf(word, size.level)), f"{where} is no leaf by its own format")
    require(not faults, f"{where} is illegal by its own format: {'; '.join(faults)}")
    got = int(fmt.leaf_lg2(word, size.level))
    require(got == size.lg2, f"{where} has the size {lg2_text(got)} by leaf_lg2()")
    got = int(fmt.leaf_oa(word, size.level))
    require(got == oa, f"{where} leads to {got:#x} by leaf_oa()")
    got = int(fmt.attrs(word, size.level))
    require(got == attributes, f"{where} was made with attributes {attributes:#x}, attrs() gives {got:#x}")


@pytest.mark.iommu("FMT5", each="table")
def test_pointers_round_trip(kit: Kit, at: Case) -> None:
    """A pointer leads to its table one level below, is legal, and takes no right away."""
    fmt, level = at.format, at.value
    below = fmt.levels[level.number - 1]
    for child in oa_samples(fmt, max(below.table_lg2, 12)):
        word = asked(f"{at.title}: table()", lambda: fmt.table(level.number, child))
        where = f"{at.title}: the pointer {word:#x} at {level} to {child:#x}"
        require(bool(fmt.present(word)), f"{where} is not present by its own format")
        require(not fmt.is_leaf(word, level.number), f"{where} is a leaf by its own format")
        faults = list(fmt.faults(word, level.number))
        require(not faults, f"{where} is illegal by its own format: {'; '.join(faults)}")
        got = int(fmt.table_pa(word))
        require(got == child, f"{where} leads to {got:#x} by table_pa()")
        down = fmt.child_level(word, level.number)
        require(down == below.number, f"{where} leads to level {down}, not to {below}")
        require(fmt.rights(word, level.number) == READ | WRITE, f"{where} does not grant reading and writing")


# -- ints and arrays


@pytest.mark.iommu("FMT6", each="level")
def test_ints_and_arrays_agree(kit: Kit, at: Case) -> None:
    """Every function gives for an array of words what it gives for each word."""
    fmt, level = at.format, at.value.number
    attributes = fmt.default_attrs(READ | WRITE)
    leaves = [
        int(fmt.leaf(size.lg2, oa, attributes))
        for size in fmt.leaf_sizes
        if size.level == level
        for oa in list(oa_samples(fmt, size.lg2))[:12]
    ]
    pointers = [fmt.table(level, pa) for pa in (0, 1 << 20, (1 << fmt.oa_bits) - (1 << 21))] if level else []
    used = np.array([*leaves, *pointers, 0, MASK64], dtype=np.uint64)
    _same(at, "present", fmt.present, used)
    _same(at, "is_leaf", lambda word: fmt.is_leaf(word, level), used)
    if pointers:
        _same(at, "table_pa", fmt.table_pa, np.array(pointers, dtype=np.uint64))
    if leaves:
        some = np.array(leaves, dtype=np.uint64)
        _same(at, "leaf_oa", lambda word: fmt.leaf_oa(word, level), some)
        _same(at, "leaf_lg2", lambda word: fmt.leaf_lg2(word, level), some)
        _same(at, "attrs", lambda word: fmt.attrs(word, level), some)
    for size in fmt.leaf_sizes:
        if size.level == level:
            addresses = np.array(list(oa_samples(fmt, size.lg2)), dtype=np.uint64)
            _same(at, f"leaf({lg2_text(size.lg2)})", lambda oa: fmt.leaf(size.lg2, oa, attributes), addresses)


def _same(at: Case, name: str, function: Any, words: Any) -> None:
    """One function, on an array and on each word of it."""
    many = asked(f"{at.title}: {name} of an array", lambda: function(words))
    each = [asked(f"{at.title}: {name} of an int", lambda: function(word)) for word in words.tolist()]
    spread = np.broadcast_to(np.asarray(many), words.shape)
    if spread.dtype not in (np.uint64, np.bool_) and np.asarray(many).shape:
        fail(f"{at.title}: {name} of an array gives {spread.dtype}, not uint64 or bool", do="use hitless.bits")
    for word, one, other in zip(words.tolist(), each, spread.tolist(), strict=True):
        require(
            int(one) == int(other),
            f"{at.title}: {name}({word:#x}) is {hexed(one)} for an int, {hexed(other)} in an array",
            do="use the helpers of hitless.bits, which know ints from arrays",
        )


# -- what is illegal, what hardware changes


@pytest.mark.iommu("FMT7", each="level")
def test_an_empty_word_is_not_present(kit: Kit, at: Case) -> None:
    """A zeroed table maps nothing."""
    fmt, level = at.format, at.value.number
    found = asked(f"{at.title}: step()", lambda: fmt.step(entered(fmt, level), 0))
    right = isinstance(found, WalkFault) and found.kind == "not-present"
    require(right, f"{at.title}: the word 0 at {at.value} must be not present, a walk makes of it: {found}")


@pytest.mark.iommu("FMT8", each="level")
def test_reserved_bits_are_refused(kit: Kit, at: Case) -> None:
    """Each reserved bit, set in a leaf or a pointer that is legal else, ends the walk as reserved."""
    fmt, level = at.format, at.value.number
    words = [
        int(fmt.leaf(size.lg2, 0, fmt.default_attrs(READ | WRITE))) for size in fmt.leaf_sizes if size.level == level
    ]
    words += [fmt.table(level, 1 << 20)] if fmt.layout("table", level) is not None else []
    for word in words:
        layout = fmt.layout("leaf" if fmt.is_leaf(word, level) else "table", level)
        for bit in range(64):
            if layout is not None and layout.reserved >> bit & 1:
                bad = word | 1 << bit
                found = fmt.step(entered(fmt, level), bad)
                right = isinstance(found, WalkFault) and found.kind == "reserved" and fmt.faults(bad, level)
                require(right, f"{at.title}: {bad:#x} at {at.value} sets the reserved bit {bit}, and is taken: {found}")


@pytest.mark.iommu("FMT9", each="size")
def test_hardware_bits_change_nothing_else(kit: Kit, at: Case) -> None:
    """A and D, set or clear, leave size, address and rights of a leaf as they are."""
    fmt, size = at.format, at.value
    hardware = fmt.hardware_set(size.level) | fmt.hardware_clears(size.level)
    word = int(fmt.leaf(size.lg2, 0, fmt.default_attrs(READ | WRITE)))
    before = fmt.step(entered(fmt, size.level), word)
    for bit in range(64):
        if hardware & 1 << bit and not fmt.hardware_clears(size.level) & 1 << bit:
            after = fmt.step(entered(fmt, size.level), word ^ 1 << bit)
            same = isinstance(before, Leaf) and isinstance(after, Leaf) and _shape(before) == _shape(after)
            require(same, f"{at.title}: bit {bit} of a {at.name} leaf is hardware's, but changes it: {before}, {after}")


def _shape(leaf: Leaf) -> tuple[int, ...]:
    return leaf.size_lg2, leaf.oa, leaf.rights


@pytest.mark.iommu("FMT10", each="size")
def test_rights_are_those_asked_for(kit: Kit, at: Case) -> None:
    """Attributes for reading and writing grant both; those for reading grant no writing."""
    fmt, size = at.format, at.value
    for wanted, told in ((READ | WRITE, "reading and writing"), (READ, "reading alone")):
        word = int(fmt.leaf(size.lg2, 0, fmt.default_attrs(wanted)))
        got = fmt.rights(word, size.level)
        require(got == wanted, f"{at.title}: a {at.name} leaf for {told} is {word:#x}, which grants rights {got}")


@pytest.mark.iommu("FMT11", each="run")
def test_every_entry_of_a_run_says_the_same(kit: Kit, at: Case) -> None:
    """From each of its entries a walk finds the whole leaf."""
    fmt, size = at.format, at.value
    oa = next(reversed(list(oa_samples(fmt, size.lg2))))
    word, step = int(fmt.leaf(size.lg2, oa, fmt.default_attrs(READ | WRITE))), fmt.run_step(size.lg2)
    for number in range(1 << size.entries_lg2):
        entry = word + number * step & MASK64
        found = fmt.step(entered(fmt, size.level, number << fmt.levels[size.level].lo), entry)
        right = isinstance(found, Leaf) and (found.size_lg2, found.oa, found.iova) == (size.lg2, oa, 0)
        require(
            right,
            f"{at.title}: entry {number} of a {at.name} run is {entry:#x}, from which a walk finds {found}",
            do=f"all 2**{size.entries_lg2} entries are the leaf to {oa:#x}: mend run_step(), leaf_oa() or leaf_lg2()",
        )


@pytest.mark.iommu("FMT12", each="configuration")
def test_a_walk_begins_where_the_root_can_index(kit: Kit, at: Case) -> None:
    """Each canonical IOVA starts at the root; one that has a bit too many is out of range."""
    fmt = at.format
    for iova in iova_samples(fmt):
        found = asked(f"{at.title}: start()", lambda: fmt.start(0x1000, iova))
        right = isinstance(found, Position) and (found.level, found.table_pa) == (fmt.top.number, 0x1000)
        require(
            right, f"{at.title}: a walk for {iova:#x}, of {fmt.iova_bits} bits, does not begin at the root: {found}"
        )
    if fmt.iova_bits < 63:
        beyond = fmt.canonical(0) ^ 1 << fmt.iova_bits
        found = fmt.start(0x1000, beyond)
        right = isinstance(found, WalkFault) and found.kind == "range"
        require(right, f"{at.title}: {beyond:#x} is wider than {fmt.iova_bits} bits, start() takes it: {found}")


@pytest.mark.iommu("FMT13", each="configuration")
def test_attributes_survive_a_cut(kit: Kit, at: Case) -> None:
    """What attrs() reads from a leaf makes a leaf of any other size that says the same."""
    fmt = at.format
    for attributes in attrs_samples(fmt):
        for large in fmt.leaf_sizes:
            carried = int(fmt.attrs(int(fmt.leaf(large.lg2, 0, attributes)), large.level))
            for small in fmt.leaf_sizes:
                again = int(fmt.attrs(int(fmt.leaf(small.lg2, 0, carried)), small.level))
                require(
                    again == attributes,
                    f"{at.title}: attributes {attributes:#x} of a {lg2_text(large.lg2)} leaf become {again:#x} at"
                    f" {lg2_text(small.lg2)}: a cut would change them",
                )


# -- anything at all


@pytest.mark.iommu("BAD2", each="level")
def test_no_word_makes_a_walk_fail(kit: Kit, at: Case) -> None:
    """Whatever memory holds, a walk step ends in a position, a leaf or a fault; faults() agrees with it."""
    fmt, level = at.format, at.value.number

    @QUICK
    @given(WORDS)
    def walk(word: int) -> None:
        found = asked(f"{at.title}: step({word:#x}) at {at.value}", lambda: fmt.step(entered(fmt, level), word))
        require(isinstance(found, Position | Leaf | WalkFault), f"{at.title}: step({word:#x}) gives {found!r:.80}")
        faults = asked(f"{at.title}: faults({word:#x})", lambda: list(fmt.faults(word, level)))
        taken = not isinstance(found, WalkFault) or found.kind == "range"
        if fmt.present(word) and faults and taken and fmt.malformed(word, level):
            fail(f"{at.title}: {word:#x} at {at.value} is taken by a walk, but is illegal: {faults[0]}")

    walk()


@pytest.mark.iommu("BAD3", each="configuration")
def test_a_size_that_does_not_exist_is_refused(kit: Kit, at: Case) -> None:
    """leaf() of a size that the format does not have raises KeyError or ValueError."""
    fmt = at.format
    for lg2 in set(range(fmt.leaf_lg2s[0] - 1, fmt.leaf_lg2s[-1] + 2)) - set(fmt.leaf_lg2s):
        try:
            word = fmt.leaf(lg2, 0, fmt.default_attrs(READ))
        except (KeyError, ValueError):
            continue
        fail(
            f"{at.title}: the format has no leaf of {lg2_text(lg2)}, but leaf() makes one: {int(word):#x}",
            do="ask self.leaf_size(size_lg2), which raises KeyError and says what there is",
        )
