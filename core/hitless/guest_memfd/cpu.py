"""The CPU's side as a notifier: KVM's page tables, as far as the order across notifiers is concerned."""

import numpy as np
from attrs import define, field

from hitless.columns import Ranges
from hitless.guest_memfd.conversion import Conversion
from hitless.guest_memfd.intervals import IntervalMap
from hitless.plan import Plan
from hitless.units import PAGE_LG2


@define
class CpuPrepared:
    """KVM zaps and refaults: it allocates nothing, and stores to no entry that an IOMMU knows."""

    plan: Plan
    span: tuple[int, int]


@define(eq=False)
class CpuMapping:
    """What the guest's CPUs have mapped: zapped by isolate, faulted in again on access.

    ``fault`` is what a vCPU's access does; a page in conversion cannot be faulted in.
    """

    name: str = "cpu"
    _mapped: IntervalMap = field(factory=lambda: IntervalMap(0, 1 << 52))
    _closed: dict[int, Conversion] = field(factory=dict)

    def fault(self, start: int, end: int) -> bool:
        """Map a range on a vCPU's access; False while it is in conversion."""
        if any(conversion.meets(start, end) for conversion in self._closed.values()):
            return False
        self._mapped.set(start >> PAGE_LG2, end >> PAGE_LG2, 1)
        return True

    def maps(self, gpa: int) -> bool:
        """Whether a vCPU reaches a page without a fault."""
        return bool(self._mapped.get(gpa >> PAGE_LG2))

    def prepare(self, conversion: Conversion) -> CpuPrepared:
        return CpuPrepared(Plan(self.name), (conversion.ranges[0][0], conversion.ranges[-1][1]))

    def isolate(self, conversion: Conversion) -> None:
        """Zap (kvm_unmap_gfn_range): vCPUs fault until the owner has changed."""
        self._closed[conversion.number] = conversion
        ranges = conversion.ranges
        if isinstance(ranges, Ranges):
            pages = ranges.start >> np.uint64(PAGE_LG2), (ranges.last >> np.uint64(PAGE_LG2)) + np.uint64(1)
            self._mapped.set_many(*pages, 0)
            return
        for start, end in ranges:
            self._mapped.set(start >> PAGE_LG2, end >> PAGE_LG2, 0)

    def own(self, conversion: Conversion) -> None:
        """KVM consults guest_memfd itself."""

    def refresh(self, conversion: Conversion) -> None:
        """Faults may map the range again, with what guest_memfd holds now."""
        del self._closed[conversion.number]

    def cancel(self, conversion: Conversion) -> None:
        """Nothing was prepared."""

    def revoke(self, start: int, end: int) -> None:
        self._mapped.set(start >> PAGE_LG2, end >> PAGE_LG2, 0)
