"""Structures that are written: a whole unit's, and changes of live ones, against words put together by hand."""

import pytest
from arm_sheet import cd, command, ste
from attrs import define, field

from hitless.errors import HitlessError
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, StructureEntry, StructureRound
from hitless_arm_smmu import plugin
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.stage1 import ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config
from hitless_arm_smmu.structures import ArmSmmuStructures

ROOT_1, ROOT_2 = 0x40_0000, 0x50_0000
SECOND, FIRST = ArmStage2(), ArmStage1()
STAGE_2 = StageRoot(SECOND, ROOT_2, 7)
STAGE_1 = StageRoot(FIRST, ROOT_1, 0x3_0007)
WALKS_1 = {"IR0": 1, "OR0": 1, "SH0": 3}
WALKS_2 = {"S2IR0": 1, "S2OR0": 1, "S2SH0": 3}
S2 = {"S2VMID": 7, "S2T0SZ": 16, "S2SL0": 2, "S2PS": 5, "S2AA64": 1, "S2R": 1, "S2TTB": ROOT_2, **WALKS_2}
THE_CD = cd(V=1, AA64=1, T0SZ=16, EPD1=1, IPS=5, R=1, A=1, ASET=1, ASID=3, TTB0=ROOT_1, MAIR0=0xF404FF44, **WALKS_1)


@define
class Blocks:
    """Memory: naturally aligned blocks from an address on, and the words that were written."""

    at: int = 0x100_0000
    words: dict[int, int] = field(factory=dict)

    def allocate(self, size_lg2: int = 12) -> int:
        pa = self.at + (1 << size_lg2) - 1 >> size_lg2 << size_lg2
        self.at = pa + (1 << size_lg2)
        return pa

    def load(self, pa: int) -> int:
        return self.words.get(pa, 0)

    def write(self, writes: tuple[tuple[int, tuple[int, ...]], ...]) -> None:
        for pa, words in writes:
            self.words |= {pa + 8 * i: word for i, word in enumerate(words)}

    def carry_out(self, rounds: list[StructureRound]) -> None:
        for each in rounds:
            for store in each.stores:
                assert self.load(store.pa) == store.expected[0]
                self.words[store.pa] = store.new[0]


@define
class Rig:
    """Structures, the memory that they lie in, and the register."""

    arm: ArmSmmuStructures
    memory: Blocks
    base: int

    def words(self, fetch: Fetch) -> tuple[int, ...]:
        return tuple(self.memory.load(fetch.pa + 8 * i) for i in range(fetch.words))

    def fetch(self, device: int, pasid: int | None = None, structure: str = "ste") -> Fetch:
        """Where a structure of a device lies."""
        at = self.arm.start(self.base, device, pasid)
        while not (isinstance(at, Fetch) and at.structure == structure):
            assert isinstance(at, Fetch)
            at = self.arm.step(at, self.words(at))
        return at

    def found(self, device: int, pasid: int | None = None) -> Found | BadStructure:
        """What a request of a device gets."""
        at = self.arm.start(self.base, device, pasid)
        while isinstance(at, Fetch):
            at = self.arm.step(at, self.words(at))
        return at


def rig(*entries: StructureEntry, guest: Blocks | None = None, **features: object) -> Rig:
    """Structures set up for some entries."""
    told = ArmSmmuFeatures(**features)
    arm, memory = plugin.structures(SECOND, told), Blocks()
    image = arm.setup(entries, memory, guest)
    memory.write(image.writes)
    if guest is not None:
        guest.write(image.guest_writes)
    for pa, words in image.writes:
        assert any(block <= pa and pa + 8 * len(words) <= block + (1 << lg2) for block, lg2 in image.blocks)
    return Rig(arm, memory, image.base)


def entry(device: int = 5, pasid: int | None = None, **told: object) -> StructureEntry:
    """An entry of stage 2, or as told."""
    defaults = {"stage1": None, "stage2": STAGE_2, "tag": 7}
    return StructureEntry(device, pasid, **(defaults | told))


def first(device: int = 5, pasid: int | None = None, **told: object) -> StructureEntry:
    """An entry of stage 1 alone."""
    return entry(device, pasid, **({"stage1": STAGE_1, "stage2": None, "tag": STAGE_1.tag} | told))


# -- whole images


@pytest.mark.parametrize("two_level", [False, True])
@pytest.mark.parametrize("device", [0, 5, 0x8001, 0xFFFF])
def test_words_of_a_stage_2_ste(two_level, device):
    """Config 6 with every field that stage 2 needs, in a linear table or in two levels."""
    here = rig(entry(device, ats=True), two_level=two_level)
    fetch = here.fetch(device)
    assert here.words(fetch) == ste(V=1, Config=6, EATS=1, SHCFG=1, **S2)
    assert fetch.pa % 64 == 0


def test_the_register_of_a_linear_table():
    """LOG2SIZE is what the highest StreamID needs; the table is aligned to its size."""
    base = rig(entry(5), entry(0x21), two_level=False).base
    assert base >> 64 == 6
    assert base & (1 << 64) - 1 == 0x100_0000


def test_the_register_of_a_two_level_table():
    """LOG2SIZE 16, SPLIT 8, FMT 1; each group of 256 streams has a table, others have none."""
    here = rig(entry(0x8001), entry(0x8002), entry(0x20))
    assert here.base >> 64 == 16 | 8 << 6 | 1 << 16
    root = here.base & 0x000F_FFFF_FFFF_FFC0
    spans = {i: here.memory.load(root + 8 * i) & 0x1F for i in range(256)}
    assert {i for i, span in spans.items() if span} == {0, 0x80}
    assert spans[0] == spans[0x80] == 9
    assert here.found(0x4000).kind == "C_BAD_STREAMID"
    assert here.found(0x8003).kind == "C_BAD_STE"


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (Stage2Config(s2fwb=True), {"S2FWB": 1}),
        (Stage2Config(ha=True, hd=True), {"S2HA": 1, "S2HD": 1}),
        (Stage2Config(input_bits=40, concatenate=True), {"S2T0SZ": 24, "S2SL0": 1}),
        (Stage2Config(input_bits=40, output_bits=40), {"S2T0SZ": 24, "S2SL0": 1, "S2PS": 2}),
        (Stage2Config(granule_lg2=14), {"S2TG": 2, "S2SL0": 2}),
        (Stage2Config(granule_lg2=16, input_bits=40), {"S2TG": 1, "S2T0SZ": 24, "S2SL0": 1}),
        (
            Stage2Config(input_bits=52, output_bits=52, ds=True),
            {"S2T0SZ": 12, "S2SL0": 0, "S2SL0_2": 1, "S2DS": 1, "S2PS": 6},
        ),
    ],
)
def test_an_ste_says_what_its_format_is(config, fields):
    """Every configuration of stage 2 has its own fields, and is read back from them."""
    root = StageRoot(ArmStage2(config), 1 << 25, 7)
    output = {"output_bits": 52, "ds": True} if config.ds else {}
    here = rig(entry(stage2=root), **output)
    assert here.words(here.fetch(5)) == ste(V=1, Config=6, SHCFG=1, **(S2 | {"S2TTB": 1 << 25} | fields))
    assert here.found(5).stage2.page_format.config == config.plain


# What independent page table code computed for the root structures of some of its tables.
RECORDED_2 = [
    # vasz, oasz, granule, coherent: ps, tg, sh, orgn, irgn, sl, tsz
    ((48, 48, 12, True), (5, 0, 3, 1, 1, 2, 16)),
    ((40, 44, 12, True), (4, 0, 3, 1, 1, 2, 24)),
    ((48, 48, 14, False), (5, 2, 2, 0, 0, 2, 16)),
    ((52, 52, 16, True), (6, 1, 3, 1, 1, 2, 12)),
    ((40, 44, 16, True), (4, 1, 3, 1, 1, 1, 24)),
    ((40, 40, 12, True), (2, 0, 3, 1, 1, 1, 24)),
    ((40, 40, 14, True), (2, 2, 3, 1, 1, 1, 24)),
    ((32, 32, 12, True), (0, 0, 3, 1, 1, 1, 32)),
]


@pytest.mark.parametrize(("told", "codes"), RECORDED_2)
def test_stes_agree_with_recorded_ones(told, codes):
    """S2PS, S2TG, S2SH0, S2OR0, S2IR0, S2SL0 and S2T0SZ of recorded tables."""
    vasz, oasz, granule, coherent = told
    recorded = {"fmt": "arm_s2", "vasz": vasz, "oasz": oasz, "granule": granule, "features": []}
    fmt = ArmStage2.from_recording(recorded)
    features = {"granule": f"{(1 << granule) >> 10}K", "output_bits": oasz, "ipa_bits": vasz, "coherent": coherent}
    here = rig(entry(stage2=StageRoot(fmt, 0x1000_0000, 7)), **features)
    names = ("S2PS", "S2TG", "S2SH0", "S2OR0", "S2IR0", "S2SL0", "S2T0SZ")
    fields = here.arm.layouts["ste"].decode(here.words(here.fetch(5)))
    assert tuple(fields[name] for name in names) == codes


RECORDED_1 = [
    # vasz, oasz, granule, coherent: ips, tg, sh, orgn, irgn, tsz
    ((48, 48, 12, True), (5, 0, 3, 1, 1, 16)),
    ((48, 48, 14, False), (5, 2, 2, 0, 0, 16)),
    ((52, 52, 16, True), (6, 1, 3, 1, 1, 12)),
    ((40, 44, 16, True), (4, 1, 3, 1, 1, 24)),
    ((32, 44, 12, True), (4, 0, 3, 1, 1, 32)),
    ((39, 44, 12, True), (4, 0, 3, 1, 1, 25)),
]


@pytest.mark.parametrize(("told", "codes"), RECORDED_1)
def test_cds_agree_with_recorded_ones(told, codes):
    """IPS, TG0, SH0, OR0, IR0 and T0SZ of recorded tables, and MAIR as they have it."""
    vasz, oasz, granule, coherent = told
    recorded = {"fmt": "arm_s1", "vasz": vasz, "oasz": oasz, "granule": granule, "features": []}
    root = StageRoot(ArmStage1.from_recording(recorded), 0x1000_0000, 0x3_0007)
    features = {"granule": f"{(1 << granule) >> 10}K", "output_bits": oasz, "ipa_bits": 32, "coherent": coherent}
    here = rig(first(stage1=root), **features)
    fields = here.arm.layouts["cd"].decode(here.words(here.fetch(5, structure="cd")))
    assert tuple(fields[name] for name in ("IPS", "TG0", "SH0", "OR0", "IR0", "T0SZ")) == codes
    assert fields["MAIR0"] == 0xF404_FF44


def test_words_of_stage_1():
    """Config 5 leads to one CD; the VMID is in the STE, the ASID in the CD."""
    here = rig(first())
    fetch = here.fetch(5, structure="cd")
    assert here.words(here.fetch(5)) == ste(
        V=1, Config=5, S1ContextPtr=fetch.pa, S1CIR=1, S1COR=1, S1CSH=3, SHCFG=1, S2VMID=7
    )
    assert here.words(fetch) == THE_CD
    found = here.found(5)
    assert (found.stage1.root_pa, found.tag) == (ROOT_1, 0x3_0007)


def test_words_of_the_upper_half():
    """TTB1 with T1SZ and TG1, and EPD0: the lower half is off."""
    here = rig(first(stage1=StageRoot(ArmStage1(Stage1Config(upper=True, granule_lg2=14)), ROOT_1, 0x3_0007)))
    walks = {"IR1": 1, "OR1": 1, "SH1": 3}
    assert here.words(here.fetch(5, structure="cd")) == cd(
        V=1, AA64=1, T1SZ=16, TG1=1, EPD0=1, IPS=5, R=1, A=1, ASET=1, ASID=3, TTB1=ROOT_1, MAIR0=0xF404FF44, **walks
    )
    assert here.found(5).stage1.page_format.config.upper


@pytest.mark.parametrize(("told", "mode"), [({"stage2": None}, "bypass"), ({"blocked": True}, "abort")])
def test_a_device_without_tables(told, mode):
    """No stage: Config 4; blocked: Config 0, both valid."""
    here = rig(entry(**told))
    assert here.words(here.fetch(5))[0] == (9 if mode == "bypass" else 1)
    assert here.found(5).mode == mode


@pytest.mark.parametrize(
    ("pasids", "cdmax", "s1fmt"),
    [([1], 1, 0), ([3, 5], 3, 0), ([63], 6, 0), ([64], 7, 1), ([5, 700], 10, 1), ([0xFFFFF], 20, 1)],
)
def test_pasids_have_cds_of_their_own(pasids, cdmax, s1fmt):
    """As many bits as the highest needs; above 64 CDs two levels; requests without a PASID end."""
    here = rig(*(first(5, pasid, stage1=StageRoot(FIRST, ROOT_1, 7 | pasid << 16 & 0xFFFF_0000)) for pasid in pasids))
    fields = here.arm.layouts["ste"].decode(here.words(here.fetch(5)))
    assert (fields["S1CDMax"], fields["S1Fmt"], fields["S1DSS"]) == (cdmax, s1fmt, 0)
    for pasid in pasids:
        assert here.found(5, pasid).tag == 7 | pasid << 16 & 0xFFFF_0000
    assert here.found(5).kind == "F_STREAM_DISABLED"
    assert here.found(5, 2).kind in ("C_BAD_SUBSTREAMID", "C_BAD_CD")


def test_requests_without_a_pasid_beside_others():
    """They use CD 0 (S1DSS 2), or bypass stage 1 (S1DSS 1); a blocked one ends (S1DSS 0)."""
    second = first(5, 2, stage1=StageRoot(FIRST, 0x60_0000, 0x4_0007))
    here = rig(first(5), second)
    assert (here.found(5).stage1.root_pa, here.found(5, 2).stage1.root_pa) == (ROOT_1, 0x60_0000)
    assert here.found(5, 0).kind == "F_STREAM_DISABLED"
    here = rig(first(5, stage1=None, tag=0), second)
    assert (here.found(5).mode, here.found(5, 2).stage1.root_pa) == ("bypass", 0x60_0000)
    here = rig(first(5, blocked=True), second)
    assert (here.found(5).kind, here.found(5, 2).stage1.root_pa) == ("F_STREAM_DISABLED", 0x60_0000)


def test_a_nested_device():
    """Config 7; the CD is the guest's and lies in its memory."""
    guest = Blocks(at=0x80_0000)
    here = rig(entry(stage1=STAGE_1, tag=STAGE_1.tag, ats=True), guest=guest)
    fetch = here.fetch(5, structure="cd")
    assert fetch.pa == 0x80_0000
    assert here.words(here.fetch(5)) == ste(
        V=1, Config=7, S1ContextPtr=fetch.pa, S1CIR=1, S1COR=1, S1CSH=3, SHCFG=1, EATS=1, **S2
    )
    assert tuple(guest.load(fetch.pa + 8 * i) for i in range(8)) == THE_CD
    assert fetch.stage2 is not None
    assert fetch.stage2.root_pa == ROOT_2
    assert not any(0x80_0000 <= pa < 0x90_0000 for pa in here.memory.words)


def test_a_walker_that_does_not_snoop():
    """CDs and tables are read without the CPU's caches."""
    here = rig(first(), entry(6), coherent=False)
    fields = here.arm.layouts["ste"].decode(here.words(here.fetch(5)))
    assert (fields["S1CIR"], fields["S1COR"], fields["S1CSH"]) == (0, 0, 2)
    fields = here.arm.layouts["ste"].decode(here.words(here.fetch(6)))
    assert (fields["S2IR0"], fields["S2OR0"], fields["S2SH0"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry(stage2=StageRoot(SECOND, ROOT_2 + 8, 7))], "root table"),
        ([entry(stage2=StageRoot(SECOND, 1 << 48, 7))], "root table"),
        ([entry(stage2=StageRoot(SECOND, ROOT_2, 1 << 16))], "VMID 0x10000 is wider"),
        ([first(stage1=StageRoot(FIRST, ROOT_1, 1 << 32))], "ASID 0x10000 is wider"),
        ([entry(stage2=StageRoot(FIRST, ROOT_2, 7))], "stage 2 is of format arm_smmu/stage1"),
        ([first(stage1=StageRoot(SECOND, ROOT_1, 7))], "stage 1 is of format arm_smmu/stage2"),
        ([entry(5, 1)], "has no stage 1"),
        ([first(5), first(5, 0)], "uses PASID 0"),
        ([first(5), entry(5, 1, stage1=STAGE_1)], "several stages 2"),
        ([first(5, ats=True), first(5, 1)], "several stages 2"),
        ([entry(stage1=STAGE_1)], "no guest memory"),
        ([entry(stage2=StageRoot(ArmStage2(Stage2Config(output_bits=46)), ROOT_2, 7))], "no code for 46 bits"),
    ],
)
def test_what_structures_cannot_say(entries, words):
    """Each is an error that names the device or the value."""
    with pytest.raises(HitlessError, match=words):
        rig(*entries)


def test_id_widths_of_structures():
    """Without VMID16 and ASID16 they have 8 bits."""
    second = entry(stage2=StageRoot(SECOND, ROOT_2, 256))
    for told in (
        second,
        first(stage1=StageRoot(FIRST, ROOT_1, 256)),
        first(stage1=StageRoot(FIRST, ROOT_1, 256 << 16)),
    ):
        with pytest.raises(HitlessError, match="wider than 8 bits"):
            rig(told, vmid16=False, asid16=False)


# -- changes


def outline(rounds: list[StructureRound]) -> list[tuple[list[int], list[tuple[int, ...]]]]:
    """Which words of its structure each round stores, and its commands."""
    return [([store.pa % 64 // 8 for store in each.stores], list(each.commands)) for each in rounds]


CFGI_STE = command("CFGI_STE", SID=5, Leaf=1)
ALL_OF_VMID = command("TLBI_S12_VMALL", VMID=7)
ATC_ALL = command("ATC_INV", SID=5, Size=52)


def test_a_new_root_is_one_store():
    """One word changes at once; then the VMID's translations go, and only then the device's (ARM-SYNC-4)."""
    here = rig(entry(ats=True))
    rounds = here.arm.change(here.base, entry(ats=True, stage2=StageRoot(SECOND, 0x60_0000, 7)), here.memory.load)
    assert outline(rounds) == [([3], [CFGI_STE]), ([], [ALL_OF_VMID]), ([], [ATC_ALL])]
    here.memory.carry_out(rounds)
    assert here.found(5).stage2.root_pa == 0x60_0000


def test_several_words_go_through_an_abort():
    """Config 0 first, the other words, then Config: each with CFGI and a wait (ARM-STE-12)."""
    here = rig(entry())
    rounds = here.arm.change(here.base, entry(stage2=StageRoot(SECOND, 0x60_0000, 9), tag=9), here.memory.load)
    assert outline(rounds) == [([0], [CFGI_STE]), ([2, 3], [CFGI_STE]), ([0], [CFGI_STE]), ([], [ALL_OF_VMID])]
    fetch = here.fetch(5)
    for number, each in enumerate(rounds):
        here.memory.carry_out([each])
        found = here.arm.step(fetch, here.words(fetch))
        assert found.mode == ("abort" if number < 2 else "translate")
    assert (found.stage2.root_pa, found.tag) == (0x60_0000, 9)


def test_a_device_is_cut_off_by_one_store():
    """Config 0, which keeps the way to the CDs; the device's own translations go too."""
    here = rig(entry(ats=True))
    rounds = here.arm.change(here.base, entry(ats=True, blocked=True), here.memory.load)
    assert outline(rounds) == [([0], [CFGI_STE]), ([], [ALL_OF_VMID]), ([], [ATC_ALL])]
    here.memory.carry_out(rounds)
    assert here.found(5).mode == "abort"
    assert here.arm.change(here.base, entry(blocked=True), here.memory.load) == []


@pytest.mark.parametrize("told", [{}, {"stage2": None}])
def test_a_blocked_device_comes_back(told):
    """What is off may change in any order but word 0, and nothing of it can be cached as a translation."""
    here = rig(entry(blocked=True))
    rounds = here.arm.change(here.base, entry(**told), here.memory.load)
    assert all(commands == [CFGI_STE] for _, commands in outline(rounds))
    assert outline(rounds)[-1][0] == [0]
    here.memory.carry_out(rounds)
    assert here.found(5).mode == ("bypass" if told else "translate")


def test_from_bypass_nothing_of_the_tlb_goes():
    """A bypass has no translations; its STE goes through an abort, as others do."""
    here = rig(entry(stage2=None))
    rounds = here.arm.change(here.base, entry(), here.memory.load)
    assert outline(rounds) == [([0], [CFGI_STE]), ([2, 3], [CFGI_STE]), ([0], [CFGI_STE])]


@pytest.mark.parametrize("pasid", [None, 5, 700])
def test_a_new_root_of_stage_1(pasid):
    """One word of the CD; then the ASID's translations go."""
    others = [] if pasid is None else [first(5)]
    here = rig(first(5, pasid), *others)
    rounds = here.arm.change(here.base, first(5, pasid, stage1=StageRoot(FIRST, 0x60_0000, 0x3_0007)), here.memory.load)
    assert outline(rounds) == [
        ([1], [command("CFGI_CD", SID=5, SSID=pasid or 0, Leaf=1)]),
        ([], [command("TLBI_NH_ASID", VMID=7, ASID=3)]),
    ]
    here.memory.carry_out(rounds)
    assert here.found(5, pasid).stage1.root_pa == 0x60_0000
    if others:
        assert here.found(5).stage1.root_pa == ROOT_1


def test_a_pasid_is_cut_off_alone():
    """V = 0 in its CD; the others go on, and only its own translations are dropped from the device."""
    here = rig(first(5, 3, ats=True), first(5, 4, ats=True))
    rounds = here.arm.change(here.base, first(5, 3, blocked=True, ats=True), here.memory.load)
    assert outline(rounds) == [
        ([0], [command("CFGI_CD", SID=5, SSID=3, Leaf=1)]),
        ([], [command("TLBI_NH_ASID", VMID=7, ASID=3)]),
        ([], [command("ATC_INV", SID=5, SSV=1, SSID=3, Size=52)]),
    ]
    here.memory.carry_out(rounds)
    assert here.found(5, 3).kind == "C_BAD_CD"
    assert here.found(5, 4).stage1.root_pa == ROOT_1


def test_a_blocked_device_comes_back_to_its_cds():
    """After an abort the CDs are still known."""
    here = rig(first())
    here.memory.carry_out(here.arm.change(here.base, first(blocked=True), here.memory.load))
    assert here.found(5).mode == "abort"
    moved = first(stage1=StageRoot(FIRST, 0x60_0000, 0x3_0007))
    here.memory.carry_out(here.arm.change(here.base, moved, here.memory.load))
    assert here.found(5).stage1.root_pa == 0x60_0000


def test_a_nested_device_changes_in_its_ste_alone():
    """The CDs are the guest's: a new stage 2, and a fence of one PASID, are stores to the STE."""
    guest = Blocks(at=0x80_0000)
    told = {"stage1": STAGE_1, "tag": STAGE_1.tag}
    here = rig(entry(5, 3, **told), entry(5, 4, **told), guest=guest)
    moved = entry(stage2=StageRoot(SECOND, 0x60_0000, 7), **told)
    rounds = here.arm.change(here.base, moved, here.memory.load)
    assert outline(rounds) == [([3], [CFGI_STE]), ([], [ALL_OF_VMID])]
    rounds = here.arm.change(here.base, entry(5, 3, blocked=True, **told), here.memory.load)
    assert outline(rounds) == [([0], [CFGI_STE]), ([], [ALL_OF_VMID])]


def test_what_is_already_so_is_no_change():
    """Nothing is stored, and nothing invalidated."""
    for told in (entry(ats=True), first(), first(5, 3)):
        here = rig(told)
        assert here.arm.change(here.base, told, here.memory.load) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (entry(), first()),  # no CDs
        (first(5, 3), first(5, 9)),  # beyond S1CDMax
        (first(5, 3), entry()),  # others of its PASIDs use CDs
        (entry(), entry(0x8001)),  # no such STE
    ],
)
def test_changes_that_need_new_structures(before, after):
    """An error says so."""
    here = rig(before)
    with pytest.raises(HitlessError, match=r"set up|no CDs|no cd|no ste"):
        here.arm.change(here.base, after, here.memory.load)
