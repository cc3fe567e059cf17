"""The notifier protocol: order, failure, cancellation, half-done owner changes, fencing, threads."""

import threading

import pytest

from hitless.errors import BadInput, OutOfTableMemory, OwnerChangeRefused, Pinned
from hitless.guest_memfd.backing import GUEST, HOST, make_backing
from hitless.guest_memfd.cpu import CpuMapping
from hitless.guest_memfd.guest import GuestMemfd
from hitless.guest_memfd.slots import Slot, Slots
from hitless.iommufd import Domain
from hitless.machine import Machine
from hitless.pagetable import translate
from stand import PAGE, G, M, Stand, registry


class Recorder(CpuMapping):
    """A notifier that writes down who was called; it may refuse to prepare."""

    def __init__(self, name, calls, refuse=False):
        super().__init__(name)
        self.calls, self.refuse = calls, refuse

    def prepare(self, conversion):
        self.calls.append((self.name, "prepare"))
        if self.refuse:
            raise Pinned(conversion.ranges[0][0], self.name)
        return super().prepare(conversion)


for call in ("isolate", "own", "refresh", "cancel"):

    def recorded(self, conversion, call=call):
        """Write the call down, then do it."""
        self.calls.append((self.name, call))
        getattr(CpuMapping, call)(self, conversion)

    setattr(Recorder, call, recorded)


def guest_of(notifiers):
    """A guest of 1 GiB with these notifiers."""
    guest = GuestMemfd(Slots([Slot(0, 0, G)]), make_backing("separate", 1 << 41, G, 30), 30)
    guest.notifiers += notifiers
    return guest


def test_every_call_reaches_all_notifiers_before_the_next_call():
    """First all prepare, then all isolate; the owner changes; then all own, then all refresh."""
    calls = []
    guest = guest_of([Recorder("a", calls), Recorder("b", calls)])
    guest.authority = lambda conversion: calls.append(("host", "owner"))
    guest.convert([(0, PAGE)], HOST)
    order = [(who, what) for what in ("prepare", "isolate") for who in "ab"]
    order += [("host", "owner"), *((who, what) for what in ("own", "refresh") for who in "ab")]
    assert calls == order


def test_a_failed_prepare_cancels_the_prepared_ones_last_first():
    """The third refuses: the second, then the first, are cancelled; nobody isolates; owners stay."""
    calls = []
    guest = guest_of([Recorder("a", calls), Recorder("b", calls), Recorder("c", calls, refuse=True)])
    with pytest.raises(Pinned) as caught:
        guest.convert([(0x5000, 0x6000)], HOST)
    assert caught.value.offset == 0x5000
    assert calls[3:] == [("b", "cancel"), ("a", "cancel")]
    assert guest.owner(0x5000) == GUEST


def test_an_iommu_that_prepared_is_cancelled_byte_for_byte():
    """The CPU's side refuses after a domain has prepared: the domain's tables are as before."""
    stand = Stand("amd", "in-place")
    before = stand.machine.tables.state()
    stand.guest.notifiers.append(Recorder("late", [], refuse=True))
    with pytest.raises(Pinned):
        stand.share(0x40000000)
    assert stand.machine.tables.state() == before
    stand.guest.notifiers.pop()
    stand.share(0x40000000)
    assert stand.violations() == {}


def test_the_cpu_is_zapped_before_the_owner_changes():
    """A vCPU maps again only after refresh; while the page converts its fault waits."""
    cpu = CpuMapping()
    guest = guest_of([cpu])
    seen = []
    guest.authority = lambda conversion: seen.append((cpu.maps(0), cpu.fault(0, PAGE)))
    assert cpu.fault(0, 2 * PAGE)
    guest.convert([(0, PAGE)], HOST)
    assert seen == [(False, False)]
    assert cpu.maps(PAGE) and not cpu.maps(0) and cpu.fault(0, PAGE)


def test_unchanged_pages_are_left_out():
    """Only what changes owner converts; a conversion that changes nothing is None."""
    guest = guest_of([])
    assert guest.convert([(0x2000, 0x4000)], HOST).pages == 2
    assert guest.convert([(0x2000, 0x4000)], HOST) is None
    assert guest.convert([(0x1000, 0x5000)], HOST).ranges == ((0x1000, 0x2000), (0x4000, 0x5000))


def test_separate_backing_gives_a_page_its_old_address_back():
    """The private hunk keeps its slot, and the shared pool is linear."""
    guest = guest_of([])
    private = guest.pa(0x3000)
    guest.convert([(0x3000, 0x4000)], HOST)
    shared = guest.pa(0x3000)
    guest.convert([(0x3000, 0x4000)], GUEST)
    assert (guest.pa(0x3000), guest.pa(0x4000)) == (private, private + PAGE)
    assert shared != private


def test_scattered_backing_gives_every_page_an_address_of_its_own():
    """No two offsets share a page of the shared pool."""
    backing = make_backing("scattered", 1 << 41, 32 * M, 21)
    assert len({backing.pa(offset, HOST) for offset in range(0, 32 * M, PAGE)}) == 32 * M // PAGE


@pytest.mark.parametrize("bad", [(0x1001, 0x2000), (0x2000, 0x2000), (G - PAGE, G + PAGE), (5 * G, 5 * G + PAGE)])
def test_bad_ranges_are_refused(bad):
    """Unaligned, empty, straddling and outside ranges are bad input."""
    with pytest.raises(BadInput):
        guest_of([]).convert([bad], HOST)


def test_a_guest_converts_whole_pages_of_its_own():
    """With pages of 64K nothing smaller converts."""
    guest = guest_of([])
    guest.page_size = 1 << 16
    assert guest.convert([(0x2_0000, 0x4_0000)], HOST) is not None
    with pytest.raises(BadInput, match="whole 64K pages"):
        guest.convert([(0x2_0000, 0x2_1000)], HOST)


@pytest.mark.slow
@pytest.mark.parametrize("vendor", ["amd", "intel", "arm_smmu"])
@pytest.mark.parametrize("backing", ["in-place", "separate"])
@pytest.mark.parametrize("merge", ["never", "at_once"])
@pytest.mark.parametrize("to_owner", [HOST, GUEST])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_an_owner_change_that_stops_half_way(vendor, backing, merge, to_owner, done):
    """Refresh is called all the same: every page is mapped as it is owned now, and nothing stale is seen."""
    stand = Stand(vendor, backing, settings={"merge": merge})
    start = 0x40000000
    if to_owner == GUEST:
        stand.share(start, 4 * PAGE)
    else:
        stand.share(start + 64 * PAGE)

    def refuse(conversion):
        raise OwnerChangeRefused("the RMP is busy", [(start, start + done * PAGE)] if done else [])

    stand.guest.authority = refuse
    with pytest.raises(OwnerChangeRefused):
        stand.guest.convert([(start, start + 4 * PAGE)], to_owner)
    stand.warm()
    for i in range(6):
        gpa = start + i * PAGE
        owner = to_owner if i < done else (HOST if to_owner == GUEST and i < 4 else GUEST)
        assert stand.guest.owner(gpa) == owner
        found = translate(stand.machine.arena, stand.fmt, stand.domain.planner.root_pa, gpa)
        assert found == (stand.guest.pa(gpa) if owner == HOST or stand.domain.policy.maps_private else None)
    assert stand.violations() == {}
    stand.guest.authority = lambda conversion: None
    stand.guest.convert([(start, start + 4 * PAGE)], to_owner)
    assert stand.violations() == {}


@pytest.mark.parametrize("vendor", ["amd", "intel", "arm_smmu"])
def test_a_unit_that_never_answers_is_fenced(vendor, monkeypatch):
    """Rule H1: its devices are blocked, the report names them, the old memory is held; the other unit goes on."""
    monkeypatch.setattr("hitless.hardware.unit._POLLS", 50)
    stand = Stand(vendor, units=2)
    stand.share(0x40000000, 2 * M)
    stand.domain.units[1].hung = True
    conversion = stand.hide(0x40001000)
    assert conversion.fenced == [("iommu1", (9,))]
    assert stand.guest.held == list(conversion.runs)
    assert stand.domain.attachments[1].blocked and not stand.domain.attachments[0].blocked
    stand.hide(0x40005000)
    assert stand.violations() == {}


def test_vendors_share_one_guest():
    """Domains of three vendors are notifiers of one guest_memfd; each maps what its policy says."""
    guest = GuestMemfd(Slots([Slot(0, 0, 2 * G)]), make_backing("separate", 1 << 41, 2 * G, 30), 30)
    machine = Machine(0, table_bytes=1 << 26)
    domains = []
    for name in ("amd", "intel", "arm_smmu"):
        vendor = registry().resolve(name)
        unit = machine.add_unit(name, vendor)
        domain = Domain.open(name, vendor, guest, machine.arena, machine.tables, [(unit, 1, [(8, False)])])
        guest.notifiers.append(domain)
        domains.append(domain)
    guest.convert([(0x40000000, 0x40002000)], HOST)
    for domain in domains:
        fmt, root = domain.vendor.page_format, domain.planner.root_pa
        assert translate(machine.arena, fmt, root, 0x40001000) == guest.pa(0x40001000)
    before = machine.tables.state()
    machine.tables.fail_after(3)
    with pytest.raises(OutOfTableMemory):
        guest.convert([(0x1000, 0x2000)], HOST)
    assert machine.tables.state() == before


def test_conversions_from_several_threads():
    """Threads convert pages of different and of the same spans; the end is as guest_memfd says."""
    stand = Stand("amd", memory=2 * G)
    stand.domain.executor.between = lambda step: None
    stand.guest.watchers.clear()
    for unit in stand.domain.units:
        unit.idle = lambda: None
    errors = []

    def work(number):
        try:
            for i in range(12):
                start = (number % 2) * G + (number * 64 + i) * PAGE
                stand.guest.convert([(start, start + PAGE)], HOST)
                if i % 3 == 0:
                    stand.guest.convert([(start, start + PAGE)], GUEST)
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    for number in range(4):
        for i in range(12):
            gpa = (number % 2) * G + (number * 64 + i) * PAGE
            assert stand.guest.owner(gpa) == (GUEST if i % 3 == 0 else HOST)
            found = translate(stand.machine.arena, stand.fmt, stand.domain.planner.root_pa, gpa)
            assert found == stand.guest.pa(gpa)
