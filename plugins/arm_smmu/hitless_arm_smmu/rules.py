"""How an SMMU lets a live descriptor be changed, and what its units cache.

Spec: IHI0070 section 3.21.1. Facts: ARM-LIVE-*, ARM-TLBI-*.
"""

from collections.abc import Mapping

from hitless.bits import W, join
from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import (
    Impossible,
    Recipe,
    Recipes,
    Round,
    Scope,
    SplitRules,
    break_before_make,
    new_word,
    one_store,
)
from hitless_arm_smmu.commands import WHOLE_TAG_COMMANDS
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.vmsa import NT


def split_rules(page_format: PageFormat, features: ArmSmmuFeatures) -> SplitRules:
    """Pages and blocks, and runs if they are asked for."""
    sizes = (size.lg2 for size in page_format.leaf_sizes if features.contiguous or not size.entries_lg2)
    return SplitRules(tuple(sizes), "ARM-LVL-2, ARM-LVL-3", WHOLE_TAG_COMMANDS)


def old_with_nt(old: W, new: W) -> W:
    """The block that a cut takes apart, with nT."""
    return join(old, NT.mask)


def new_with_nt(old: W, new: W) -> W:
    """The block that a merge makes, with nT."""
    return join(new, NT.mask)


def _refused(kind: str, change: str, do: str, scope: Scope) -> Impossible:
    """What BBML 0 does only by break-before-make."""
    return Impossible(
        f"arm_smmu.bbml0-{kind}",
        f"at BBML 0 {change} only by break-before-make, and DMA in between faults",
        "ARM-LIVE-4",
        f"use an SMMU with IDR3.BBML 1 or 2, {do}; or set allow_break = true on the domain",
        break_before_make(scope, "ARM-LIVE-1, ARM-LIVE-4"),
    )


_CUT: Mapping[int, Recipe | Impossible] = {
    0: _refused("cut", "a block becomes a table", "hunks of 4K, or conversions of whole leaves", Scope.LEAF),
    1: Recipe(
        (Round(old_with_nt, Scope.LEAF, "old | nT"), Round(new_word, Scope.LEAF, "new")),
        "ARM-LIVE-5, ARM-TLBI-11",
    ),
    2: one_store(Scope.LEAF, "ARM-LIVE-7, ARM-TLBI-11"),
}
_MERGE: Mapping[int, Recipe | Impossible] = {
    0: _refused("merge", "a table becomes a block", "or merge never", Scope.TABLE),
    1: Recipe((Round(new_with_nt, Scope.TABLE, "new | nT"), Round(new_word, Scope.LEAF, "new")), "ARM-LIVE-6"),
    2: one_store(Scope.TABLE, "ARM-LIVE-7"),
}
_RESIZE: Mapping[int, Recipe | Impossible] = {
    0: _refused("resize", "the Contiguous bit changes", "or lay out no runs", Scope.LEAF),
    1: one_store(Scope.LEAF, "ARM-LIVE-11"),
    2: one_store(Scope.LEAF, "ARM-LIVE-11"),
}


def _rmm(kind: str, scope: Scope) -> Impossible:
    """What the RMM does by break-before-make, inside the call that the store becomes."""
    return Impossible(
        f"arm_smmu.rmm-{kind}",
        f"the RMM {kind}s a live entry by break-before-make, and DMA in between faults",
        "ARM-GPT-9",
        "convert whole leaves, use an RMM that relies on BBML 2 (features.rmm_bbml2 = true), or set allow_break = true "
        "on the domain",
        one_store(scope, "ARM-GPT-9"),
    )


def recipes(features: ArmSmmuFeatures) -> Recipes:
    """BBML decides how sizes change; a new address is break-before-make at every level of it (ARM-LIVE-8).

    nT needs no case for pages: what is cut is always a block, and so is what a merge makes. How a realm's sizes change
    is the RMM's to say, which gets each store as a request; see :class:`hitless_arm_smmu.realm.RealmHalf`.
    """
    bbml = features.bbml if features.half == "host" else 2
    breaks = features.half != "host" and not features.rmm_bbml2
    return Recipes(
        cut=_rmm("unfold", Scope.LEAF) if breaks else _CUT[bbml],
        merge=_rmm("fold", Scope.TABLE) if breaks else _MERGE[bbml],
        replace=break_before_make(Scope.LEAF, "ARM-LIVE-1, ARM-LIVE-8"),
        wipe=one_store(Scope.LEAF, "ARM-LIVE-1"),
        map=one_store(Scope.NONE, "ARM-TLBI-10"),
        prune=one_store(Scope.TABLE, "ARM-TLBI-4"),
        resize=_RESIZE[features.bbml],
    )


def hardware(features: ArmSmmuFeatures) -> HardwareFacts:
    """Below BBML 2 overlapping entries of different size may conflict; invalid descriptors are not cached.

    At BBML 1 a change of the Contiguous bit makes no conflict (ARM-LIVE-11).
    """
    return HardwareFacts(
        "ARM-LIVE-7, ARM-LIVE-10, ARM-LIVE-11, ARM-STE-4, ARM-TLBI-10",
        size_conflict=features.bbml < 2,
        run_conflict=features.bbml == 0,
        address_conflict=True,
        coherent=features.coherent,
        caches_bad_structures=True,
    )
