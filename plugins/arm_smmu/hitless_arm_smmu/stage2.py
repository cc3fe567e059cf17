"""VMSAv8-64 stage 2.

Spec: Arm ARM DDI0487 chapter D8, VMSAv8-64 stage 2 descriptors; IHI0070 5.2 for the start level.
Facts: ARM-DESC-*, ARM-LVL-*.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import evolve, frozen

from hitless.bits import Field, bit, ignored, reserved
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE
from hitless_arm_smmu.granules import VmsaConfig
from hitless_arm_smmu.recordings import CACHE, MMIO, NOEXEC, XN_BITS, recorded
from hitless_arm_smmu.vmsa import AF, DBM, SH_INNER, SH_OUTER, Vmsa

MEMATTR = Field(
    "MemAttr", 5, 2, "memory type", values={0xF: "Normal write-back", 5: "Normal non-cacheable", 1: "Device-nGnRE"}
)
MEMATTR_FWB = evolve(
    MEMATTR,
    meaning="memory type, forced write-back coding",
    values={6: "Normal write-back", 5: "Normal non-cacheable", 1: "Device-nGnRE"},
)
S2AP_READ = bit("S2AP[0]", 6, "read allowed")
S2AP_WRITE = bit("S2AP[1]", 7, "write allowed; with DBM: dirty")
XN = Field("XN", 54, 53, "execution forbidden")
NS = bit("NS", 55, "1: the output is in the Non-secure address space, else in the Realm one")

_MEMATTR_WB, _MEMATTR_WB_FWB, _MEMATTR_NC, _MEMATTR_DEVICE = 0xF << 2, 6 << 2, 5 << 2, 1 << 2
_CONCATENATED_LG2 = 4
_SL0 = {12: {2: 0, 1: 1, 0: 2, -1: 4}, 14: {3: 0, 2: 1, 1: 2, 0: 3}, 16: {3: 0, 2: 1, 1: 2}}


@frozen(kw_only=True)
class Stage2Config(VmsaConfig):
    """The common configuration, and what STE adds.

    Args:
        concatenate: start one level lower wherever 16 tables side by side, or fewer, do (ARM-LVL-5).
            Without it that is done only where the architecture demands it (ARM-LVL-6).
        s2fwb: STE.S2FWB, which decides how memory types are coded.
        half: ``host``, or ``protected`` or ``unprotected`` of a realm, where bit 55 is NS (ARM-GPT-17).
    """

    concatenate: bool = False
    s2fwb: bool = False
    half: str = "host"

    @property
    def start(self) -> int:
        """Arm's number of the start level."""
        return self.first_level + 1 if self.concatenated else self.first_level

    @property
    def concatenated(self) -> bool:
        """Whether several tables stand side by side at the start level."""
        return self.can_concatenate and (self.concatenate or self.must_concatenate)

    @property
    def can_concatenate(self) -> bool:
        """Whether at most 16 tables of the next level do (ARM-LVL-5)."""
        above = self.input_bits - self.granule_lg2 - (3 - self.first_level) * self.stride
        return above <= _CONCATENATED_LG2 and self.first_level < (2 if self.granule_lg2 == 12 else 3)

    @property
    def must_concatenate(self) -> bool:
        """Whether the output is too narrow for the level, or 16K tables would start at Arm level 0 for two entries."""
        if self.granule_lg2 == 12:
            return self.first_level == 0 and self.output_bits < 44
        if self.granule_lg2 == 14:
            narrow = self.first_level == 1 and self.output_bits < 42
            return narrow or (self.first_level == 0 and self.input_bits == 48)
        return False

    @property
    def plain(self) -> "Stage2Config":
        """The same format, with ``concatenate`` set only where it makes a difference."""
        return evolve(self, concatenate=self.concatenated)

    @property
    def folded(self) -> "Stage2Config":
        """With concatenated tables, if that is possible."""
        return evolve(self, concatenate=True).plain

    @property
    def sl0(self) -> int:
        """S2SL0, with S2SL0_2 as bit 2 (ARM-LVL-4)."""
        return _SL0[self.granule_lg2][self.start]


class ArmStage2(Vmsa):
    """Stage 2 tables, from IPA to PA; with hardware dirty state a writable leaf starts "writable, clean"."""

    name: ClassVar[str] = "arm_smmu/stage2"
    title: ClassVar[str] = "VMSAv8-64 stage 2"
    stage: ClassVar[str] = "2"
    recorded_as: ClassVar[tuple[str, ...]] = ("arm_s2", "armv8")
    config: Stage2Config

    def __init__(self, config: Stage2Config | None = None) -> None:
        config = config or Stage2Config()
        super().__init__(config, config.start)
        self._write_back = _MEMATTR_WB_FWB if config.s2fwb else _MEMATTR_WB

    def _attr_fields(self) -> tuple[Field, ...]:
        write = evolve(S2AP_WRITE, role="hardware") if self.config.hd else S2AP_WRITE
        memory = MEMATTR_FWB if self.config.s2fwb else MEMATTR
        space = () if self.config.half == "host" else (NS,)
        return (memory, S2AP_READ, write, XN, *space, *self._common_attrs())

    def _other_leaf_fields(self) -> tuple[Field, ...]:
        """Bit 11 is FnXS where FEAT_XS exists, bit 55 NS in a realm's stage 2 (ARM-DESC-13, ARM-DESC-14)."""
        upper = (
            ignored(63, 55, "software, or PBHA") if self.config.half == "host" else ignored(63, 56, "software, or PBHA")
        )
        return (reserved(11, 11), reserved(50, 50), upper)

    def _upper_table_fields(self) -> tuple[Field, ...]:
        """A table carries no rights (ARM-DESC-4)."""
        return (reserved(63, 59),)

    def default_attrs(self, rights: int) -> int:
        """Write-back, inner shareable. AF is set unless hardware would set it: an access would fault."""
        write = DBM.mask if self.config.hd else S2AP_WRITE.mask
        granted = (S2AP_READ.mask if rights & READ else 0) | (write if rights & WRITE else 0)
        shared = 0 if self.config.ds else SH_INNER
        space = NS.mask if self.config.half == "unprotected" else 0
        return self._write_back | shared | granted | space | (0 if self.config.ha else AF.mask)

    def rights(self, word: int, level: int) -> int:
        """A table grants all; with hardware dirty state DBM grants writes as S2AP[1] does (ARM-DESC-10)."""
        if not self.is_leaf(word, level):
            return READ | WRITE
        write = is_set(word, S2AP_WRITE) or (self.config.hd and is_set(word, DBM))
        return (READ if is_set(word, S2AP_READ) else 0) | (WRITE if write else 0)

    # -- recordings

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "ArmStage2 | None":
        found = recorded(config)
        if found is None or found.stage != "2":
            return None
        return cls(Stage2Config(**found.common, concatenate=found.concatenate, s2fwb="s2fwb" in config["features"]))

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        if not prot & (READ | WRITE):
            return None
        if prot & MMIO:
            memory = _MEMATTR_DEVICE
        else:
            memory = self._write_back if prot & CACHE else _MEMATTR_NC
        shared = 0 if self.config.ds else SH_INNER if prot & CACHE else SH_OUTER
        granted = (S2AP_READ.mask if prot & READ else 0) | (S2AP_WRITE.mask if prot & WRITE else 0)
        dirty = DBM.mask if self.config.hd and prot & WRITE else 0
        return memory | shared | granted | dirty | AF.mask | (XN_BITS[config["fmt"]] if prot & NOEXEC else 0)


__all__ = ["MEMATTR", "NS", "S2AP_READ", "S2AP_WRITE", "XN", "ArmStage2", "Stage2Config"]
