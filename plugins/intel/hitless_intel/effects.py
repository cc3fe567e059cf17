"""What a VT-d unit does for a legal descriptor.

Spec: VT-d 5.10, sections 6.2, 6.5.2 and 6.5.4, tables 17 and 22 to 24. Facts: INTEL-QI-*, INTEL-INV-*, INTEL-WAIT-*.
"""

from collections.abc import Sequence

from attrs import evolve

from hitless.bits import lowest_zero
from hitless.hardware.facts import Completes, Drops, DropsStructure, Effect, NoEffect
from hitless.units import WORD_MAX
from hitless_intel.descriptors import (
    CONTEXT_CACHE,
    DEVICE_TLB,
    DOMAIN,
    EVERY_PASID,
    GLOBAL,
    IOTLB,
    PAGE,
    PASID_CACHE,
    PASID_DEVICE_TLB,
    PASID_IOTLB,
    PASIDS_OF_DOMAIN,
)
from hitless_intel.features import IntelFeatures

DID, PASID = 0xFFFF, 0xF_FFFF
"""The DID's bits in a tag, and what a PASID's are; it stands above the DID where entries are filed under one."""

_SECOND, _WITH_FIRST = frozenset({"2"}), frozenset({"1", "12"})
_DW, _DR = 1 << 6, 1 << 7
_IH = 1 << 6  # in the high word
_SW = 1 << 5
_CONTEXTS = frozenset({"root", "scalable-root", "context", "scalable-context"})
_PASIDS = frozenset({"pasid-dir", "pasid"})
_FUNCTIONS = (0, 0b100, 0b110, 0b111)
"""By FM: the function bits of a SID that do not count."""


def page_range(high: int) -> tuple[int, int]:
    """First and last address of AM and address of an IOTLB descriptor; AM masks the low bits (INTEL-QI-6)."""
    size_lg2 = 12 + (high & 0x3F)
    start = high >> size_lg2 << size_lg2
    return start, min(start + (1 << size_lg2) - 1, WORD_MAX)


def device_range(high: int, size_bit: int) -> tuple[int, int] | None:
    """First and last address of a device TLB descriptor; None if no 0 bit tells a size (INTEL-QI-8)."""
    if not high & size_bit:
        return high & ~0xFFF, high | 0xFFF
    lowest = lowest_zero(high, 12)
    if lowest == 64:
        return None
    start = high >> lowest + 1 << lowest + 1
    return start, start + (1 << lowest + 1) - 1


class DescriptorEffects:
    """The declared effects of every descriptor.

    Args:
        scalable: the unit is in scalable mode: there may be first-stage and nested translations.
    """

    def __init__(self, features: IntelFeatures, *, scalable: bool) -> None:
        self._scalable = scalable
        self._caching = features.caching_mode
        self._asks = features.drain
        self._always = features.version >= 2

    def of(self, kind: int, low: int, high: int) -> Sequence[Effect]:
        """Effects of a legal descriptor of this type, by its two low words."""
        if kind == CONTEXT_CACHE:
            return self._context_cache(low)
        if kind == IOTLB:
            return self._iotlb(low, high)
        if kind == DEVICE_TLB:
            return [_device_drops("INTEL-QI-4, INTEL-QI-17", low >> 32 & 0xFFFF, device_range(high, 1))]
        if kind == PASID_IOTLB:
            return [_pasid_iotlb(low, high)]
        if kind == PASID_CACHE:
            return self._pasid_cache(low)
        if kind == PASID_DEVICE_TLB:
            pasid, every = (None, True) if high & 1 else (low >> 32 & PASID, False)
            covered = device_range(high, 1 << 11)
            return [_device_drops("INTEL-QI-12", low >> 16 & 0xFFFF, covered, pasid, every_pasid=every)]
        return [self._wait(low, high)]

    def _wait(self, low: int, high: int) -> Effect:
        """A status word, if it was asked for."""
        if not low & _SW:
            return NoEffect("INTEL-QI-5")
        drains = self._asks or self._always
        return Completes("INTEL-WAIT-1, INTEL-WAIT-2, INTEL-WAIT-3", high, low >> 32, 32, drains, drains)

    def _context_cache(self, low: int) -> Sequence[Effect]:
        """Context entries of every device, of a domain, or of one device and the functions that FM leaves out.

        A scalable-mode entry holds no DID, so that a domain does not tell which (INTEL-QI-14).
        """
        granularity, did = low >> 4 & 3, low >> 16 & DID
        if granularity == GLOBAL:
            return [DropsStructure("INTEL-QI-2", _CONTEXTS)]
        if granularity == DOMAIN:
            if self._scalable:
                return [NoEffect("INTEL-QI-14")]
            return [DropsStructure("INTEL-QI-2", _CONTEXTS, tag=did, tag_mask=DID)]
        device, mask = low >> 32 & 0xFFFF, ~_FUNCTIONS[low >> 48 & 3]
        if self._scalable or (self._caching and not did):
            return [DropsStructure("INTEL-QI-2, INTEL-QI-14, INTEL-INV-17", _CONTEXTS, device, mask)]
        return [DropsStructure("INTEL-QI-2", _CONTEXTS, device, mask, tag=did, tag_mask=DID)]

    def _pasid_cache(self, low: int) -> Sequence[Effect]:
        """PASID entries of a domain, of one PASID in it, or all.

        Entries are filed under the PASID that the context entry gives to requests without one. Where tags hold it,
        it tells; where they do not, PASID 0 stands for requests without one too (INTEL-QI-13). What was not present
        has no DID (INTEL-INV-17).
        """
        granularity, did, pasid = low >> 4 & 3, low >> 16 & DID, low >> 32 & PASID
        if granularity == EVERY_PASID:
            return [DropsStructure("INTEL-QI-13", _PASIDS)]
        if granularity == PASIDS_OF_DOMAIN:
            return [DropsStructure("INTEL-QI-13", _PASIDS, tag=did, tag_mask=DID)]
        by_tag = DropsStructure("INTEL-QI-13", _PASIDS, tag=did | pasid << 16)
        by_request = DropsStructure("INTEL-QI-13", _PASIDS, pasid=pasid or None, tag=did, tag_mask=DID)
        if self._caching:
            by_request = evolve(by_request, source="INTEL-QI-13, INTEL-INV-17", tag=None)
        return [by_tag, by_request]

    def _iotlb(self, low: int, high: int) -> Sequence[Effect]:
        """Leaves that overlap, whatever their size; pointers only without the hint, or beyond pages.

        A page-selective command names guest physical addresses, and nobody knows which first-stage
        and nested translations went through them: all of the domain go (INTEL-INV-12).
        """
        granularity = low >> 4 & 3
        pages = granularity == PAGE
        first, last = page_range(high) if pages else (0, WORD_MAX)
        reads = self._always or (self._asks and bool(low & _DR))
        writes = self._always or (self._asks and bool(low & _DW))
        tag = None if granularity == GLOBAL else low >> 16 & DID
        drops = Drops(
            "INTEL-INV-1, INTEL-INV-2, INTEL-INV-3, INTEL-WAIT-3" if pages else "INTEL-INV-5, INTEL-WAIT-3",
            tables=not pages or not high & _IH,
            tag=tag,
            tag_mask=DID,
            first=first,
            last=last,
            drains_reads=reads,
            drains_writes=writes,
        )
        if not pages or not self._scalable:
            return [drops]
        others = Drops(
            "INTEL-INV-12, INTEL-WAIT-3",
            tables=True,
            tag=tag,
            tag_mask=DID,
            drains_reads=reads,
            drains_writes=writes,
            stages=_WITH_FIRST,
        )
        return [evolve(drops, stages=_SECOND), others]


def _pasid_iotlb(low: int, high: int) -> Drops:
    """First-stage and nested leaves of one PASID; their pointers without the hint, or for all of the PASID."""
    pages = low >> 4 & 3 == PAGE
    first, last = page_range(high) if pages else (0, WORD_MAX)
    return Drops(
        "INTEL-INV-13, INTEL-WAIT-9" if pages else "INTEL-INV-14, INTEL-WAIT-9",
        tables=not pages or not high & _IH,
        tag=low >> 16 & DID | (low >> 32 & PASID) << 16,
        first=first,
        last=last,
        drains_reads=True,
        drains_writes=True,
        stages=_WITH_FIRST,
    )


def _device_drops(
    source: str, device: int, covered: tuple[int, int] | None, pasid: int | None = None, *, every_pasid: bool = False
) -> Drops:
    """The device answers after its own outstanding uses are done (INTEL-WAIT-6)."""
    first, last = covered or (0, WORD_MAX)
    return Drops(
        f"{source}, INTEL-QI-8, INTEL-WAIT-6",
        first=first,
        last=last,
        device=device,
        drains_reads=True,
        drains_writes=True,
        pasid=pasid,
        every_pasid=every_pasid,
    )
