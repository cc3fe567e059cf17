"""TOML tables into attrs classes through cattrs, with hooks that coerce nothing.

cattrs stops at no fault: its tree of exceptions becomes one line each. What of a table could be
read is kept, so that the rest of it is checked in the same go.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Literal, Optional, TypeVar, get_args, get_origin

import attrs
import cattrs
from attrs import frozen
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from hitless.config.model import AreaConfig, DeviceConfig, RangeConfig, Size, SlotConfig, StageConfig
from hitless.errors import BadInput
from hitless.units import SPACE, parse_size

T = TypeVar("T")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VALUE_MAX = 60
_FAULT_MAX = 400
_KIND = {bool: "true or false", int: "an integer", str: "a text"}


@frozen
class Row(Generic[T]):
    """One table as far as it could be read.

    Args:
        path: where it stands, such as ``$.domain[1]``.
        value: with defaults in place of what could not be read.
        dropped: its keys that could not be read: nothing more is to be said of them.
    """

    path: str
    value: T
    dropped: frozenset[str] = frozenset()


def at(path: str, key: str) -> str:
    """The path of a key in a table; a key of unusual characters is quoted."""
    return f"{path}.{key if _BARE_KEY.fullmatch(key) else json.dumps(key)}"


def shown(value: object) -> str:
    """A value as a fault shows it: on one line, and not longer than a line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 1 << 10:
        return "an integer of many digits"
    text = repr(value)
    return text if len(text) <= _VALUE_MAX else text[: _VALUE_MAX - 3] + "..."


def fault(problem: str, path: str) -> str:
    """``problem @ path`` on one line, whatever a plugin or a file put into it."""
    text = problem if len(problem) <= _FAULT_MAX else problem[: _FAULT_MAX - 3] + "..."
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) + f" @ {path}"


def keys_of(cls: type) -> str:
    """The keys of a table, for people."""
    return ", ".join(each.name for each in attrs.fields(cls))


def read_table(converter: cattrs.Converter, raw: object, cls: type[T], path: str) -> tuple[Row[T] | None, list[str]]:
    """A table and its faults; None where a key that it must have is missing or unreadable."""
    if not isinstance(raw, dict):
        return None, [fault(f"expected a table, not {shown(raw)}", path)]
    try:
        return Row(path, converter.structure(raw, cls)), []
    except ClassValidationError as error:
        found = list(_faults(error, path))
        bad = _keys_at_fault(error)
    try:
        rest = {key: value for key, value in raw.items() if key not in bad}
        return Row(path, converter.structure(rest, cls), frozenset(bad)), found
    except ClassValidationError:
        return None, found


def make_converter(*classes: type) -> cattrs.Converter:
    """A converter for tables of these classes (and of those in them), which coerces nothing."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook_func(lambda t: bool(t == Size), _size)
    converter.register_structure_hook_func(lambda t: bool(t == Optional[Size]), _size)  # noqa: UP045 - a runtime value
    converter.register_structure_hook_func(lambda t: get_origin(t) is _LITERAL, _literal)
    converter.register_structure_hook_func(lambda t: get_origin(t) is _MAPPING, _table)
    converter.register_structure_hook_factory(
        lambda t: get_origin(t) is _TUPLE, lambda t: _tuple(converter, get_args(t)[0])
    )
    for cls in (SlotConfig, RangeConfig, DeviceConfig, AreaConfig, StageConfig, *classes):
        converter.register_structure_hook(cls, _class_hook(converter, cls))
    return converter


_LITERAL: Any = Literal
_TUPLE: Any = tuple
_MAPPING: Any = Mapping


def _class_hook(converter: cattrs.Converter, cls: type) -> Callable[[Any, Any], Any]:
    made: Callable[[Any, Any], Any] = cattrs.gen.make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )

    def hook(value: Any, kind: Any) -> Any:
        return made(_table(value, kind), kind)

    return hook


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"expected {_KIND[kind]}, not {shown(value)}")
        return value

    return hook


def _size(value: Any, _: Any) -> int:
    size = value
    if isinstance(value, str):
        try:
            size = parse_size(value)
        except (BadInput, ValueError):  # ValueError: more digits than Python reads
            size = None
    if type(size) is not int or not 0 <= size <= SPACE:
        raise TypeError(f"expected a size such as 4096, '0x1000', '4K' or '16G', not {shown(value)}")
    return size


def _literal(value: Any, kind: Any) -> Any:
    legal = get_args(kind)
    if not isinstance(value, str) or value not in legal:
        raise TypeError(f"expected {' or '.join(map(repr, legal))}, not {shown(value)}")
    return value


def _table(value: Any, _: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, not {shown(value)}")
    return value


def _tuple(converter: cattrs.Converter, kind: Any) -> Callable[[Any, Any], Any]:
    inner = converter.get_structure_hook(list[kind])

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"expected an array, not {shown(value)}")
        return tuple(inner(value, list[kind]))

    return hook


def _keys_at_fault(error: ClassValidationError) -> set[str]:
    """The keys of the outermost table that have to go for the rest to be readable."""
    noted, rest = error.group_exceptions()
    unknown = {key for each in rest if isinstance(each, ForbiddenExtraKeysError) for key in each.extra_fields}
    return unknown | {note.name for _, note in noted}


def _faults(error: BaseException, path: str) -> Iterator[str]:
    """All faults of a tree of exceptions."""
    if isinstance(error, ClassValidationError):
        noted, rest = error.group_exceptions()
        for inner, note in noted:
            yield from _faults(inner, at(path, note.name))
        for each in rest:
            if isinstance(each, ForbiddenExtraKeysError):
                for key in sorted(each.extra_fields):
                    yield fault(f"unknown key {shown(key)}, known are {keys_of(each.cl)}", at(path, key))
            else:
                yield from _faults(each, path)
    elif isinstance(error, IterableValidationError):
        for inner, item in error.group_exceptions()[0]:
            yield from _faults(inner, f"{path}[{item.index}]")
    elif isinstance(error, KeyError):
        yield fault("missing, and there is no default", path)
    else:
        yield fault(str(error), path)
