"""A vendor for small cases: tiny tables, two commands, and every declaration a parameter.

Entries (MINI-1), one 64-bit word:

    bit 0 V present       bit 4 U no conflict (leaf)               bits 51:8  table address (pointer)
    bit 1 L leaf          bit 5 M memory type (leaf)               bits 51:12 output address (leaf)
    bit 2 R read          bit 6 N one of a run of two equal        all other bits reserved
    bit 3 W write               entries (leaf, tables of 4 entries or more)

Commands (MINI-2), two words. Opcode 1 drops:

    word 0   3:0 opcode    4 leaves    5 pointers    6 every tag    7 ATC of a device    8 drain reads
             9 drain writes    13:10 levels of leaves, one bit each (0 = all)    14 compare tags without their
             low 4 bits    31:16 tag, or device
    word 1   31:0 first page    63:32 last page

Opcode 2 is the wait (MINI-3): word 0 from bit 4 is the value, word 1 the address.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from attrs import define, field, frozen

from hitless.bits import BoolArray, Field, Layout, U64Array, W, bit, join, keep, masked, reserved, select, test
from hitless.errors import BusError
from hitless.hardware.facts import Completes, Drops, Effect, HardwareFacts, Illegal, Match, NoEffect
from hitless.ownership import HOST, Choreography, OwnerChange, Ownership, OwnerTable, Policy, Verdict
from hitless.pagetable import READ, WRITE, Level, PageFormat
from hitless.pagetable.format import LeafSize
from hitless.plan import Own, Section, Step
from hitless.refresh.commands import Target, Words

V, L, R, WR, U, M, N = 1, 2, 4, 8, 16, 32, 64
RW = R | WR
PAGE = 1 << 12
POOLS = (0x100000, 0x200000)
"""Where guest memory lies: page by page behind each of these addresses."""
LEAVES, POINTERS, ANY_TAG, DEVICE, DRAIN_READS, DRAIN_WRITES, DOMAIN = (
    1 << 4,
    1 << 5,
    1 << 6,
    1 << 7,
    1 << 8,
    1 << 9,
    1 << 14,
)


@frozen
class Facts:
    """What a mini unit does; see :class:`HardwareFacts`, :class:`Drops` and :class:`Completes`.

    Args:
        bits: index bits of each level, level 0 first; a level-0 entry maps 4K.
        drains_in_command: commands say by their bits 8 and 9 what the next wait drains.
        verdict_cached: see :class:`Ownership`.
        verdict_unit: what the owner check looks at and its verdict holds for: a ``page``; 8K if the leaf is so large
            (``two``); or the ``entry`` of the owner table, as far as the leaf reaches.
        same_size: a guest-owned page is granted only through a leaf as large as its entry in the owner table.
    """

    bits: tuple[int, ...] = (1, 1)
    coherent: bool = True
    pieces: tuple[int, ...] = ()
    leaf_match: Match = Match.PIECE_OVERLAPS
    table_match: Match = Match.PIECE_OVERLAPS
    caches_not_present: bool = False
    atc_in_order: bool = False
    drains_reads: bool = True
    drains_writes: bool = True
    drains_in_command: bool = False
    verdict_cached: bool = False
    verdict_unit: str = "page"
    same_size: bool = False

    @property
    def pages(self) -> int:
        """How many pages the address space has."""
        return 1 << sum(self.bits)

    def lo(self, level: int) -> int:
        """log2 of what an entry of a table of this level spans."""
        return 12 + sum(self.bits[:level])


@define
class Case:
    """A plan on a small address space, as plain data.

    Args:
        words: memory: word by address; all other words are 0.
        units: (name, tag, devices with ATS); each has one more device without ATS.
        owners: by physical page (owner, log2 of the size of its entry in the owner table); all others: host, 12.
    """

    facts: Facts
    words: dict[int, int]
    root: int
    units: tuple[tuple[str, int, tuple[int, ...]], ...] = (("u0", 1, ()),)
    owners: dict[int, tuple[int, int]] = field(factory=dict)
    trusted: bool = False
    steps: list[tuple[Section, Step]] = field(factory=list)


# -- words


def leaf(oa: int, bits: int = RW) -> int:
    """A leaf entry."""
    return oa | V | L | bits


def pointer(table: int, bits: int = RW) -> int:
    """A pointer to a table."""
    return table | V | bits


def drop(first: int, last: int, of: int, bits: int = LEAVES) -> Words:
    """A drop of pages ``first`` to ``last`` (inclusive page numbers), of a tag or device."""
    return (1 | bits | of << 16, first | last << 32)


# -- the format

_ADDRESS, _TABLE, _N = Field("address", 51, 12), Field("table", 51, 8), bit("N", 6, "run of two")
_LOW = (bit("V", 0, "present"), bit("L", 1, "leaf"), bit("R", 2, "read"), bit("W", 3, "write"))
_ATTRS = R | WR | U | M


def _leaf_layout(runs: bool) -> Layout:
    extra = (bit("U", 4, "takes part in no conflict"), bit("M", 5, "memory type"), _N if runs else reserved(6, 6))
    return Layout("mini leaf", "MINI-1", (*_LOW, *extra, reserved(11, 7), _ADDRESS, reserved(63, 52)))


_POINTER = Layout("mini pointer", "MINI-1", (*_LOW, reserved(7, 4), _TABLE, reserved(63, 52)))


class MiniFormat(PageFormat):
    """Tables of two or four entries, of two or more levels."""

    name, source, oa_bits = "mini/tiny", "MINI-1", 52

    def __init__(self, facts: Facts) -> None:
        self.levels = tuple(
            Level(number, facts.lo(number), bits, number, f"mini {number}") for number, bits in enumerate(facts.bits)
        )
        self._leaves = tuple(_leaf_layout(runs=bits > 1) for bits in facts.bits)
        plain = [LeafSize(each.lo, each.number) for each in self.levels]
        runs = [LeafSize(each.lo + 1, each.number, 1) for each in self.levels if each.bits > 1]
        self.__dict__["leaf_sizes"] = tuple(sorted(plain + runs, key=lambda size: size.lg2))

    def layout(self, kind: str, level: int) -> Layout | None:
        return self._leaves[level] if kind == "leaf" else _POINTER if level else None

    def present(self, word: W) -> bool | BoolArray:
        return test(word, _LOW[0])

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        return test(word, _LOW[1])

    def table_pa(self, word: W) -> W:
        return masked(word, _TABLE)

    def leaf_oa(self, word: W, level: int) -> W:
        return masked(word, _ADDRESS)

    def leaf_lg2(self, word: W, level: int) -> W | int:
        lo = self.levels[level].lo
        return select(test(word, _N), lo + 1, lo)

    def attrs(self, word: W, level: int) -> W:
        return keep(word, _ATTRS)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        return join(masked(oa, _ADDRESS), attrs | V | L | (N if self.leaf_size(size_lg2).entries_lg2 else 0))

    def table(self, level: int, child_pa: int) -> int:
        return pointer(child_pa)

    def default_attrs(self, rights: int) -> int:
        return (R if rights & READ else 0) | (WR if rights & WRITE else 0)

    def rights(self, word: int, level: int) -> int:
        return (READ if word & R else 0) | (WRITE if word & WR else 0)

    def cacheable(self, word: int, level: int) -> bool:
        return not word & U


# -- commands, hardware, owners


@frozen
class MiniCommands:
    """Drop and wait."""

    facts: Facts
    words: int = 2
    atc_after_wait: bool = False
    nested_after_wait: bool = False

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        bits = LEAVES | (POINTERS if target.tables else 0)
        return [drop(target.first >> 12, target.last >> 12, tag, bits)]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        return [drop(0, self.facts.pages - 1, tag, LEAVES | POINTERS)]

    def invalidate_device(self, target: Target, device: int) -> Sequence[Words]:
        return [drop(target.first >> 12, target.last >> 12, device, LEAVES | DEVICE)]

    def wait(self, store_pa: int, value: int) -> Words:
        return (2 | value << 4, store_pa)

    def decode(self, words: Words) -> Sequence[Effect]:
        low, high = words
        if low & 15 == 2:
            return [Completes("MINI-3", high, low >> 4, 64, self.facts.drains_reads, self.facts.drains_writes)]
        if low & 15 == 0:
            return [NoEffect("MINI-2")]
        if low & 15 != 1:
            return [Illegal("MINI-2", "no such opcode")]
        of, drains = low >> 16 & 0xFFFF, self.facts.drains_in_command
        levels = frozenset(level for level in range(4) if low >> 10 + level & 1)
        return [
            Drops(
                "MINI-2",
                leaves=bool(low & LEAVES),
                tables=bool(low & POINTERS),
                tag=None if low & (ANY_TAG | DEVICE) else of,
                tag_mask=~15 if low & DOMAIN else -1,
                first=(high & 0xFFFF_FFFF) << 12,
                last=(high >> 32) << 12 | 0xFFF,
                leaf_match=self.facts.leaf_match,
                table_match=self.facts.table_match,
                leaf_levels=levels or None,
                device=of if low & DEVICE else None,
                drains_reads=bool(low & DRAIN_READS) if drains else None,
                drains_writes=bool(low & DRAIN_WRITES) if drains else None,
            )
        ]

    def describe(self, words: Words) -> str:
        return f"{'drop' if words[0] & 15 == 1 else 'wait'} {words[0]:#x} {words[1]:#x}"


def hardware(facts: Facts) -> HardwareFacts:
    """The declarations of a mini unit."""
    return HardwareFacts(
        "MINI-4",
        size_conflict=True,
        address_conflict=True,
        atc_in_order=facts.atc_in_order,
        caches_not_present=facts.caches_not_present,
        pieces_lg2=facts.pieces,
        coherent=facts.coherent,
    )


@frozen
class MiniOwnership(Ownership):
    """An owner table whose verdict is cached or not, and holds for a page, a leaf or an entry."""

    facts: Facts
    policies: Mapping[str, Policy] = {"check": Policy("check", maps_private=True)}
    default_policy: str = "check"
    invalidate_after: bool = True

    @property
    def cached(self) -> bool:
        return self.facts.verdict_cached

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        unit = {"page": 12, "two": 13, "entry": table.entry_lg2(pa)}[self.facts.verdict_unit]
        lg2 = min(unit, leaf_lg2)
        start = pa >> lg2 << lg2
        owner = table.uniform(start, start + (1 << lg2))
        if owner == HOST:
            return Verdict(True, lg2)
        if owner is None or not trusted:
            return Verdict(False, lg2, "owner", "the guest's (MINI-5)")
        if self.facts.same_size and table.sizes(start, start + (1 << lg2)) != {leaf_lg2}:
            return Verdict(False, lg2, "owner", "leaf and entry differ in size (MINI-5)")
        return Verdict(True, lg2)

    def own(
        self, table: OwnerTable, changes: Sequence[OwnerChange], *, trusted: bool, allow_break: bool
    ) -> Choreography:
        return Choreography(own=[Own("MINI.SET", start, end, owner, 12) for start, end, owner, _ in changes])

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        table.set(start_pa, end_pa, owner, 12)


# -- memory


class TinyMemory:
    """Physical memory of a few hundred words from address 0 on."""

    def __init__(self, words: Mapping[int, int], size: int = 0x4000) -> None:
        self._words = np.zeros(size >> 3, dtype=np.uint64)
        for pa, word in words.items():
            self._words[self._at(pa)] = word

    def _at(self, pa: int, count: int = 1) -> int:
        if pa & 7 or not self.contains(pa, 8 * count):
            raise BusError(pa, "no memory")
        return pa >> 3

    def contains(self, pa: int, size: int) -> bool:
        return pa >= 0 and pa + size <= len(self._words) << 3

    def load(self, pa: int) -> int:
        return int(self._words[self._at(pa)])

    def store(self, pa: int, word: int) -> None:
        self._words[self._at(pa)] = word

    def store32(self, pa: int, word: int) -> None:
        self._words.view(np.uint32)[self._at(pa & ~7) * 2 + (pa >> 2 & 1)] = word

    def compare_exchange(self, pa: int, expected: int, new: int) -> int:
        found = self.load(pa)
        if found == expected:
            self.store(pa, new)
        return found

    def exchange(self, pas: U64Array, expected: U64Array, new: U64Array) -> U64Array:
        triples = zip(pas.tolist(), expected.tolist(), new.tolist(), strict=True)
        return np.array([self.compare_exchange(*each) for each in triples], dtype=np.uint64)

    def gather(self, pas: U64Array) -> U64Array:
        return np.array([self.load(int(pa)) for pa in pas.flat], dtype=np.uint64).reshape(pas.shape)

    def scatter(self, pas: U64Array, words: U64Array) -> None:
        for pa, word in zip(pas.flat, words.flat, strict=True):
            self.store(int(pa), int(word))

    def view(self, pa: int, count: int) -> U64Array:
        at = self._at(pa, count)
        return self._words[at : at + count]
