"""What an AMD IOMMU may have, and how it is set up."""

from attrs import frozen

from hitless.plugin import feature

_V1, _V2 = ("amd/v1",), ("amd/v2",)


@frozen
class AmdFeatures:
    """Features of AMD-Vi; see docs/facts/amd.md for the ids."""

    mode: int = feature(4, "DTE.Mode: levels of the v1 table", "AMD-LVL-8", (1, 2, 3, 4, 5, 6))
    hats: int = feature(
        2, "EFR.HATS: v1 tables of at most 4 levels (0), 5 (1) or 6 (2)", "AMD-LVL-14", (0, 1, 2), formats=_V1
    )
    dynamic_top: bool = feature(
        False,
        "the root of a v1 table may grow by levels: up to what HATS allows instead of `mode`",
        "AMD-LIVE-8",
        formats=_V1,
    )
    force_coherent: bool = feature(True, "FC in new v1 leaves: DMA snoops", "AMD-PTE-7", formats=_V1)
    had: int = feature(
        3, "DTE.HAD: hardware sets no bits in v1 leaves (0), A (1), A and D (3)", "AMD-DTE-5", (0, 1, 3), formats=_V1
    )
    size7: bool = feature(
        False, "the planner may lay out size-7 runs, 8K to 512M, beside default sizes", "AMD-LVL-12", formats=_V1
    )
    rewrite_copies: bool = feature(
        False,
        "the copies of a size-7 run may be rewritten one by one; else the table that holds the run is swapped",
        "AMD-LIVE-6",
        unconfirmed=True,
        formats=_V1,
    )
    erratum_512g: bool = feature(True, "an erratum forbids the 512 GiB leaf", "AMD-LVL-4", formats=_V1)
    c_bit: int = feature(0, "SME: position of the C-bit; 0: memory encryption is off", "AMD-PTE-14", (0, 47, 51))
    guest_levels: int = feature(4, "DTE.GuestPagingMode: levels of the v2 table", "AMD-GPT-2", (4, 5), formats=_V2)
    sign_extended: bool = feature(
        False,
        "input of v2 tables is sign-extended, as for a process; else only the lower half is used, as for PASID 0",
        "AMD-GPT-6",
        formats=_V2,
    )
    nx: bool = feature(
        True, "EFR.NX: bit 63 of v2 entries denies execution, else it is reserved", "AMD-GPT-5", formats=_V2
    )
    glx: int = feature(
        1, "EFR.GLX: GCR3 tables of at most 1, 2 or 3 levels, minus 1", "AMD-GCR-2", (0, 1, 2), formats=_V2
    )
    ia: bool = feature(True, "EFR.IA: the unit has INVALIDATE_IOMMU_ALL", "AMD-CMD-7")
    np_cache: bool = feature(
        False,
        "capability header bit 26, NpCache: not-present entries are cached (emulated units)",
        "AMD-INV-8",
    )
    nohugepages: bool = feature(
        False, "the planner lays out 4K leaves only, as Linux does with amd_iommu=nohugepages", "AMD-RMP-25"
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

    engine: str = feature(
        "none",
        "the firmware engine that changes a 2M leaf and its RMP entry together: it cuts (smash), and merges too",
        "AMD-RMP-13",
        ("none", "smash", "smash+unsmash"),
        unconfirmed=True,
    )

    vtom: int = feature(
        0,
        "secure DTE: vTOM in units of 2M; a trusted device's IOVAs below it are private, all others shared; 0: no vTOM",
        "AMD-DTE-25",
        unconfirmed=True,
        formats=_V1,
    )

    rmp_form: str = feature(
        "family-19h",
        "the form of raw RMP entries: in memory on family 19h, or as RMPREAD gives them",
        "AMD-RMP-20",
        ("family-19h", "rmpread"),
        unconfirmed=True,
    )

    def impossible_for(self, page_format: str) -> str | None:
        """A v2 table cannot be the host's under SNP."""
        if page_format == "amd/v2" and self.snp:
            return "with snp the host's table is a v1 table; set snp = false for a v2 table alone (AMD-RMP-15)"
        return None

    def impossible(self) -> str | None:
        """Combinations that no unit has."""
        if self.mode > 4 + self.hats:
            return f"mode {self.mode} needs more levels than the {4 + self.hats} of hats = {self.hats} (AMD-LVL-14)"
        if not 0 <= self.vtom < 1 << 31:
            return f"vtom {self.vtom} does not fit the 31 bits of its field (AMD-DTE-25)"
        if self.vtom and not self.snp:
            return "a secure DTE, which holds vtom, needs snp (AMD-DTE-25)"
        return None
