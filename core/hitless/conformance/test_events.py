"""Fault records: they tell what happened, and any word can be read as one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.conformance.cases import Case
from hitless.conformance.failing import asked, fail, hexed, require
from hitless.conformance.kit import Kit
from hitless.conformance.words import EventWord
from hitless.hardware.facts import FaultRecord
from hitless.refresh.commands import Words
from hitless.units import WORD_MAX

WALK_KINDS = ("not-present", "reserved", "permission")
OTHER_KINDS = ("range", "owner", "blocked", "fetch")
QUICK = settings(deadline=None, derandomize=True, database=None, max_examples=150)


def _record(at: Case, kind: str, device: int, iova: int, *, write: bool = True) -> FaultRecord:
    return FaultRecord(device, iova, write, kind, 0, 5, stage=at.format.stage)


@pytest.mark.iommu("EVT1", each="configuration")
def test_a_record_tells_device_and_address(kit: Kit, at: Case) -> None:
    """Records of a walk's faults differ by device, address and direction, and can be read again."""
    events = at.vendor.events
    for kind in (*WALK_KINDS, *OTHER_KINDS):
        fault = _record(at, kind, 0x108, 0x7654_3000)
        words = asked(f"{at.title}: encode({kind})", lambda: events.encode(fault))
        if words is None:
            require(kind not in WALK_KINDS, f"{at.title}: no record tells of a fault of the kind {kind}")
            continue
        right = len(words) == events.words and all(type(word) is int and 0 <= word <= WORD_MAX for word in words)
        require(right, f"{at.title}: encode({kind}) gives {hexed(words)}, not {events.words} words of 64 bits")
        told = asked(f"{at.title}: decode({hexed(words)})", lambda: events.decode(words))
        name = told.get("event") if isinstance(told, dict) else None
        require(isinstance(name, str) and name, f"{at.title}: decode({hexed(words)}) names no event: {told!r:.120}")
        if kind in WALK_KINDS:
            _check_told(at, fault, words)


def _check_told(at: Case, fault: FaultRecord, words: Words) -> None:
    """The values of the fault are to be found in the record."""
    events = at.vendor.events
    others = {
        "device": fault._replace(device=fault.device + 1),
        "address": fault._replace(iova=fault.iova + (1 << at.format.leaf_lg2s[0])),
        "direction": fault._replace(write=not fault.write),
    }
    for what, other in others.items():
        same = events.encode(other) == words
        require(not same, f"{at.title}: the record of a {fault.kind} fault does not tell the {what}: {hexed(words)}")
    values = [value for value in events.decode(words).values() if isinstance(value, int)]
    require(fault.device in values, f"{at.title}: decode({hexed(words)}) does not tell device {fault.device:#x}")


@pytest.mark.iommu("EVT2", each="configuration")
def test_no_word_makes_the_decoder_fail(kit: Kit, at: Case) -> None:
    """Whatever an event queue holds, the decoder names an event."""
    events = at.vendor.events

    @QUICK
    @given(st.lists(st.integers(0, WORD_MAX), min_size=events.words, max_size=events.words).map(tuple))
    def decode(garbage: Words) -> None:
        told = asked(f"{at.title}: decode({hexed(garbage)})", lambda: events.decode(garbage))
        require(isinstance(told, dict) and "event" in told, f"{at.title}: decode({hexed(garbage)}) gives {told!r:.80}")

    decode()


@pytest.mark.iommu("EVT3", each="event word")
def test_spec_words_of_events(kit: Kit, at: Case) -> None:
    """A fault is recorded in the words that the specification gives."""
    word: EventWord = at.value
    try:
        fault = FaultRecord(**word.fault)
    except TypeError as error:
        fail(f"{at.title}: the example of {word.event} is no fault record: {error}")
    made = asked(f"{at.title}: encode({word.fault})", lambda: at.vendor.events.encode(fault))
    require(
        made == word.words,
        f"{at.title}: {word.event} must be {hexed(word.words)}, not {hexed(made)} ({word.source})",
    )
    told = at.vendor.events.decode(word.words).get("event")
    require(told == word.event, f"{at.title}: {hexed(word.words)} is {word.event}, decode() names it {told}")
