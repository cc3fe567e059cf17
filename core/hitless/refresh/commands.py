"""What the planner asks of a vendor's commands: encoded words for what has to go."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from hitless.units import aligned_lg2

Words: TypeAlias = tuple[int, ...]


class Target(NamedTuple):
    """IOVAs whose cached translations have to go.

    Args:
        first, last: the range, inclusive, whole leaves only.
        leaf_lg2: log2 of the size of the largest leaf there that may be cached.
        level: level of the leaves that were there before; None if the range held several levels.
        tables: whether cached table pointers in the range have to go too.
    """

    first: int
    last: int
    leaf_lg2: int
    level: int | None
    tables: bool


class Encoder(Protocol):
    """The part of a vendor's commands that the planner needs."""

    atc_after_wait: bool
    """Whether a wait must stand between the IOTLB's commands and the device's."""

    nested_after_wait: bool
    """Whether a wait must stand between the commands of stage 2 and those of nested results: else these may be made
    again from what has not gone yet."""

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """The smallest legal commands that drop the target from a unit's caches: one at least."""

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        """One group that drops everything of a tag."""

    def invalidate_nested(self, tag: int) -> Sequence[Words]:
        """What has to follow :meth:`invalidate` where a guest's stage 1 stands over this stage 2.

        Combined results and stage-1 entries that were made through the stage 2 have to go too; empty where they
        go with it. A vendor whose formats do not nest may leave it out.
        """

    def invalidate_device(self, target: Target, device: int, pasid: int | None = None) -> Sequence[Words]:
        """The commands that drop the target from one device's ATC: what it holds for a PASID, or without one.

        A vendor whose devices use no PASIDs may leave ``pasid`` out. The target may be the whole 64-bit space.
        """

    def wait(self, store_pa: int, value: int) -> Words:
        """The completion command that writes ``value`` to ``store_pa``."""

    def describe(self, words: Words) -> str:
        """A command in words, every field named."""


def _in_order(target: Target) -> tuple[int, int, int, int, bool]:
    """By address; a target of several levels before one of one level."""
    first, last, leaf_lg2, level, tables = target
    return first, last, leaf_lg2, -1 if level is None else level, tables


def join_targets(targets: Sequence[Target]) -> list[Target]:
    """Adjacent targets of one kind as one; others keep their order by address."""
    if len(targets) == 1:
        return [*targets]
    joined: list[Target] = []
    for each in sorted(targets, key=_in_order):
        if joined:
            last = joined[-1]
            if last[2:] == each[2:] and each.first <= last.last + 1:
                joined[-1] = last._replace(last=max(last.last, each.last))
                continue
        joined.append(each)
    return joined


def aligned_blocks(first: int, last: int, max_lg2: int) -> Sequence[tuple[int, int]]:
    """Naturally aligned power-of-two blocks (start, size_lg2), largest first fit, that make up a range exactly."""
    if not first & (apart := first ^ last) and not apart & apart + 1 and not apart >> max_lg2:
        return ((first, apart.bit_length()),)  # a block itself: nearly every target
    blocks, at, end = list[tuple[int, int]](), first, last + 1
    while at < end:
        lg2 = min(aligned_lg2(at), (end - at).bit_length() - 1, max_lg2)
        blocks.append((at, lg2))
        at += 1 << lg2
    return blocks
