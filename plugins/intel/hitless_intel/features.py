"""What an Intel IOMMU may have, and how it is set up."""

from collections.abc import Iterator, Mapping

from attrs import frozen

from hitless.plugin import feature

FIRST_STAGE, SECOND_STAGE = "intel/first-stage", "intel/second-stage"
_FIRST, _SECOND = (FIRST_STAGE,), (SECOND_STAGE,)
_SAGAW = {39: 1 << 1, 48: 1 << 2, 57: 1 << 3}


@frozen
class IntelFeatures:
    """Features of VT-d; see docs/facts/intel.md for the ids."""

    haw: int = feature(52, "host address width: higher address bits are reserved", "INTEL-SS-9", (39, 42, 46, 48, 52))
    mode: str = feature(
        "legacy",
        "RTADDR.TTM for second-stage tables; first-stage tables are always in scalable mode",
        "INTEL-CTX-5",
        ("legacy", "scalable"),
        formats=_SECOND,
    )
    aw: int = feature(48, "input address bits of second-stage tables", "INTEL-SS-16", (39, 48, 57), formats=_SECOND)
    sagaw: int = feature(
        0xE,
        "CAP.SAGAW: widths of second-stage tables that the unit walks: bit 1 39, bit 2 48, bit 3 57",
        "INTEL-SS-18",
        (0x2, 0x4, 0x6, 0xC, 0xE),
        formats=_SECOND,
    )
    mgaw: int = feature(
        57,
        "CAP.MGAW plus 1: input address bits that second-stage translation takes",
        "INTEL-SS-19",
        (39, 46, 48, 52, 57),
        formats=_SECOND,
    )
    sslps_2m: bool = feature(True, "CAP.SSLPS bit 0: 2 MiB second-stage leaves", "INTEL-SS-7", formats=_SECOND)
    sslps_1g: bool = feature(True, "CAP.SSLPS bit 1: 1 GiB second-stage leaves", "INTEL-SS-7", formats=_SECOND)
    snoop_control: bool = feature(True, "ECAP.SC: leaves may force snooping (SNP)", "INTEL-SS-12", formats=_SECOND)
    ssads: bool = feature(
        False, "ECAP.SSADS with SSADE: hardware sets A and D", "INTEL-SS-13, INTEL-SS-20", formats=_SECOND
    )
    bits_62_61: str = feature(
        "reserved",
        "bits 62:61 of second-stage entries: reserved; ir-iw with RTADDR.SSIRWE; tm, bit 62 of older revisions",
        "INTEL-SS-15",
        ("reserved", "ir-iw", "tm"),
        unconfirmed=True,
        formats=_SECOND,
    )
    first_stage_levels: int = feature(
        4, "PASID-entry FSPM: levels of first-stage tables", "INTEL-FS-7", (4, 5), formats=_FIRST
    )
    fs5lp: bool = feature(True, "CAP.FS5LP: the unit walks five first-stage levels", "INTEL-FS-7", formats=_FIRST)
    fs1gp: bool = feature(True, "CAP.FS1GP: 1 GiB first-stage leaves", "INTEL-FS-6", formats=_FIRST)
    eafe: bool = feature(False, "PASID-entry EAFE: hardware sets EA", "INTEL-FS-9", formats=_FIRST)
    execute_disable: bool = feature(
        False,
        "bit 63 of first-stage entries is XD, as in older revisions; else it is ignored",
        "INTEL-FS-10",
        unconfirmed=True,
        formats=_FIRST,
    )
    pass_through: bool = feature(True, "ECAP.PT: entries may let requests through untranslated", "INTEL-CTX-11")
    device_tlb: bool = feature(True, "ECAP.DT: devices may hold translations", "INTEL-CTX-11")
    nesting: bool = feature(True, "ECAP.NEST: a first stage over a second stage", "INTEL-CTX-11")
    pasid_bits: int = feature(20, "ECAP.PSS plus 1: bits of a PASID", "INTEL-CTX-12", (15, 16, 20))
    wide_descriptors: bool = feature(
        False,
        "IQA.DW in legacy mode: descriptors of 256 bits, as in scalable mode always",
        "INTEL-QI-1",
        formats=_SECOND,
    )
    psi: bool = feature(True, "CAP.PSI: invalidations may be page-selective", "INTEL-QI-6")
    mamv: int = feature(18, "CAP.MAMV: the largest address mask of an invalidation", "INTEL-QI-6", (9, 18, 63))
    caching_mode: bool = feature(False, "CAP.CM: not-present entries are cached (emulated units)", "INTEL-INV-6")
    drain: bool = feature(True, "CAP.DWD and CAP.DRD: invalidations drain reads and writes", "INTEL-WAIT-3")
    version: int = feature(1, "VER.MAJ: from 2 on a unit always drains", "INTEL-WAIT-4", (1, 2, 6))
    half: str = feature(
        "shared",
        "half of a trust domain's address space that the tables hold: shared, in the host's own tables; private, in "
        "the secure EPT of TDX Connect, walked for trusted devices",
        "INTEL-TDX-10, INTEL-TDX-15",
        ("shared", "private"),
        unconfirmed=True,
        formats=_SECOND,
    )
    sept_resize: str = feature(
        "blocking",
        "whether secure EPT entries are blocked while the TDX module demotes or promotes them",
        "INTEL-TDX-9, INTEL-TDX-13",
        ("blocking", "non-blocking"),
        unconfirmed=True,
        formats=_SECOND,
    )
    stale_dma: str = feature(
        "machine-check",
        "what DMA to a page that has turned private, or left the trust domain, under its mapping ends in",
        "INTEL-TDX-5",
        ("machine-check", "abort"),
        unconfirmed=True,
    )
    trusted_ats: bool = feature(
        False,
        "devices behind the secure EPT may use ATS, PASIDs and nested tables",
        "INTEL-TDX-11",
        unconfirmed=True,
        formats=_SECOND,
    )
    coherent: bool = feature(True, "ECAP.C, in scalable mode PWSNP: table walks snoop the CPU's caches", "INTEL-CAP-2")

    def cannot_hold(self) -> Mapping[str, str]:
        """Rules that nothing done to such a unit can keep, each with the sentence that says why."""
        if self.drain or self.version >= 2:
            return {}
        why = "a unit below version 2 without DWD and DRD cannot be made to end requests in flight (INTEL-WAIT-3)"
        return dict.fromkeys(("C1", "C2", "F1"), why)

    def impossible(self) -> str | None:
        """The first of the combinations that no unit has."""
        return next(self._impossible(), None)

    def _impossible(self) -> Iterator[str]:
        if self.ssads and self.mode == "legacy":
            yield "A and D of second-stage entries need a PASID entry, thus mode scalable (INTEL-SS-13)"
        if self.ssads and not self.coherent:
            yield "a unit whose walks do not snoop cannot set A and D (INTEL-SS-20)"
        if self.bits_62_61 == "ir-iw" and self.mode == "legacy":
            yield "IR and IW exist in scalable mode only (INTEL-SS-15)"
        if self.sslps_1g and not self.sslps_2m:
            yield "a unit with 1 GiB second-stage leaves has 2 MiB ones (INTEL-SS-21)"
        if not self.sagaw & _SAGAW[self.aw]:
            yield f"a unit with SAGAW {self.sagaw:#x} walks no second-stage tables of {self.aw} bits (INTEL-SS-18)"
        if self.sept_resize == "non-blocking" and self.half == "shared":
            yield "only the private half has secure EPT entries to resize (INTEL-TDX-2)"
        if self.trusted_ats and self.half == "shared":
            yield "only the private half tells trusted devices from others (INTEL-TDX-10)"
        if self.first_stage_levels == 5 and not self.fs5lp:
            yield "five first-stage levels need CAP.FS5LP (INTEL-FS-7)"
        if self.eafe and not self.coherent:
            yield "a unit whose walks do not snoop cannot set EA (INTEL-FS-11)"

    def scalable(self, format_name: str) -> bool:
        """Whether tables of a format are walked in scalable mode."""
        return format_name == FIRST_STAGE or self.mode == "scalable"

    def walks(self, aw: int) -> bool:
        """Whether the unit walks second-stage tables of that width."""
        return bool(self.sagaw & _SAGAW.get(aw, 0))
