"""VMSAv8-64 stage 1, for streams of Non-secure or Secure EL1.

Spec: Arm ARM DDI0487 chapter D8, VMSAv8-64 stage 1 descriptors; IHI0070 5.4 for the fields of the CD.
Facts: ARM-DESC-*, ARM-FIRST-*.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import evolve, frozen

from hitless.bits import Field, W, bit, ignored, join
from hitless.bits import test as is_set
from hitless.pagetable import READ, WRITE
from hitless_arm_smmu.granules import VmsaConfig
from hitless_arm_smmu.recordings import CACHE, MMIO, NOEXEC, PRIV, XN_BITS, recorded
from hitless_arm_smmu.vmsa import AF, DBM, SH_INNER, SH_OUTER, Vmsa

ATTR_INDX = Field("AttrIndx", 4, 2, "index of the memory type in MAIR")
NS = bit("NS", 5, "of a Secure stream: the output is Non-secure")
AP_UNPRIVILEGED = bit("AP[1]", 6, "unprivileged access allowed")
AP_READ_ONLY = bit("AP[2]", 7, "read-only; with DBM: clean")
NG = bit("nG", 11, "belongs to one ASID")
GP = bit("GP", 50, "guarded page")
PXN = bit("PXN", 53, "privileged execution forbidden")
UXN = bit("UXN", 54, "unprivileged execution forbidden")

NS_TABLE = bit("NSTable", 63, "of a Secure stream: what follows is Non-secure")
AP_TABLE_READ_ONLY = bit("APTable[1]", 62, "no writes below")
AP_TABLE_PRIVILEGED = bit("APTable[0]", 61, "no unprivileged access below")
UXN_TABLE = bit("UXNTable", 60, "no unprivileged execution below")
PXN_TABLE = bit("PXNTable", 59, "no privileged execution below")

MAIR = 0xF404_FF44
"""Memory types by AttrIndx: 0 non-cacheable, 1 write-back, 2 device, 3 inner non-cacheable (ARM-FIRST-2)."""
_NON_CACHEABLE, _WRITE_BACK, _DEVICE = 0 << 2, 1 << 2, 2 << 2


@frozen(kw_only=True)
class Stage1Config(VmsaConfig):
    """The common configuration, and what CD adds.

    Args:
        upper: the tables are TTB1's, for addresses whose upper bits are all ones.
        ns: leaves and tables lead a Secure stream to Non-secure memory.
        had: HAD0 or HAD1: the attributes in table descriptors are ignored.
    """

    upper: bool = False
    ns: bool = False
    had: bool = False


class ArmStage1(Vmsa):
    """Stage 1 tables, from VA to IPA; requests are unprivileged data accesses (ARM-FIRST-4)."""

    name: ClassVar[str] = "arm_smmu/stage1"
    title: ClassVar[str] = "VMSAv8-64 stage 1"
    stage: ClassVar[str] = "1"
    recorded_as: ClassVar[tuple[str, ...]] = ("arm_s1", "armv8")
    config: Stage1Config

    def __init__(self, config: Stage1Config | None = None) -> None:
        config = config or Stage1Config()
        super().__init__(config, config.first_level)
        self._ones_above = -1 << config.input_bits & (1 << 64) - 1 if config.upper else 0

    def _attr_fields(self) -> tuple[Field, ...]:
        read_only = evolve(AP_READ_ONLY, role="hardware") if self.config.hd else AP_READ_ONLY
        return (ATTR_INDX, NS, AP_UNPRIVILEGED, read_only, NG, GP, PXN, UXN, *self._common_attrs())

    def _other_leaf_fields(self) -> tuple[Field, ...]:
        return (ignored(63, 55, "software, or PBHA"),)

    def _upper_table_fields(self) -> tuple[Field, ...]:
        """Attributes that restrict all that lies below, unless HAD turns them off (ARM-FIRST-3)."""
        fields = (PXN_TABLE, UXN_TABLE, AP_TABLE_PRIVILEGED, AP_TABLE_READ_ONLY)
        return (*(evolve(each, role="ignored") if self.config.had else each for each in fields), NS_TABLE)

    def canonical(self, iova: int) -> int:
        """Addresses of TTB1 have ones above the input size, those of TTB0 zeros (ARM-FIRST-5)."""
        return iova | self._ones_above

    def hardware_clears(self, level: int) -> int:
        """A write to a clean page clears AP[2] (ARM-FIRST-1)."""
        return self.hardware_set(level) & AP_READ_ONLY.mask

    def table(self, level: int, child_pa: W) -> W:
        """A pointer that restricts nothing."""
        return join(super().table(level, child_pa), NS_TABLE.mask if self.config.ns else 0)

    def default_attrs(self, rights: int) -> int:
        """Write-back, inner shareable, of one ASID. AF is set unless hardware would set it: an access would fault.

        There is no write-only: WRITE grants both.
        """
        access = AP_UNPRIVILEGED.mask if rights else 0
        if not rights & WRITE:
            access |= AP_READ_ONLY.mask
        elif self.config.hd:
            access |= AP_READ_ONLY.mask | DBM.mask
        shared, seen = 0 if self.config.ds else SH_INNER, 0 if self.config.ha else AF.mask
        return _WRITE_BACK | access | NG.mask | shared | seen | (NS.mask if self.config.ns else 0)

    def rights(self, word: int, level: int) -> int:
        """What an unprivileged access may do; with hardware dirty state DBM grants writes (ARM-FIRST-1)."""
        if self.is_leaf(word, level):
            if not is_set(word, AP_UNPRIVILEGED):
                return 0
            write = not is_set(word, AP_READ_ONLY) or (self.config.hd and is_set(word, DBM))
            return READ | WRITE if write else READ
        if self.config.had:
            return READ | WRITE
        if is_set(word, AP_TABLE_PRIVILEGED):
            return 0
        return READ if is_set(word, AP_TABLE_READ_ONLY) else READ | WRITE

    # -- recordings

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "ArmStage1 | None":
        found, features = recorded(config), config["features"]
        if found is None or found.stage != "1":
            return None
        return cls(Stage1Config(**found.common, upper="ttbr1" in features, ns="ns" in features))

    def from_prot(self, prot: int, config: Mapping[str, Any]) -> int | None:
        """WRITE grants both rights: there is no write-only."""
        if not prot & (READ | WRITE):
            return None
        memory = _DEVICE if prot & MMIO else _WRITE_BACK if prot & CACHE else _NON_CACHEABLE
        shared = 0 if self.config.ds else SH_INNER if prot & CACHE else SH_OUTER
        access = 0 if prot & PRIV else AP_UNPRIVILEGED.mask
        if not prot & WRITE:
            access |= AP_READ_ONLY.mask
        elif self.config.hd:
            access |= DBM.mask
        no_execute = XN_BITS[config["fmt"]] if prot & NOEXEC else 0
        return memory | shared | access | no_execute | NG.mask | AF.mask | (NS.mask if self.config.ns else 0)
