"""Two small formats with runs, and a walker over raw words that shares no code with them.

Three levels of 16 entries: 4K, 64K and 1M an entry, 24 bits of input. Bit 0 present, 5 A, 6 D, 51:12
address of a leaf, 51:7 of a table, 55:53 0 in a leaf and the level in a pointer, 62 write. ``Copies``
codes a run as AMD does: bits 55:53 are 7, the size is in the low address bits, all entries are equal;
8K to 32K, and 128K to 512K. ``Steps`` as Arm does: bit 52 in four adjacent leaves, each with its own
address; 16K and 256K.
"""

from hitless.bits import Field, Layout, as_words, bit, either, equals, ignored, join, keep, lowest_zero, put, select
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE, LeafSize, Level, PageFormat

LEVELS = tuple(Level(i, 12 + 4 * i, 4, i, f"test {i}") for i in range(3))
P, A, D = bit("P", 0), bit("A", 5, "accessed", "hardware"), bit("D", 6, "dirty", "hardware")
NEXT, ADDRESS, CHILD = Field("next", 55, 53), Field("address", 51, 12), Field("table", 51, 7)
CONT, WR = bit("cont", 52), bit("W", 62)
REST = (ignored(4, 1), ignored(61, 56), ignored(63, 63))
LEAF = Layout("leaf", "nowhere", (P, A, D, NEXT, ignored(11, 7), ADDRESS, CONT, WR, *REST))
TABLE = Layout("table", "nowhere", (P, ignored(6, 5), NEXT, CHILD, ignored(52, 52), WR, *REST))


class Common(PageFormat):
    """What both have in common."""

    source, levels, oa_bits = "nowhere", LEVELS, 52

    def __init__(self, *, run_mix=False):
        self.run_mix = run_mix

    def layout(self, kind, level):
        return LEAF if kind == "leaf" else TABLE if level else None

    def present(self, word):
        return is_set(word, P)

    def is_leaf(self, word, level):
        return either(equals(word, NEXT, 0), equals(word, NEXT, 7))

    def table_pa(self, word):
        return keep(word, CHILD.mask)

    def leaf_oa(self, word, level):
        lg2 = self.leaf_lg2(word, level)
        if isinstance(word, int):
            return word & ADDRESS.mask >> lg2 << lg2
        return keep(word, ADDRESS.mask) >> as_words(lg2) << as_words(lg2)

    def attrs(self, word, level):
        return keep(word, A.mask | D.mask | WR.mask)

    def table(self, level, child_pa):
        return put(child_pa | P.mask | WR.mask, NEXT, level)

    def default_attrs(self, rights):
        return WR.mask if rights & WRITE else 0

    def rights(self, word, level):
        return READ | (WRITE if word & WR.mask else 0)


class Copies(Common):
    """Runs as AMD v1 has them."""

    name = "test/copies"
    leaf_sizes = (*(LeafSize(lo + k, i, k) for i, lo in ((0, 12), (1, 16)) for k in range(4)), LeafSize(20, 2))

    def leaf_lg2(self, word, level):
        return select(equals(word, NEXT, 7), lowest_zero(word, 12) + 1, LEVELS[level].lo)

    def leaf(self, size_lg2, oa, attrs):
        if self.leaf_size(size_lg2).entries_lg2:
            attrs |= NEXT.mask | (1 << size_lg2 - 1) - (1 << 12)
        return join(oa, attrs | P.mask)


class Steps(Common):
    """Runs as Arm has them."""

    name = "test/steps"
    leaf_sizes = (LeafSize(12, 0), LeafSize(14, 0, 2), LeafSize(16, 1), LeafSize(18, 1, 2), LeafSize(20, 2))

    def leaf_lg2(self, word, level):
        return select(is_set(word, CONT), LEVELS[level].lo + 2, LEVELS[level].lo)

    def leaf(self, size_lg2, oa, attrs):
        return join(oa, attrs | P.mask | (CONT.mask if self.leaf_size(size_lg2).entries_lg2 else 0))

    def run_step(self, size_lg2):
        size = self.leaf_size(size_lg2)
        return 1 << LEVELS[size.level].lo if size.entries_lg2 else 0


FORMATS = {"copies": Copies, "steps": Steps}


class Raw:
    """One entry that a walk ended at, decoded by hand: where it lies, what it leads to, and its whole leaf."""

    def __init__(self, load, root, iova):
        table, shift = root, 20
        while True:
            self.pa = table + 8 * (iova >> shift & 15)
            self.word = word = load(self.pa)
            if not word & 1:
                self.oa = None
                return
            if word >> 53 & 7 in (0, 7):
                break
            assert word >> 53 & 7 == shift // 4 - 3, hex(word)
            table, shift = word & 0xF_FFFF_FFFF_FF80, shift - 4
        address, size = word & 0xF_FFFF_FFFF_F000, shift
        if word >> 53 & 7 == 7:  # the lowest 0 of the address says the size
            size = 13
            while address >> (size - 1) & 1:
                size += 1
            address = address >> size << size
        elif word >> 52 & 1:
            size = shift + 2
        self.first = self.pa - 8 * ((iova & ((1 << size) - 1)) >> shift)
        self.entries = 1 << (size - shift)
        self.size_lg2 = size
        inside = iova & ((1 << (shift if word >> 52 & 1 else size)) - 1)
        self.oa = address + inside
        self.writable = word >> 62 & 1
        self.run = [load(self.first + 8 * i) for i in range(self.entries)]

    @property
    def dirty(self):
        """Whether any entry of the leaf says so."""
        return any(word >> 6 & 1 for word in self.run)

    @property
    def whole(self):
        """Whether every entry of the leaf says the same: equal copies, or addresses that rise."""
        keep = ~(3 << 5) & (1 << 64) - 1
        step = (1 << self.size_lg2) // self.entries if self.word >> 52 & 1 else 0
        return [word & keep for word in self.run] == [(self.run[0] & keep) + i * step for i in range(self.entries)]
