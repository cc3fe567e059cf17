"""What an Arm SMMU may have, and how it is set up."""

from typing import Any

from attrs import frozen

from hitless.plugin import feature
from hitless_arm_smmu.stage1 import Stage1Config
from hitless_arm_smmu.stage2 import Stage2Config

_STAGE1, _STAGE2 = ("arm_smmu/stage1",), ("arm_smmu/stage2",)
_GRANULES_LG2 = {"4K": 12, "16K": 14, "64K": 16}
GPT_BLOCKS_LG2 = {"4K": 12, "2M": 21, "32M": 25, "512M": 29}
"""Values of ``gpt_block``, as log2 (ARM-GPT-12)."""
_INPUT_BITS = (25, 32, 36, 39, 40, 42, 44, 48, 52)


@frozen
class ArmSmmuFeatures:
    """Features of SMMUv3; see docs/facts/arm_smmu.md for the ids."""

    bbml: int = feature(2, "IDR3.BBML: how a live block may change its size", "ARM-LIVE-2", (0, 1, 2))
    granule: str = feature(
        "4K", "CD.TG0 or STE.S2TG: the smallest page, and the size of a table", "ARM-LVL-8", tuple(_GRANULES_LG2)
    )
    va_bits: int = feature(48, "64 - CD.T0SZ: width of stage 1's input", "ARM-FIRST-5", _INPUT_BITS, formats=_STAGE1)
    ipa_bits: int = feature(48, "64 - STE.S2T0SZ: width of stage 2's input", "ARM-LVL-4", _INPUT_BITS, formats=_STAGE2)
    output_bits: int = feature(
        48, "IDR5.OAS, CD.IPS and STE.S2PS: width of the output", "ARM-LVL-7", (32, 36, 40, 42, 44, 48, 52)
    )
    concatenate: bool = feature(
        False,
        "start stage 2 one level lower wherever at most 16 tables side by side do, not only where that is demanded",
        "ARM-LVL-5",
        formats=_STAGE2,
    )
    ds: bool = feature(False, "CD.DS or STE.S2DS: 52-bit descriptors of the 4K and 16K granules", "ARM-DESC-16")
    contiguous: bool = feature(False, "lay out contiguous runs, which hardware may cache as one entry", "ARM-DESC-11")
    s2fwb: bool = feature(
        False,
        "STE.S2FWB: stage 2 memory types are coded the forced write-back way",
        "ARM-DESC-6",
        formats=_STAGE2,
    )
    ns: bool = feature(
        False,
        "stage 1 of a Secure stream leads to Non-secure memory: NS and NSTable are set",
        "ARM-FIRST-6",
        formats=_STAGE1,
    )
    ril: bool = feature(True, "IDR3.RIL: invalidation by range and level", "ARM-TLBI-1")
    run_cover: bool = feature(
        True, "a ranged TLBI drops a contiguous run only if it covers all of it", "ARM-TLBI-8", unconfirmed=True
    )
    coherent: bool = feature(True, "IDR0.COHACC: walks, queues and MSI writes snoop the CPU's caches", "IDR0.COHACC")
    httu: bool = feature(
        False,
        "HA and HD: hardware sets AF and, where DBM is set, marks a page as dirty",
        "ARM-DESC-10",
        unconfirmed=True,
    )
    gpc: bool = feature(True, "SMMU_ROOT_CR0.GPCEN: every physical address is checked against the GPT", "ARM-GPT-1")
    gpt_block: str = feature(
        "512M",
        "the largest contiguous GPT entry that Root firmware writes",
        "ARM-GPT-15",
        tuple(GPT_BLOCKS_LG2),
        unconfirmed=True,
    )
    gpt_drops: str = feature(
        "iotlb+atc",
        "what a GPT change itself ends: translations that units hold, or those that devices hold too, since their "
        "translated requests are checked again",
        "ARM-GPT-16",
        ("iotlb", "iotlb+atc"),
        unconfirmed=True,
    )
    half: str = feature(
        "host",
        "whose stage 2 tables: the host's own, or one half of a realm's, which the RMM keeps: protected for the "
        "realm's own pages, unprotected for the host's",
        "ARM-GPT-8, ARM-GPT-17",
        ("host", "protected", "unprotected"),
        formats=_STAGE2,
        unconfirmed=True,
    )
    rmm_bbml2: bool = feature(
        False,
        "the RMM folds and unfolds live entries in one store where SMMUs have BBML 2, else by break-before-make",
        "ARM-GPT-9, ARM-GPT-18",
        formats=_STAGE2,
        unconfirmed=True,
    )
    two_level: bool = feature(True, "IDR0.ST_LEVEL: stream tables of two levels, else linear ones", "ARM-STE-5")
    vmid16: bool = feature(True, "IDR0.VMID16: VMIDs of 16 bits, else of 8", "IDR0.VMID16")
    asid16: bool = feature(True, "IDR0.ASID16: ASIDs of 16 bits, else of 8", "IDR0.ASID16")

    def impossible(self) -> str | None:
        """Widths that the granule cannot have."""
        wide = 52 in (self.va_bits, self.ipa_bits, self.output_bits)
        if self.ds and self.granule == "64K":
            return "ds is for the 4K and 16K granules: with 64K, output_bits = 52 is enough (ARM-DESC-16)"
        if wide and self.granule != "64K" and not self.ds:
            return f"52-bit addresses with the {self.granule} granule need ds (ARM-DESC-16)"
        if self.ipa_bits > self.output_bits:
            return f"an IPA of {self.ipa_bits} bits is wider than the output's {self.output_bits} (ARM-LVL-10)"
        return self._no_realm()

    def _no_realm(self) -> str | None:
        """What a realm's tables cannot be."""
        if self.half == "host":
            return None if not self.rmm_bbml2 else "only a realm's half is the RMM's to fold (ARM-GPT-9)"
        if not self.gpc:
            return "a realm's tables go with the granule protection check (ARM-GPT-1)"
        if self.granule != "4K" or self.contiguous or self.httu:
            return "the RMM writes 4K granules, without contiguous runs, and with AF set (ARM-GPT-19)"
        if self.rmm_bbml2 and self.bbml < 2:
            return "rmm_bbml2 needs bbml = 2 (ARM-LIVE-7)"
        return None

    @property
    def common(self) -> dict[str, Any]:
        """What both stages' configurations share."""
        granule_lg2 = _GRANULES_LG2[self.granule]
        return {
            "granule_lg2": granule_lg2,
            "output_bits": self.output_bits,
            "ds": self.ds,
            "lpa": granule_lg2 == 16 and self.output_bits == 52,
            "bbml": self.bbml,
            "ha": self.httu,
            "hd": self.httu,
        }

    @property
    def stage1(self) -> Stage1Config:
        """The configuration of stage 1 tables."""
        return Stage1Config(**self.common, input_bits=self.va_bits, ns=self.ns)

    @property
    def stage2(self) -> Stage2Config:
        """The configuration of stage 2 tables."""
        return Stage2Config(
            **self.common,
            input_bits=self.ipa_bits,
            concatenate=self.concatenate,
            s2fwb=self.s2fwb,
            half=self.half,
        )
