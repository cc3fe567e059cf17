"""What an Arm SMMU may have, and how it is set up."""

from attrs import frozen

from hitless.plugin import feature


@frozen
class ArmSmmuFeatures:
    """Features of SMMUv3; see docs/facts/arm_smmu.md for the ids."""

    bbml: int = feature(2, "IDR3.BBML: how a live block may change its size", "ARM-LIVE-2", (0, 1, 2))
    s2fwb: bool = feature(False, "STE.S2FWB: stage 2 memory types are coded the forced write-back way", "ARM-DESC-6")
    ril: bool = feature(True, "IDR3.RIL: invalidation by range and level", "ARM-TLBI-1")
    coherent: bool = feature(True, "IDR0.COHACC: walks, queues and MSI writes snoop the CPU's caches", "IDR0.COHACC")
    httu: bool = feature(
        False,
        "STE.S2HA and S2HD: hardware sets AF and, where DBM is set, S2AP[1]",
        "ARM-DESC-10",
        unconfirmed=True,
    )
    gpc: bool = feature(True, "SMMU_ROOT_CR0.GPCEN: every physical address is checked against the GPT", "ARM-GPT-1")
    vmid16: bool = feature(True, "IDR0.VMID16: VMIDs of 16 bits, else of 8", "IDR0.VMID16")
