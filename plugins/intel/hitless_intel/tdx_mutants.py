"""Mistakes that one makes with TDX, in the host's own tables and in the secure EPT, and what they have to break.

Facts: INTEL-TDX-*.
"""

from collections.abc import Callable, Sequence

import attrs

from hitless.check.mutants import LEFT, Declared, Mutant, Rules, changed
from hitless.check.mutants import situations as at
from hitless.check.mutants.edits import Steps, steps_of
from hitless.check.stage import Setting
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Call, Invalidate, Own, Section, Step, Store, Wait
from hitless_intel.features import FIRST_STAGE

_TRACK, _BLOCK, _DEMOTE, _PROMOTE = (
    "TDH.MEM.TRACK",
    "TDH.MEM.RANGE.BLOCK",
    "TDH.MEM.PAGE.DEMOTE",
    "TDH.MEM.PAGE.PROMOTE",
)
_SEPT = {"half": "private", "sept_resize": "non-blocking"}

_HIDE = attrs.evolve(at.HIDE, title="one page of a private leaf turns shared")
_HIDE_IN_PLACE = attrs.evolve(at.HIDE_IN_PLACE, title=_HIDE.title)
_SHOW = attrs.evolve(at.SHOW, title="one shared page between private ones turns private")
_MERGE = attrs.evolve(at.MERGE, title="the last shared page of a leaf turns private")


def _secure_ept(vendor: Vendor) -> str:
    """Why no secure EPT is there to be mistaken with; empty: one is."""
    return "first-stage tables are no secure EPT (INTEL-TDX-10)" if vendor.page_format.name == FIRST_STAGE else ""


def _harms(vendor: Vendor) -> str:
    return "" if vendor.features.stale_dma == "machine-check" else "such an access is a safe abort here (INTEL-TDX-5)"


def _page_selective(vendor: Vendor) -> str:
    return "" if vendor.features.psi else "without PSI every descriptor covers a domain, pointers too (INTEL-QI-6)"


def _wiped_in_vain(declared: Declared) -> Rules:
    """A page changes hands while a mapping, or a stale translation, leads to it (INTEL-TDX-5)."""
    return {"C2"} | ({"C1"} if declared.unsafe else set())


# -- the host's own tables


def _wipe_left_out(subject: Subject, *, store: bool) -> Subject | None:
    """The wipe's round left out from its store on, or from the store's commands on."""
    steps = list(subject.steps)
    wipe = next((i for i, (_, step) in enumerate(steps) if isinstance(step, Store) and step.what == "wipe"), None)
    own = next((i for i, (section, _) in enumerate(steps) if section == "own"), None)
    if wipe is None or own is None:
        return None
    if store:
        return changed(subject, steps[:wipe] + steps[own:])
    kept = [each for each in steps[wipe:own] if not isinstance(each[1], Invalidate)]
    return changed(subject, steps[:wipe] + kept + steps[own:])


# -- the secure EPT


def _is(op: str) -> Callable[[Section, Step], bool]:
    return lambda _, step: isinstance(step, Call) and step.op == op


def _last(subject: Subject, op: str) -> int | None:
    """The number of the last such call before the owner changes."""
    found = [i for i, (section, step) in enumerate(subject.steps) if section == "isolate" and _is(op)(section, step)]
    return found[-1] if found else None


def _without_last(*ops: str) -> Callable[[Subject], Subject | None]:
    """The plan without the last call of each kind before the owner change."""

    def apply(subject: Subject) -> Subject | None:
        gone = {_last(subject, op) for op in ops}
        return changed(subject, [each for i, each in enumerate(subject.steps) if i not in gone])

    return apply


def _tracked_late(subject: Subject) -> Subject | None:
    """The page is removed between block and track."""
    steps, last = steps_of(subject), _last(subject, _TRACK)
    if last is None:
        return None
    track = steps.pop(last)[1]
    own = max(i for i, (section, _) in enumerate(steps) if section == "own")
    return changed(subject, [*steps[: own + 1], ("own", track), *steps[own + 1 :]])


def _mapped_early(subject: Subject) -> Subject | None:
    """What refresh maps is mapped before the owner changes."""
    early: Steps = [("isolate", step) for section, step in subject.steps if section == "refresh"]
    rest = [each for each in subject.steps if each[0] != "refresh"]
    own = next((i for i, (section, _) in enumerate(rest) if section == "own"), len(rest))
    return changed(subject, [*rest[:own], *early, *rest[own:]])


def _called(op: str, change: Callable[[Call], Sequence[Step]]) -> Callable[[Subject], Subject | None]:
    """Other steps for each such call."""

    def apply(subject: Subject) -> Subject | None:
        steps: Steps = []
        for section, step in subject.steps:
            others = change(step) if isinstance(step, Call) and step.op == op else [step]
            steps += [(section, each) for each in others]
        return changed(subject, steps)

    return apply


def _split_first(call: Call) -> Sequence[Step]:
    """The PAMT entry is split while the leaf still stands."""
    owns = [each for each in call.effects if isinstance(each, Own)]
    return [*owns, attrs.evolve(call, effects=[each for each in call.effects if isinstance(each, Store)])]


def _ends_after(call: Call, effects: int) -> Sequence[Step]:
    """It does only so many of its effects."""
    return [attrs.evolve(call, effects=call.effects[:effects])]


def _untracked(call: Call) -> Sequence[Step]:
    return [attrs.evolve(call, effects=[each for each in call.effects if not isinstance(each, Invalidate | Wait)])]


def _forced(setting: Setting) -> Setting:
    return attrs.evolve(setting, allow_break=True)


TDX_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "intel.tdx-shared-leaf-left",
        (13,),
        "a page turns private while a shared leaf leads to it (INTEL-TDX-5)",
        at.HIDE_IN_PLACE,
        _wiped_in_vain,
        lambda subject: _wipe_left_out(subject, store=True),
    ),
    Mutant(
        "intel.tdx-stale-leaf-left",
        (13,),
        "a page turns private while a cached translation leads to it (INTEL-TDX-5)",
        at.HIDE_IN_PLACE,
        lambda d: LEFT | _wiped_in_vain(d),
        lambda subject: _wipe_left_out(subject, store=False),
        why_not=_page_selective,
    ),
    Mutant(
        "intel.tdx-restored-early",
        (13,),
        "a shared mapping is restored before the page is the host's (INTEL-TDX-6)",
        at.SHOW_IN_PLACE,
        lambda _: {"C1"},
        _mapped_early,
        why_not=_harms,
    ),
    Mutant(
        "intel.tdx-block-without-track",
        (13,),
        "a page is removed that was blocked but never tracked: the trusted IOTLB leads to it still (INTEL-TDX-8)",
        _HIDE,
        lambda d: LEFT | _wiped_in_vain(d),
        _without_last(_TRACK),
        why_not=_secure_ept,
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-removed-before-track",
        (13,),
        "a page is removed before the track that follows its block (INTEL-TDX-8)",
        _HIDE,
        _wiped_in_vain,
        _tracked_late,
        why_not=_secure_ept,
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-removed-unblocked",
        (13,),
        "a page is removed without block and track (INTEL-TDX-8)",
        _HIDE_IN_PLACE,
        _wiped_in_vain,
        _without_last(_BLOCK, _TRACK),
        why_not=_secure_ept,
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-accepted-early",
        (13,),
        "a private page is mapped before it was added to the trust domain (INTEL-TDX-19)",
        attrs.evolve(at.SHOW_IN_PLACE, title=_SHOW.title),
        lambda _: {"C1"},
        _mapped_early,
        why_not=lambda vendor: _secure_ept(vendor) or _harms(vendor),
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-demoted-blocking",
        (7,),
        "a leaf is blocked while it is demoted, under a trusted device (INTEL-TDX-9)",
        _HIDE,
        lambda _: {"N1"},
        staged_as=_forced,
        why_not=_secure_ept,
        features={"half": "private", "sept_resize": "blocking"},
    ),
    Mutant(
        "intel.tdx-hunk-split-first",
        (12, 14),
        "the PAMT entry is split while the large leaf still stands (INTEL-TDX-8)",
        _HIDE,
        lambda _: {"S1"},
        _called(_DEMOTE, _split_first),
        why_not=_secure_ept,
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-call-half-done",
        (12,),
        "a demote that was interrupted after the entry is taken as done (INTEL-TDX-16)",
        _HIDE,
        lambda _: {"S1"},
        _called(_DEMOTE, lambda call: _ends_after(call, 1)),
        why_not=_secure_ept,
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-call-not-done",
        (12,),
        "a demote that was never answered is taken as done (INTEL-TDX-16)",
        _HIDE,
        lambda d: {"E1"} | _wiped_in_vain(d),
        _called(_DEMOTE, lambda call: _ends_after(call, 0)),
        why_not=_secure_ept,
        features=_SEPT,
    ),
    Mutant(
        "intel.tdx-promoted-untracked",
        (3,),
        "a promote without a flush: cached pointers lead to the table of small leaves (INTEL-TDX-14)",
        _MERGE,
        lambda _: LEFT | {"R1"},
        _called(_PROMOTE, _untracked),
        why_not=_secure_ept,
        features=_SEPT,
    ),
)
