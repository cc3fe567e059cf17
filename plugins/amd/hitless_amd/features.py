"""What an AMD IOMMU may have, and how it is set up."""

from attrs import frozen

from hitless.plugin import feature


@frozen
class AmdFeatures:
    """Features of AMD-Vi; see docs/facts/amd.md for the ids."""

    mode: int = feature(4, "DTE.Mode: levels of the v1 table", "AMD-LVL-8", (3, 4, 5, 6))
    force_coherent: bool = feature(True, "FC in new leaves: DMA snoops", "AMD-PTE-7")
    np_cache: bool = feature(
        False,
        "capability header bit 26, NpCache: not-present entries are cached (emulated units)",
        "AMD-INV-8",
    )
    cut_may_replace: bool = feature(
        False,
        "one store may cut a leaf and replace a page of it; if not, cached leaves never differ in size and address",
        "AMD-LIVE-2",
        formats=("amd/v1", "amd/v2"),
        unconfirmed=True,
    )
    snp: bool = feature(True, "EFR.SNP: every access is checked against the RMP", "AMD-RMP-5")
    boundary: str = feature(
        "every_transition",
        "where leaves end as owners change: at every transition, or only where the RMP check's 2M unit demands it",
        "AMD-RMP-10",
        ("every_transition", "check_unit"),
        unconfirmed=True,
    )
    rmpupdate_drops: str = feature(
        "no",
        "what RMPUPDATE itself drops of the page's cached translations",
        "AMD-RMP-14",
        ("no", "iotlb", "iotlb+atc"),
        unconfirmed=True,
    )
