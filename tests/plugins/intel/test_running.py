"""VT-d in the running model: structures in memory and in caches, nested domains, a queue that stops."""

from collections.abc import Iterable

import attrs
import pytest

from hitless.errors import HitlessError
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.translator import Translated
from hitless.iommufd import Ioas
from hitless.iommufd.live import move
from hitless.plan import Invalidate, Plan
from stand import PAGE, M, Stand

MEMORY = 64 * M
HERE = 8 * M + 5 * PAGE
FIRST = "intel/first-stage"
IOTLB, DEVICE_TLB, PASID_IOTLB = 2, 3, 6


def nested(**more) -> Stand:
    """A guest of 64 MiB whose first stage maps pieces of 4 MiB that have changed places."""
    slots = Slots([Slot(0, 0, MEMORY)])
    features = {"mode": "scalable", **more.pop("features", {})}
    scrambled = Ioas.scrambled(slots, 4 * M, 1)
    return Stand(
        "intel", "separate", memory=MEMORY, hunk_lg2=22, features=features, stage1=FIRST, ioas=scrambled, **more
    )


def warm(**more) -> Stand:
    """The same with 8 MiB shared; the page at HERE is in the caches."""
    stand = nested(**more)
    stand.share(8 * M, 8 * M)
    stand.engine._near = [(8 * M, 16 * M)]
    stand.warm(40)
    stand.engine._near = [(HERE, HERE + PAGE)]
    stand.warm(10)
    assert stand.violations() == {}
    return stand


def changed(plan: Plan, kind: int, new: Iterable[Invalidate] | None) -> None:
    """Every command of a type is left out, or sent with other words."""
    for section in ("isolate", "refresh"):
        steps = []
        for step in getattr(plan, section):
            if isinstance(step, Invalidate) and step.words[0] & 0xF == kind:
                steps += [] if new is None else [attrs.evolve(step, words=words(step.words)) for words in new]
            else:
                steps.append(step)
        setattr(plan, section, steps)


@pytest.mark.parametrize("ats", [False, True])
@pytest.mark.parametrize("features", [{}, {"caching_mode": True}, {"aw": 57, "ssads": True, "first_stage_levels": 5}])
def test_a_nested_domain_follows_conversions(ats, features):
    """Pages and ranges there and back, two units: every neighbour reaches its own page, none a stale one."""
    stand = nested(ats=ats, features=features, units=2, settings={"merge": "at_once"})
    for start, size in ((8 * M, 8 * M), (24 * M, PAGE), (32 * M, 4 * M)):
        stand.share(start, size)
    for start, size in ((8 * M + PAGE, PAGE), (24 * M, PAGE), (32 * M, 4 * M)):
        stand.hide(start, size)
    stand.share(8 * M + PAGE)
    assert stand.violations() == {}
    assert stand.seen.neighbour > 500


def test_each_stage_is_cached_under_its_own_tag():
    """DID for the second stage, DID and PASID for the first stage and the results of both (INTEL-INV-11)."""
    stand = warm()
    caches = stand.domain.units[0].requests.caches
    assert set(caches) == {("1", 5 << 16 | 1), ("2", 1), ("12", 5 << 16 | 1)}
    structures = stand.domain.units[0].requests.cached_structures
    assert {name for name, _, _ in structures} == {"scalable-root", "scalable-context", "pasid-dir", "pasid"}


@pytest.mark.parametrize(
    ("ats", "kind", "new"),
    [
        (False, IOTLB, None),
        (True, DEVICE_TLB, None),
        (False, IOTLB, [lambda words: (5 << 32 | 1 << 16 | 0x26, 0, 0, 0)]),
        (False, IOTLB, [lambda words: (2 << 16 | 0xF2, *words[1:])]),
    ],
    ids=["no IOTLB command", "no device TLB command", "PASID IOTLB instead", "another DID"],
)
def test_what_is_not_dropped_leads_to_the_old_page(ats, kind, new):
    """A command left out, of the wrong kind, or for another domain: a stale translation is used (F1)."""
    found = {}
    for seed in range(4):
        stand = warm(ats=ats, seed=seed)
        stand.mutate = lambda plan: changed(plan, kind, new)
        stand.hide(HERE)
        found |= stand.violations()
        if found:
            break
    assert found.get("F1") or found.get("C1")


def test_a_first_stage_domain_alone():
    """Tables of the host's own in first-stage form: commands by PASID, the same conversions (INTEL-QI-15)."""
    stand = Stand("intel", "separate", memory=MEMORY, hunk_lg2=22, page_format=FIRST, ats=True)
    stand.share(8 * M, 8 * M)
    plan = stand.plan(8 * M + PAGE, owner=1)
    kinds = {step.words[0] & 0xF for _, step in plan.steps() if isinstance(step, Invalidate)}
    assert kinds == {PASID_IOTLB, DEVICE_TLB}
    stand.hide(8 * M + PAGE)
    assert stand.violations() == {}
    assert {stage for stage, _ in stand.domain.units[0].requests.caches} == {"1"}


@pytest.mark.parametrize(("mode", "code", "shift"), [("legacy", 0x02, 4), ("scalable", 0x41, 5)])
def test_a_structure_is_cached_until_its_command(mode, code, shift):
    """With P cleared in memory alone requests may go on; after the command all of them fault, with a record."""
    stand = Stand("intel", "separate", memory=MEMORY, hunk_lg2=22, features={"mode": mode})
    stand.share(8 * M, 8 * M)
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    assert isinstance(unit.translate(attachment, 8 * M, False), Translated)
    root = unit.memory.load(unit.requests.base & ~0xFFF)
    context = (root & ~0xFFF) + (attachment.device << shift)
    unit.memory.store(context, unit.memory.load(context) & ~1)
    assert any(isinstance(unit.translate(attachment, 8 * M, False), Translated) for _ in range(50))
    unit.idle = lambda: None
    unit.submit(unit.commands.invalidate_context(attachment.device, 1))
    unit.complete()
    unit.drain_events()
    assert unit.translate(attachment, 8 * M + 0x1234, True) == f"{code:#04x}"
    (words,) = unit.drain_events()
    assert words == (8 * M + 0x1000, 1 << 63 | code << 32 | attachment.device)
    fields = unit.events.decode(words)
    assert fields["event"].endswith("context entry not present")


def test_a_device_is_fenced_by_its_context_entry():
    """The structures say so, and commands drop what was cached of them; nothing of it is reachable (H1)."""
    stand = Stand("intel", "separate", memory=MEMORY, hunk_lg2=22, features={"mode": "scalable"}, ats=True)
    stand.share(8 * M, 8 * M)
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    move(stand.domain, None, attachment.device, fence=True)
    attachment.blocked = False  # what follows is the structures' doing
    assert not any(cache.size for cache in unit.requests.caches.values())
    assert not attachment.atc.size
    assert unit.translate(attachment, 8 * M, False) == "0x41"


def test_an_unknown_descriptor_stops_the_queue_and_is_reported():
    """FSTS.IQE; the next wait says which descriptor it was (INTEL-FLT-6, INTEL-QI-10)."""
    stand = Stand("intel", "separate", memory=MEMORY, hunk_lg2=22)
    unit = stand.domain.units[0]
    unit.drain_events()
    unit.submit((0xF, 0))
    with pytest.raises(HitlessError, match="unknown descriptor type 0xf") as raised:
        unit.complete()
    assert "IQE" in raised.value.why
    assert unit.drain_events() == [(0x10, 0)]
    assert unit.events.decode((0x10, 0))["IQE"] == 1
