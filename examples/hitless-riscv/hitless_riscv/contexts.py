"""Device and process contexts as they are written, and how wide the ids are that lead to them.

Spec: RISC-V IOMMU 1.0, data structures. Facts: RISCV-DC-*, RISCV-PC-*.
"""

from collections.abc import Mapping

from attrs import frozen

from hitless.bits import Layout
from hitless.errors import HitlessError
from hitless.hardware.structures import StructureEntry
from hitless_riscv.commands import GSCID_MASK, NESTED, PSCID_LO, PSCID_MASK
from hitless_riscv.features import RiscvFeatures
from hitless_riscv.formats import MODE_OF
from hitless_riscv.sv import Sv

BARE = 0
_PROCESS_BITS = {BARE: (0, 0), 1: (1, 8), 2: (2, 17), 3: (3, 20)}
_NO_MODE = (0, 64)


def device_bits(features: RiscvFeatures) -> tuple[int, int, int]:
    """Bits of DDI[0], DDI[1] and DDI[2] (RISCV-DC-2)."""
    return (6, 9, 9) if features.msi_flat else (7, 9, 8)


def process_bits(mode: int) -> tuple[int, int]:
    """Levels of a process directory, and bits of the process ids that it takes, by pdtp.MODE (RISCV-PC-1)."""
    return _PROCESS_BITS.get(mode, _NO_MODE)


def unfit(entry: StructureEntry, why: str, source: str, do: str) -> HitlessError:
    """The error of what the structures cannot say."""
    return HitlessError(
        "the device directory cannot say what is asked of it",
        who="riscv",
        where=f"device {entry.device:#x}",
        rule=source,
        why=why,
        do=do,
    )


@frozen
class ContextWriter:
    """Makes the words of contexts."""

    layouts: Mapping[str, Layout]
    features: RiscvFeatures

    def device(self, entry: StructureEntry, **fields: int) -> tuple[int, ...]:
        """A device context with both stages of an entry; ``fields`` are those of a process directory.

        Raises:
            HitlessError: a tag is wider than its field.
        """
        said = {"tc.V": 1, "tc.EN_ATS": int(entry.ats), **self.second(entry)}
        hardware_ad = int(self.features.hardware_ad)
        said |= {**self.first(entry), "tc.GADE": hardware_ad, "tc.SADE": hardware_ad}
        return self.layouts["dc"].encode(**(said | fields))

    def process(self, entry: StructureEntry) -> tuple[int, ...]:
        """The process context of one process id."""
        return self.layouts["pc"].encode(**{"ta.V": 1, **self.first(entry)})

    def second(self, entry: StructureEntry) -> dict[str, int]:
        """Iohgatp."""
        root = entry.stage2
        if root is None:
            return {}
        if root.tag > GSCID_MASK:
            raise unfit(entry, f"GSCID {root.tag:#x} has more than 16 bits", "RISCV-DC-5", "use a smaller tag")
        return {
            "iohgatp.PPN": root.root_pa >> 12,
            "iohgatp.GSCID": root.tag,
            "iohgatp.MODE": _mode(root.page_format),
        }

    def first(self, entry: StructureEntry) -> dict[str, int]:
        """Iosatp and the PSCID."""
        root = entry.stage1
        if root is None:
            return {}
        pscid = root.tag if entry.stage2 is None else (root.tag & ~NESTED) >> PSCID_LO
        if pscid > PSCID_MASK:
            raise unfit(entry, f"PSCID {pscid:#x} has more than 20 bits", "RISCV-PC-3", "use a smaller tag")
        return {"ta.PSCID": pscid, "fsc.PPN": root.root_pa >> 12, "fsc.MODE": _mode(root.page_format)}


def _mode(page_format: object) -> int:
    """MODE of a format's tables."""
    if not isinstance(page_format, Sv):
        raise TypeError(f"{page_format!r} is no format of this vendor")
    return MODE_OF[page_format.config.mode]
