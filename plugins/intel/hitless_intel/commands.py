"""VT-d queued invalidation: what to write for a target, and what a unit does for it.

Spec: VT-d 5.10, sections 6.5.2 and 6.5.4, tables 22 to 24 and 28. Facts: INTEL-QI-*, INTEL-INV-*, INTEL-WAIT-*.
"""

from collections.abc import Iterator, Sequence

from hitless.bits import lowest_zero
from hitless.hardware.facts import Completes, Drops, Effect, Illegal, Match, NoEffect
from hitless.refresh.commands import Target, Words, aligned_blocks
from hitless.units import WORD_MAX
from hitless_intel.descriptors import DEVICE_TLB, DOMAIN, GLOBAL, IOTLB, LAYOUTS, PAGE, WAIT, descriptor_type
from hitless_intel.features import IntelFeatures

_DW, _DR = 1 << 6, 1 << 7
_IH = 1 << 6  # in the high word
_SW, _FN = 1 << 5, 1 << 6
_S = 1


def size_code(start: int, size_lg2: int) -> int:
    """High word of a device TLB descriptor: the lowest 0 bit from bit 12 up tells the size (INTEL-QI-8)."""
    return start if size_lg2 == 12 else start | ((1 << size_lg2 - 1) - 1) & ~0xFFF | _S


def page_range(high: int) -> tuple[int, int]:
    """First and last address of AM and address of an IOTLB descriptor; AM masks the low bits (INTEL-QI-6)."""
    size_lg2 = 12 + (high & 0x3F)
    start = high >> size_lg2 << size_lg2
    return start, min(start + (1 << size_lg2) - 1, WORD_MAX)


def device_range(high: int) -> tuple[int, int] | None:
    """First and last address of a device TLB descriptor; None if no 0 bit tells a size (INTEL-QI-8)."""
    if not high & _S:
        return high & ~0xFFF, high | 0xFFF
    lowest = lowest_zero(high, 12)
    if lowest == 64:
        return None
    start = high >> lowest + 1 << lowest + 1
    return start, start + (1 << lowest + 1) - 1


class IntelCommands:
    """Encoder and decoder of the invalidation queue.

    A unit without ``drain`` below version 2 cannot be asked to end requests in flight: its wait
    then declares that it drains nothing (INTEL-WAIT-3, INTEL-WAIT-4).
    """

    words = 2
    atc_after_wait = False  # IOTLB, device TLB, one wait (INTEL-QI-9)

    def __init__(self, features: IntelFeatures) -> None:
        self._mamv = features.mamv
        self._asks = features.drain
        self._always = features.version >= 2
        self._drain = _DW | _DR if features.drain else 0

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        """Page-selective blocks that make up the target exactly, none above MAMV; IH = 0 only for pointers."""
        low = tag << 16 | self._drain | PAGE << 4 | IOTLB
        hint = 0 if target.tables else _IH
        return [
            (low, start | hint | lg2 - 12) for start, lg2 in aligned_blocks(target.first, target.last, 12 + self._mamv)
        ]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        """Domain-selective: leaves and walk caches of the DID (INTEL-INV-5)."""
        return [(tag << 16 | self._drain | DOMAIN << 4 | IOTLB, 0)]

    def invalidate_device(self, target: Target, device: int) -> Sequence[Words]:
        low = device << 32 | DEVICE_TLB
        return [(low, size_code(start, lg2)) for start, lg2 in aligned_blocks(target.first, target.last, 64)]

    def wait(self, store_pa: int, value: int) -> Words:
        """A wait that stores 32 bits.

        FN keeps a later wait from overtaking: a wait alone answers only for what stands between it
        and the wait before (INTEL-WAIT-1), and all waits share one growing completion word.

        Raises:
            ValueError: the value is wider than the status data.
        """
        if value >> 32:
            raise ValueError(f"intel: the status data of a wait has 32 bits, {value:#x} does not fit (INTEL-WAIT-2)")
        return (value << 32 | _FN | _SW | WAIT, store_pa)

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the unit does; it stops its queue at a bad descriptor (INTEL-QI-10)."""
        low, high = words
        kind = descriptor_type(low)
        layout = LAYOUTS.get(kind)
        if layout is None:
            return [Illegal("INTEL-QI-10", f"descriptor type {kind:#x} is not modelled")]
        if fault := next(self._faults(kind, words), None):
            return [Illegal("INTEL-QI-10", fault)]
        if kind == IOTLB:
            return [self._iotlb(low, high)]
        if kind == DEVICE_TLB:
            return [_device_tlb(low, high)]
        if kind == WAIT and low & _SW:
            drains = self._asks or self._always
            return [Completes("INTEL-WAIT-1, INTEL-WAIT-2, INTEL-WAIT-3", high, low >> 32, 32, drains, drains)]
        return [NoEffect("INTEL-QI-1")]  # structures and PASIDs: no second-stage translation is filed under them

    def describe(self, words: Words) -> str:
        """The descriptor's name and every field that is not 0."""
        layout = LAYOUTS.get(descriptor_type(words[0]))
        if layout is None:
            return f"unknown descriptor type {descriptor_type(words[0]):#x}"
        named = []
        for name, value in layout.decode(words).items():
            if value and not name.startswith("type"):
                meaning = layout[name].values.get(value)
                named.append(f"{name}={value:#x}" + (f" ({meaning})" if meaning else ""))
        covers = _covers(words)
        if covers:
            named.append(f"covers [{covers[0]:#x}, {covers[1]:#x}]")
        return " ".join([layout.name, *named])

    def _faults(self, kind: int, words: Words) -> Iterator[str]:
        """What makes a descriptor illegal: reserved bits, granularity, AM, a device range without a size."""
        low, high = words
        layout = LAYOUTS[kind]
        yield from layout.faults(words)
        granularity = low >> 4 & 3
        legal = next((field.values for field in layout.fields if field.name == "G"), None)
        if legal and granularity not in legal:
            yield f"{layout.name}: G must be one of {sorted(legal)}, not {granularity}"
        if kind == IOTLB and granularity == PAGE and high & 0x3F > self._mamv:
            yield f"{layout.name}: AM must be at most CAP.MAMV {self._mamv}, not {high & 0x3F} (INTEL-QI-6)"
        if kind == DEVICE_TLB and device_range(high) is None:
            yield f"{layout.name}: S is set and the address has no 0 bit that tells a size (INTEL-QI-8)"

    def _iotlb(self, low: int, high: int) -> Drops:
        """Leaves that overlap, whatever their size; pointers only without the hint, or beyond pages."""
        granularity = low >> 4 & 3
        pages = granularity == PAGE
        first, last = page_range(high) if pages else (0, WORD_MAX)
        return Drops(
            "INTEL-INV-1, INTEL-INV-2, INTEL-INV-3, INTEL-WAIT-3" if pages else "INTEL-INV-5, INTEL-WAIT-3",
            tables=not pages or not high & _IH,
            tag=None if granularity == GLOBAL else low >> 16 & 0xFFFF,
            first=first,
            last=last,
            leaf_match=Match.PIECE_OVERLAPS,
            table_match=Match.PIECE_OVERLAPS,
            drains_reads=self._always or (self._asks and bool(low & _DR)),
            drains_writes=self._always or (self._asks and bool(low & _DW)),
        )


def _device_tlb(low: int, high: int) -> Drops:
    """The device answers after its own outstanding uses are done (INTEL-WAIT-6)."""
    first, last = device_range(high) or (0, WORD_MAX)
    return Drops(
        "INTEL-QI-4, INTEL-QI-8, INTEL-WAIT-6",
        first=first,
        last=last,
        device=low >> 32 & 0xFFFF,
        drains_reads=True,
        drains_writes=True,
    )


def _covers(words: Words) -> tuple[int, int] | None:
    """The range of a ranged descriptor."""
    low, high = words
    kind = descriptor_type(low)
    if kind == IOTLB and low >> 4 & 3 == PAGE:
        return page_range(high)
    return device_range(high) if kind == DEVICE_TLB else None
