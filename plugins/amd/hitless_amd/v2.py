"""AMD v2 guest page table: x86-64 long mode, as an AMD IOMMU reads it.

Spec: 48882 section 2.2.6; AMD64 APM volume 2 section 5.3. Facts: AMD-GPT-*.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hitless.pagetable import PageFormat
from hitless.pagetable.shared.x86_64 import X86_64


class AmdV2(X86_64):
    """AMD v2 tables of four or five levels.

    Args:
        levels: DTE.GuestPagingMode: 4 or 5.
        haw: width of physical addresses; of guest physical ones under a v1 table.
        sign_extended: canonical input, as for a process. Without it only the lower half is in use, as for
            PASID 0 (AMD-GPT-6).
        width: input bits that are in use; None: all with sign extension, else one less.
        c_bit: position of SME's C-bit; None: memory encryption is off.
        nx: EFR.NX: bit 63 denies execution; without it the bit is reserved (AMD-GPT-5).
    """

    name: ClassVar[str] = "amd/v2"
    source: ClassVar[str] = "48882 2.2.6; APM2 5.3"
    level_name: ClassVar[str] = "AMD level"

    def __init__(
        self,
        levels: int = 4,
        *,
        haw: int = 52,
        sign_extended: bool = False,
        width: int | None = None,
        c_bit: int | None = None,
        nx: bool = True,
    ) -> None:
        super().__init__(
            levels,
            haw=haw if c_bit is None else min(haw, c_bit),
            sign_extended=sign_extended,
            width=width or 12 + 9 * levels - (not sign_extended),
            c_bit=c_bit,
            roles={} if nx else {"XD": "reserved"},
        )

    @classmethod
    def from_recording(cls, config: Mapping[str, Any]) -> PageFormat | None:
        """As every x86-64 table; the C-bit only where the recording encrypts its tables."""
        encrypted = "encrypt_tables" in config["features"]
        return super().from_recording(config if encrypted else {**config, "sme_mask": "0x0"})
