"""What physical memory can do: the interface that everything above this room reads and writes through."""

from typing import Protocol

from hitless.bits import U64Array


class PhysicalMemory(Protocol):
    """64-bit words at host physical addresses, over one range of addresses.

    A word is a Python int in ``[0, 2**64)``, many words are a uint64 array; no numpy scalar comes
    out. Addresses are in bytes and multiples of 8 (of 4 for :meth:`store32`).

    A word that several threads may write at a time is written with :meth:`compare_exchange` only.

    Every method but :meth:`contains` raises :class:`hitless.errors.BusError` with the first address
    that is misaligned or outside, before anything is written.
    """

    def load(self, pa: int) -> int:
        """The word at ``pa``."""
        ...

    def store(self, pa: int, word: int) -> None:
        """Write one word, in one piece."""
        ...

    def store32(self, pa: int, word: int) -> None:
        """Write 32 bits, little-endian within the word that holds them; ``word`` is in ``[0, 2**32)``."""
        ...

    def compare_exchange(self, pa: int, expected: int, new: int) -> int:
        """Write ``new`` if the word is ``expected``; returns the word that was found.

        It was stored if, and only if, the result equals ``expected``. Atomic against other calls of
        this method and of :meth:`store32`.
        """
        ...

    def exchange(self, pas: U64Array, expected: U64Array, new: U64Array) -> U64Array:
        """:meth:`compare_exchange` for many words at once; no address occurs twice. The words that were found.

        Atomic as a whole against other calls of this method, of :meth:`compare_exchange` and of :meth:`store32`.
        """
        ...

    def gather(self, pas: U64Array) -> U64Array:
        """The words at the addresses, in a new array of the same shape."""
        ...

    def scatter(self, pas: U64Array, words: U64Array) -> None:
        """Write ``words[i]`` at ``pas[i]``; both have the same shape.

        Where an address occurs twice, the last one stays.
        """
        ...

    def view(self, pa: int, count: int) -> U64Array:
        """The ``count`` words from ``pa`` on, live and writable: what is written to it is in memory."""
        ...

    def contains(self, pa: int, size: int) -> bool:
        """Whether all of ``[pa, pa + size)`` is memory."""
        ...
