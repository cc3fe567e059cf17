"""Mistakes that one makes with the GPT and a realm's tables, and what they have to break.

Facts: ARM-GPT-*. The check itself makes many of them harmless: what it refuses reaches nothing and is not cached.
"""

from collections.abc import Callable, Sequence

import attrs

from hitless.check.mutants import LEFT, Mutant, Rules, changed, replaced
from hitless.check.mutants import situations as at
from hitless.check.mutants.edits import Steps
from hitless.check.stage import Setting
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Call, Own, Step
from hitless_arm_smmu.realm import RealmHalf
from hitless_arm_smmu.rules import recipes

_PROTECTED = {"half": "protected", "rmm_bbml2": True}
_UNPROTECTED = {"half": "unprotected", "rmm_bbml2": True}


def checked(vendor: Vendor) -> str:
    """Why no GPT is there to be mistaken with; empty: one is."""
    return "" if vendor.features.gpc else "no GPT is consulted with these features (ARM-GPT-1)"


def _realm(vendor: Vendor) -> str:
    """Why the tables are no realm's; empty: they are."""
    return "" if vendor.features.half != "host" else "these are the host's own tables (ARM-GPT-17)"


def _conflicts(vendor: Vendor) -> str:
    return _realm(vendor) or ("BBML 2 has no conflicts (ARM-LIVE-7)" if vendor.features.bbml == 2 else "")


def _dropping(drops: str) -> Callable[[Subject], Subject | None]:
    """GPT changes that end less than they should."""
    return lambda subject: replaced(
        subject, lambda _, step: attrs.evolve(step, drops=drops) if isinstance(step, Own) else step
    )


def _forced(setting: Setting) -> Setting:
    return attrs.evolve(setting, allow_break=True)


def _in_one_store(vendor: Vendor) -> Vendor:
    """An RMM that takes every SMMU to have BBML 2."""
    features = attrs.evolve(vendor.features, rmm_bbml2=True)
    return attrs.evolve(vendor, ownership=RealmHalf(features), recipes=recipes(features))


def _called(op: str, change: Callable[[Call], Step]) -> Callable[[Subject], Subject | None]:
    """Another step for each call of a kind."""
    return lambda subject: replaced(
        subject, lambda _, step: change(step) if isinstance(step, Call) and step.op == op else step
    )


def _first(count: int) -> Callable[[Call], Step]:
    """Only so many of a call's effects."""
    return lambda call: attrs.evolve(call, effects=call.effects[:count])


def _mapped_early(subject: Subject) -> Subject | None:
    """What refresh maps, before the owner changes."""
    early: Steps = [each for each in subject.steps if each[0] == "refresh"]
    rest: Steps = [each for each in subject.steps if each[0] != "refresh"]
    to = next((i for i, each in enumerate(rest) if each[0] == "own"), len(rest))
    return changed(subject, [*rest[:to], *(("isolate", step) for _, step in early), *rest[to:]])


HIDE_ATS_IN_PLACE = attrs.evolve(at.HIDE_ATS, setting=attrs.evolve(at.HIDE_ATS.setting, backing="in-place"))


def _stale(_: object) -> Rules:
    return LEFT | {"F1"}


GPT_MUTANTS: Sequence[Mutant] = (
    Mutant(
        "arm_smmu.gpt-without-tlbi",
        (21, 24),
        "the GPT changes without its TLBI by physical address (ARM-GPT-6)",
        at.HIDE_IN_PLACE,
        _stale,
        _dropping("none"),
        why_not=checked,
    ),
    Mutant(
        "arm_smmu.gpt-devices-forgotten",
        (5, 21),
        "the change does not end what devices hold, and no ATC_INV follows it (ARM-GPT-16)",
        HIDE_ATS_IN_PLACE,
        _stale,
        _dropping("iotlb"),
        why_not=checked,
    ),
    Mutant(
        "arm_smmu.gpt-mapped-before-owner",
        (13,),
        "a page is mapped in the unprotected half before its granule is Non-secure (ARM-GPT-20)",
        at.SHOW,
        lambda _: {"C2"},
        _mapped_early,
        why_not=_realm,
        features=_UNPROTECTED,
    ),
    Mutant(
        "arm_smmu.gpt-unfold-without-break",
        (7,),
        "the RMM unfolds a live entry in one store below BBML 2 (ARM-GPT-9)",
        at.HIDE,
        lambda declared: declared.conflict(size=True),
        planned_as=_in_one_store,
        why_not=_conflicts,
        features={"half": "protected", "bbml": 1},
    ),
    Mutant(
        "arm_smmu.gpt-unfold-under-neighbours",
        (7,),
        "the RMM unfolds by break-before-make while neighbours are live (ARM-GPT-9)",
        at.HIDE,
        lambda _: {"N1"},
        staged_as=_forced,
        why_not=_realm,
        features={"half": "protected"},
    ),
    Mutant(
        "arm_smmu.gpt-unfold-stops-broken",
        (15,),
        "a call is taken as done that has broken the entry, and not made it again (ARM-GPT-9)",
        at.HIDE,
        lambda _: {"N1"},
        _called("RMI_RTT_CREATE", _first(4)),
        staged_as=_forced,
        why_not=_realm,
        features={"half": "protected"},
    ),
    Mutant(
        "arm_smmu.gpt-call-not-done",
        (15,),
        "RMI_DATA_DESTROY is taken as done though the RMM never answered (ARM-GPT-18)",
        at.HIDE,
        lambda _: {"C2"},
        _called("RMI_DATA_DESTROY", _first(0)),
        why_not=_realm,
        features=_PROTECTED,
    ),
    Mutant(
        "arm_smmu.gpt-call-half-done",
        (4,),
        "RMI_DATA_DESTROY is taken as done though its TLBI was never sent (ARM-GPT-18)",
        at.HIDE,
        lambda _: {"C2"},
        _called("RMI_DATA_DESTROY", _first(2)),
        why_not=_realm,
        features=_PROTECTED,
    ),
    Mutant(
        "arm_smmu.gpt-call-not-waited",
        (4,),
        "the RMM answers before the SYNC behind its TLBI is done (ARM-GPT-18)",
        at.HIDE,
        lambda _: {"C2", "H1"},
        _called("RMI_DATA_DESTROY", _first(3)),
        why_not=_realm,
        features=_PROTECTED,
    ),
)
