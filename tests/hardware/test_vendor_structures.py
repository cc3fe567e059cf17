"""Every vendor's structures in the running model: read from memory, malformed, cached too long, and under nesting.

Addresses, words, commands and record fields are taken from the specifications by hand.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from hitless.hardware.facts import DropsStructure
from hitless.hardware.structures import Found, StructureEntry
from hitless.hardware.translator import Translated
from hitless.iommufd import Area, Domain, Ioas
from hitless.plan import Invalidate
from installed import VENDORS
from stand import PAGE, M, Stand

MEMORY, HERE = 64 * M, 8 * M + 5 * PAGE
PAGES = 0xF_FFFF_FFFF_F000


class Case(NamedTuple):
    """One vendor.

    ``entry`` finds the last structure of device 8, ``broken`` makes its word 0 one that raises ``event``, ``forget``
    is the command that drops it; ``unread`` is the event where there is no memory behind the register.
    """

    vendor: str
    features: dict
    stage1: str
    entry: Callable
    broken: Callable
    forget: tuple
    event: dict
    unread: dict


def dte(load, base):
    """AMD: 32 bytes a device."""
    return (base & PAGES) + 32 * 8


def context(load, base):
    """VT-d legacy: root entry of bus 0, 16 bytes a context entry."""
    return (load(base & PAGES) & PAGES) + 16 * 8


def pasid_entry(load, base):
    """VT-d scalable: lower half of bus 0, 32 bytes a context entry, directory entry 0, PASID entry 0."""
    directory = load((load(base & PAGES) & PAGES) + 32 * 8) & PAGES
    return load(directory) & PAGES


def ste(load, base):
    """Arm, two levels: L2Ptr in bits 51:6 of the first descriptor, 64 bytes an STE."""
    return (load(base & 0xF_FFFF_FFFF_FFC0) & 0xF_FFFF_FFFF_FFC0) + 64 * 8


def device_context(load, base):
    """RISC-V, one level: ddtp's page number in bits 53:10, 64 bytes a device."""
    return (base >> 10 << 12) + 64 * 8


CASES = [
    Case(
        "amd",
        {},
        "amd/v2",
        dte,
        lambda word: word | 7 << 9,  # Mode 7 is reserved
        (2 << 60 | 8, 0),
        {"event": "ILLEGAL_DEV_TABLE_ENTRY", "DeviceID": 8, "address": HERE >> 2, "RW": 1},
        {"event": "DEV_TAB_HARDWARE_ERROR", "DeviceID": 8},
    ),
    Case(
        "intel",
        {},
        "",
        context,
        lambda word: word | 3 << 2,  # TT 3 is reserved
        (1 << 4 | 1, 0),
        {"SID": 8, "FR": 0x3, "FI": HERE >> 12, "T1": 0, "F": 1},
        {"SID": 8, "FR": 0x8, "F": 1},
    ),
    Case(
        "intel",
        {"mode": "scalable"},
        "intel/first-stage",
        pasid_entry,
        lambda word: word | 7 << 6,  # PGTT 7 is reserved
        (3 << 4 | 7, 0),
        {"SID": 8, "FR": 0x5B, "FI": HERE >> 12, "T1": 0, "F": 1},
        {"SID": 8, "FR": 0x38, "F": 1},
    ),
    Case(
        "arm_smmu",
        {},
        "arm_smmu/stage1",
        ste,
        lambda word: word & ~1,  # V
        (0x03 | 8 << 32, 1),
        {"event": "C_BAD_STE", "SID": 8, "code": 4},
        {"event": "F_STE_FETCH", "SID": 8, "code": 3},
    ),
]
if "riscv" in VENDORS:  # a stranger's, from examples/hitless-riscv
    CASES.append(
        Case(
            "riscv",
            {},
            "riscv/stage1",
            device_context,
            lambda word: word | 1 << 12,  # a reserved bit of tc
            (3 | 1 << 33 | 8 << 40, 0),
            {"event": "DDT entry misconfigured", "DID": 8, "TTYP": 3, "iotval": HERE},
            {"event": "DDT entry load access fault", "DID": 8},
        )
    )
IDS = [f"{case.vendor} {case.features.get('mode', '')}".strip() for case in CASES]
NESTED = [case for case in CASES if case.stage1]


def stand(case: Case, **more) -> Stand:
    """A guest of 64 MiB of which 8 MiB are shared, and in the caches."""
    found = Stand(case.vendor, "separate", memory=MEMORY, hunk_lg2=22, features=case.features, **more)
    found.share(8 * M, 8 * M)
    found.engine._near = [(8 * M, 16 * M)]
    found.warm(10)
    assert found.violations() == {}
    return found


def asks(unit, attachment, times=300):
    """The set of answers to many requests for one page."""
    found = (unit.translate(attachment, HERE, True) for _ in range(times))
    return {answer.pa if isinstance(answer, Translated) else answer for answer in found}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_malformed_structure_raises_the_vendors_event(case):
    """A reserved value in memory, and the command that makes the unit read it: one record, field by field."""
    here = stand(case)
    unit, attachment, arena = here.domain.units[0], here.domain.attachments[0], here.machine.arena
    pa = case.entry(arena.load, unit.requests.base)
    arena.store(pa, case.broken(arena.load(pa)))
    unit.submit(case.forget)
    unit.complete()
    unit.drain_events()
    assert isinstance(unit.translate(attachment, HERE, True), str)
    (words,) = unit.drain_events()
    record = here.domain.vendor.events.decode(words)
    assert {name: record[name] for name in case.event} == case.event


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_register_that_leads_nowhere_raises_the_vendors_event(case):
    """No memory at the structures' address: the fetch fails, and its record says so."""
    here = stand(case)
    unit, attachment = here.domain.units[0], here.domain.attachments[0]
    unit.requests.set_base(unit.requests.base ^ 1 << 45)
    unit.drain_events()
    assert unit.translate(attachment, HERE, True) == "fetch"
    (words,) = unit.drain_events()
    record = here.domain.vendor.events.decode(words)
    assert {name: record[name] for name in case.unread} == case.unread


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_structure_whose_invalidation_is_forgotten_is_stale(case):
    """A device goes over to other tables: without the commands for structures it still meets the old ones."""
    for forgotten in (True, False):
        here = stand(case)
        domain, unit, attachment = here.domain, here.domain.units[0], here.domain.attachments[0]
        other = Domain.open(
            "other",
            domain.vendor,
            here.guest,
            here.machine.arena,
            here.machine.tables,
            [(unit, 2, [(9, False)])],
            ioas=Ioas([Area(8 * M, 12 * M, 4 * M)]),
        )
        old, new = here.guest.pa(HERE), here.guest.pa(HERE + 4 * M)
        assert asks(unit, attachment) == {old}
        found = other.attachments[0].found
        entry = StructureEntry(8, None, found.stage1, found.stage2, found.tag)
        for this in domain.vendor.structures.change(unit.requests.base, entry, here.machine.arena.load):
            for store in this.stores:
                for i, word in enumerate(store.new):
                    here.machine.arena.store(store.pa + 8 * i, word)
            for words in this.commands:
                effects = domain.vendor.commands.decode(words)
                if not (forgotten and any(isinstance(effect, DropsStructure) for effect in effects)):
                    unit.submit(words)
            unit.complete()
        answers = asks(unit, attachment, 2000)
        assert (old in answers) is forgotten
        assert new in answers


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_memory_says_is_what_the_domain_asked_for(case):
    """The walk from the register ends at the domain's root, with its tag."""
    here = stand(case)
    unit, domain = here.domain.units[0], here.domain
    unit.requests.drop_structures(DropsStructure("x"))
    unit.translate(domain.attachments[0], HERE, True)
    (found,) = [each.outcome for each in unit.requests.cached_structures.values() if isinstance(each.outcome, Found)]
    assert (found.mode, found.stage1, found.tag) == ("translate", None, 1)
    assert (found.stage2.root_pa, found.stage2.tag) == (domain.planner.root_pa, 1)
    assert found.stage2.page_format.levels == domain.vendor.page_format.levels


@pytest.mark.parametrize("case", NESTED, ids=[case.vendor for case in NESTED])
@pytest.mark.parametrize("ats", [False, True])
def test_a_nested_domain(case, ats):
    """Requests reach what two look-ups say, conversions there and back break no rule."""
    view = Ioas.scrambled(Stand("amd", memory=MEMORY, hunk_lg2=22).guest.slots, 4 * M, 3)
    here = stand(case, stage1=case.stage1, ioas=view, ats=ats)
    unit, attachment = here.domain.units[0], here.domain.attachments[0]
    (iova,) = view.points(HERE)
    found = unit.translate(attachment, iova + 0x18, False)
    assert isinstance(found, Translated)
    assert (found.pa, found.entry.stage) == (here.guest.pa(HERE) + 0x18, "12")
    here.hide(HERE)
    here.share(HERE)
    here.hide(8 * M, 4 * M)
    assert here.violations() == {}


@pytest.mark.parametrize("case", NESTED, ids=[case.vendor for case in NESTED])
def test_nested_without_any_command_is_stale(case):
    """What was made through both stages stays, if nobody says that stage 2 has changed."""
    found = {}
    for seed in range(4):
        here = stand(case, stage1=case.stage1, seed=seed)
        here.engine._near = [(HERE, HERE + PAGE)]
        here.warm(10)

        def silent(plan):
            for section in ("isolate", "refresh"):
                steps = getattr(plan, section)
                setattr(plan, section, [step for step in steps if not isinstance(step, Invalidate)])

        here.mutate = silent
        here.hide(HERE)
        found |= here.violations()
    assert found.get("F1") or found.get("C1")


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_fence_blocks_by_structure(case):
    """After a fence the structures in memory let nothing pass, once the unit reads them again."""
    here = stand(case)
    unit, attachment = here.domain.units[0], here.domain.attachments[0]
    unit.hung = True
    assert unit.block() == (8,)
    unit.hung, attachment.blocked = False, False
    unit.complete()
    answers = asks(unit, attachment)
    assert answers and all(isinstance(answer, str) for answer in answers)


@pytest.mark.parametrize(
    ("case", "word", "bit"), [(CASES[1], 0, 1), (CASES[2], 0, 1), (CASES[3], 2, 58)], ids=[*IDS[1:3], "arm_smmu S2R"]
)
def test_a_structure_may_keep_faults_out_of_the_records(case, word, bit):
    """FPD of VT-d set, STE.S2R of Arm clear: the request faults as before, and no record is written."""
    here = stand(case)
    unit, attachment, arena = here.domain.units[0], here.domain.attachments[0], here.machine.arena
    nowhere = 40 * M + MEMORY
    for recorded in (True, False):
        unit.drain_events()
        assert unit.translate(attachment, nowhere, True) == "not-present"
        assert len(unit.drain_events()) == recorded
        pa = case.entry(arena.load, unit.requests.base) + 8 * word
        arena.store(pa, arena.load(pa) ^ 1 << bit)
        unit.submit(case.forget)
        unit.complete()
