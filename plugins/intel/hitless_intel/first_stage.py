"""Intel VT-d first-stage table: x86-64 long mode, with canonical input addresses.

Spec: Intel VT-d, revision 5.10, section 9.7. Facts: INTEL-FS-*.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hitless.pagetable import WRITE
from hitless.pagetable.shared.x86_64 import X86_64, A, D


class FirstStage(X86_64):
    """First-stage tables of four or five levels.

    Args:
        levels: 4 or 5 (PASID-entry FSPM).
        haw: host address width; address bits from there up to 51 are reserved.
        sign_extended, width: as a recording says; hardware takes canonical addresses of full width (INTEL-FS-8).
        leaf_levels: levels that may hold leaves (CAP.FS1GP).
        extended: PASID-entry EAFE: hardware sets EA.
        execute_disable: bit 63 is XD; else hardware ignores it (INTEL-FS-10).
        sets_accessed: hardware can set A and D; else new leaves have them set, since a walk that would
            have to set them faults (INTEL-FS-11).
    """

    name: ClassVar[str] = "intel/first-stage"
    source: ClassVar[str] = "VT-d 9.7"
    level_name: ClassVar[str] = "VT-d level"

    def __init__(
        self,
        levels: int = 4,
        *,
        haw: int = 52,
        sign_extended: bool = True,
        width: int | None = None,
        leaf_levels: tuple[int, ...] = (0, 1, 2),
        extended: bool = False,
        execute_disable: bool = False,
        sets_accessed: bool = True,
    ) -> None:
        accessed = "hardware" if sets_accessed else "value"
        roles = {
            "A": accessed,
            "D": accessed,
            "G": "ignored",
            "EA": "hardware" if extended else "ignored",
            "XD": "value" if execute_disable else "ignored",
        }
        super().__init__(
            levels, haw=haw, sign_extended=sign_extended, width=width, leaf_levels=leaf_levels, roles=roles
        )
        self.extended = extended
        self._preset = 0 if sets_accessed else A.mask | D.mask

    def default_attrs(self, rights: int) -> int:
        """Memory type 0, for user requests; A, and D where writes are allowed, if hardware cannot set them."""
        preset = self._preset if rights & WRITE else self._preset & ~D.mask
        return super().default_attrs(rights) | preset

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> "FirstStage | None":
        """As the shared format's, without an encryption bit, which VT-d does not have."""
        if int(config["sme_mask"], 16):
            return None
        sizes = int(config["pgsizes"], 16)
        return cls(
            config["level"] + 1,
            haw=config["oasz"],
            sign_extended="sign_extend" in config["features"],
            width=config["vasz"],
            leaf_levels=tuple(i for i in range(3) if not sizes or sizes >> 12 + 9 * i & 1),
        )
