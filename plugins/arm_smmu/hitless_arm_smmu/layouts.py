"""A helper for layouts that name only some of their bits."""

from collections.abc import Iterable, Iterator

from hitless.bits import Field


def gaps(fields: Iterable[Field], width: int) -> Iterator[tuple[int, int]]:
    """The bits (hi, lo) of a word or structure that none of the fields takes, from below."""
    at = 0
    for each in sorted(fields, key=lambda field: field.lo):
        if each.lo > at:
            yield each.lo - 1, at
        at = each.hi + 1
    if at < width:
        yield width - 1, at
