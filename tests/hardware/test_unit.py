"""A unit on its own: what a wait drains, how a full queue and an illegal command behave, what it reports."""

import pytest

from hitless.errors import HitlessError
from hitless.hardware.unit import Request, Translated
from stand import PAGE, M, Stand


def in_flight(stand, write, seen):
    """A request that was translated and has not completed."""
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    found = unit.translate(attachment, 0x40000000, write)
    assert isinstance(found, Translated)
    request = Request(attachment, 0x40000000, write, found, seen.append)
    unit.in_flight.append(request)
    return unit


def test_a_wait_ends_requests_in_flight():
    """AMD: when COMPLETION_WAIT has completed, what was in flight has ended (AMD-WAIT-2)."""
    stand, seen = Stand("amd"), []
    stand.share(0x40000000, 2 * M)
    unit = in_flight(stand, write=True, seen=seen)
    unit.complete()
    assert len(seen) == 1
    assert unit.in_flight == []


@pytest.mark.parametrize(("drain", "ended"), [(True, 1), (False, 0)])
def test_an_intel_wait_drains_only_what_was_asked(drain, ended):
    """Without DW and DR in the descriptor, and before version 2, the request goes on (INTEL-WAIT-3, INTEL-WAIT-4)."""
    stand, seen = Stand("intel", features={"drain": drain, "version": 1}), []
    stand.share(0x40000000, 2 * M)
    unit = in_flight(stand, write=True, seen=seen)
    for words in stand.domain.vendor.commands.invalidate_tag(1):
        unit.submit(words)
    unit.complete()
    assert len(seen) == ended


def test_a_full_queue_is_normal():
    """More commands than the queue holds: submit waits for room, nothing is lost."""
    stand = Stand("amd")
    unit = stand.domain.units[0]
    for _ in range(3 * unit.facts.queue_entries):
        unit.submit((0x3000000100000000, 0x1000))
    unit.complete()
    assert unit.head == unit.tail == 3 * unit.facts.queue_entries + 1


def test_an_illegal_command_stops_the_queue_and_says_why():
    """A reserved bit set: rule W1, with the words."""
    stand = Stand("amd")
    unit = stand.domain.units[0]
    unit.submit((0x3000000100000000 | 1 << 20, 0x1000))
    with pytest.raises(HitlessError, match="W1") as caught:
        unit.complete()
    assert "0x3000000100100000" in str(caught.value)
    assert unit.stopped


def test_a_fault_is_an_event_in_memory():
    """A request beyond what is mapped: the record lies in the event queue, and the vendor's decoder reads it."""
    stand = Stand("intel")
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    assert unit.translate(attachment, 0x40000000 + PAGE, True) == "not-present"
    (words,) = unit.drain_events()
    assert words == (0x40001000, 0x8000000500000008)
    assert stand.domain.vendor.events.decode(words)["SID"] == 8
    assert unit.drain_events() == []
