"""What an Intel IOMMU may have, and how it is set up."""

from attrs import frozen

from hitless.plugin import feature


@frozen
class IntelFeatures:
    """Features of VT-d; see docs/facts/intel.md for the ids."""

    haw: int = feature(52, "host address width: higher address bits are reserved", "INTEL-SS-9", (39, 42, 46, 48, 52))
    sslps_2m: bool = feature(True, "CAP.SSLPS bit 0: 2 MiB second-stage leaves", "INTEL-SS-7")
    sslps_1g: bool = feature(True, "CAP.SSLPS bit 1: 1 GiB second-stage leaves", "INTEL-SS-7")
    snoop_control: bool = feature(True, "ECAP.SC: leaves may force snooping (SNP)", "INTEL-SS-12")
    ssads: bool = feature(False, "ECAP.SSADS with SSADE: hardware sets A and D", "INTEL-SS-13")
    mamv: int = feature(18, "CAP.MAMV: the largest address mask of an invalidation", "INTEL-QI-6", (9, 18, 63))
    caching_mode: bool = feature(False, "CAP.CM: not-present entries are cached (emulated units)", "INTEL-INV-6")
    drain: bool = feature(True, "CAP.DWD and CAP.DRD: invalidations drain reads and writes", "INTEL-WAIT-3")
    version: int = feature(1, "VER.MAJ: from 2 on a unit always drains", "INTEL-WAIT-4", (1, 2, 6))
    coherent: bool = feature(True, "ECAP.C: table walks snoop the CPU's caches", "INTEL-CAP-2")
