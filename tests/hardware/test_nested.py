"""Nested translation in the running model: a guest's stage 1 over the domain's stage 2, which follows conversions."""

import attrs
import pytest

from hitless.errors import HitlessError
from hitless.guest_memfd.slots import Slot, Slots
from hitless.hardware.translator import Translated
from hitless.iommufd import Ioas
from hitless.plan import Invalidate, Plan
from stand import PAGE, M, Stand

DROP, UNNEST = 1, 4
MEMORY = 64 * M
HERE = 8 * M + 5 * PAGE


def nested(toys, view="scrambled", **more) -> Stand:
    """A guest of 64 MiB whose stage 1 maps all of it: IOVA is GPA, or pieces of 4 MiB have changed places."""
    slots = Slots([Slot(0, 0, MEMORY)])
    ioas = Ioas.identity(slots) if view == "identity" else Ioas.scrambled(slots, 4 * M, 1)
    return Stand(
        *("toy-nested", "separate"), memory=MEMORY, hunk_lg2=22, registry=toys, stage1="toy/upper", ioas=ioas, **more
    )


def warm(toys, **more) -> Stand:
    """The same with 8 MiB shared; the page at HERE is in the caches."""
    stand = nested(toys, **more)
    stand.share(8 * M, 8 * M)
    stand.engine._near = [(8 * M, 16 * M)]
    stand.warm(40)
    stand.engine._near = [(HERE, HERE + PAGE)]
    stand.warm(10)
    assert stand.violations() == {}
    return stand


def leave_out(opcode):
    """A mutation: commands of an opcode are not sent."""

    def mutate(plan: Plan) -> None:
        for section in ("isolate", "refresh"):
            steps = getattr(plan, section)
            kept = [s for s in steps if not (isinstance(s, Invalidate) and s.words[0] >> 60 == opcode)]
            setattr(plan, section, kept)

    return mutate


@pytest.mark.parametrize("view", ["identity", "scrambled"])
@pytest.mark.parametrize("ats", [False, True])
def test_the_right_plan_breaks_nothing(toys, view, ats):
    """Pages and ranges there and back, two units: every neighbour reaches its own page, none a stale one."""
    stand = nested(toys, view, ats=ats, units=2, settings={"merge": "at_once"})
    for start, size in ((8 * M, 8 * M), (24 * M, PAGE), (32 * M, 4 * M)):
        stand.share(start, size)
    for start, size in ((8 * M + PAGE, PAGE), (24 * M, PAGE), (32 * M, 4 * M)):
        stand.hide(start, size)
    stand.share(8 * M + PAGE)
    assert stand.violations() == {}
    assert stand.seen.neighbour > 500


def test_every_kind_of_entry_is_cached(toys):
    """Stage-1 and stage-2 leaves and pointers of both, and combined results, each under its own tag."""
    stand = warm(toys)
    stand.hide(8 * M + PAGE)
    stand.warm(100)
    caches = stand.domain.units[0].requests.caches
    assert set(caches) == {("1", 0x5_0001), ("2", 1), ("12", 0x5_0001)}
    assert caches["1", 0x5_0001].leaves and caches["12", 0x5_0001].leaves
    assert caches["2", 1].leaves and caches["2", 1].tables
    assert not caches["12", 0x5_0001].tables


def test_a_request_reaches_what_stage_1_and_guest_memfd_say(toys):
    """The oracle is two look-ups: the guest's areas, then guest_memfd's physicals."""
    stand = warm(toys)
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    for area in stand.ioas.areas:
        for offset in (0, PAGE, 3 * M + 0x123):
            gpa = area.gpa + offset
            found = unit.translate(attachment, area.iova + offset, True)
            if stand.guest.owner(gpa & ~0xFFF) == 0:
                assert isinstance(found, Translated)
                assert found.pa == stand.guest.pa(gpa & ~0xFFF) | gpa & 0xFFF
                assert (found.entry.stage, found.tag) == ("12", 0x5_0001)
            else:
                assert found == "owner"


@pytest.mark.parametrize("opcode", [DROP, UNNEST])
def test_a_forgotten_command_of_either_kind_is_seen(toys, opcode):
    """Stage 2 alone, or what was made through it: what is not dropped still leads to the old page."""
    found = {}
    for seed in range(4):
        stand = warm(toys, seed=seed)
        stand.mutate = leave_out(opcode)
        stand.hide(HERE)
        found |= stand.violations()
    assert found.get("F1")


def test_the_atc_of_a_nested_device_holds_iovas(toys):
    """A device's cache is dropped by IOVA: a command for the guest physical range misses it."""
    found = {}

    def by_gpa(plan: Plan) -> None:
        for section in ("isolate", "refresh"):
            for i, step in enumerate(getattr(plan, section)):
                if isinstance(step, Invalidate) and step.words[0] >> 57 & 1:
                    page = HERE >> 12
                    words = (step.words[0] & ~0xFF_FFFF_FFFF | page | page << 20, 0)
                    getattr(plan, section)[i] = attrs.evolve(step, words=words)

    for seed in range(4):
        stand = warm(toys, ats=True, seed=seed)
        stand.mutate = by_gpa
        stand.hide(HERE)
        found |= stand.violations()
    assert found.get("F1")


def test_stage_2_refuses_a_stage_1_table(toys):
    """The guest's table lies where stage 2 maps nothing: the event tells the guest physical address of the entry."""
    stand = warm(toys)
    unit, attachment = stand.domain.units[0], stand.domain.attachments[0]
    pages, root = stand.domain.stage1.pages, stand.domain.stage1.root_gpa
    pages.store(root + 8 * 1000, 0xF000_0000 | 0b1101)
    unit.drain_events()
    assert unit.translate(attachment, 1000 << 22 | 0x3000, False) == "not-present"
    (words,) = unit.drain_events()
    assert words == (8, 0xF000_0018)


def test_cached_shapes_of_stage_2_can_conflict(toys):
    """Where hardware raises conflicts, a cut of stage 2 in one store is met by neighbours under both stages."""
    stand = warm(toys)
    unit = stand.domain.units[0]
    unit.requests.facts = attrs.evolve(unit.requests.facts, size_conflict=True)
    stand.hide(HERE)
    assert stand.violations().get("K1")


def test_a_vendor_without_structures_cannot_nest(toys):
    """The refusal names the format and says why."""
    with pytest.raises(HitlessError, match="cannot be a nest parent"):
        Stand("toy-nested", memory=MEMORY, hunk_lg2=22, registry=toys, stage1="toy/upper", page_format="toy/upper")
