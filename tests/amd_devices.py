"""Devices behind an AMD IOMMU: device table entries written by bit positions, and memory to put them in."""

from hitless.errors import BusError
from hitless_amd.features import AmdFeatures
from hitless_amd.structures import AmdStructures
from hitless_amd.v1 import AmdV1

V, TV, GIOV, GV, IR, IW = 1, 2, 1 << 54, 1 << 55, 1 << 61, 1 << 62
BASE, DEVICE = 0x10_0000, 8
DTE_PA = BASE + 32 * DEVICE
ROOT, GUEST_ROOT, GCR3, GCR3_LOW = 0x20_0000, 0x30_0000, 0x7_EDCB_A987_6000, 0x40_0000
DOMAIN = 0x1234
LAST = (1 << 64) - 1


def structures(**features: object) -> AmdStructures:
    """Of a unit with these features, SNP off unless it is asked for."""
    return AmdStructures(AmdV1(), AmdFeatures(**{"snp": False, **features}))


def hand_dte(mode: int = 0, *, root: int = 0, gcr3: int = 0, glx: int = 0, low: int = 0, high: int = 0) -> list[int]:
    """V, TV, IR, IW, Mode and root, DomainID, and the three parts of the GCR3 table's address, by bit positions."""
    word0 = V | TV | IR | IW | mode << 9 | root | glx << 56 | (gcr3 >> 12 & 7) << 58 | low
    word1 = DOMAIN | (gcr3 >> 15 & 0xFFFF) << 16 | (gcr3 >> 31 & 0x1F_FFFF) << 43 | high
    return [word0, word1, 0, 0]


class Memory(dict):
    """Words by address; what nobody wrote is 0, and above 2**52 there is nothing."""

    def load(self, pa: int) -> int:
        if pa >> 52:
            raise BusError(pa)
        return self.get(pa, 0)

    def fill(self, image) -> "Memory":
        """Write what setup asks for."""
        for pa, words in image.writes:
            self.update({pa + 8 * i: word for i, word in enumerate(words)})
        return self


class Tables:
    """Memory for structures: block after block."""

    def __init__(self) -> None:
        self.next = 0x1_0000_0000

    def allocate(self, size_lg2: int = 12) -> int:
        self.next = -(-self.next >> size_lg2) + 1 << size_lg2
        return self.next - (1 << size_lg2)
