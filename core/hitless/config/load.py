"""From TOML to a Config: structure only; what needs plugins is checked afterwards.

cattrs does the structuring, with hooks that coerce nothing; its exception tree becomes one line a fault.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, get_args, get_origin

import attrs
import cattrs
import tomli
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from hitless.config.model import Config, DomainConfig, GuestConfig, Size
from hitless.errors import BadInput, ConfigurationError
from hitless.plugin import VendorRegistry
from hitless.units import PAGE, SPACE, parse_size

_OWN_KEYS = {"source", "folder"}


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file.

    Raises:
        BadInput: the file cannot be read.  ConfigurationError: its faults, all of them.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read configuration {os.fspath(path)!r}", why=str(error)) from error
    return load_text(text, os.fspath(path))


def load_text(text: str, source: str = "<text>") -> Config:
    """The configuration in a text.

    Raises:
        ConfigurationError: its faults, all of them, each as ``problem @ path``.
    """
    try:
        raw = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(source, [f"not TOML: {error} @ $"]) from error
    own = [f"unknown key {key!r}, known are {_known(Config)} @ $.{key}" for key in sorted(_OWN_KEYS & raw.keys())]
    try:
        config = _converter().structure({k: v for k, v in raw.items() if k not in _OWN_KEYS}, Config)
    except cattrs.BaseValidationError as error:
        raise ConfigurationError(source, [*own, *_faults(error, "$")]) from error
    if own or (own := list(_structure_faults(config))):
        raise ConfigurationError(source, own)
    folder = str(Path(source).parent) if Path(source).is_file() else "."
    return attrs.evolve(config, domain=_named(config.domain), source=source, folder=folder)


def default_config(
    registry: VendorRegistry, *, memory: int, backing: str = "in-place", vendors: Sequence[str] | None = None
) -> Config:
    """One slot from 0, 1 GiB hunks, all private; each vendor with its default format and features."""
    names = list(vendors) if vendors else sorted(registry.vendors)
    domains = tuple(DomainConfig(registry.vendor(name).name) for name in names)
    guest = GuestConfig(memory=memory, backing=backing)  # type: ignore[arg-type]
    return Config(guest=guest, domain=_named(domains), source="defaults")


def _named(domains: Sequence[DomainConfig]) -> tuple[DomainConfig, ...]:
    """Domains with names: the vendor's, numbered where one vendor has several."""
    taken = {domain.name for domain in domains if domain.name}
    found = []
    for domain in domains:
        if not domain.name:
            names = [domain.vendor, *(f"{domain.vendor}-{i}" for i in range(2, len(domains) + 2))]
            name = next(each for each in names if each not in taken)
            taken.add(name)
            found.append(attrs.evolve(domain, name=name))
        else:
            found.append(domain)
    return tuple(found)


def _structure_faults(config: Config) -> Iterator[str]:
    """What the types do not say."""
    guest = config.guest
    if guest.memory and guest.slot:
        yield "give either memory or slots, not both @ $.guest.memory"
    if not guest.memory and not guest.slot:
        yield "the guest has no memory: give memory = SIZE or [[guest.slot]] @ $.guest"
    if guest.hunk not in (1 << 12, 1 << 21, 1 << 30):
        yield f"hunk must be 4K, 2M or 1G, not {guest.hunk:#x} @ $.guest.hunk"
    if guest.page_size != PAGE:
        yield f"page_size must be 4K, not {guest.page_size:#x} @ $.guest.page_size"
    if not config.domain:
        yield "no [[domain]]: name at least one vendor @ $.domain"
    tables: list[tuple[str, Sequence[Any]]] = [("domain", config.domain), ("unit", config.unit)]
    for key, entries in [*tables, ("vendor", config.vendor), ("extension", config.extension)]:
        names = [each.name for each in entries if each.name]
        for index, each in enumerate(entries):
            if each.name and names.index(each.name) < [i for i, e in enumerate(entries) if e.name].index(index):
                yield f"the name {each.name!r} is taken @ $.{key}[{index}].name"


# -- cattrs, without coercion


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook_func(lambda t: bool(t == Size), _size)
    converter.register_structure_hook_func(lambda t: bool(t == Optional[Size]), _size)  # noqa: UP045 - a runtime value
    converter.register_structure_hook_func(lambda t: str(get_origin(t)) == str(Literal), _literal)
    converter.register_structure_hook_factory(
        lambda t: str(get_origin(t)) == str(tuple), lambda t: _tuple(converter, get_args(t)[0])
    )
    converter.register_structure_hook_func(lambda t: "Mapping" in str(t), _table)
    for cls in _classes(Config):
        converter.register_structure_hook(cls, _class_hook(converter, cls))
    return converter


def _classes(cls: type) -> set[type]:
    found = {cls}
    for each in attrs.fields(attrs.resolve_types(cls)):
        args = get_args(each.type)
        if args and attrs.has(args[0]):
            found |= _classes(args[0])
        elif isinstance(each.type, type) and attrs.has(each.type):
            found |= _classes(each.type)
    return found


def _class_hook(converter: cattrs.Converter, cls: type) -> Callable[[Any, Any], Any]:
    made: Callable[[Any, Any], Any] = cattrs.gen.make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )

    def hook(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected a table, not {value!r}")
        return made(value, kind)

    return hook


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, not {value!r}")
        return value

    return hook


def _size(value: Any, _: Any) -> int:
    if isinstance(value, str):
        try:
            value = parse_size(value)
        except BadInput as error:
            raise TypeError(error.what) from error
    if type(value) is not int or not 0 <= value <= SPACE:
        raise TypeError(f"expected a size, not {value!r}")
    return value


def _literal(value: Any, kind: Any) -> Any:
    legal = get_args(kind)
    if not isinstance(value, str) or value not in legal:
        raise TypeError(f"expected one of {', '.join(legal)}, not {value!r}")
    return value


def _tuple(converter: cattrs.Converter, kind: Any) -> Callable[[Any, Any], Any]:
    inner = converter.get_structure_hook(list[kind])

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"expected an array, not {value!r}")
        return tuple(inner(value, list[kind]))

    return hook


def _table(value: Any, _: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, not {value!r}")
    return value


def _known(cls: type) -> str:
    return ", ".join(each.name for each in attrs.fields(cls) if each.name not in _OWN_KEYS)


def _faults(error: BaseException, path: str) -> Iterator[str]:
    """Cattrs' exception tree, one line a fault."""
    if isinstance(error, ClassValidationError):
        noted, rest = error.group_exceptions()
        for inner, note in noted:
            yield from _faults(inner, f"{path}.{note.name}")
        for each in rest:
            if isinstance(each, ForbiddenExtraKeysError):
                for key in sorted(each.extra_fields):
                    yield f"unknown key {key!r}, known are {_known(each.cl)} @ {path}.{key}"
            else:
                yield from _faults(each, path)
    elif isinstance(error, IterableValidationError):
        noted_items, rest = error.group_exceptions()
        for inner, item in noted_items:
            yield from _faults(inner, f"{path}[{item.index}]")
        for each in rest:
            yield from _faults(each, path)
    elif isinstance(error, KeyError):
        yield f"missing key {error.args[0]!r} @ {path}"
    else:
        yield f"{error} @ {path}"
