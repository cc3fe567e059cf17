"""The C side: builds baseline.c with gcc -O2, loads it, and hands it memory of an arena."""

import ctypes
import os
import shlex
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

import numpy as np
from attrs import define, field

from hitless.errors import HitlessError

SOURCE = Path(__file__).with_name("baseline.c")
BUILD = Path(__file__).parents[1] / "build" / "benchmarks"
FLAGS = ("-O2", "-std=c11", "-shared", "-fPIC", "-Wall", "-Wextra")

FORMATS = ("amd/v1", "intel/second-stage", "arm_smmu/stage2")
"""In the order of baseline.c's ``enum vendor``."""


class Rounds(IntEnum):
    """The rounds of stores that follow the cut, as baseline.c numbers them."""

    REPLACE = 0
    WIPE = 1
    BREAK_BEFORE_MAKE = 2

    @property
    def stores(self):
        """How many there are."""
        return 2 if self is Rounds.BREAK_BEFORE_MAKE else 1


def compiler():
    """The C compiler: ``CC``, or the first that is found; None if there is none."""
    asked = os.environ.get("CC")
    return asked or shutil.which("gcc") or shutil.which("cc")


def build(folder=BUILD):
    """Compile baseline.c, unless it is done already; where the library lies.

    Raises:
        HitlessError: there is no compiler, or it refuses.
    """
    library = folder / "baseline.so"
    if library.exists() and library.stat().st_mtime > SOURCE.stat().st_mtime:
        return library
    found = compiler()
    if found is None:
        raise HitlessError("the benchmarks need a C compiler", do="install gcc, or name one: CC=clang make bench")
    folder.mkdir(parents=True, exist_ok=True)
    made = library.with_suffix(f".{os.getpid()}")
    command = [*shlex.split(found), *FLAGS, "-o", str(made), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise HitlessError(f"{shlex.join(command)} failed", why=done.stderr.strip())
    made.replace(library)
    return library


class _Space(ctypes.Structure):
    _fields_ = [
        ("words", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("base_pa", "root_pa", "next_pa", "end_pa", "format")),
    ]


class _Work(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("sorted", "other", "cuts", "places", "freed")]


class _Owners(ctypes.Structure):
    _fields_ = [
        ("bits", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("host_pa", "guest_pa", "guest_mapped")),
    ]


def _pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


@define(eq=False)
class Baseline:
    """The functions of baseline.c; arrays are uint64 and go in as they lie."""

    library: ctypes.CDLL

    @classmethod
    def load(cls):
        """Build what is not built, and load it."""
        library = ctypes.CDLL(str(build()))
        size, word, pointer = ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p
        space, work = ctypes.POINTER(_Space), ctypes.POINTER(_Work)
        for name, result, arguments in (
            ("refresh", size, [space, pointer, size, word, ctypes.c_int, work]),
            ("map", ctypes.c_int, [space, word, word, word, ctypes.c_int]),
            ("translate", None, [space, pointer, size, pointer]),
            ("audit", word, [space, ctypes.POINTER(_Owners), word]),
            ("merge", size, [space, word, work, ctypes.POINTER(size)]),
            ("ramp", None, [pointer, size, word, word]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        return cls(library)

    def space(self, arena, page_format, root_pa, next_pa, end_pa):
        """An address space in an arena, whose next table is at ``next_pa``."""
        words = arena.view(arena.base, arena.size >> 3)
        found = _Space(words.ctypes.data, arena.base, root_pa, next_pa, end_pa, FORMATS.index(page_format))
        return CSpace(self.library, found)

    def ramp(self, words):
        """Fill an array as a table is filled."""
        self.library.ramp(_pointer(words), len(words), 0x7000000000000001, 4096)


@define(eq=False)
class CWork:
    """Memory that C works in: warm, as large as so many ranges need it, and kept."""

    ranges: int
    tables: int
    _arrays: list = field(init=False)

    def __attrs_post_init__(self):
        sizes = (2 * self.ranges, 2 * self.ranges, 3 * self.tables, 3 * self.ranges, self.tables)
        self._arrays = [np.ones(max(size, 1), dtype=np.uint64) for size in sizes]

    @property
    def struct(self):
        """As baseline.c has it."""
        return _Work(*(array.ctypes.data for array in self._arrays))

    def freed(self, count):
        """The tables that a merge freed."""
        return self._arrays[4][:count]


@define(eq=False)
class CSpace:
    """One address space of baseline.c."""

    library: ctypes.CDLL
    _space: _Space

    @property
    def next_pa(self):
        """The bump: behind the last table."""
        return self._space.next_pa

    def refresh(self, ranges, new_pa, rounds, work):
        """Bring half-open ranges, a row each, to IOVA + ``new_pa``; how many leaves were replaced, 0 if it failed."""
        struct = work.struct
        return self.library.refresh(self._space, _pointer(ranges), len(ranges), new_pa, rounds, struct)

    def map(self, iova, end, pa, level):
        """Map ``[iova, end)`` to ``pa`` on with leaves of a level; whether there were tables enough."""
        return bool(self.library.map(self._space, iova, end, pa, level))

    def translate(self, iovas, pas):
        """Where IOVAs lead, into ``pas``; all ones where nothing is mapped."""
        self.library.translate(self._space, _pointer(iovas), len(iovas), _pointer(pas))

    def audit(self, bits, host_pa, guest_pa, end, *, guest_mapped):
        """How many entries do not map what a bit a page (1 = the guest's) demands."""
        owners = _Owners(bits.ctypes.data, host_pa, guest_pa, guest_mapped)
        return self.library.audit(self._space, owners, end)

    def merge(self, end, work):
        """Merge below ``end``; stores, and tables that were freed and still hold what they held."""
        freed = ctypes.c_size_t(0)
        stores = self.library.merge(self._space, end, work.struct, freed)
        return stores, work.freed(freed.value)
