"""Situations: a stage, what happened on it before, and the change whose plan is taken; where a mistake shows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeAlias

import attrs
from attrs import field, frozen

from hitless.check.mutants.declared import checks_owners
from hitless.check.recording import recorded
from hitless.check.stage import Setting, Stage
from hitless.check.subject import Subject
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat

Ranges: TypeAlias = Sequence[tuple[int, int]]
TRUNCATED = -1
"""In place of an owner: the range is truncated, which is no conversion."""

_MEMORY = 2 << 30


class Sizes(NamedTuple):
    """What a vendor's format and split rules make of a guest.

    Args:
        page: bytes of the smallest leaf.
        leaf: bytes of the leaf one level above; 0: none may be laid out.
        base: a naturally aligned GPA in the middle of the guest's memory; where the root grows, the first that it
            does not translate.
        memory: bytes of the guest.
    """

    page: int
    leaf: int
    base: int
    memory: int

    @classmethod
    def of(cls, vendor: Vendor, *, grows: bool = False) -> "Sizes":
        fmt, allowed = vendor.page_format, vendor.split_rules.leaf_lg2s
        memory = min(_MEMORY, 1 << fmt.iova_bits - 1)
        large = fmt.levels[1].lo if len(fmt.levels) > 1 and fmt.levels[1].lo in allowed else 0
        leaf = 1 << large if large and 2 << large <= memory >> 1 else 0
        return cls(1 << allowed[0], leaf, 1 << fmt.iova_bits if grows else memory >> 1, memory)

    def pages(self, first: int, count: int = 1) -> tuple[int, int]:
        """A range of pages, counted from the base."""
        return self.base + first * self.page, self.base + (first + count) * self.page


def _nothing(stage: Stage, sizes: Sizes) -> None:
    """Nothing happened before."""


@frozen
class Situation:
    """Where a mistake shows.

    Args:
        id: of the scenario that it is a case of.
        title: one line.
        ranges, owner: what changes; the owner may be TRUNCATED. Owners are those where devices reach shared pages; in a
            private half each is the other one.
        before: what happens first.
        setting: of the stage; sizes are the format's.
        largest: the folios behind the guest are as large as half of it; else as large as a leaf of the second size.
        wipes: it needs a policy that unmaps what the device may not reach; the first such one is chosen.
        grows: half of the guest's memory lies beyond what the root table translates before it grows.
    """

    id: str
    title: str
    ranges: Callable[[Sizes], Ranges]
    owner: int
    before: Callable[[Stage, Sizes], None] = _nothing
    setting: Setting = field(factory=Setting)
    largest: bool = False
    wipes: bool = False
    grows: bool = False

    def why_not(self, vendor: Vendor) -> str:
        """Why a vendor cannot be in it; empty: it can."""
        if not Sizes.of(vendor).leaf:
            return "no leaf is larger than a page here, so that nothing is ever cut or merged"
        if self.wipes and not self._policy(vendor):
            return "no policy of this vendor unmaps what a device may not reach"
        if self.setting.nested and (vendor.page_format.stage != "2" or vendor.structures is None):
            return "no guest's own tables stand over these"
        if self.grows and (vendor.page_format.grown() is None or vendor.structures is None):
            return "no root table grows in this configuration"
        return ""

    def _policy(self, vendor: Vendor) -> str:
        """Where nothing checks owners, only a policy that unmaps keeps a device out."""
        if not self.wipes and (self.setting.trusted or checks_owners(vendor)):
            return self.setting.policy
        return next((name for name, policy in vendor.ownership.policies.items() if policy.wipes), "")

    @contextmanager
    def opened(
        self,
        vendor: Vendor,
        staged_as: Callable[[Setting], Setting] = lambda setting: setting,
        upper: PageFormat | None = None,
    ) -> Iterator[tuple[Stage, Sizes]]:
        """The stage as it is when the plan is taken; close it when the subject has been checked.

        ``upper``: the format of a guest's own tables, where the situation is nested.
        """
        sizes = Sizes.of(vendor, grows=self.grows)
        hunk_lg2 = (sizes.memory >> 1 if self.largest else sizes.leaf).bit_length() - 1
        setting = attrs.evolve(self.setting, memory=sizes.memory, hunk_lg2=hunk_lg2, policy=self._policy(vendor))
        if self.grows:
            setting = attrs.evolve(setting, gpa=sizes.base - (sizes.memory >> 1))
        with Stage.open(vendor, staged_as(setting), upper) as stage:
            if stage.private_half:
                stage.convert([(slot.gpa, slot.end) for slot in stage.guest.slots.slots], HOST)
            self.before(stage, sizes)
            yield stage, sizes

    def take(self, stage: Stage, sizes: Sizes) -> Subject:
        """The plan, as a subject; of the last address space.

        Raises:
            Refused: it is refused.
        """
        ranges = self.ranges(sizes)
        if self.owner != TRUNCATED:
            return stage.plans(ranges, stage.turned(self.owner))[-1]
        domain = stage.domains[-1]
        return recorded(stage, domain, partial(domain.revoke, *ranges[0]), gone=ranges[0])

    def carry_out(self, stage: Stage, sizes: Sizes) -> None:
        """Really do it."""
        stage.guest.convert(self.ranges(sizes), stage.turned(self.owner))


# -- what happens before


def _shared(stage: Stage, sizes: Sizes) -> None:
    """Two large leaves are shared."""
    stage.convert([(sizes.base, sizes.base + 2 * sizes.leaf)], stage.turned(HOST))


def _one_hidden(stage: Stage, sizes: Sizes) -> None:
    """Two large leaves are shared but for one page, so that the first one is cut already."""
    _shared(stage, sizes)
    stage.convert([sizes.pages(5)], stage.turned(GUEST))


def _one_returned(stage: Stage, sizes: Sizes) -> None:
    """Two large leaves are shared, and the first one is cut, though nothing in it is private any more."""
    _one_hidden(stage, sizes)
    stage.convert([sizes.pages(5)], stage.turned(HOST))


def _all_shared(stage: Stage, sizes: Sizes) -> None:
    """The upper half of memory is shared: leaves as large as there are."""
    stage.convert([(sizes.base, sizes.memory)], stage.turned(HOST))


def _one_shared(stage: Stage, sizes: Sizes) -> None:
    """One page is shared, and one a leaf further; all else is private."""
    stage.convert([sizes.pages(5), *_one_further(sizes)], stage.turned(HOST))


def _below_shared(stage: Stage, sizes: Sizes) -> None:
    """The last large leaf that the root table can map is shared."""
    stage.convert([(sizes.base - sizes.leaf, sizes.base)], stage.turned(HOST))


# -- what changes


def _one(sizes: Sizes) -> Ranges:
    return [sizes.pages(5)]


def _two(sizes: Sizes) -> Ranges:
    """Two pages that are no naturally aligned block."""
    return [sizes.pages(5, 2)]


def _one_in_run(sizes: Sizes) -> Ranges:
    """A page inside a run, where runs are laid out."""
    return [sizes.pages(40)]


def _one_further(sizes: Sizes) -> Ranges:
    """The first page of the next leaf."""
    return [(sizes.base + sizes.leaf, sizes.base + sizes.leaf + sizes.page)]


def _last_but_one(sizes: Sizes) -> Ranges:
    return [(sizes.memory - 2 * sizes.page, sizes.memory - sizes.page)]


# -- the situations

_ATS = (((1, (5,)),),)
_TWO_UNITS = (((1, ()),), ((1, ()),))
_TWO_TAGS = (((1, ()), (2, ())),)
_TWO_FUNCTIONS = (((1, (5, 6)),),)

HIDE = Situation("one-page-in-2m", "one page of a shared leaf turns private", _one, GUEST, _shared)
HIDE_TWO = attrs.evolve(HIDE, id="two-ranges", title="two pages of a shared leaf turn private", ranges=_two)
HIDE_IN_PLACE = attrs.evolve(HIDE, id="in-place", setting=Setting("in-place"))
HIDE_CUT_IN_PLACE = attrs.evolve(
    HIDE_IN_PLACE, title="one page of a leaf that was cut turns private", before=_one_returned
)
HIDE_IN_LARGEST = Situation(
    "one-page-in-1g",
    "one page of the largest shared leaf turns private",
    _last_but_one,
    GUEST,
    _all_shared,
    largest=True,
)
HIDE_IN_RUN = Situation("runs", "one page of a run turns private", _one_in_run, GUEST, _one_hidden)
HIDE_TRUSTED = attrs.evolve(HIDE, id="trusted-page", setting=Setting(trusted=True))
HIDE_ATS = attrs.evolve(HIDE, id="ats", setting=Setting(units=_ATS))
HIDE_TWO_ATS = attrs.evolve(HIDE_TWO, id="ats", setting=Setting(units=_ATS))
HIDE_TWO_UNITS = attrs.evolve(HIDE, id="two-units", setting=Setting(units=_TWO_UNITS))
HIDE_TWO_TAGS = attrs.evolve(HIDE, id="two-tags", setting=Setting(units=_TWO_TAGS))
HIDE_TWO_FUNCTIONS = attrs.evolve(HIDE, id="two-functions", setting=Setting(units=_TWO_FUNCTIONS))
HIDE_NESTED = attrs.evolve(HIDE, id="nested", setting=Setting(nested=True))
HIDE_TWO_SPACES = attrs.evolve(HIDE, id="two-spaces", setting=Setting(spaces=2))
SHOW = Situation("one-page-in-4k", "one private page between shared ones turns shared", _one, HOST, _one_hidden)
SHOW_IN_PLACE = attrs.evolve(SHOW, id="in-place", setting=Setting("in-place"))
SHOW_TRUSTED = Situation(
    "trusted-page", "one page of a private leaf turns shared", _one, HOST, setting=Setting("in-place", trusted=True)
)
HIDE_REST_TRUSTED = Situation(
    "trusted-page",
    "the last shared pages of a leaf turn private under a trusted device",
    lambda sizes: [(sizes.base, sizes.base + sizes.leaf)],
    GUEST,
    _one_hidden,
    Setting(trusted=True),
)
MERGE = attrs.evolve(
    SHOW, id="merge", title="the last private page of a leaf turns shared", setting=Setting(merge="at_once")
)
MAP = Situation("wipe-policy", "a page turns shared where nothing was mapped", _one_further, HOST, wipes=True)
PRUNE = Situation(
    "prune",
    "the last mapped page of a table turns private",
    _one,
    GUEST,
    _one_shared,
    Setting(merge="at_once"),
    wipes=True,
)
GROW = Situation(
    "root-grows",
    "a page turns shared beyond what the root table translates",
    _one,
    HOST,
    _below_shared,
    Setting(units=_ATS),
    wipes=True,
    grows=True,
)
REVOKE = attrs.evolve(HIDE, id="revoke", title="one page of a shared leaf is truncated", owner=TRUNCATED)

SITUATIONS = (
    *(HIDE, HIDE_TWO, HIDE_IN_PLACE, HIDE_CUT_IN_PLACE, HIDE_IN_LARGEST, HIDE_IN_RUN, HIDE_TRUSTED, HIDE_ATS),
    *(HIDE_TWO_ATS, HIDE_TWO_UNITS, HIDE_TWO_TAGS, HIDE_TWO_FUNCTIONS, HIDE_NESTED, HIDE_TWO_SPACES, HIDE_REST_TRUSTED),
    *(SHOW, SHOW_IN_PLACE, SHOW_TRUSTED, MERGE, MAP, PRUNE, GROW, REVOKE),
)
"""All of them."""
