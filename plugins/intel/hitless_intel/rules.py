"""How VT-d lets a live entry be changed, and what its units cache.

Facts: INTEL-LIVE-*, INTEL-INV-*.
"""

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import Recipes, Scope, SplitRules, one_store
from hitless_intel.features import FIRST_STAGE, IntelFeatures


def split_rules(page_format: PageFormat) -> SplitRules:
    """4K, and 2M and 1G as CAP.SSLPS and CAP.FS1GP allow."""
    fact = "INTEL-FS-6" if page_format.name == FIRST_STAGE else "INTEL-SS-7"
    return SplitRules(page_format.leaf_lg2s, fact, whole_tag_commands=64)


def recipes(page_format: PageFormat, features: IntelFeatures) -> Recipes:
    """One store each; size and address never change together, and only a pointer that goes needs IH = 0."""
    appears = Scope.LEAF if _caches_not_present(page_format, features) else Scope.NONE
    return Recipes(
        cut=one_store(Scope.LEAF, "INTEL-LIVE-1, INTEL-INV-10"),
        merge=one_store(Scope.TABLE, "INTEL-LIVE-2"),
        replace=one_store(Scope.LEAF, "INTEL-LIVE-4"),
        wipe=one_store(Scope.LEAF, "INTEL-LIVE-4"),
        map=one_store(appears, "INTEL-INV-6, INTEL-INV-15"),
        prune=one_store(Scope.TABLE, "INTEL-LIVE-7"),
    )


def hardware(page_format: PageFormat, features: IntelFeatures) -> HardwareFacts:
    """Leaves may be cached whole or fractured; several never conflict, unless size and address differ."""
    return HardwareFacts(
        "INTEL-INV-6, INTEL-INV-7, INTEL-INV-15, INTEL-LIVE-3, INTEL-LIVE-8, INTEL-QI-9",
        size_address_conflict=True,
        atc_in_order=True,
        caches_not_present=_caches_not_present(page_format, features),
        pieces_lg2=(12, 21),
        coherent=features.coherent,
        caches_bad_structures=features.caching_mode,
    )


def _caches_not_present(page_format: PageFormat, features: IntelFeatures) -> bool:
    """With CAP.CM, but never for a first stage (INTEL-INV-6, INTEL-INV-15)."""
    return features.caching_mode and page_format.name != FIRST_STAGE
