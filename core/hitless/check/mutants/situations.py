"""Situations: a stage, what happened on it before, and the plan that is taken; where a mistake shows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import attrs
from attrs import frozen

from hitless.check.mutants.declared import checks_owners
from hitless.check.recording import recorded
from hitless.check.stage import Setting, Stage
from hitless.check.subject import Subject
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.hardware.vendor import Vendor

_MEMORY = 2 << 30
_HUNK_LG2 = 30


class Sizes(NamedTuple):
    """What a vendor's format and split rules make of a guest.

    Args:
        page: bytes of the smallest leaf.
        leaf: bytes of the leaf one level above; 0: none may be laid out.
        base: a naturally aligned GPA in the middle of the guest's memory.
        memory, hunk_lg2: of the guest.
    """

    page: int
    leaf: int
    base: int
    memory: int
    hunk_lg2: int

    @classmethod
    def of(cls, vendor: Vendor) -> "Sizes":
        fmt, allowed = vendor.page_format, vendor.split_rules.leaf_lg2s
        memory = min(_MEMORY, 1 << fmt.iova_bits - 1)
        large = fmt.levels[1].lo if len(fmt.levels) > 1 and fmt.levels[1].lo in allowed else 0
        hunk_lg2 = min(_HUNK_LG2, memory.bit_length() - 2)
        leaf = 1 << large if large and 2 << large <= memory >> 1 else 0
        return cls(1 << allowed[0], leaf, memory >> 1, memory, hunk_lg2)

    def at(self, page: int) -> int:
        """A page's address, counted from the base."""
        return self.base + page * self.page


def _nothing(stage: Stage, sizes: Sizes) -> None:
    """Nothing happened before."""


@frozen
class Situation:
    """Where a mistake shows.

    Args:
        id: of the scenario that it is a case of.
        title: one line.
        setting: of the stage; sizes are the format's.
        before: what happens first.
        take: the plan, as a subject, or several: one an address space.
        wipes: it needs a policy that unmaps what the device may not reach; the first such one is chosen.
    """

    id: str
    title: str
    take: Callable[[Stage, Sizes], Sequence[Subject]]
    before: Callable[[Stage, Sizes], None] = _nothing
    setting: Setting = Setting()
    wipes: bool = False

    def why_not(self, vendor: Vendor) -> str:
        """Why a vendor cannot be in it; empty: it can."""
        if not Sizes.of(vendor).leaf:
            return "no leaf is larger than a page here, so that nothing is ever cut or merged"
        if self.wipes and not self._policy(vendor):
            return "no policy of this vendor unmaps what a device may not reach"
        return ""

    def _policy(self, vendor: Vendor) -> str:
        """Where nothing checks owners, only a policy that unmaps keeps a device out."""
        if not self.wipes and (self.setting.trusted or checks_owners(vendor)):
            return self.setting.policy
        return next((name for name, policy in vendor.ownership.policies.items() if not policy.maps_private), "")

    @contextmanager
    def opened(self, vendor: Vendor) -> Iterator[tuple[Stage, Sizes]]:
        """The stage as it is when the plan is taken; close it when the subject has been checked."""
        sizes = Sizes.of(vendor)
        setting = attrs.evolve(self.setting, memory=sizes.memory, hunk_lg2=sizes.hunk_lg2, policy=self._policy(vendor))
        with Stage.open(vendor, setting) as stage:
            self.before(stage, sizes)
            yield stage, sizes


# -- what happens before


def _shared(stage: Stage, sizes: Sizes) -> None:
    """Two large leaves are shared."""
    stage.convert([(sizes.base, sizes.base + 2 * sizes.leaf)], HOST)


def _one_hidden(stage: Stage, sizes: Sizes) -> None:
    """Two large leaves are shared but for one page, so that the first one is cut already."""
    _shared(stage, sizes)
    stage.convert([(sizes.at(5), sizes.at(6))], GUEST)


def _one_returned(stage: Stage, sizes: Sizes) -> None:
    """Two large leaves are shared, and the first one is cut, though nothing in it is private any more."""
    _one_hidden(stage, sizes)
    stage.convert([(sizes.at(5), sizes.at(6))], HOST)


def _all_shared(stage: Stage, sizes: Sizes) -> None:
    """The upper half of memory is shared: leaves as large as there are."""
    stage.convert([(sizes.base, sizes.memory)], HOST)


def _one_shared(stage: Stage, sizes: Sizes) -> None:
    """One page is shared, and one a leaf further; all else is private."""
    far = sizes.base + sizes.leaf
    stage.convert([(sizes.at(5), sizes.at(6)), (far, far + sizes.page)], HOST)


# -- which plan is taken


def _hide(stage: Stage, sizes: Sizes) -> Sequence[Subject]:
    """One page of a large shared leaf turns private."""
    return stage.plans([(sizes.at(5), sizes.at(6))], GUEST)


def _hide_two(stage: Stage, sizes: Sizes) -> Sequence[Subject]:
    """Two pages that are no naturally aligned block turn private."""
    return stage.plans([(sizes.at(5), sizes.at(7))], GUEST)


def _show(stage: Stage, sizes: Sizes) -> Sequence[Subject]:
    """One private page between shared ones turns shared."""
    return stage.plans([(sizes.at(5), sizes.at(6))], HOST)


def _show_leaf(stage: Stage, sizes: Sizes) -> Sequence[Subject]:
    """A page far from the base turns shared, where nothing was shared before."""
    return stage.plans([(sizes.base + sizes.leaf, sizes.base + sizes.leaf + sizes.page)], HOST)


def _truncate(stage: Stage, sizes: Sizes) -> Sequence[Subject]:
    """A page is truncated: guest_memfd revokes it."""
    start, end = sizes.at(5), sizes.at(6)
    return [recorded(stage, domain, partial(domain.revoke, start, end), gone=(start, end)) for domain in stage.domains]


# -- the situations

_ATS = (((1, (5,)),),)

HIDE = Situation("one-page-in-2m", "one page of a shared leaf turns private", _hide, _shared)
HIDE_TWO = Situation("two-ranges", "two pages of a shared leaf turn private", _hide_two, _shared)
HIDE_IN_PLACE = Situation(
    "in-place", "one page of a shared leaf turns private and keeps its address", _hide, _shared, Setting("in-place")
)
HIDE_CUT_IN_PLACE = Situation(
    "in-place",
    "one page of a leaf that was cut before turns private and keeps its address",
    _hide,
    _one_returned,
    Setting("in-place"),
)
HIDE_IN_LARGEST = Situation(
    "one-page-in-1g",
    "one page of the largest shared leaf turns private",
    lambda stage, sizes: stage.plans([(sizes.memory - 2 * sizes.page, sizes.memory - sizes.page)], GUEST),
    _all_shared,
)
HIDE_TRUSTED = Situation(
    "trusted-page",
    "one page of a shared leaf turns private, and devices are trusted",
    _hide,
    _shared,
    Setting(trusted=True),
)
HIDE_ATS = Situation("ats", "one page of a shared leaf turns private, with ATS", _hide, _shared, Setting(units=_ATS))
HIDE_TWO_ATS = Situation("ats", "two pages turn private, with ATS", _hide_two, _shared, Setting(units=_ATS))
HIDE_TWO_UNITS = Situation(
    "two-units", "one page turns private, two units", _hide, _shared, Setting(units=(((1, ()),), ((1, ()),)))
)
HIDE_TWO_TAGS = Situation(
    "two-tags", "one page turns private, one unit and two tags", _hide, _shared, Setting(units=(((1, ()), (2, ())),))
)
HIDE_TWO_FUNCTIONS = Situation(
    "two-functions", "one page turns private, two devices with ATS", _hide, _shared, Setting(units=(((1, (5, 6)),),))
)
HIDE_TWO_SPACES = Situation(
    "two-spaces", "one page turns private, and two address spaces map it", _hide, _shared, Setting(spaces=2)
)
SHOW = Situation("one-page-in-4k", "one private page between shared ones turns shared", _show, _one_hidden)
SHOW_TRUSTED = Situation(
    "trusted-page",
    "one private page turns shared, and devices are trusted",
    _show,
    _one_hidden,
    Setting(trusted=True),
)
MERGE = Situation(
    "merge",
    "the last private page of a leaf turns shared, and the table is merged",
    _show,
    _one_hidden,
    Setting(merge="at_once"),
)
MAP = Situation("wipe-policy", "a page turns shared where nothing was mapped", _show_leaf, wipes=True)
PRUNE = Situation(
    "prune",
    "the last mapped page of a table turns private, and the table goes",
    _hide,
    _one_shared,
    Setting(merge="at_once"),
    wipes=True,
)
SHOW_IN_PLACE = Situation(
    "in-place",
    "one private page between shared ones turns shared and keeps its address",
    _show,
    _one_hidden,
    Setting("in-place"),
)
REVOKE = Situation("revoke", "one page of a shared leaf is truncated", _truncate, _shared)

SITUATIONS = (
    HIDE,
    HIDE_TWO,
    HIDE_IN_PLACE,
    HIDE_CUT_IN_PLACE,
    HIDE_IN_LARGEST,
    HIDE_TRUSTED,
    HIDE_ATS,
    HIDE_TWO_ATS,
    HIDE_TWO_UNITS,
    HIDE_TWO_TAGS,
    HIDE_TWO_FUNCTIONS,
    HIDE_TWO_SPACES,
    SHOW,
    SHOW_TRUSTED,
    SHOW_IN_PLACE,
    MERGE,
    MAP,
    PRUNE,
    REVOKE,
)
