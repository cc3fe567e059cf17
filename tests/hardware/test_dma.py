"""How requests are judged when they complete."""

import random
from types import SimpleNamespace

import pytest

from hitless.guest_memfd.guest import GUEST
from hitless.hardware.dma import DmaEngine
from hitless.ownership import Verdict


def judged(*, cached, verdict):
    """The counters after a neighbour's request completes whose page has become the guest's meanwhile."""
    ownership = SimpleNamespace(cached=cached, verdict=lambda *_: verdict)
    attachment = SimpleNamespace(ownership=ownership, owners=None, trusted=False)
    translated = SimpleNamespace(pa=0x5000, entry=SimpleNamespace(lower=None, leaf_lg2=12))
    guest = SimpleNamespace(owner=lambda gpa: GUEST, pa=lambda gpa: 0x5000)
    engine = DmaEngine(guest, [], 0, random.Random(0))
    engine._judge_neighbour(SimpleNamespace(attachment=attachment, translated=translated, gpa=0x5000, iova=0x5000))
    return engine.counters


@pytest.mark.parametrize(
    ("cached", "verdict", "misrouted"),
    [
        (False, Verdict(False, 12, "owner"), 0),
        (False, Verdict(False, 12, "machine-check"), 1),
        (False, Verdict(True, 12), 1),
        (True, Verdict(False, 12, "owner"), 1),
    ],
)
def test_a_check_of_each_access_is_made_on_arrival(cached, verdict, misrouted):
    """A request that was translated before an owner change is turned away safely by such a check, and by no other."""
    assert judged(cached=cached, verdict=verdict).neighbour_misrouted == misrouted


@pytest.mark.parametrize(
    ("owner", "iova", "misrouted"), [(1, 0x5000, 0), (1, 0x9000, 1), (0, 0x5000, 1), (0, 0x9000, 0)]
)
def test_a_request_in_the_wrong_half_is_misrouted(owner, iova, misrouted):
    """Below the edge a request reaches guest-owned pages alone, from it on the host's alone."""
    guest = SimpleNamespace(owner=lambda _gpa: owner, pa=lambda gpa: gpa)
    entry = SimpleNamespace(lower=None, leaf_lg2=12, attrs=0)
    attachment = SimpleNamespace(ownership=SimpleNamespace(cached=True), owners=None, trusted=True)
    engine = DmaEngine(guest, [], 0, random.Random(0), private_below=0x8000)
    translated = SimpleNamespace(pa=0x5000, entry=entry)
    request = SimpleNamespace(attachment=attachment, translated=translated, gpa=0x5000, iova=iova)
    engine._judge_neighbour(request)
    assert engine.counters.neighbour_misrouted == misrouted
