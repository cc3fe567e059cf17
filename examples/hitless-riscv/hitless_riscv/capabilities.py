"""The capabilities register, as it tells what a unit has.

Spec: RISC-V IOMMU 1.0, register interface. Facts: RISCV-CAP-*, RISCV-DC-2.
"""

from collections.abc import Mapping
from typing import Any

from hitless_riscv.features import MODES

_SV39, _SV39X4 = 9, 17
_PAS_WIDTHS = (46, 56)


def features_of(value: int) -> Mapping[str, Any]:
    """The features that the register's value says; a width of addresses that is between two is taken as the larger."""
    modes = [mode for at, mode in enumerate(MODES) if value >> _SV39 + at & 1 or value >> _SV39X4 + at & 1]
    processes = next((bits for at, bits in ((40, 20), (39, 17), (38, 8)) if value >> at & 1), 20)
    pas = value >> 32 & 0x3F
    return {
        "widest": modes[-1] if modes else MODES[-1],
        "mode": modes[0] if modes else MODES[0],
        "pas": next((width for width in _PAS_WIDTHS if pas <= width), _PAS_WIDTHS[-1]),
        "svrsw60t59b": bool(value >> 14 & 1),
        "svpbmt": bool(value >> 15 & 1),
        "msi_flat": bool(value >> 22 & 1),
        "hardware_ad": bool(value >> 24 & 1),
        "non_leaf": bool(value >> 42 & 1),
        "address_range": bool(value >> 43 & 1),
        "process_id_bits": processes,
    }
