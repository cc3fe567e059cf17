"""The granule protection table in a memory image.

Spec: DDI0487 D9, granule protection tables; TFA gpt_rme. Facts: ARM-GPT-4, ARM-GPT-11, ARM-GPT-12.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hitless.bits import U64Array, get
from hitless.hardware.structures import OwnerRun
from hitless.ownership import GUEST, HOST
from hitless_arm_smmu.gpt import (
    BLOCK_TYPE,
    GPI,
    GRANULE_LG2,
    GRANULES_LG2,
    HOST_STATES,
    L0GPTSZ,
    L1_ADDRESS,
    PGS,
    PPS,
    PROTECTED_BITS,
    TABLE_TYPE,
    TYPE,
)

_GRANULES = 1 << GRANULES_LG2


def read_gpt(base: int, beside: Mapping[str, int], view: Callable[[int, int], U64Array]) -> Iterator[OwnerRun]:
    """The runs that are not the host's, from SMMU_ROOT_GPT_BASE, and SMMU_ROOT_GPT_BASE_CFG in ``beside``."""
    config = beside["gpt_base_cfg"]
    region_lg2 = 30 + get(config, L0GPTSZ)
    bits = PROTECTED_BITS[min(get(config, PPS), 6)]
    granule_lg2 = GRANULE_LG2[get(config, PGS) % 3]
    regions = 1 << max(bits - region_lg2, 0)
    for region, entry in enumerate(view(base & L1_ADDRESS.mask, regions).tolist()):
        start = region << region_lg2
        if get(entry, TYPE) == TABLE_TYPE:
            entries = 1 << min(bits, region_lg2) - granule_lg2 - GRANULES_LG2
            yield from _level_1(view(entry & L1_ADDRESS.mask, entries), start, granule_lg2)
        else:
            owner = _owner(get(entry, GPI) if get(entry, TYPE) == BLOCK_TYPE else 0)
            if owner != HOST:
                yield OwnerRun(start, start + (1 << region_lg2), owner)


def _level_1(entries: U64Array, start: int, granule_lg2: int) -> Iterator[OwnerRun]:
    """The granules of one level 1 table; a contiguous entry has one state for all of its 16."""
    shifts = np.arange(_GRANULES, dtype=np.uint64) * np.uint64(4)
    states = (entries[:, None] >> shifts) & np.uint64(15)
    contiguous = get(entries, TYPE) == np.uint64(BLOCK_TYPE)
    states[contiguous] = get(entries[contiguous], GPI)[:, None]
    flat = states.reshape(-1)
    theirs = np.isin(flat, np.array(HOST_STATES, np.uint64), invert=True)
    edges = np.flatnonzero(np.diff(theirs.astype(np.int8))) + 1
    for at, end in zip([0, *edges.tolist()], [*edges.tolist(), flat.size], strict=True):
        if theirs[at]:
            yield OwnerRun(start + (at << granule_lg2), start + (end << granule_lg2), GUEST)


def _owner(state: int) -> int:
    """Non-secure memory, and what any space may reach, is the host's; all else is not (ARM-GPT-4)."""
    return HOST if state in HOST_STATES else GUEST
