"""Runs of guest memory: where it lies, and whose it is."""

from collections.abc import Iterator
from typing import NamedTuple

from attrs import define

from hitless.bits import U64Array
from hitless.columns import Columns


class GuestRun(NamedTuple):
    """Guest memory ``[start, end)`` (GPA) with one owner, physically contiguous from ``pa`` on."""

    start: int
    end: int
    owner: int
    pa: int


@define(eq=False)
class GuestRuns(Columns[GuestRun]):
    """Many of them, in order; ``last`` is inclusive."""

    start: U64Array
    last: U64Array
    owner: U64Array
    pa: U64Array

    def _rows(self) -> Iterator[GuestRun]:
        for start, last, owner, pa in zip(*(each.tolist() for each in self._columns()), strict=True):
            yield GuestRun(start, last + 1, owner, pa)
