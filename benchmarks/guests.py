"""What counts and checks run on: a guest that is shared, mapped by one domain of a vendor."""

from hitless.config import open_registry
from hitless.guest_memfd.backing import HOST, make_backing
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.iommufd import Domain
from hitless.machine import Machine

GIB = 1 << 30


def open_domain(name, gigabytes, hunk_lg2=30):
    """A guest with memory of its own for shared pages, all of it shared, so that there is something to cut."""
    vendor = open_registry(None, [name]).resolve(name)
    size = gigabytes * GIB
    guest = GuestMemfd(Slots([Slot(0, 0, size)]), make_backing("separate", 1 << 41, size, 30), hunk_lg2)
    guest.set_owner(0, size, HOST)
    machine = Machine(0, table_bytes=1 << 30)
    unit = machine.add_unit("iommu0", vendor)
    domain = Domain.open(name, vendor, guest, machine.arena, machine.tables, [(unit, 1, [(8, False)])])
    guest.notifiers.append(domain)
    return guest
