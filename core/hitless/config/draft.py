"""A configuration while it is read: every table as far as it goes, and the faults found so far."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import cattrs
import tomli
from attrs import frozen

from hitless.config.model import Config, DomainConfig, GuestConfig, IoasConfig, PluginConfig, UnitConfig
from hitless.config.structure import Row, at, fault, make_converter, read_table, shown
from hitless.errors import BadInput, ConfigurationError

T = TypeVar("T")
Rows: TypeAlias = tuple[Row[T], ...]

TABLES: dict[str, type[Any]] = {
    "guest": GuestConfig,
    "domain": DomainConfig,
    "unit": UnitConfig,
    "ioas": IoasConfig,
    "vendor": PluginConfig,
    "extension": PluginConfig,
}
"""The tables of a configuration; all but ``guest`` are arrays of tables."""

_PLACE = re.compile(r"(?P<problem>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)


@frozen
class Draft:
    """What could be read.

    Args:
        guest: None if there is no such table.
        unread: tables of which an entry could not be read at all; who is named there is unknown.
        folder: what relative paths are relative to.
    """

    guest: Row[GuestConfig] | None
    domains: Rows[DomainConfig]
    units: Rows[UnitConfig]
    ioas: Rows[IoasConfig]
    vendors: Rows[PluginConfig]
    extensions: Rows[PluginConfig]
    unread: frozenset[str]
    faults: tuple[str, ...]
    source: str
    folder: str

    @classmethod
    def of(cls, config: Config) -> "Draft":
        """The draft of a configuration that was made without a file."""

        def rows(name: str, tables: Sequence[T]) -> Rows[T]:
            return tuple(Row(f"$.{name}[{index}]", each) for index, each in enumerate(tables))

        return cls(
            Row("$.guest", config.guest),
            rows("domain", config.domain),
            rows("unit", config.unit),
            rows("ioas", config.ioas),
            rows("vendor", config.vendor),
            rows("extension", config.extension),
            frozenset(),
            (),
            config.source,
            config.folder,
        )

    def config(self, more_faults: Iterable[str] = ()) -> Config:
        """The configuration, if nothing is wrong with it.

        Raises:
            ConfigurationError: all faults, those given too.
        """
        faults = [*self.faults, *more_faults]
        if faults or self.guest is None:
            raise ConfigurationError(self.source, faults or ["missing @ $.guest"])
        return Config(
            self.guest.value,
            tuple(row.value for row in self.domains),
            tuple(row.value for row in self.units),
            tuple(row.value for row in self.vendors),
            tuple(row.value for row in self.extensions),
            self.source,
            self.folder,
            tuple(row.value for row in self.ioas),
        )


def read_file(path: str | os.PathLike[str]) -> Draft:
    """The draft of a file.

    Raises:
        BadInput: it cannot be read.  ConfigurationError: it is not TOML.
    """
    name = os.fspath(path)
    try:
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"cannot read the configuration {name!r}", why=why, do="name a TOML file") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigurationError(name, [f"not UTF-8 @ line {line}, column {column}"]) from error
    return read_text(text, name, str(Path(name).parent))


def read_text(text: str, source: str, folder: str = ".") -> Draft:
    """The draft of a text.

    Raises:
        ConfigurationError: it is not TOML; names line and column.
    """
    try:
        raw = tomli.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: tomli's own, or more digits than Python reads
        raise ConfigurationError(source, [_syntax(text, error)]) from error
    converter = make_converter(*TABLES.values())
    faults = [
        fault(f"unknown key {shown(key)}, known are {', '.join(TABLES)}", at("$", key))
        for key in raw
        if key not in TABLES
    ]
    unread: set[str] = set()
    guest: Row[GuestConfig] | None = None
    if "guest" in raw:
        guest, found = read_table(converter, raw["guest"], GuestConfig, "$.guest")
        faults += found
        if guest is None:
            unread.add("guest")
    rows: dict[str, Rows[Any]] = {}
    for name in [name for name in TABLES if name != "guest"]:
        rows[name], found, whole = _read_array(converter, raw.get(name, []), name)
        faults += found
        if not whole:
            unread.add(name)
    return Draft(
        guest,
        _named(rows["domain"]),
        rows["unit"],
        rows["ioas"],
        rows["vendor"],
        rows["extension"],
        frozenset(unread),
        tuple(faults),
        source,
        folder,
    )


def _read_array(converter: cattrs.Converter, raw: object, name: str) -> tuple[Rows[Any], list[str], bool]:
    """An array of tables: those that could be read, the faults, and whether all could."""
    if not isinstance(raw, list):
        return (), [fault(f"expected an array of tables, [[{name}]], not {shown(raw)}", f"$.{name}")], False
    rows: list[Row[Any]] = []
    faults: list[str] = []
    for index, each in enumerate(raw):
        row, found = read_table(converter, each, TABLES[name], f"$.{name}[{index}]")
        faults += found
        if row is not None:
            rows.append(row)
    return tuple(rows), faults, len(rows) == len(raw)


def _syntax(text: str, error: Exception) -> str:
    """What is no TOML, and where."""
    match = _PLACE.fullmatch(str(error))
    if match is None:
        problem = "nested too deeply" if isinstance(error, RecursionError) else "an integer of too many digits"
        return f"not TOML: {problem} @ $"
    line, column = match["line"], match["column"]
    if line is None:
        lines = text.split("\n")
        line, column = str(len(lines)), str(len(lines[-1]) + 1)
    return fault(f"not TOML: {match['problem']}", f"line {line}, column {column}")


def named(domains: Sequence[DomainConfig]) -> tuple[DomainConfig, ...]:
    """Domains with names: the vendor's own, and -1, -2 ... behind it for the next ones of that vendor."""
    taken = {domain.name for domain in domains if domain.name}
    found = []
    for domain in domains:
        name = domain.name
        if not name:
            candidates = [domain.vendor, *(f"{domain.vendor}-{i + 1}" for i in range(len(domains)))]
            name = next(each for each in candidates if each not in taken)
            taken.add(name)
        found.append(attrs.evolve(domain, name=name))
    return tuple(found)


def _named(rows: Rows[DomainConfig]) -> Rows[DomainConfig]:
    values = named([row.value for row in rows])
    return tuple(attrs.evolve(row, value=value) for row, value in zip(rows, values, strict=True))
