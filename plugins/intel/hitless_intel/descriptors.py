"""Layouts of VT-d's queued invalidation descriptors, 128 bits each; in scalable mode 256, the upper half 0.

Spec: VT-d 5.10, section 6.5.2. Facts: INTEL-QI-*.
"""

from collections.abc import Mapping

from hitless.bits import Field, Layout, bit, reserved

CONTEXT_CACHE, IOTLB, DEVICE_TLB, WAIT = 1, 2, 3, 5
PASID_IOTLB, PASID_CACHE, PASID_DEVICE_TLB = 6, 7, 8

NOT_MODELLED = {
    4: "interrupt entry cache invalidate",
    9: "page group response",
    0xA: "HPT cache invalidate",
}
"""Types that hardware takes, but that concern nothing here: interrupts, page requests, the host permission table."""

GLOBAL, DOMAIN, DEVICE = 1, 2, 3
"""Granularities of the context cache descriptor; of the IOTLB descriptor the first two, and PAGE."""
PAGE = 3
ALL_OF_PASID = 2
"""Granularity of the PASID IOTLB descriptor, besides PAGE."""
PASIDS_OF_DOMAIN, ONE_PASID, EVERY_PASID = 0, 1, 3
"""Granularities of the PASID cache descriptor."""

_DID = Field("DID", 31, 16)
_PASID = Field("PASID", 51, 32)
_RANGE = (
    Field("AM", 69, 64, "2^(12+AM) bytes"),
    bit("IH", 70, "1: only leaves changed"),
    reserved(75, 71),
    Field("address", 127, 76, unit=1 << 12),
)


def _type(kind: int) -> tuple[Field, ...]:
    """The two parts of a descriptor's type."""
    return (Field("type[3:0]", 3, 0, fixed=kind & 0xF), Field("type[6:4]", 11, 9, fixed=kind >> 4))


LAYOUTS = {
    CONTEXT_CACHE: Layout(
        "context cache invalidate",
        "VT-d 5.10 6.5.2",
        (
            *_type(CONTEXT_CACHE),
            Field("G", 5, 4, values={GLOBAL: "global", DOMAIN: "domain", DEVICE: "device"}),
            reserved(8, 6),
            reserved(15, 12),
            _DID,
            Field("SID", 47, 32),
            Field("FM", 49, 48, "low function bits that do not count"),
            reserved(63, 50),
            reserved(127, 64),
        ),
        128,
    ),
    IOTLB: Layout(
        "IOTLB invalidate",
        "VT-d 5.10 6.5.2.3",
        (
            *_type(IOTLB),
            Field("G", 5, 4, values={GLOBAL: "global", DOMAIN: "domain", PAGE: "page in domain"}),
            bit("DW", 6, "drain writes"),
            bit("DR", 7, "drain reads"),
            reserved(8, 8),
            reserved(15, 12),
            _DID,
            reserved(63, 32),
            *_RANGE,
        ),
        128,
    ),
    DEVICE_TLB: Layout(
        "device TLB invalidate",
        "VT-d 5.10 6.5.2.5",
        (
            *_type(DEVICE_TLB),
            reserved(8, 4),
            Field("PFSID[3:0]", 15, 12),
            Field("MIP", 20, 16, "pending invalidations; 0: no limit below 32"),
            reserved(31, 21),
            Field("SID", 47, 32),
            reserved(51, 48),
            Field("PFSID[15:4]", 63, 52),
            bit("S", 64, "size is coded in the address"),
            reserved(75, 65),
            Field("address", 127, 76, unit=1 << 12),
        ),
        128,
    ),
    WAIT: Layout(
        "wait",
        "VT-d 5.10 6.5.2.8",
        (
            *_type(WAIT),
            bit("IF", 4, "interrupt"),
            bit("SW", 5, "write status"),
            bit("FN", 6, "later descriptors wait"),
            bit("PD", 7, "drain page requests"),
            reserved(8, 8),
            reserved(31, 12),
            Field("status data", 63, 32),
            reserved(65, 64),
            Field("status address", 127, 66, unit=1 << 2),
        ),
        128,
    ),
    PASID_IOTLB: Layout(
        "PASID IOTLB invalidate",
        "VT-d 5.10 6.5.2",
        (
            *_type(PASID_IOTLB),
            Field("G", 5, 4, values={ALL_OF_PASID: "all of the PASID", PAGE: "page"}),
            reserved(8, 6),
            reserved(15, 12),
            _DID,
            _PASID,
            reserved(63, 52),
            *_RANGE,
        ),
        128,
    ),
    PASID_CACHE: Layout(
        "PASID cache invalidate",
        "VT-d 5.10 6.5.2",
        (
            *_type(PASID_CACHE),
            Field("G", 5, 4, values={PASIDS_OF_DOMAIN: "domain", ONE_PASID: "PASID", EVERY_PASID: "global"}),
            reserved(8, 6),
            reserved(15, 12),
            _DID,
            _PASID,
            reserved(63, 52),
            reserved(127, 64),
        ),
        128,
    ),
    PASID_DEVICE_TLB: Layout(
        "PASID device TLB invalidate",
        "VT-d 5.10 6.5.2",
        (
            *_type(PASID_DEVICE_TLB),
            Field("MIP", 8, 4, "pending invalidations; 0: no limit below 32"),
            Field("PFSID[3:0]", 15, 12),
            Field("SID", 31, 16),
            _PASID,
            Field("PFSID[15:4]", 63, 52),
            bit("G", 64, "all PASIDs"),
            reserved(74, 65),
            bit("S", 75, "size is coded in the address"),
            Field("address", 127, 76, unit=1 << 12),
        ),
        128,
    ),
}


def descriptor_layouts(*, wide: bool) -> Mapping[int, Layout]:
    """Every descriptor by type; ``wide``: with the upper half of scalable mode (INTEL-QI-1)."""
    if not wide:
        return LAYOUTS
    return {
        kind: Layout(narrow.name, narrow.source, (*narrow.fields, reserved(255, 128)), 256)
        for kind, narrow in LAYOUTS.items()
    }


def descriptor_type(low: int) -> int:
    """The 7-bit type of a descriptor's low word (INTEL-QI-1)."""
    return low >> 5 & 0x70 | low & 0xF
