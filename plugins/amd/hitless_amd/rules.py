"""How AMD-Vi lets a live entry be changed, and what its units cache.

Facts: AMD-LIVE-*, AMD-INV-*.
"""

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import Recipes, Scope, SplitRules, one_store
from hitless_amd.features import AmdFeatures

_LARGEST_LEAF_LG2 = 30  # a hunk is no larger


def split_rules(page_format: PageFormat, features: AmdFeatures) -> SplitRules:
    """4K, 2M and 1G; size-7 runs up to 512M between them where they are asked for (AMD-LVL-12).

    Or 4K alone, which agrees with any RMP whose guest-owned entries are 4K too (AMD-RMP-25).
    """
    if features.nohugepages:
        return SplitRules((page_format.leaf_lg2s[0],), "AMD-RMP-25")
    sizes = tuple(
        size.lg2
        for size in page_format.largest.leaf_sizes
        if size.lg2 <= _LARGEST_LEAF_LG2 and (features.size7 or not size.entries_lg2)
    )
    return SplitRules(sizes, "AMD-LVL-3, AMD-LVL-4, AMD-LVL-12, AMD-GPT-3")


def recipes(features: AmdFeatures) -> Recipes:
    """One store each, in v1 and v2 alike; only what removes a table pointer needs PDE = 1."""
    appears = Scope.LEAF if features.np_cache else Scope.NONE
    return Recipes(
        cut=one_store(Scope.LEAF, "AMD-LIVE-1, AMD-INV-11"),
        merge=one_store(Scope.TABLE, "AMD-LIVE-3"),
        replace=one_store(Scope.LEAF, "AMD-LIVE-2"),
        wipe=one_store(Scope.LEAF, "AMD-LIVE-2"),
        map=one_store(appears, "AMD-INV-8"),
        prune=one_store(Scope.TABLE, "AMD-INV-3"),
    )


def hardware(features: AmdFeatures) -> HardwareFacts:
    """No conflict between sizes (AMD-LIVE-4); leaves are cached whole, or as large as the RMP check allows.

    Whether a cut may replace in the same store is not settled, so it is taken to be undefined.
    """
    return HardwareFacts(
        "AMD-LIVE-4, AMD-INV-6, AMD-INV-8, AMD-INV-9",
        size_address_conflict=not features.cut_may_replace,
        atc_in_order=True,
        caches_not_present=features.np_cache,
    )
