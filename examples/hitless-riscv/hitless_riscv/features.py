"""What a RISC-V IOMMU may have, and how it is set up."""

from attrs import frozen

from hitless.plugin import feature

STAGE_1, STAGE_2 = "riscv/stage1", "riscv/stage2"
MODES = ("sv39", "sv48", "sv57")


@frozen
class RiscvFeatures:
    """Features of the RISC-V IOMMU; see docs/facts.md of this distribution for the ids.

    The unit has ATS (capabilities.ATS), and all of its tables are little-endian.
    """

    mode: str = feature("sv48", "iosatp.MODE and iohgatp.MODE: how wide tables are", "RISCV-LVL-1", MODES)
    widest: str = feature("sv57", "capabilities.Sv39 to Sv57x4: the widest mode of either stage", "RISCV-CAP-1", MODES)
    pas: int = feature(56, "capabilities.PAS: bits of a physical address", "RISCV-CAP-2", (46, 56))
    svpbmt: bool = feature(True, "capabilities.Svpbmt: leaves may hold a memory type", "RISCV-PTE-9")
    svrsw60t59b: bool = feature(
        False, "capabilities.Svrsw60t59b: bits 60:59 are software's, else they are reserved", "RISCV-PTE-8"
    )
    hardware_ad: bool = feature(
        True, "capabilities.AMO_HWAD with tc.GADE and tc.SADE: hardware sets A and D", "RISCV-AD-1"
    )
    napot: bool = feature(False, "the planner may lay out NAPOT runs of 64K beside plain leaves", "RISCV-NAPOT-1")
    napot_mix: bool = feature(
        True,
        "a NAPOT run may be rewritten entry by entry as long as no translation changes; else it has to be empty before",
        "RISCV-NAPOT-6",
        unconfirmed=True,
    )
    direct_change: bool = feature(
        False,
        "a valid leaf may get another address, right or memory type with one store",
        "RISCV-LIVE-3",
        unconfirmed=True,
    )
    address_range: bool = feature(True, "capabilities.S: IOTINVAL takes ranges", "RISCV-INV-7")
    non_leaf: bool = feature(True, "capabilities.NL: IOTINVAL with an address may take pointers too", "RISCV-INV-6")
    msi_flat: bool = feature(True, "capabilities.MSI_FLAT: device contexts have 64 bytes instead of 32", "RISCV-DC-2")
    process_id_bits: int = feature(
        20, "capabilities.PD8 to PD20: the widest process directory", "RISCV-PC-1", (8, 17, 20), formats=(STAGE_1,)
    )
    smmtt: bool = feature(
        True, "the I/O bridge checks every access against memory protection tables", "RISCV-MTT-1", unconfirmed=True
    )

    def impossible(self) -> str | None:
        """Combinations that no unit has."""
        if MODES.index(self.mode) > MODES.index(self.widest):
            return f"a unit whose widest mode is {self.widest} walks no tables of {self.mode} (RISCV-CAP-1)"
        return None
