"""Mistakes that one makes with an SMMU, and what they have to break.

Facts: ARM-LIVE-*, ARM-TLBI-*, ARM-DESC-*.
"""

from collections.abc import Callable, Sequence

import attrs

from hitless.check.mutants import (
    LEFT,
    Declared,
    Harmless,
    Mutant,
    Reason,
    Rules,
    changed,
    encoding,
    neighbours,
    recoded,
    refilled,
    with_recipe,
)
from hitless.check.mutants import situations as at
from hitless.check.mutants.commands import short_rules
from hitless.check.stage import Setting
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plan import Invalidate, Step, Store
from hitless.refresh.commands import Target, Words
from hitless.refresh.recipes import Scope, one_store
from hitless_arm_smmu.command_layouts import TLBI_NH_VA, TLBI_S2_IPA
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.gpt_mutants import GPT_MUTANTS
from hitless_arm_smmu.vmsa import AF, SH

_LEAF = 1
_TTL = 3 << 8
_NUM, _NUM_LO, _SCALE, _SCALE_LO = 31, 12, 63, 20
_ASID_LO = 48
_MISTAKE = "a mistake"


def _tlbi(code: Callable[[int, int, Invalidate], Words]) -> Callable[[Subject], Subject | None]:
    """Other words for each TLBI by address."""

    def of(step: Invalidate) -> Sequence[Words]:
        low, high = step.words
        return [code(low, high, step)] if low & 0xFF in (TLBI_NH_VA, TLBI_S2_IPA) else [step.words]

    return lambda subject: recoded(subject, of)


def _new_level(commands: object, target: Target, tag: int) -> Sequence[Words]:
    """TTL names the level of the leaves that are there now."""
    words: Sequence[Words] = commands.invalidate(target._replace(level=0), tag)  # type: ignore[attr-defined]
    return words


def _one_less(low: int, high: int, step: Invalidate) -> Words:
    """NUM is one too small, or SCALE where that is 0."""
    if low >> _NUM_LO & _NUM:
        return (low - (1 << _NUM_LO), high)
    return (low - (1 << _SCALE_LO) if low >> _SCALE_LO & _SCALE else low, high)


def _at_the_page(subject: Subject) -> Subject | None:
    """The range starts at the converted page, though TTL names a block."""
    page = subject.truth.converting[0].start

    def code(low: int, high: int, step: Invalidate) -> Words:
        return low, high & 0xFFF | page if high & _TTL and step.first <= page <= step.last else high

    return _tlbi(code)(subject)


def _other_stage(low: int, high: int, step: Invalidate) -> Words:
    """The command of the other stage, for the same addresses."""
    return (low ^ TLBI_NH_VA ^ TLBI_S2_IPA, high)


def _without(mask: int) -> Callable[[Subject], Subject | None]:
    """Neighbours' leaves in new tables without some bits."""

    def apply(subject: Subject) -> Subject | None:
        chosen = set(neighbours(subject))
        return refilled(subject, lambda run: run._replace(first=run.first & ~mask) if run in chosen else run)

    return apply


def _unspread(step: Step) -> Step:
    return attrs.evolve(step, spread=[]) if isinstance(step, Store) else step


def _forced(setting: Setting) -> Setting:
    return attrs.evolve(setting, allow_break=True)


def _bbml(level: int) -> Callable[[Vendor], str]:
    return lambda vendor: "" if vendor.features.bbml == level else f"IDR3.BBML is not {level} (ARM-LIVE-2)"


def _by_range(vendor: Vendor) -> str:
    return "" if vendor.features.ril else "without IDR3.RIL commands have neither range nor level (ARM-TLBI-1)"


def _stage1(vendor: Vendor) -> str:
    return "" if vendor.page_format.stage == "1" else "stage 2 is not filed under an ASID (ARM-TLBI-6)"


def _faults_without_af(vendor: Vendor) -> str:
    return "hardware sets AF (ARM-DESC-8)" if vendor.features.httu else ""


def _shares(vendor: Vendor) -> str:
    return "with 52-bit descriptors SH is not in the descriptor (ARM-DESC-16)" if vendor.features.ds else ""


def _conflict(declared: Declared) -> Rules:
    return declared.conflict(size=True)


_RECIPES: tuple[Mutant, ...] = (
    Mutant(
        "arm_smmu.bbml1-cut-without-nt",
        (6,),
        "at BBML 1 a block becomes a table without nT before it (ARM-LIVE-5)",
        at.HIDE,
        _conflict,
        planned_as=with_recipe(cut=one_store(Scope.LEAF, _MISTAKE)),
        why_not=_bbml(1),
    ),
    Mutant(
        "arm_smmu.bbml1-merge-without-nt",
        (6,),
        "at BBML 1 a table becomes a block without nT (ARM-LIVE-6)",
        at.MERGE,
        _conflict,
        planned_as=with_recipe(merge=one_store(Scope.TABLE, _MISTAKE)),
        why_not=_bbml(1),
    ),
    Mutant(
        "arm_smmu.bbml0-cut-in-one-store",
        (7,),
        "at BBML 0 a block becomes a table without break-before-make (ARM-LIVE-4)",
        at.HIDE,
        _conflict,
        planned_as=with_recipe(cut=one_store(Scope.LEAF, _MISTAKE)),
        why_not=_bbml(0),
    ),
    Mutant(
        "arm_smmu.bbml0-break-under-neighbours",
        (7,),
        "at BBML 0 a block is broken while its neighbours are live (ARM-LIVE-1, ARM-LIVE-4)",
        at.HIDE,
        lambda _: {"N1"},
        staged_as=_forced,
        why_not=_bbml(0),
    ),
    Mutant(
        "arm_smmu.mark-of-one-entry",
        (34,),
        "AF and the dirty state of one entry of a contiguous run are not spread over the others (ARM-DESC-10)",
        at.HIDE_IN_RUN,
        lambda _: {"D1"},
        lambda subject: changed(subject, [(section, _unspread(step)) for section, step in subject.steps]),
        features={"contiguous": True, "httu": True},
        raced=1,
    ),
)


_COMMANDS: tuple[Mutant, ...] = (
    Mutant(
        "arm_smmu.ttl-of-the-new-level",
        (29,),
        "TTL names the level after the cut, and spares the block that was there before (ARM-TLBI-3)",
        at.HIDE,
        Declared.old_stays,
        planned_as=encoding(_new_level),
        why_not=_by_range,
    ),
    Mutant(
        "arm_smmu.leaf-1-after-merge",
        (3,),
        "Leaf = 1 after a table was merged (ARM-TLBI-4)",
        at.MERGE,
        lambda d: LEFT | {"R1"} | d.conflict(size=True),
        _tlbi(lambda low, high, _: (low, high | _LEAF)),
    ),
    Mutant(
        "arm_smmu.leaf-1-after-prune",
        (3, 37),
        "Leaf = 1 after an empty table was unlinked (ARM-TLBI-4)",
        at.PRUNE,
        lambda _: LEFT | {"C2", "F1", "R1"},
        _tlbi(lambda low, high, _: (low, high | _LEAF)),
    ),
    Mutant(
        "arm_smmu.range-short",
        (29, 30),
        "NUM is one too small, so that the range ends before its last granule (ARM-TLBI-1)",
        at.HIDE_TWO,
        short_rules,
        _tlbi(_one_less),
        why_not=_by_range,
    ),
    Mutant(
        "arm_smmu.range-not-aligned-to-ttl",
        (30,),
        "the address is not aligned to the level that TTL names: nothing is sure to go (ARM-TLBI-3)",
        at.HIDE,
        Declared.old_stays,
        _at_the_page,
        why_not=_by_range,
    ),
    Mutant(
        "arm_smmu.tg-without-range",
        (30,),
        "TG is given, but NUM, SCALE and TTL are 0: the queue stops (ARM-TLBI-7)",
        at.HIDE,
        lambda d: LEFT | {"F1", "W1"} | ({"C2"} if d.wiped_first else set()),
        _tlbi(lambda low, high, _: (low, high if low >> _NUM_LO & 0x3FFF else high & ~_TTL)),
        why_not=_by_range,
    ),
    Mutant(
        "arm_smmu.command-of-the-other-stage",
        (26,),
        "commands name the other stage's translations (ARM-TLBI-6)",
        at.HIDE,
        Declared.old_stays,
        _tlbi(_other_stage),
    ),
    Mutant(
        "arm_smmu.wrong-asid",
        (26,),
        "commands name the next ASID (ARM-TLBI-6)",
        at.HIDE,
        Declared.old_stays,
        _tlbi(lambda low, high, _: (low + (1 << _ASID_LO), high)),
        why_not=_stage1,
    ),
)


_ENTRIES: tuple[Mutant, ...] = (
    Mutant(
        "arm_smmu.af-lost-in-cut",
        (38,),
        "AF is lost in a cut: DMA to neighbours ends in access faults (ARM-DESC-8)",
        at.HIDE,
        lambda _: {"N1"},
        _without(AF.mask),
        why_not=_faults_without_af,
    ),
    Mutant(
        "arm_smmu.sh-lost-in-cut",
        (38,),
        "SH is lost in a cut: neighbours turn non-shareable (ARM-DESC-7)",
        at.HIDE,
        lambda _: {"N2"},
        _without(SH.mask),
        why_not=_shares,
    ),
)


def mutants(page_format: PageFormat, features: ArmSmmuFeatures) -> Sequence[Mutant | Harmless | Reason]:
    """The SMMU's own mutants and reasons."""
    return (
        *_RECIPES,
        *_COMMANDS,
        *_ENTRIES,
        *GPT_MUTANTS,
        Reason(19, lambda _: "no command asks for draining: CMD_SYNC drains by itself (ARM-SYNC-2)"),
    )
