"""What QEMU's trace says: the translations that were made, and have not been invalidated since.

QEMU's own walker made them: an oracle that shares nothing with hitless.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_PAGE = 4096


class Live(NamedTuple):
    """One translation: requester, page of the IOVA, page of the output."""

    device: int
    iova: int
    pa: int


_BDF = r"([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f]{1,2})"
_VTD = re.compile(rf"vtd_dmar_translate dev {_BDF} iova 0x([0-9a-f]+) -> gpa 0x([0-9a-f]+) mask 0x([0-9a-f]+)")
_VTD_PAGES = re.compile(r"vtd_inv_desc_iotlb_pages .* addr 0x([0-9a-f]+) mask 0x([0-9a-f]+)")
_VTD_DESC = re.compile(r"vtd_inv_desc invalidate desc type (\S+) high 0x([0-9a-f]+) low 0x([0-9a-f]+)")
_AMD = re.compile(rf"amdvi_(translation_result|iotlb_hit).*devid:? {_BDF} gpa 0x([0-9a-f]+) hpa 0x([0-9a-f]+)")
_VFIO = re.compile(r"vfio: 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+) (?:RW|R-|-W)")
_SMMU = re.compile(r"smmuv3_translate_success .*sid=0x([0-9a-f]+) iova=0x([0-9a-f]+) translated=0x([0-9a-f]+)")
_SMMU_RANGE = re.compile(
    r"smmuv3_range_inval vmid=(-?\d+) asid=(-?\d+) addr=0x([0-9a-f]+) tg=(\d+) num_pages=0x([0-9a-f]+)"
)


def live(trace: Path, commands: Sequence[tuple[int, int]] = ()) -> set[Live]:
    """The translations that no later command may have removed, whatever domain the command names.

    ``commands``: the last ones of AMD's ring. The trace tells that pages were invalidated, they tell which.
    """
    found: dict[tuple[int, int], Live] = {}
    by_page: dict[int, set[int]] = {}
    known = [_amd_pages(*each) for each in commands if each[0] >> 60 == 3]
    with trace.open(errors="replace") as lines:
        unknown = sum("amdvi_pages_inval" in line for line in lines) - len(known)
        lines.seek(0)
        for line in lines:
            gone = _gone(line)
            if "amdvi_pages_inval" in line:
                unknown -= 1
                gone = known.pop(0) if unknown < 0 else gone
            if gone is not None:
                _forget(found, by_page, *gone)
                continue
            for each in _translated(line):
                found[each.device, each.iova] = each
                by_page.setdefault(each.iova, set()).add(each.device)
    return set(found.values())


def mapped(console: Path, device: int = 0x30) -> set[Live]:
    """What ``mapper.c`` mapped for its device, by its own pagemap: first, middle and last page of each piece."""
    found = set()
    for match in _VFIO.finditer(console.read_text(errors="replace")):
        iova, pa, size = (int(each, 16) for each in match.groups())
        found |= {Live(device, iova + at, pa + at) for at in (0, size // 2 & -_PAGE, size - _PAGE)}
    return found


def _forget(found: dict, by_page: dict[int, set[int]], start: int, size: int) -> None:
    pages = range(start, start + size, _PAGE)
    known = [page for page in pages if page in by_page] if len(pages) < len(by_page) else list(by_page)
    for page in known:
        if start <= page < start + size:
            for device in by_page.pop(page):
                del found[device, page]


def _amd_pages(_: int, operand: int) -> tuple[int, int]:
    """What INVALIDATE_IOMMU_PAGES removes: a page, or with S what the lowest 0 of the address codes."""
    address, size = operand & -_PAGE, _PAGE
    if operand & 1:
        while address & size:
            size <<= 1
        size <<= 1
    return address & -size, size


def _device(bus: str, slot: str, function: str) -> int:
    return int(bus, 16) << 8 | int(slot, 16) << 3 | int(function, 16)


def _translated(line: str) -> Iterator[Live]:
    """Pages that a line says are translated. QEMU's AMD model prints the leaf's base: only 4K leaves are certain."""
    if match := _VTD.search(line):
        iova, pa, mask = (int(each, 16) for each in match.groups()[3:])
        yield Live(_device(*match.groups()[:3]), iova & -_PAGE, (pa & ~mask | iova & mask) & -_PAGE)
    elif match := _AMD.search(line):
        iova, pa = (int(each, 16) & -_PAGE for each in match.groups()[4:])
        yield Live(_device(*match.groups()[1:4]), iova, pa)
    elif match := _SMMU.search(line):
        device, iova, pa = (int(each, 16) for each in match.groups())
        yield Live(device, iova & -_PAGE, pa & -_PAGE)


def _gone(line: str) -> tuple[int, int] | None:
    """The IOVAs that a command may have removed: (start, size); None: the line is no command."""
    everything = (0, 1 << 64)
    if "inval" not in line and "tlbi" not in line and "cfgi" not in line and "inv_desc" not in line:
        return None
    if match := _VTD_PAGES.search(line):
        address, mask = (int(each, 16) for each in match.groups())
        size = _PAGE << mask
        return address & -size, size
    if match := _VTD_DESC.search(line):
        kind, high, low = match.group(1), int(match.group(2), 16), int(match.group(3), 16)
        if kind != "p-iotlb":
            return None
        if low >> 4 & 3 != 3:
            return everything
        size = _PAGE << (high & 63)
        return high & -size, size
    if match := _SMMU_RANGE.search(line):
        address, granule, pages = int(match.group(3), 16), int(match.group(4)), int(match.group(5), 16)
        return address, pages << {1: 12, 2: 14, 3: 16}[granule]
    if "vtd_inv_desc_iotlb_global" in line or "vtd_inv_desc_iotlb_domain" in line or "vtd_inv_desc_cc" in line:
        return everything
    if re.search(r"amdvi_(pages_inval|all_inval|devtab_inval)|smmuv3_cmdq_(tlbi_nh |tlbi_nh_asid|tlbi_nsnh)", line):
        return everything
    return None
