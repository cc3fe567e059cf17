"""How a RISC-V IOMMU lets a live entry be changed, and what its units cache.

Spec: RISC-V IOMMU 1.0, software guidelines and caching; Svnapot. Facts: RISCV-LIVE-*, RISCV-NAPOT-*.
"""

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import Impossible, Recipe, Recipes, Scope, SplitRules, break_before_make, one_store
from hitless_riscv.commands import WHOLE_TAG_COMMANDS
from hitless_riscv.features import RiscvFeatures

_LARGEST_LEAF_LG2 = 30  # a hunk is no larger


def split_rules(page_format: PageFormat, features: RiscvFeatures) -> SplitRules:
    """4K, 2M and 1G, and runs of 64K where they are asked for."""
    sizes = tuple(
        size.lg2
        for size in page_format.leaf_sizes
        if size.lg2 <= _LARGEST_LEAF_LG2 and (features.napot or not size.entries_lg2)
    )
    return SplitRules(sizes, "RISCV-LVL-3, RISCV-NAPOT-1", WHOLE_TAG_COMMANDS)


def recipes(features: RiscvFeatures) -> Recipes:
    """One store changes a size; every other change of a valid leaf goes by V = 0 (RISCV-LIVE-1, RISCV-LIVE-3)."""
    direct = one_store(Scope.LEAF, "RISCV-LIVE-2")
    return Recipes(
        cut=one_store(Scope.LEAF, "RISCV-LIVE-1, RISCV-LIVE-5"),
        merge=one_store(Scope.TABLE, "RISCV-LIVE-1, RISCV-INV-5"),
        replace=direct if features.direct_change else break_before_make(Scope.LEAF, "RISCV-LIVE-3"),
        wipe=one_store(Scope.LEAF, "RISCV-LIVE-4"),
        map=one_store(Scope.NONE, "RISCV-LIVE-6"),
        prune=one_store(Scope.TABLE, "RISCV-INV-5"),
        resize=_resize(features),
    )


def _resize(features: RiscvFeatures) -> Recipe | Impossible:
    """Entries of a run one by one: whatever is cached of a mix translates alike (RISCV-NAPOT-6)."""
    if features.napot_mix:
        return one_store(Scope.LEAF, "RISCV-NAPOT-6")
    return Impossible(
        "riscv.napot-resize",
        "a NAPOT run of 64K changes its size only when all 16 entries are empty, and DMA in between faults",
        "RISCV-NAPOT-5",
        "lay out no runs (napot = false), convert whole runs, or set allow_break = true on the domain",
        break_before_make(Scope.LEAF, "RISCV-NAPOT-5"),
    )


def hardware(features: RiscvFeatures) -> HardwareFacts:
    """Several entries for one address are harmless as long as they translate alike (RISCV-LIVE-2, RISCV-LIVE-3).

    A large leaf may be cached in pieces, down to pages (RISCV-LIVE-5).
    """
    return HardwareFacts(
        "RISCV-LIVE-2, RISCV-LIVE-3, RISCV-LIVE-5, RISCV-LIVE-6, RISCV-INV-2, RISCV-INV-12",
        address_conflict=not features.direct_change,
        size_address_conflict=True,
        pieces_lg2=(12, 16, 21),
        spaces_share_tag=False,
    )
