"""Several ranges of memory as one: tables and queues in one arena, guest memory that has bytes in others."""

from collections.abc import Sequence

from hitless.bits import U64Array
from hitless.errors import BusError
from hitless.memory.physical import PhysicalMemory


class JoinedMemory:
    """Sends every access to the part that holds it; implements :class:`hitless.memory.PhysicalMemory`.

    Args:
        parts: disjoint; the one that is used most comes first.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[PhysicalMemory]) -> None:
        self._parts = tuple(parts)

    def _part(self, pa: int, size: int = 8) -> PhysicalMemory:
        for part in self._parts:
            if part.contains(pa, size):
                return part
        raise BusError(pa, f"{size} bytes from here are in no part of memory")

    def load(self, pa: int) -> int:
        """The word at ``pa``."""
        return self._part(pa).load(pa)

    def store(self, pa: int, word: int) -> None:
        """Write one word."""
        self._part(pa).store(pa, word)

    def store32(self, pa: int, word: int) -> None:
        """Write 32 bits."""
        self._part(pa, 4).store32(pa, word)

    def compare_exchange(self, pa: int, expected: int, new: int) -> int:
        """Write ``new`` if the word is ``expected``; returns the word that was found."""
        return self._part(pa).compare_exchange(pa, expected, new)

    def exchange(self, pas: U64Array, expected: U64Array, new: U64Array) -> U64Array:
        """Write each of ``new`` where the word is ``expected``; all addresses lie in one part."""
        return self._part_of(pas).exchange(pas, expected, new)

    def gather(self, pas: U64Array) -> U64Array:
        """The words at the addresses, which lie in one part."""
        return self._part_of(pas).gather(pas)

    def scatter(self, pas: U64Array, words: U64Array) -> None:
        """Write ``words[i]`` at ``pas[i]``; all of them lie in one part."""
        self._part_of(pas).scatter(pas, words)

    def view(self, pa: int, count: int) -> U64Array:
        """The ``count`` words from ``pa`` on, live and writable."""
        return self._part(pa, count * 8).view(pa, count)

    def contains(self, pa: int, size: int) -> bool:
        """Whether all of ``[pa, pa + size)`` lies in one part."""
        return any(part.contains(pa, size) for part in self._parts)

    def _part_of(self, pas: U64Array) -> PhysicalMemory:
        return self._part(int(pas.flat[0])) if pas.size else self._parts[0]
