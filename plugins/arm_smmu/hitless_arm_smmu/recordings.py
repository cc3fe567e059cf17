"""What the config of a recorded page table says, for the formats that answer such recordings.

Three kinds are answered: ``arm_s1`` and ``arm_s2`` (no contiguous runs, tables concatenated only where that is
demanded), and ``armv8`` (both stages, runs, tables concatenated wherever that is possible).
"""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

READ, WRITE, CACHE, NOEXEC, MMIO, PRIV = 1, 2, 4, 8, 16, 32

XN_BITS = {"arm_s1": 3 << 53, "arm_s2": 3 << 53, "armv8": 1 << 54}
"""What NOEXEC becomes: the recorded software's choice."""


@frozen
class Recorded:
    """A recording's config in this architecture's words.

    Args:
        stage: ``1`` or ``2``.
        common: arguments of VmsaConfig.
        concatenate: whether tables are concatenated wherever that is possible.
    """

    stage: str
    common: Mapping[str, Any]
    concatenate: bool


def recorded(config: Mapping[str, Any]) -> Recorded | None:
    """What a config says; None: it is of no kind that is answered.

    Args:
        config: of the recording, with its ``fmt`` added.
    """
    kind, features = config["fmt"], frozenset(config["features"])
    if kind not in XN_BITS:
        return None
    armv8, wide = kind == "armv8", config["oasz"] > 48
    second = kind == "arm_s2" or "s2" in features
    ds = "lpa2" in features
    lpa = "lpa" in features if armv8 else config["granule"] == 16 and wide
    wide_input = not armv8 or ds or "lva" in features or (second and lpa)
    common = {
        "granule_lg2": config["granule"],
        "input_bits": min(config["vasz"], 52 if wide_input else 48),
        "output_bits": min(config["oasz"], 52 if ds or lpa else 48),
        "ds": ds,
        "lpa": lpa,
        "ha": bool(features & {"hd", "dbm"}),
        "hd": bool(features & {"hd", "dbm"}),
        "runs": armv8,
    }
    return Recorded("2" if second else "1", common, armv8)
