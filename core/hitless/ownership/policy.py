"""Policies: what an IOMMU maps, and where leaves have to end, as owners change."""

from collections.abc import Iterable
from enum import Enum

from attrs import frozen

from hitless.guest_memfd.backing import HOST


class Boundary(Enum):
    """Rule B1's setting: where a leaf has to end because owners differ."""

    NONE = "none"
    EVERY_TRANSITION = "every_transition"
    CHECK_UNIT = "check_unit"


@frozen
class Policy:
    """One way to keep an IOMMU in line with the owners of memory.

    Args:
        name: ``match`` (all is mapped, leaves end where owners change), ``wipe`` (only what the
            device may reach is mapped; unmapped before, mapped after the owner change), ``check``
            (all is mapped, the owner check alone decides).
        maps_private: whether guest-owned pages are mapped for a device that may not reach them.
        maps_shared: whether the host's pages are mapped. Tables without them are one half of a guest's address space,
            which only trusted devices use.
        boundary: whether leaves end at owner transitions.
        check_unit_lg2: with Boundary.CHECK_UNIT, the owner check's unit.
        private_below: where one table holds both halves of a guest's address space, the first IOVA of the shared half:
            below it only guest-owned pages are mapped, from it on only the host's. None: an IOVA is for both.
    """

    name: str
    maps_private: bool
    boundary: Boundary = Boundary.NONE
    check_unit_lg2: int = 12
    maps_shared: bool = True
    private_below: int | None = None

    def maps(self, owner: int, iova: int | None = None) -> bool:
        """Whether pages of an owner are mapped, at an IOVA or at any."""
        if iova is not None and self.private_below is not None and (owner == HOST) == (iova < self.private_below):
            return False
        return self.maps_shared if owner == HOST else self.maps_private

    def across(self, areas: Iterable[tuple[int, int, int]]) -> str:
        """Why areas (IOVA, GPA, size) do not fit the two halves: one reaches over their edge; empty: they do."""
        edge = self.private_below
        for iova, _, size in areas:
            if edge is not None and iova < edge < iova + size:
                return f"IOVAs below {edge:#x} are private, all others shared: [{iova:#x}, {iova + size:#x}) is both"
        return ""

    @property
    def wipes(self) -> bool:
        """Whether what is not mapped for an owner is unmapped before a page gets that owner."""
        return not (self.maps_private and self.maps_shared) or self.private_below is not None

    @property
    def check_alone(self) -> bool:
        """Whether the owner check alone carries a conversion in place: everything mapped stays as it is."""
        return self.maps_private and self.boundary is Boundary.NONE and self.private_below is None
