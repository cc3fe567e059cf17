"""The device table entry and the GCR3 entry, bit for bit.

Spec: 48882 sections 2.2.2.1 and 2.2.6.3. Facts: AMD-DTE-*, AMD-GCR-*.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from hitless.bits import Field, Layout, bit, ignored, reserved
from hitless.hardware.structures import TableSource
from hitless.units import WORD_MAX

_GCR3 = "a part of the GCR3 table's address"

DTE = Layout(
    "DTE",
    "48882 2.2.2.1",
    (
        bit("V", 0, "valid; 0: requests pass untranslated"),
        bit("TV", 1, "translation fields valid; 0: requests are held off"),
        reserved(6, 2),
        Field("HAD", 8, 7, values={0: "sets nothing", 1: "sets A", 2: "reserved", 3: "sets A and D"}),
        Field("Mode", 11, 9, "levels of the v1 table", values={0: "no translation", 7: "reserved"}),
        Field("root", 51, 12, "v1 root table", unit=1 << 12),
        bit("PPR", 52, "page requests"),
        bit("GPRP", 53, "guest PPR response with PASID"),
        bit("GIOV", 54, "requests without a PASID use the v2 table of PASID 0"),
        bit("GV", 55, "guest translation valid"),
        Field("GLX", 57, 56, "levels of GCR3 tables, minus 1", values={3: "reserved"}),
        Field("GCR3[14:12]", 60, 58, _GCR3, unit=1 << 12),
        bit("IR", 61, "read allowed"),
        bit("IW", 62, "write allowed"),
        reserved(63, 63),
        Field("DomainID", 79, 64),
        Field("GCR3[30:15]", 95, 80, _GCR3, unit=1 << 15),
        bit("I", 96, "ATS allowed"),
        bit("SE", 97, "fault events only once"),
        bit("SA", 98, "no fault events"),
        Field("IoCtl", 100, 99),
        bit("Cache", 101, "IOTLB cache hint"),
        bit("SD", 102, "snoop disable"),
        bit("EX", 103, "exclusion range"),
        Field("SysMgt", 105, 104),
        bit("SATS", 106, "secure ATS"),
        Field("GCR3[51:31]", 127, 107, _GCR3, unit=1 << 31),
        bit("IV", 128, "interrupt map valid"),
        Field("IntTabLen", 132, 129),
        bit("IG", 133, "ignore unmapped interrupts"),
        Field("interrupt table", 179, 134, unit=1 << 6),
        reserved(181, 180),
        Field("GuestPagingMode", 183, 182, values={0: "4 levels", 1: "5 levels", 2: "reserved", 3: "reserved"}),
        bit("InitPass", 184),
        bit("EIntPass", 185),
        bit("NMIPass", 186),
        bit("HPTMode", 187, "host page table mode hint"),
        Field("IntCtl", 189, 188),
        bit("LINT0Pass", 190),
        bit("LINT1Pass", 191),
        reserved(206, 192),
        bit("vImu", 207, "virtual IOMMU enabled"),
        Field("GuestDeviceID", 223, 208),
        Field("GuestID", 239, 224),
        reserved(244, 240),
        ignored(245, 245),
        bit("AttrV", 246, "SnoopAttr and Mode0FC are valid"),
        bit("Mode0FC", 247, "FC where Mode is 0"),
        Field("SnoopAttr", 255, 248),
    ),
    256,
)
GCR3 = Layout(
    "GCR3 entry",
    "48882 2.2.6.3",
    (
        bit("V", 0, "valid"),
        reserved(11, 1),
        Field("address", 51, 12, "next GCR3 table, or v2 root", unit=1 << 12),
        reserved(63, 52),
    ),
)
ADDRESS = 0xF_FFFF_FFFF_F000


def encode(fields: Mapping[str, int], dte: Sequence[int] = (0, 0, 0, 0)) -> tuple[int, ...]:
    """The words of a DTE with some fields set to new values."""
    whole = Layout.join(dte)
    for name, value in fields.items():
        whole = whole & ~DTE[name].mask | value << DTE[name].lo
    return tuple(whole >> shift & WORD_MAX for shift in range(0, 256, 64))


def gcr3_fields(table: int) -> dict[str, int]:
    """The three parts of a GCR3 table's address (AMD-DTE-10, AMD-DTE-11)."""
    return {"GCR3[14:12]": table >> 12 & 7, "GCR3[30:15]": table >> 15 & 0xFFFF, "GCR3[51:31]": table >> 31}


def gcr3_table(dte: Sequence[int]) -> int:
    """The address whose three parts lie in words 0 and 1 (AMD-DTE-10, AMD-DTE-11)."""
    fields = DTE.decode(dte)
    return fields["GCR3[14:12]"] << 12 | fields["GCR3[30:15]"] << 15 | fields["GCR3[51:31]"] << 31


class Gcr3Tables:
    """GCR3 tables under construction: a root of the highest level, and below it what PASIDs need.

    Args:
        levels: 1 to 3.
        c_bit: mask of the C-bit in pointers from one table to the next, or 0.
        tables: where their pages come from.
    """

    def __init__(self, levels: int, c_bit: int, tables: TableSource) -> None:
        self.levels = levels
        self._pointer = GCR3["V"].mask | c_bit
        self._tables = tables
        self._made: dict[tuple[int, int], int] = {}
        self.writes: list[tuple[int, tuple[int, ...]]] = []
        self.root = self._table(levels - 1, 0)

    @property
    def pages(self) -> list[int]:
        """Addresses of all tables."""
        return [*self._made.values()]

    def set(self, pasid: int, word: int) -> None:
        """Write the entry of a PASID."""
        self.writes.append((self._table(0, pasid >> 9) + 8 * (pasid & 511), (word,)))

    def _table(self, level: int, prefix: int) -> int:
        """The table of a level for PASIDs whose bits above its index are ``prefix``."""
        pa = self._made.get((level, prefix))
        if pa is None:
            pa = self._made[level, prefix] = self._tables.allocate(12)
            if level < self.levels - 1:
                slot = self._table(level + 1, prefix >> 9) + 8 * (prefix & 511)
                self.writes.append((slot, (pa | self._pointer,)))
        return pa


def pasids(dte: tuple[int, ...], load: Callable[[int], int], c_bit: int) -> Iterator[int]:
    """Every PASID that a device has a v2 table for."""
    fields = DTE.decode(dte)
    pending = [(fields["GLX"], 0, gcr3_table(dte))] if fields["GV"] else []
    while pending:
        level, prefix, table = pending.pop()
        for index in range(512):
            word = load((table & ~c_bit) + 8 * index)
            if word & 1 and level:
                pending.append((level - 1, (prefix | index) << 9, word & ADDRESS))
            elif word & 1:
                yield prefix | index
