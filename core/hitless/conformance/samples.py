"""Samples that several tests of the kit take: addresses, targets, attributes, changes."""

from collections.abc import Iterator

from hitless.pagetable import READ, WRITE, LeafSize, PageFormat
from hitless.refresh.commands import Target

PATTERN = 0x5A5A_A5A5_C3C3_3C3C


def oa_samples(fmt: PageFormat, lg2: int) -> Iterator[int]:
    """Aligned output addresses: 0, each single bit, all bits, a pattern; all that fit."""
    top = 1 << fmt.oa_bits
    some = [0, *(1 << bit for bit in range(lg2, fmt.oa_bits)), top - 1, PATTERN % top]
    yield from dict.fromkeys(each >> lg2 << lg2 for each in some)


def iova_samples(fmt: PageFormat) -> Iterator[int]:
    """Page-aligned IOVAs that the root can index: the ends, each single bit, and a pattern."""
    page = 1 << fmt.leaf_lg2s[0]
    top = 1 << fmt.iova_bits
    low = [0, page, top - page, top // 2, top // 2 - page, PATTERN % top]
    for each in dict.fromkeys([*low, *(1 << bit for bit in range(page.bit_length() - 1, fmt.iova_bits))]):
        yield fmt.canonical(each // page * page)


def attrs_samples(fmt: PageFormat) -> list[int]:
    """Attributes that the format itself gives: of read-only and of writable memory."""
    return list(dict.fromkeys([fmt.default_attrs(READ | WRITE), fmt.default_attrs(READ)]))


def page_target(fmt: PageFormat, number: int = 1) -> Target:
    """One page of the smallest size, ``number`` pages from 0."""
    lo = fmt.leaf_lg2s[0]
    return Target(number << lo, (number + 1 << lo) - 1, lo, 0, tables=False)


def leaf_target(fmt: PageFormat, size: LeafSize, number: int, *, tables: bool = False) -> Target:
    """One leaf of a size, ``number`` leaves from 0."""
    first = number << size.lg2
    return Target(first, first + (1 << size.lg2) - 1, size.lg2, None if tables else size.level, tables)
