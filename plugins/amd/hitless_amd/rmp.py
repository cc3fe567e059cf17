"""The RMP bit for bit: 16 bytes for each 4 KiB page.

Spec: AMD64 APM volume 2 section 15.36; Linux arch/x86/virt/svm/sev.c for both forms. Facts: AMD-RMP-1, AMD-RMP-2,
AMD-RMP-20, AMD-RMP-22, AMD-RMP-23.
"""

from collections.abc import Callable, Iterator, Mapping

from hitless.bits import Field, Layout, bit, ignored, reserved
from hitless.errors import BadInput
from hitless.ownership import FIRMWARE, GUEST, HOST, OTHER_GUEST, OwnerTable, RawEntry, RawTable
from hitless.units import align_down

_4K, _2M = 12, 21
_PAGES_2M = 1 << _2M - _4K
_ENTRY_BYTES = 16
SCRATCH = 16 << 10
"""What the CPU keeps for itself at the table's begin (AMD-RMP-20)."""

FAMILY_19H = Layout(
    "RMP entry, family 19h",
    "Linux sev.c, not architectural",
    (
        bit("assigned", 0, "0: the hypervisor's"),
        bit("pagesize", 1, "1: decides for 2 MiB"),
        bit("immutable", 2),
        reserved(11, 3),
        Field("gpa", 50, 12, "guest physical address", unit=1 << _4K),
        Field("asid", 60, 51),
        bit("vmsa", 61, "holds a vCPU's state"),
        bit("validated", 62, "the guest has accepted it (PVALIDATE)"),
        bit("63", 63, role="reserved", fixed=0),
        ignored(127, 64, "VMPL permissions and internal state"),
    ),
    128,
)
RMPREAD = Layout(
    "RMPREAD output",
    "Linux sev.c",
    (
        Field("gpa", 63, 0, "guest physical address", unit=1),
        bit("assigned", 64, "0: the hypervisor's"),
        reserved(71, 65),
        bit("pagesize", 72, "1: decides for 2 MiB"),
        bit("hpage_region_status", 73, "some 4 KiB page of these 2 MiB is assigned"),
        reserved(79, 74),
        bit("immutable", 80),
        reserved(95, 81),
        Field("asid", 127, 96),
    ),
    128,
)
FORMS: Mapping[str, Layout] = {"family-19h": FAMILY_19H, "rmpread": RMPREAD}
"""The forms that are known; a dump in another one is no input."""


class RawRmp(RawTable):
    """The RMP in one of its forms.

    A 2M entry decides for all of its 512 pages (AMD-RMP-1): the others' words are not written, and not read. The model
    keeps owners and sizes only, so a guest's page is shown as one that it has validated.

    Args:
        form: a key of FORMS.
        asid: that the guest's pages carry; all others are another guest's.
    """

    def __init__(self, form: str, asid: int = 1) -> None:
        self._layout = FORMS[form]
        self._asid = asid
        self.layouts: Mapping[str, Layout] = {"rmp": self._layout}

    def entries(
        self, table: OwnerTable, base: int, start_pa: int, end_pa: int, *, gpa: Callable[[int], int] = lambda pa: pa
    ) -> Iterator[RawEntry]:
        """``base`` is RMP_BASE: where the table lies, the CPU's part included."""
        for start, end, owner, size_lg2 in table.entries(start_pa, end_pa):
            step = 1 << (_2M if owner != HOST and size_lg2 >= _2M else _4K)
            for pa in range(align_down(start, step.bit_length() - 1), end, step):
                words = self._layout.encode(**self._values(table, pa, owner, step, gpa))
                yield RawEntry(_entry_pa(base, pa), words, "rmp", pa, pa + step)

    def _values(self, table: OwnerTable, pa: int, owner: int, size: int, gpa: Callable[[int], int]) -> dict[str, int]:
        found: dict[str, int] = {}
        if owner == FIRMWARE:
            found = {"assigned": 1, "immutable": 1}
        elif owner != HOST:
            asid = self._asid if owner == GUEST else _other(self._asid)
            address = gpa(pa) >> (_4K if self._layout is FAMILY_19H else 0)
            found = {"assigned": 1, "pagesize": int(size > 1 << _4K), "gpa": address, "asid": asid}
            if self._layout is FAMILY_19H:
                found["validated"] = 1
        if self._layout is RMPREAD:
            block = align_down(pa, _2M)
            found["hpage_region_status"] = int(table.uniform(block, block + (1 << _2M)) != HOST)
        return found

    def read(self, load: Callable[[int], int], base: int, start_pa: int, end_pa: int) -> OwnerTable:
        """Owners and sizes as the entries of a dump say."""
        table, pa = OwnerTable(), align_down(start_pa, _4K)
        while pa < end_pa:
            block = align_down(pa, _2M)
            first = self._decode(load, base, block)
            large = first["assigned"] and first["pagesize"]
            values, size = (first, 1 << _2M) if large else (self._decode(load, base, pa), 1 << _4K)
            end = align_down(pa, size.bit_length() - 1) + size
            owner = self._owner(values, base, pa)
            if owner != HOST:
                table.set(pa, min(end, end_pa), owner, size.bit_length() - 1)
            pa = end
        return table

    def _decode(self, load: Callable[[int], int], base: int, pa: int) -> dict[str, int]:
        at = _entry_pa(base, pa)
        words = load(at), load(at + 8)
        for fault in self._layout.faults(words):
            raise _no_entry(fault, at, pa, words)
        return self._layout.decode(words)

    def _owner(self, values: Mapping[str, int], base: int, pa: int) -> int:
        """The combinations that the specification gives a meaning (AMD-RMP-2)."""
        match values["assigned"], values["asid"], values["immutable"]:
            case 0, 0, 0:
                return HOST
            case 1, 0, 1:
                return FIRMWARE
            case 1, asid, _ if asid:
                return GUEST if asid == self._asid else OTHER_GUEST
        at = _entry_pa(base, pa)
        raise _no_entry("assigned, ASID and immutable do not go together (AMD-RMP-2)", at, pa, tuple(values.values()))


def _entry_pa(base: int, pa: int) -> int:
    return base + SCRATCH + (pa >> _4K) * _ENTRY_BYTES


def _other(asid: int) -> int:
    """An ASID that is not the guest's."""
    return 1 if asid != 1 else 2


def _no_entry(why: str, at: int, pa: int, words: tuple[int, ...]) -> BadInput:
    return BadInput(
        f"no RMP entry for page {pa:#x}",
        where=f"{at:#x}: " + " ".join(f"{word:#x}" for word in words),
        why=why,
        do='check the form of the dump: features.rmp_form is "family-19h" or "rmpread"',
    )


__all__ = ["FAMILY_19H", "FORMS", "RMPREAD", "SCRATCH", "RawRmp"]
