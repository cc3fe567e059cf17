"""VT-d queued invalidation: what to write for a target.

Spec: VT-d 5.10, sections 6.5.2 and 6.5.4, tables 22 to 24 and 28. Facts: INTEL-QI-*, INTEL-WAIT-*.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from hitless.bits import Layout
from hitless.hardware.facts import Effect, Illegal, NoEffect
from hitless.refresh.commands import Target, Words, aligned_blocks
from hitless_intel.descriptors import (
    ALL_OF_PASID,
    CONTEXT_CACHE,
    DEVICE,
    DEVICE_TLB,
    DOMAIN,
    EVERY_PASID,
    GLOBAL,
    IOTLB,
    NOT_MODELLED,
    ONE_PASID,
    PAGE,
    PASID_CACHE,
    PASID_DEVICE_TLB,
    PASID_IOTLB,
    WAIT,
    descriptor_layouts,
    descriptor_type,
)
from hitless_intel.effects import DescriptorEffects, device_range, page_range
from hitless_intel.features import FIRST_STAGE, SECOND_STAGE, IntelFeatures

_DW, _DR = 1 << 6, 1 << 7
_IH = 1 << 6  # in the high word
_SW, _FN = 1 << 5, 1 << 6
_ALL_PASIDS = 1  # in the high word of a PASID device TLB descriptor
_DID = 0xFFFF
_RANGED = {IOTLB, PASID_IOTLB}
_DEVICE_TLBS = {DEVICE_TLB: 1, PASID_DEVICE_TLB: 1 << 11}
"""Their types, with the S bit of the high word."""


def size_code(start: int, size_lg2: int, size_bit: int = 1) -> int:
    """High word of a device TLB descriptor: the lowest 0 bit from bit 12 up tells the size (INTEL-QI-8)."""
    return start if size_lg2 == 12 else start | ((1 << size_lg2 - 1) - 1) & ~0xFFF | size_bit


_MOST_BLOCKS = 1024  # page-selective commands for one target; split rules choose the whole tag far below it


class IntelCommands:
    """Encoder and decoder of the invalidation queue, for the tables of one format.

    A tag is DID for second-stage tables, and DID | PASID << 16 for first-stage ones (INTEL-INV-1, INTEL-INV-11).
    A unit without ``drain`` below version 2 cannot be asked to end requests in flight: its wait
    then declares that it drains nothing (INTEL-WAIT-3, INTEL-WAIT-4).
    """

    nested_after_wait: ClassVar[bool] = False  # one command takes both (INTEL-INV-12)
    atc_after_wait: ClassVar[bool] = False  # IOTLB, device TLB, one wait (INTEL-QI-9)
    not_modelled: ClassVar[Sequence[str]] = tuple(
        f"{name}: hardware takes it, and it concerns nothing that is modelled" for name in NOT_MODELLED.values()
    )

    def __init__(self, features: IntelFeatures, format_name: str = SECOND_STAGE) -> None:
        wide = features.scalable(format_name) or features.wide_descriptors
        self.words = 4 if wide else 2
        self._by_type = descriptor_layouts(wide=wide)
        self.layouts: Mapping[str, Layout] = {each.name: each for each in self._by_type.values()}
        self._granularities = {
            kind: field.values for kind, each in self._by_type.items() for field in each.fields if field.name == "G"
        }
        self._first_stage = format_name == FIRST_STAGE
        self._psi = features.psi
        self._mamv = features.mamv
        self._drain = _DW | _DR if features.drain else 0
        self._effects = DescriptorEffects(features, scalable=features.scalable(format_name))

    # -- encoding

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """Page-selective blocks that make up the target exactly, none above MAMV; IH = 0 only for pointers.

        Where that were very many (an empty entry of a high level, cached as such), the whole tag.
        """
        if not self._psi or target.last - target.first >> 12 + self._mamv >= _MOST_BLOCKS:
            return self.invalidate_tag(tag)
        low = self._low(tag, PAGE)
        hint = 0 if target.tables else _IH
        blocks = aligned_blocks(target.first, target.last, 12 + self._mamv)
        return [self._words(low, start | hint | lg2 - 12) for start, lg2 in blocks]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        """Domain-selective, or all of the PASID: leaves and walk caches of the tag (INTEL-INV-5, INTEL-INV-14)."""
        return [self._words(self._low(tag, ALL_OF_PASID if self._first_stage else DOMAIN))]

    def invalidate_nested(self, tag: int) -> Sequence[Words]:
        """Nothing: the page-selective command before it took all that was made through the domain (INTEL-INV-12)."""
        return ()

    def invalidate_device(self, target: Target, device: int, pasid: int | None = None) -> Sequence[Words]:
        """Blocks for the device's translations without PASID, or for those of one (INTEL-QI-4, INTEL-QI-12)."""
        low, kind = device << 32 | DEVICE_TLB, DEVICE_TLB
        if pasid is not None:
            low, kind = pasid << 32 | device << 16 | PASID_DEVICE_TLB, PASID_DEVICE_TLB
        blocks = aligned_blocks(target.first, target.last, 64)
        return [self._words(low, size_code(start, lg2, _DEVICE_TLBS[kind])) for start, lg2 in blocks]

    def invalidate_context(self, device: int, did: int) -> Words:
        """Device-selective: the cached context entry of one device (INTEL-QI-2)."""
        return self._words(device << 32 | did << 16 | DEVICE << 4 | CONTEXT_CACHE)

    def invalidate_pasid_entry(self, did: int, pasid: int) -> Words:
        """PASID-selective: cached PASID entries of one PASID in a domain (INTEL-QI-13)."""
        return self._words(pasid << 32 | did << 16 | ONE_PASID << 4 | PASID_CACHE)

    def invalidate_every_pasid_entry(self) -> Words:
        """All cached PASID entries (INTEL-QI-13)."""
        return self._words(EVERY_PASID << 4 | PASID_CACHE)

    def invalidate_everything(self) -> Words:
        """All translations and walk caches of the unit (INTEL-INV-5)."""
        return self._words(GLOBAL << 4 | self._drain | IOTLB)

    def invalidate_whole_device(self, device: int) -> Sequence[Words]:
        """All that a device holds, without PASID and with any (INTEL-QI-4, INTEL-QI-12)."""
        everywhere = size_code(0, 64, _DEVICE_TLBS[PASID_DEVICE_TLB])
        return [
            self._words(device << 32 | DEVICE_TLB, size_code(0, 64)),
            self._words(device << 16 | PASID_DEVICE_TLB, everywhere | _ALL_PASIDS),
        ]

    def wait(self, store_pa: int, value: int) -> Words:
        """A wait that stores 32 bits.

        FN keeps a later wait from overtaking: a wait alone answers only for what stands between it
        and the wait before (INTEL-WAIT-1), and all waits share one growing completion word.

        Raises:
            ValueError: the value is wider than the status data.
        """
        if value >> 32:
            raise ValueError(f"intel: the status data of a wait has 32 bits, {value:#x} does not fit (INTEL-WAIT-2)")
        return self._words(value << 32 | _FN | _SW | WAIT, store_pa)

    def _low(self, tag: int, granularity: int) -> int:
        """Low word of an IOTLB or PASID IOTLB descriptor; the latter drains without being asked (INTEL-WAIT-9)."""
        common = (tag & _DID) << 16 | granularity << 4
        return common | (tag >> 16 << 32 | PASID_IOTLB if self._first_stage else self._drain | IOTLB)

    def _words(self, low: int, high: int = 0) -> Words:
        return (low, high) if self.words == 2 else (low, high, 0, 0)

    # -- decoding

    def layout(self, words: Words) -> Layout | None:
        return self._by_type.get(descriptor_type(words[0]))

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit does; it stops its queue at a bad descriptor (INTEL-QI-10)."""
        kind = descriptor_type(words[0])
        layout = self._by_type.get(kind)
        if layout is None:
            if kind in NOT_MODELLED:
                return [NoEffect("INTEL-QI-11")]
            return [Illegal("INTEL-QI-10", f"there is no descriptor of type {kind:#x}: FSTS.IQE is set")]
        if fault := self._fault(kind, layout, words):
            return [Illegal("INTEL-QI-10", f"{fault}: FSTS.IQE is set")]
        return self._effects.of(kind, words[0], words[1])

    def describe(self, words: Words) -> str:
        """The descriptor's name and every field that is not 0."""
        kind = descriptor_type(words[0])
        if kind in NOT_MODELLED:
            return f"{NOT_MODELLED[kind]} (not modelled)"
        if kind not in self._by_type:
            return f"unknown descriptor type {kind:#x}"
        layout = self._by_type[kind]
        named = []
        for name, value in layout.decode(words).items():
            if value and not name.startswith("type"):
                meaning = layout[name].values.get(value)
                named.append(f"{name}={value:#x}" + (f" ({meaning})" if meaning else ""))
        covers = _covers(kind, words)
        if covers:
            named.append(f"covers [{covers[0]:#x}, {covers[1]:#x}]")
        return " ".join([layout.name, *named])

    def _fault(self, kind: int, layout: Layout, words: Words) -> str:
        """What makes it illegal: reserved bits, granularity, AM, a device range without a size; empty: nothing."""
        if not layout.legal(words):
            return next(layout.faults(words))
        low, high = words[:2]
        granularity = low >> 4 & 3
        legal = self._granularities.get(kind)
        if legal and granularity not in legal:
            return f"{layout.name}: G must be one of {sorted(legal)}, not {granularity}"
        if granularity == PAGE and kind in _RANGED:
            if not self._psi:
                return f"{layout.name}: page-selective needs CAP.PSI (INTEL-QI-6)"
            if high & 0x3F > self._mamv:
                return f"{layout.name}: AM must be at most CAP.MAMV {self._mamv}, not {high & 0x3F} (INTEL-QI-6)"
        if kind in _DEVICE_TLBS and device_range(high, _DEVICE_TLBS[kind]) is None:
            return f"{layout.name}: S is set and the address has no 0 bit that tells a size (INTEL-QI-8)"
        return ""


def _covers(kind: int, words: Words) -> tuple[int, int] | None:
    """The range of a ranged descriptor."""
    low, high = words[:2]
    if kind in _RANGED and low >> 4 & 3 == PAGE:
        return page_range(high)
    return device_range(high, _DEVICE_TLBS[kind]) if kind in _DEVICE_TLBS else None
