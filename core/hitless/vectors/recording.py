"""Recordings: what a file says, read strictly, and written.

A file holds cases; a case is a configuration, operations in order, and dumps of every word that the
tables held after some of them. Addresses and words are hexadecimal texts, counts are numbers.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs import field, frozen
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, override

from hitless.bits import MASK64
from hitless.errors import BadInput

_word = attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(MASK64))
_LEVELS = range(8)
_KINDS = ("leaf", "table")
_OPS = ("map", "unmap", "phys", "dirty", "readdirty")


@frozen
class Op:
    """One operation, with what it led to.

    Args:
        op: ``map``, ``unmap``, ``phys``, ``dirty`` or ``readdirty``.
        pa: of a map where it leads; of ``phys`` what was answered, 0 = nothing is mapped.
        prot: protection bits: READ 1, WRITE 2, CACHE 4, NOEXEC 8, MMIO 16, PRIV 32.
        ret: 0, or a negative errno.
        unmapped: bytes that an unmap removed.
        noclear: dirty bits are read and stay.
        dirty: ``(iova, size)`` of leaves that were dirty.
    """

    op: str = field(validator=attrs.validators.in_(_OPS))
    iova: int = field(validator=_word)
    size: int = field(default=0, validator=_word)
    pa: int = field(default=0, validator=_word)
    prot: int = 0
    ret: int = 0
    unmapped: int | None = None
    noclear: int = 0
    dirty: tuple[tuple[int, int], ...] = ()


@frozen
class Run:
    """Consecutive entries of one table: ``raw``, ``raw + inc``, ... modulo 2**64.

    Args:
        k: ``leaf`` or ``table``.
        l: level, 0 = smallest page.
        tab: address of the table; i: first index; n: entries; iova: of the first.
        child: of the first pointer, the table that it points to.
    """

    k: str = field(validator=attrs.validators.in_(_KINDS))
    l: int = field(validator=attrs.validators.in_(_LEVELS))  # noqa: E741 - the key in the file
    tab: int = field(validator=_word)
    i: int = field(validator=attrs.validators.in_(range(1 << 20)))
    n: int = field(validator=attrs.validators.in_(range(1, 1 << 20)))
    iova: int = field(validator=_word)
    raw: int = field(validator=_word)
    inc: int = 0
    child: int | None = field(default=None, validator=attrs.validators.optional(_word))

    def words(self) -> list[int]:
        """The word of each entry."""
        return [(self.raw + at * self.inc) & MASK64 for at in range(self.n)]


@frozen
class Dump:
    """Every word of the tables after so many operations."""

    after_op: int
    top_level: int
    runs: tuple[Run, ...]


@frozen
class Case:
    """One address space. ``config`` is read by the format that answers."""

    name: str
    config: Mapping[str, Any]
    ops: tuple[Op, ...]
    dumps: tuple[Dump, ...]


@frozen
class Recording:
    """A file of recorded cases, all for one kind of table."""

    fmt: str
    cases: tuple[Case, ...]
    origin: str = ""
    file: str = ""


CONFIG = {
    "vasz": 0,
    "oasz": 0,
    "level": 0,
    "granule": 0,
    "coherent": 1,
    "features": [],
    "pgsizes": "0x0",
    "arena_pa": "0x100000000",
    "sme_mask": "0x0",
}
"""The keys of a configuration: widths, level of the root at the start, granule, features by name, masks."""


def _number(value: object, _type: type) -> int:
    """A number, or a hexadecimal text."""
    if isinstance(value, str) and value.lower().startswith(("0x", "-0x")):
        return int(value, 16)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected a number or a text like 0x1000, not {value!r}")


def _text(value: object, _type: type) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, not {value!r}")
    return value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook(int, _number)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook_func(lambda cls: cls == Mapping[str, Any], _config)
    converter.register_structure_hook(Recording, make_dict_structure_fn(Recording, converter, file=override(omit=True)))
    return converter


def _config(value: object, _type: type) -> Mapping[str, Any]:
    """A configuration: every key that formats read is there, and has its type."""
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, not {value!r}")
    for key, default in CONFIG.items():
        if not isinstance(value.get(key), type(default)) or isinstance(value[key], bool):
            raise TypeError(f"config.{key} must be like {default!r}, not {value.get(key)!r}")
        if isinstance(default, int) and value[key] not in range(65):
            raise ValueError(f"config.{key} must be from 0 to 64, not {value[key]}")
        if isinstance(default, str) and not 0 <= _number(value[key], int) <= MASK64:
            raise ValueError(f"config.{key} must have 64 bits, not {value[key]}")
    if int(value["arena_pa"], 16) % (1 << 16) or int(value["arena_pa"], 16) >> 60:
        raise ValueError(f"config.arena_pa must be a multiple of 64K below 2**60, not {value['arena_pa']}")
    if not all(isinstance(name, str) for name in value["features"]):
        raise TypeError(f"config.features must be names, not {value['features']!r}")
    return value


def _why(error: BaseException, _type: type | None) -> str:
    """One fault in words."""
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def read_recording(path: str | Path) -> Recording:
    """A recording from a file.

    Raises:
        BadInput: it cannot be read, or is not a recording; names the place.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path.name}", where=str(path), why=error.strerror or str(error)) from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise BadInput(f"{path.name} is not JSON", where=str(path), why=str(error)) from error
    try:
        found = _converter().structure(raw, Recording)
    except (BaseValidationError, TypeError, ValueError, AttributeError) as error:
        why = "; ".join(cattrs.transform_error(error, format_exception=_why)[:3])
        raise BadInput(f"{path.name} is not a recording", where=str(path), why=why) from error
    return attrs.evolve(found, file=path.name)


def read_folder(folder: str | Path) -> list[Recording]:
    """All recordings of a folder, by file name; folders in it are not looked into.

    Raises:
        BadInput: there is no such folder, it holds no ``*.json``, or one of them is not a recording.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"there is no folder {str(folder)!r}", do="name the folder that holds the recordings")
    files: Sequence[Path] = sorted(each for each in folder.glob("*.json") if each.is_file())
    if not files:
        raise BadInput(f"{str(folder)!r} holds no *.json", do="name the folder that holds the recordings")
    return [read_recording(each) for each in files]
