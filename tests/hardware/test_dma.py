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
    engine._judge_neighbour(SimpleNamespace(attachment=attachment, translated=translated, gpa=0x5000))
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
