"""Policies: what an IOMMU maps, and where leaves have to end, as owners change."""

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
    """

    name: str
    maps_private: bool
    boundary: Boundary = Boundary.NONE
    check_unit_lg2: int = 12
    maps_shared: bool = True

    def maps(self, owner: int) -> bool:
        """Whether pages of an owner are mapped."""
        return self.maps_shared if owner == HOST else self.maps_private

    @property
    def wipes(self) -> bool:
        """Whether what is not mapped for an owner is unmapped before a page gets that owner."""
        return not (self.maps_private and self.maps_shared)

    @property
    def check_alone(self) -> bool:
        """Whether the owner check alone carries a conversion in place: everything mapped stays as it is."""
        return self.maps_private and self.boundary is Boundary.NONE
