"""Structures and tables as raw words in a dictionary, written by hand from RISCV-DC-*, RISCV-PC-* and RISCV-PTE-*.

No code of the plugin takes part.
"""

from hitless.errors import BusError

DDT, PDT = 0x10_0000, 0x20_0000
FIRST, SECOND = 0x40_0000, 0x80_0000
V, R, W, U, A, D = 1, 2, 4, 16, 64, 128
LEAF = V | R | W | U | A | D
SV39, SV48 = 8, 9
EN_ATS, DTF, PDTV, GADE, SADE, DPE = 1 << 1, 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9


class Memory(dict):
    """Words by address; what was never written is not there."""

    def put(self, pa, *words):
        """Words from an address on."""
        for i, word in enumerate(words):
            self[pa + 8 * i] = word

    def page(self, pa, size=0x1000):
        """Zeroed memory, where there is none yet."""
        for at in range(pa, pa + size, 8):
            self.setdefault(at, 0)

    def load(self, pa):
        """One word, or a bus error."""
        if pa not in self:
            raise BusError("no memory", where=hex(pa))
        return self[pa]


def pointer(pa):
    """A directory entry, or a pointer of a page table."""
    return pa >> 12 << 10 | V


def atp(mode, pa, gscid=0):
    """Iosatp or iohgatp."""
    return mode << 60 | gscid << 44 | pa >> 12


def directory(memory, device, words, *, extended=True):
    """A three-level directory with one device context; the ddtp register."""
    size, d0 = (64, 6) if extended else (32, 7)
    for i in range(3):
        memory.page(DDT + 0x1000 * i)
    memory.put(DDT + 8 * (device >> d0 + 9), pointer(DDT + 0x1000))
    memory.put(DDT + 0x1000 + 8 * (device >> d0 & 511), pointer(DDT + 0x2000))
    memory.put(DDT + 0x2000 + size * (device & (1 << d0) - 1), *words, *([0] * 4 if extended else []))
    return DDT >> 12 << 10 | 4


def table(memory, root, indexes, leaf, *, root_bytes=0x1000):
    """Tables for one address, one after the other behind the root; the leaf stands in the last one."""
    memory.page(root, root_bytes)
    at = root
    for number, index in enumerate(indexes[:-1]):
        below = root + root_bytes + 0x1000 * number
        memory.page(below)
        memory.put(at + 8 * index, pointer(below))
        at = below
    memory.put(at + 8 * indexes[-1], leaf)
