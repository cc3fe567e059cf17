"""Page formats as the unit's features configure them."""

from hitless.pagetable import PageFormat
from hitless_riscv.features import RiscvFeatures
from hitless_riscv.pte import SvConfig
from hitless_riscv.sv import Stage1, Stage2, Sv

CODES = {8: "sv39", 9: "sv48", 10: "sv57"}
"""By MODE of iosatp and iohgatp, where SXL and GXL are 0 (RISCV-LVL-1, RISCV-LVL-2)."""
MODE_OF = {name: code for code, name in CODES.items()}


def configured(features: RiscvFeatures, mode: str, *, hardware_ad: bool) -> SvConfig:
    """The configuration of tables that the unit walks."""
    return SvConfig(
        mode=mode,
        pas=features.pas,
        hardware_ad=hardware_ad,
        svpbmt=features.svpbmt,
        svrsw60t59b=features.svrsw60t59b,
    )


class Formats:
    """The formats of a unit, each configuration made once.

    Args:
        known: the format that the unit's domain uses; structures that describe just it lead to this object.
    """

    def __init__(self, known: PageFormat, features: RiscvFeatures) -> None:
        self._features = features
        self._made: dict[tuple[str, SvConfig], Sv] = {}
        if isinstance(known, Sv):
            self._made[known.stage, known.config] = known

    def stage1(self, mode: str, *, hardware_ad: bool) -> Sv:
        """Tables of iosatp."""
        return self._format(Stage1, mode, hardware_ad=hardware_ad)

    def stage2(self, mode: str, *, hardware_ad: bool) -> Sv:
        """Tables of iohgatp."""
        return self._format(Stage2, mode, hardware_ad=hardware_ad)

    def _format(self, cls: type[Sv], mode: str, *, hardware_ad: bool) -> Sv:
        config = configured(self._features, mode, hardware_ad=hardware_ad)
        key = cls.stage, config
        if key not in self._made:
            self._made[key] = cls(config)
        return self._made[key]
