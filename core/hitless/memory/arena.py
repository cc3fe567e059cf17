"""Memory in this process: one anonymous mapping at any physical base address, committed as it is touched."""

import mmap
import platform
import sys
from contextlib import suppress
from threading import Lock
from types import TracebackType
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from hitless.bits import MASK64, U64Array
from hitless.errors import BusError, HitlessError
from hitless.units import SPACE

WORD = 8


class Arena:
    """Physical memory ``[base, base + size)``, all zero at first.

    Only pages that are written cost anything, so an arena of 1 TiB opens at once. Implements
    :class:`hitless.memory.PhysicalMemory`. Methods that read a word before they write it exclude each
    other; ``store``, ``scatter`` and views do not wait for them (a lock would double their cost).

    Args:
        base: physical address of the first byte; any multiple of 8.
        size: bytes; a multiple of 8 above 0. ``base + size`` is at most 2**64.
        mapping: the memory, such as a part of a file that others see; at least as long; closed with the arena. None:
            memory of this process.

    Raises:
        ValueError: base or size are not as above.
        HitlessError: the system does not give so much address space.
    """

    __slots__ = ("_all", "_array", "_base", "_lock", "_map", "_size", "_words")

    def __init__(self, base: int, size: int, mapping: mmap.mmap | None = None) -> None:
        if base < 0 or base % WORD or size <= 0 or size % WORD or base + size > SPACE:
            raise ValueError(f"an arena is whole 64-bit words below 2**64, not base={base:#x} size={size:#x}")
        self._base = base
        self._size = size
        self._map = _reserve(size) if mapping is None else mapping
        self._all = memoryview(self._map)
        self._words = self._all.cast("Q")
        self._array: U64Array = np.frombuffer(self._map, dtype=np.uint64)
        self._lock = Lock()

    @property
    def base(self) -> int:
        """Physical address of the first byte."""
        return self._base

    @property
    def size(self) -> int:
        """Bytes; 0 once the arena is closed."""
        return self._size

    def load(self, pa: int) -> int:
        """The word at ``pa``."""
        at = pa - self._base
        if at & 7 or at < 0:
            self._refuse(pa, WORD)
        try:  # costs nothing, where a comparison with the size would
            return self._words[at >> 3]
        except IndexError:
            self._refuse(pa, WORD)

    def store(self, pa: int, word: int) -> None:
        """Write one word; ValueError if it is not in ``[0, 2**64)``."""
        at = pa - self._base
        if at & 7 or at < 0:
            self._refuse(pa, WORD)
        try:
            self._words[at >> 3] = word
        except IndexError:
            self._refuse(pa, WORD)

    def store32(self, pa: int, word: int) -> None:
        """Write 32 bits; ValueError if ``word`` is not in ``[0, 2**32)``."""
        at = pa - self._base
        if at & 3 or not 0 <= at < self._size:
            self._refuse(pa, 4)
        if not 0 <= word < 1 << 32:
            raise ValueError(f"{word:#x} does not fit into 32 bits")
        shift = (at & 4) * 8
        with self._lock:
            rest = self._words[at >> 3] & (MASK64 ^ 0xFFFF_FFFF << shift)
            self._words[at >> 3] = rest | word << shift

    def compare_exchange(self, pa: int, expected: int, new: int) -> int:
        """Write ``new`` if the word is ``expected``; returns the word that was found."""
        at = pa - self._base
        if at & 7 or not 0 <= at < self._size:
            self._refuse(pa, WORD)
        with self._lock:
            found = self._words[at >> 3]
            if found == expected:
                self._words[at >> 3] = new
            return found

    def exchange(self, pas: U64Array, expected: U64Array, new: U64Array) -> U64Array:
        """Write ``new[i]`` where the word at ``pas[i]`` is ``expected[i]``; returns the words that were found.

        Arrays of one length; no address occurs twice.
        """
        index = self._index(pas)
        with self._lock:
            found = self._array[index]
            same = found == expected
            if same.all():
                self._array[index] = new
            else:
                self._array[index[same]] = new[same]
        return found

    def gather(self, pas: U64Array) -> U64Array:
        """The words at the addresses."""
        return self._array.take(self._index(pas))

    def scatter(self, pas: U64Array, words: U64Array) -> None:
        """Write ``words[i]`` at ``pas[i]``; ValueError if the shapes or the type differ."""
        if np.shape(pas) != np.shape(words) or words.dtype != np.uint64:
            raise ValueError(f"one uint64 word per address, not {words.dtype} {np.shape(words)} for {np.shape(pas)}")
        self._array[self._index(pas)] = words

    def view(self, pa: int, count: int) -> U64Array:
        """The ``count`` words from ``pa`` on, live and writable; none is legal up to the very end."""
        at = pa - self._base
        if at & 7 or at < 0 or count < 0 or at + count * WORD > self._size:
            self._refuse(pa, count * WORD)
        return self._array[at >> 3 : (at >> 3) + count]

    def contains(self, pa: int, size: int) -> bool:
        """Whether all of ``[pa, pa + size)`` is memory."""
        return size >= 0 and self._base <= pa and pa + size <= self._base + self._size

    def close(self) -> None:
        """Give the memory back; from here on every access is a bus error.

        Views that somebody still holds stay valid, and the memory goes when the last of them goes.
        """
        if not self._size:
            return
        self._size = 0
        self._array = np.empty(0, dtype=np.uint64)
        self._words.release()
        self._all.release()
        self._words = memoryview(bytearray()).cast("Q")
        with suppress(BufferError):  # a view is still alive; its last reference unmaps
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Arena({self._base:#x}, {self._size:#x})"

    def _index(self, pas: U64Array) -> NDArray[np.int64]:
        """Word numbers of addresses; below the base the subtraction wraps, and is far outside then."""
        addresses = np.asarray(pas)
        if addresses.dtype != np.uint64:
            raise ValueError(f"addresses are a uint64 array, not {addresses.dtype}")
        offsets = addresses - np.uint64(self._base)
        if not offsets.size:
            return offsets.view(np.int64)
        if int(np.bitwise_or.reduce(offsets, axis=None)) & 7 or int(offsets.max()) >= self._size:
            bad = ((offsets & np.uint64(7)) != 0) | (offsets >= np.uint64(self._size))
            self._refuse(int(addresses[bad][0]), WORD)
        offsets >>= np.uint64(3)
        return offsets.view(np.int64)  # what indexes without being converted

    def _refuse(self, pa: int, size: int) -> NoReturn:
        memory = f"memory is [{self._base:#x}, {self._base + self._size:#x})"
        if not self._size:
            raise BusError(pa, f"the arena at {self._base:#x} is closed")
        if size < 0:
            raise BusError(pa, f"an access of {size} bytes has no meaning; {memory}")
        unit = 4 if size == 4 else WORD
        if (pa - self._base) % unit:
            raise BusError(pa, f"not a multiple of {unit} from the base; {memory}")
        raise BusError(pa, f"{size} bytes from here are not all in memory; {memory}")


def _noreserve() -> int:
    """The flag that keeps address space from counting as memory; 0 where it is not known.

    Python names it from 3.13 on. On Linux it is the same number on the machines listed here, and
    another on some older ones.
    """
    known = sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64", "riscv64", "s390x"}
    flag: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if known else 0)
    return flag


def _reserve(size: int) -> mmap.mmap:
    """Address space that is committed page by page, where the system can do that."""
    try:
        if not hasattr(mmap, "MAP_ANONYMOUS"):
            return mmap.mmap(-1, size)
        reserved = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _noreserve())
    except (OSError, OverflowError, ValueError) as error:
        raise HitlessError(
            f"cannot reserve {size:#x} bytes of address space for physical memory",
            why=str(error),
            do="give the machine less memory, or raise the limit (ulimit -v, vm.overcommit_memory)",
        ) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages refuses the advice, and needs none
            reserved.madvise(mmap.MADV_NOHUGEPAGE)  # or one stored word could commit 2 MiB
    return reserved
