"""Mistakes that one makes with the RMP, and what they have to break.

Facts: AMD-RMP-*.
"""

from collections.abc import Callable, Sequence

import attrs

from hitless.check.mutants import LEFT, Declared, Mutant, Rules, changed, replaced, without
from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import own_drops
from hitless.check.mutants.edits import Steps
from hitless.check.stage import Setting
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.ownership import GUEST, Follow
from hitless.plan import Barrier, Call, Invalidate, Own, Section, Step, Store, Wait
from hitless.units import align_down
from hitless_amd.ownership import Rmp

_2M = 21
_ENGINE = {"engine": "smash+unsmash"}


def checked(vendor: Vendor) -> str:
    """Why no RMP is there to be mistaken with; empty: one is."""
    if vendor.features.snp and vendor.page_format.stage == "2":
        return ""
    return "no RMP is consulted with these features (AMD-RMP-5, AMD-RMP-15)"


def _uncut(section: Section, step: Step) -> bool:
    return section in ("prepare", "isolate")


def _mixed(declared: Declared) -> Rules:
    """Unless RMPUPDATE itself drops it, the old verdict on the whole 2M stays cached."""
    stays = set() if own_drops(declared.vendor) else {"F1", *LEFT}
    return {"N1"} | stays | ({"B1"} if declared.bounded else set())


def _merging(setting: Setting) -> Setting:
    return attrs.evolve(setting, merge="at_once")


def _forced(setting: Setting) -> Setting:
    return attrs.evolve(setting, allow_break=True)


class _Careless(Rmp):
    """Merges without a look at the RMP."""

    def follow(self, from_lg2: int, to_lg2: int) -> Follow:
        return super().follow(from_lg2, to_lg2) if to_lg2 < from_lg2 else Follow.FREE


def _carelessly(vendor: Vendor) -> Vendor:
    return attrs.evolve(vendor, ownership=_Careless(vendor.features))


def _called(change: Callable[[Call], Sequence[Step]]) -> Callable[[Subject], Subject | None]:
    """Other steps for each call."""

    def apply(subject: Subject) -> Subject | None:
        steps: Steps = []
        for section, step in subject.steps:
            steps += [(section, each) for each in (change(step) if isinstance(step, Call) else [step])]
        return changed(subject, steps)

    return apply


def _smash_first(call: Call) -> Sequence[Step]:
    """The two effects of PSMASH_IO one after the other, the RMP's first."""
    owns = [each for each in call.effects if isinstance(each, Own)]
    return [*owns, *(each for each in call.effects if isinstance(each, Store)), Barrier()]


def _keeping_pointers(call: Call) -> Sequence[Step]:
    return [attrs.evolve(call, effects=[each for each in call.effects if not isinstance(each, Invalidate | Wait)])]


def _enlarged(subject: Subject) -> Subject | None:
    """RMPUPDATE to one 2M entry, though the leaves there are 4K."""
    last = max((i for i, (_, step) in enumerate(subject.steps) if isinstance(step, Own)), default=None)
    if last is None:
        return None
    section, own = subject.steps[last]
    block = align_down(own.start_pa, _2M) if isinstance(own, Own) else 0
    extra = Own("RMPUPDATE", block, block + (1 << _2M), GUEST, _2M)
    return changed(subject, [*subject.steps[: last + 1], (section, extra), *subject.steps[last + 1 :]])


def _too_small(subject: Subject) -> Subject | None:
    """RMPUPDATE in 4K entries, though the leaf there is 2M."""
    return replaced(subject, lambda _, step: attrs.evolve(step, size_lg2=12) if isinstance(step, Own) else step)


def _wait_store_given(subject: Subject) -> Subject | None:
    """The last page that units use beside tables, the completion word's, goes to the guest with the converted one."""
    start, end = subject.in_use[-1]
    at_own = next((i for i, (section, _) in enumerate(subject.steps) if section == "own"), None)
    if at_own is None:
        return None
    extra = Own("RMPUPDATE", start, end, GUEST, 12)
    return changed(subject, [*subject.steps[:at_own], ("own", extra), *subject.steps[at_own:]])


HIDE_LEAF_TRUSTED = attrs.evolve(
    at.HIDE_REST_TRUSTED,
    id="trusted-2m",
    title="a whole shared leaf turns private under a trusted device",
    before=at.HIDE.before,
)

OWNER_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "amd.rmp-mixed-under-2m",
        (12,),
        "the RMP turns mixed under a 2M entry that was never cut (AMD-RMP-11)",
        at.HIDE_IN_PLACE,
        _mixed,
        lambda subject: without(subject, _uncut),
        why_not=checked,
    ),
    Mutant(
        "amd.rmp-merged-over-4k",
        (39,),
        "leaves are merged to 2M over 4K RMP entries, under a trusted device (AMD-RMP-9)",
        at.HIDE_REST_TRUSTED,
        lambda _: {"C2", "N1", "S1"},
        planned_as=_carelessly,
        staged_as=_merging,
        why_not=checked,
    ),
    Mutant(
        "amd.rmp-smashed-after-cut",
        (12,),
        "PSMASH after the cut, under a trusted device: in between entry and RMP differ in size (AMD-RMP-12)",
        at.SHOW_TRUSTED,
        lambda _: {"N1", "S1"},
        staged_as=_forced,
        why_not=checked,
    ),
    Mutant(
        "amd.rmp-smashed-before-cut",
        (12,),
        "PSMASH before the cut, under a trusted device: in between entry and RMP differ in size (AMD-RMP-12)",
        at.SHOW_TRUSTED,
        lambda _: {"N1", "S1"},
        _called(_smash_first),
        why_not=checked,
        features=_ENGINE,
    ),
    Mutant(
        "amd.rmp-call-not-done",
        (12,),
        "PSMASH_IO is taken as done though the engine never answered (AMD-RMP-13)",
        at.SHOW_TRUSTED,
        lambda _: LEFT | {"B1", "C2", "E1", "N1"},
        _called(lambda call: [attrs.evolve(call, effects=[])]),
        why_not=checked,
        features=_ENGINE,
    ),
    Mutant(
        "amd.rmp-call-half-done",
        (12,),
        "PSMASH_IO is taken as done though it swapped the entry only (AMD-RMP-21)",
        at.SHOW_TRUSTED,
        lambda _: {"N1", "S1"},
        _called(lambda call: [attrs.evolve(call, effects=call.effects[:1])]),
        why_not=checked,
        features=_ENGINE,
    ),
    Mutant(
        "amd.rmp-unsmashed-under-pointers",
        (3, 12),
        "PUNSMASH without an invalidation: walks from cached pointers find 4K leaves over a 2M RMP entry (AMD-RMP-21)",
        at.HIDE_REST_TRUSTED,
        lambda _: LEFT | {"N1", "R1"},
        _called(_keeping_pointers),
        staged_as=_merging,
        why_not=checked,
        features=_ENGINE,
    ),
    Mutant(
        "amd.rmp-2m-over-4k-leaves",
        (12,),
        "RMPUPDATE makes a 2M entry under a table of 4K leaves, and a trusted device (AMD-RMP-9)",
        at.HIDE_REST_TRUSTED,
        lambda _: LEFT | {"C2", "N1", "S1"},
        _enlarged,
        why_not=checked,
    ),
    Mutant(
        "amd.rmp-4k-under-2m-leaf",
        (12,),
        "RMPUPDATE makes 4K entries under a 2M leaf, and a trusted device (AMD-RMP-8)",
        HIDE_LEAF_TRUSTED,
        lambda _: {"C2", "S1"},
        _too_small,
        why_not=checked,
    ),
    Mutant(
        "amd.rmp-wait-store-given-away",
        (),
        "the page that COMPLETION_WAIT stores to becomes guest-owned (AMD-RMP-16)",
        at.HIDE,
        lambda _: {"T1"},
        _wait_store_given,
        why_not=checked,
    ),
)
