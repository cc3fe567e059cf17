"""Ranges as they are found, into JSON and CSV: millions of them take no memory."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from attrs import define, field

from hitless import __version__
from hitless.cli.output import opened as opened_file
from hitless.cli.output import write_json
from hitless.inspect.opening import Opened, Space
from hitless.inspect.ranges import Leaves, joined
from hitless.inspect.space import leaves_text
from hitless.inspect.wording import kind_text

SCHEMA = "inspect/1"


class Stream(Protocol):
    """Takes ranges."""

    def begin(self, opened: Opened) -> None:
        """Before the first range."""

    def take(self, number: int, space: Space, found: Leaves) -> None:
        """Some ranges of a space, in order."""

    def end(self, opened: Opened) -> None:
        """After the last range."""


def each_range(opened: Opened, streams: Sequence[Stream]) -> None:
    """Read all spaces, and send every range to every stream."""
    with ExitStack() as stack:
        for stream in streams:
            if isinstance(stream, FileStream):
                stack.enter_context(stream)
            stream.begin(opened)
        for number, space in enumerate(opened.spaces):
            for found in joined(space.reader.chunks()):
                for stream in streams:
                    stream.take(number, space, found)
        for stream in streams:
            stream.end(opened)


@define
class FileStream:
    """One that writes a file, which is there as a whole or not at all; ``-`` is standard output."""

    target: str
    _stack: ExitStack = field(factory=ExitStack)
    _file: TextIO | None = None
    _kinds: dict[tuple[int, int], str] = field(factory=dict)

    @property
    def file(self) -> TextIO:
        assert self._file is not None  # noqa: S101 - a stream is entered before it is used
        return self._file

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(opened_file(self.target))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def rows(self, number: int, space: Space, found: Leaves, form: str) -> Iterator[str]:
        """Each range in a form of ``%x`` for IOVA, size and address, and ``%s`` for the text of its kind.

        Formatting is most of the work where there are millions: this way all of it is in compiled code.
        """
        kinds = found.kinds.tolist()
        for kind in set(kinds):
            if (number, kind) not in self._kinds:
                texts = kind_text(space.fmt, space.reader.entries.kinds[kind])
                self._kinds[number, kind] = self.kind_form(*texts)
        texts_of = {kind: self._kinds[number, kind] for kind in set(kinds)}
        columns = (found.iovas.tolist(), found.sizes.tolist(), found.pas.tolist(), map(texts_of.__getitem__, kinds))
        return map(form.__mod__, zip(*columns, strict=True))

    def kind_form(self, rights: str, leaf: str, attributes: str) -> str:
        """Rights, size and attributes as this file has them."""
        raise NotImplementedError


@define
class CsvStream(FileStream):
    """One line a range."""

    def begin(self, opened: Opened) -> None:
        self.file.write("space,iova,size,pa,rights,leaf,attributes\n")

    def kind_form(self, rights: str, leaf: str, attributes: str) -> str:
        return f"{rights},{leaf},{attributes}"

    def take(self, number: int, space: Space, found: Leaves) -> None:
        self.file.writelines(self.rows(number, space, found, f"{number},0x%x,0x%x,0x%x,%s\n"))

    def end(self, opened: Opened) -> None:
        """A table of lines has no end."""


@define
class JsonStream(FileStream):
    """The JSON document, its ranges first."""

    _first: bool = True

    def begin(self, opened: Opened) -> None:
        head = {"hitless": __version__, "schema": SCHEMA}
        self.file.write(json.dumps(head, indent=2)[:-2] + ',\n  "ranges": [')

    def kind_form(self, rights: str, leaf: str, attributes: str) -> str:
        return json.dumps({"rights": rights, "leaf": leaf, "attributes": attributes})[1:-1]

    def take(self, number: int, space: Space, found: Leaves) -> None:
        form = f'    {{"iova": "0x%x", "size": "0x%x", "pa": "0x%x", %s, "space": {number}}}'
        lines = ",\n".join(self.rows(number, space, found, form))
        if lines:
            self.file.write(("\n" if self._first else ",\n") + lines)
            self._first = False

    def end(self, opened: Opened) -> None:
        rest = json.dumps(totals(opened), indent=2)
        self.file.write(("],\n" if self._first else "\n  ],\n") + rest[2:] + "\n")

    def write_translations(self, opened: Opened, explained: Sequence[Mapping[str, Any]]) -> None:
        """The document for single translations: the range that each leaf maps, and the steps."""
        found = [
            {
                "iova": each["start"],
                "size": each["size"],
                "pa": each["start_pa"],
                "rights": each["rights"],
                "leaf": each["leaf"],
            }
            for each in explained
            if each["outcome"] == "translated"
        ]
        head: dict[str, Any] = {"hitless": __version__, "schema": SCHEMA, "ranges": found}
        write_json(self.target, {**head, **totals(opened), "translations": list(explained)})


def totals(opened: Opened) -> dict[str, Any]:
    """What follows the ranges."""
    readers = [space.reader for space in opened.spaces]
    view = opened.view
    leaves: Counter[int] = sum((reader.leaves for reader in readers), Counter())
    return {
        "tables": sum(reader.tables.total() for reader in readers),
        "bytes": sum(reader.mapped for reader in readers),
        "table_bytes": sum(reader.table_bytes for reader in readers),
        "leaves": leaves_text(leaves),
        "spaces": [space.as_json() for space in opened.spaces],
        "others": {} if view is None else {mode: [f"{each:#x}" for each in ids] for mode, ids in view.others.items()},
        "absent": 0 if view is None else view.absent,
        "findings": [each.as_json() for each in opened.findings],
        "findings_by_rule": dict(sorted(opened.findings.counts.items())),
    }
