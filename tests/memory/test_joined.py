"""Memory in parts: every access goes to the part that holds it, and what lies in none is a bus error."""

import numpy as np
import pytest

from hitless.errors import BusError
from hitless.memory import Arena, JoinedMemory


@pytest.fixture
def parts():
    """Two pages at 0x10000 and two at 0x90000."""
    with Arena(0x10000, 0x2000) as low, Arena(0x90000, 0x2000) as high:
        yield low, high


def test_each_access_goes_to_its_part(parts):
    """Stores through the whole are seen in the part, and the other way round; nothing else changes."""
    low, high = parts
    memory = JoinedMemory(parts)
    memory.store(0x10008, 5)
    memory.store(0x90008, 6)
    assert (low.load(0x10008), high.load(0x90008)) == (5, 6)
    assert memory.compare_exchange(0x90008, 6, 7) == 6
    assert memory.compare_exchange(0x90008, 6, 8) == 7
    memory.store32(0x9000C, 1)
    assert memory.load(0x90008) == 1 << 32 | 7
    assert memory.view(0x90008, 1).tolist() == [1 << 32 | 7]
    addresses = np.array([0x90008, 0x90010], dtype=np.uint64)
    memory.scatter(addresses, np.array([9, 10], dtype=np.uint64))
    assert memory.gather(addresses).tolist() == [9, 10]
    assert low.load(0x10010) == 0


@pytest.mark.parametrize("pa", [0, 0x12000, 0x8FFF8, 0x92000])
def test_what_lies_in_no_part_is_a_bus_error(parts, pa):
    """Before, between and after the parts; the address is told."""
    memory = JoinedMemory(parts)
    assert not memory.contains(pa, 8)
    for access in (lambda: memory.load(pa), lambda: memory.store(pa, 1), lambda: memory.view(pa, 1)):
        with pytest.raises(BusError, match=f"{pa:#x}"):
            access()


def test_a_range_across_parts_is_in_none(parts):
    """Parts that lie beside each other do not become one range."""
    with Arena(0x12000, 0x1000) as more:
        memory = JoinedMemory([*parts, more])
        assert memory.contains(0x11FF8, 8) and memory.contains(0x12000, 8)
        assert not memory.contains(0x11FF8, 16)
