"""A unit that starts from structures in memory: cached, dropped by their own commands only, refused when malformed.

The toy's device has two words (``tag << 52 | root | stop 8 | ATS 4 | nested 2 | valid 1``, then its guest's space);
its command FORGET is ``3 << 60 | device``.
"""

import pytest

from hitless.errors import HitlessError, Raced
from hitless.guest_memfd.guest import HOST
from hitless.hardware.facts import DropsStructure
from hitless.hardware.live import joined_rounds
from hitless.hardware.structures import StructureEntry
from hitless.hardware.translator import Translated
from hitless.iommufd import Domain
from stand import PAGE, M, Stand

FORGET_8, FORGET_9 = (3 << 60 | 8, 0), (3 << 60 | 9, 0)


@pytest.fixture
def stand(toys):
    """A guest of 16 MiB, shared, behind one unit."""
    found = Stand("toy-nested", "separate", memory=16 * M, hunk_lg2=22, registry=toys)
    found.share(0, 16 * M)
    found.domain.units[0].requests.drop_structures(DropsStructure("x"))
    found.domain.units[0].drain_events()
    return found


def device_pa(unit, device=8):
    """Where a device's words lie, by the register."""
    return (unit.requests.base & ~0xFFF) + 16 * device


def asks(unit, attachment, iova=0x1000, times=200):
    """The set of answers to many requests."""
    found = (unit.translate(attachment, iova, False) for _ in range(times))
    return {answer.pa if isinstance(answer, Translated) else answer for answer in found}


def test_a_request_starts_from_the_device_table(stand):
    """The register leads to the device's words, and these to the root that the domain made."""
    unit, root = stand.domain.units[0], stand.domain.planner.root_pa
    assert unit.requests.base & 0xFFF == 8
    assert stand.machine.arena.load(device_pa(unit)) == 1 << 52 | root | 1
    assert asks(unit, stand.domain.attachments[0]) == {stand.guest.pa(0x1000)}


def test_a_cached_structure_outlives_the_one_in_memory_until_its_command(stand):
    """Another root is stored: the old one is still met, among newer ones, until FORGET and a wait; then never."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    old = stand.guest.pa(0x1000)
    assert asks(unit, attachment) == {old}
    root = stand.machine.tables.allocate(13)
    stand.machine.arena.store(root, 0x77_0040_0000 | 0b1111)
    stand.machine.arena.store(device_pa(unit), 2 << 52 | root | 1)
    new = 0x77_0040_1000
    stale = asks(unit, attachment)
    assert old in stale and stale <= {old, new}
    for words in stand.domain.vendor.commands.invalidate_tag(1):
        unit.submit(words)
    unit.complete()
    assert old in asks(unit, attachment), "a command for pages drops no structure"
    unit.submit(FORGET_9)
    unit.complete()
    assert old in asks(unit, attachment), "nor does one for another device"
    unit.submit(FORGET_8)
    unit.complete()
    assert asks(unit, attachment) == {new}


@pytest.mark.parametrize("word", [0, 1 << 52 | 0x100_0000_0000 | 0x21])
def test_a_malformed_structure_is_an_event(stand, word):
    """Not valid, or reserved bit 5 set: refused, and the record in memory names device and event, field by field."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    stand.machine.arena.store(device_pa(unit), word)
    assert unit.translate(attachment, 0x3000, True) == "device"
    (words,) = unit.drain_events()
    assert words == (8 | 1 << 16 | 9 << 32, 0x3000)
    assert stand.domain.vendor.events.decode(words) == {"event": "device", "device": 8, "address": 0x3000}


def test_a_refused_structure_is_not_cached_unless_declared(toys, stand):
    """By default the mended structure is used at once; where bad ones may be cached, only after the command."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    for cached in (False, True):
        object.__setattr__(unit.requests.facts, "caches_bad_structures", cached)
        pa = device_pa(unit)
        good = stand.machine.arena.load(pa)
        unit.requests.drop_structures(DropsStructure("x"))
        stand.machine.arena.store(pa, 0)
        assert asks(unit, attachment) == {"device"}
        stand.machine.arena.store(pa, good)
        assert ("device" in asks(unit, attachment)) is cached
    unit.submit(FORGET_8)
    unit.complete()
    assert asks(unit, attachment) == {stand.guest.pa(0x1000)}


def test_a_register_that_leads_nowhere_is_a_refused_fetch(stand):
    """There is no memory behind the register: the unit reports it, and goes on."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    unit.requests.set_base(0x8_0000_0008)
    assert unit.translate(attachment, 0x1000, False) == "fetch"
    assert [stand.domain.vendor.events.decode(words)["event"] for words in unit.drain_events()] == ["fetch"]


def test_an_unknown_opcode_stops_the_queue_with_an_event(stand):
    """The record tells where the command lies; whoever waits learns which one it was; nothing after it is done."""
    unit = stand.domain.units[0]
    unit.submit((7 << 60, 0))
    slot = unit.queue_pa + 16 * (unit.tail - 1)
    with pytest.raises(HitlessError, match="W1") as caught:
        unit.complete()
    assert "0x7000000000000000" in str(caught.value)
    assert (11 << 32, slot) in unit.drain_events()
    head = unit.head
    unit.process()
    assert unit.head == head and unit.stopped


def test_a_fence_writes_the_blocking_structure(stand):
    """Stop is set, the command follows, nobody waits; once the unit lives again it has forgotten the old one."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    asks(unit, attachment)
    unit.hung = True
    assert unit.block() == (8,)
    assert stand.machine.arena.load(device_pa(unit)) == 1 << 52 | 8 | 1
    assert asks(unit, attachment) == {"blocked"}
    attachment.blocked = False
    assert stand.guest.pa(0x1000) in asks(unit, attachment), "a hung unit goes on with what it holds"
    unit.hung = False
    unit.fenced = False
    unit.complete()
    assert asks(unit, attachment) == {"blocked"}


def test_a_live_structure_changes_in_rounds(stand):
    """The steps bring a device to pass through, with its commands; a foreign word in the way is Raced."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    asks(unit, attachment)

    def change(load=None):
        rounds = unit.plan_change(StructureEntry(8, None, None, None, 1), "replace", load)
        stand.domain.executor.run(joined_rounds([rounds]))

    change()
    assert asks(unit, attachment) == {0x1000}
    with pytest.raises(Raced, match="holds"):
        change(lambda pa: 0)


def test_a_second_domain_joins_a_unit(stand):
    """New structures for all devices: the first one is translated as before, the second by its own tables."""
    unit, first = stand.domain.units[0], stand.domain.attachments[0]
    used = stand.machine.structures.used_bytes
    second = Domain.open(
        "second", stand.domain.vendor, stand.guest, stand.machine.arena, stand.machine.tables, [(unit, 2, [(9, False)])]
    )
    stand.guest.notifiers.append(second)
    assert asks(unit, first) == asks(unit, second.attachments[0]) == {stand.guest.pa(0x1000)}
    assert stand.machine.arena.load(device_pa(unit, 9)) == 2 << 52 | second.planner.root_pa | 1
    stand.hide(0x1000)
    assert asks(unit, first) == asks(unit, second.attachments[0]) == {"owner"}
    assert stand.violations() == {}
    assert stand.machine.structures.used_bytes == used, "the first structures were given back"


def test_a_device_translates_ahead_only_if_its_structure_lets_it(toys):
    """ATS is a bit of the device's words: cleared, the device's own cache is not used any more."""
    stand = Stand("toy-nested", "separate", memory=16 * M, hunk_lg2=22, registry=toys, ats=True)
    stand.share(0, 16 * M)
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    asks(unit, attachment)
    assert attachment.atc.size
    pa = device_pa(unit)
    word = stand.machine.arena.load(pa)
    assert word & 4
    stand.machine.arena.store(pa, word & ~4)
    unit.submit(FORGET_8)
    unit.complete()
    attachment.atc.leaves.clear()
    asks(unit, attachment)
    assert not attachment.atc.leaves


@pytest.mark.parametrize(
    ("drops", "left"),
    [
        (DropsStructure("x"), set()),
        (DropsStructure("x", structures=frozenset({"space"})), {("device", 8), ("device", 9)}),
        (DropsStructure("x", device=8), {("device", 9), ("space", 9)}),
        (DropsStructure("x", device=8, device_mask=-2), set()),
        (DropsStructure("x", device=10, device_mask=-2), {("device", 8), ("space", 8), ("device", 9), ("space", 9)}),
        (DropsStructure("x", tag=0x5_0001), {("device", 8), ("device", 9)}),
        (DropsStructure("x", tag=0x6_0001), {("device", 8), ("device", 9), ("space", 8), ("space", 9)}),
        (DropsStructure("x", tag=0x6_0001, tag_mask=0xFFFF), {("device", 8), ("device", 9)}),
        (DropsStructure("x", pasid=3), {("device", 8), ("device", 9), ("space", 8), ("space", 9)}),
    ],
)
def test_what_a_command_drops_of_the_structures(toys, drops, left):
    """By name, device, device mask, PASID, and tag: a tag is only the last structure's."""
    stand = Stand("toy-nested", memory=16 * M, hunk_lg2=22, registry=toys, stage1="toy/upper", devices=2)
    unit = stand.domain.units[0]
    for attachment in stand.domain.attachments:
        asks(unit, attachment, 15 * M, times=1)
    assert {key[:2] for key in unit.requests.cached_structures} == {
        *(("device", 8), ("space", 8), ("device", 9), ("space", 9))
    }
    unit.requests.drop_structures(drops)
    assert {key[:2] for key in unit.requests.cached_structures} == left


def test_conversions_run_as_without_structures(toys):
    """Devices with and without ATS behind two units, pages there and back: no rule breaks."""
    stand = Stand("toy-nested", "separate", memory=64 * M, hunk_lg2=22, registry=toys, units=2, ats=True)
    stand.share(4 * M, 8 * M)
    stand.hide(4 * M + PAGE)
    stand.share(4 * M + PAGE)
    stand.warm()
    assert stand.violations() == {}
    assert stand.guest.owner(4 * M + PAGE) == HOST and stand.seen.neighbour > 500
