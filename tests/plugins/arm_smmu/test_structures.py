"""From a StreamID to the tables, against stream tables, STEs and CDs put together from the specification's tables."""

import pytest
from arm_sheet import CD, STE, cd, positions, ste
from hypothesis import given
from hypothesis import strategies as st

from hitless.hardware.structures import BadStructure, Fetch, Found
from hitless.hardware.walker import Refusal, Translation, translate
from hitless_arm_smmu import plugin
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.stage1 import ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config
from hitless_arm_smmu.structures import ArmSmmuStructures

TABLE = 0x10_0000
STES, CDS, ROOT_1, ROOT_2 = 0x20_0000, 0x30_0000, 0x40_0000, 0x50_0000
S2 = {"V": 1, "Config": 6, "S2VMID": 7, "S2T0SZ": 16, "S2SL0": 2, "S2PS": 5, "S2AA64": 1, "S2R": 1, "S2TTB": ROOT_2}
S1 = {"V": 1, "Config": 5, "S2VMID": 7, "S1ContextPtr": CDS}
ONE_CD = {"V": 1, "AA64": 1, "T0SZ": 16, "EPD1": 1, "IPS": 5, "R": 1, "A": 1, "ASID": 3, "TTB0": ROOT_1}


def made(**features: object) -> ArmSmmuStructures:
    """The structures of an SMMU."""
    told = ArmSmmuFeatures(**features)
    return plugin.structures(plugin.page_formats(told)["arm_smmu/stage2"], told)


ARM = made()


def linear(bits: int, table: int = TABLE) -> int:
    """The register of a linear stream table: LOG2SIZE in the second word's 5:0."""
    return table | bits << 64


def two_level(bits: int, split: int, table: int = TABLE) -> int:
    """The register of a two-level one: SPLIT in 10:6, FMT 1 in 17:16."""
    return table | bits << 64 | split << 70 | 1 << 80


def at_ste(words: tuple[int, ...], pasid: int | None = None, arm: ArmSmmuStructures = ARM) -> object:
    """What an STE says of a request of device 5."""
    fetch = arm.start(linear(8), 5, pasid)
    assert isinstance(fetch, Fetch)
    return arm.step(fetch, words)


def at_cd(words: tuple[int, ...], arm: ArmSmmuStructures = ARM, **more: int) -> object:
    """What a CD says of a request of device 5 without SubstreamID."""
    fetch = at_ste(ste(**{**S1, **more}), arm=arm)
    assert isinstance(fetch, Fetch)
    return arm.step(fetch, words)


def kind(found: object) -> str:
    """The event of a bad structure."""
    assert isinstance(found, BadStructure), found
    return found.kind


# -- the stream table


@pytest.mark.parametrize(("device", "pa"), [(0, TABLE), (5, TABLE + 5 * 64), (255, TABLE + 255 * 64)])
def test_a_linear_table_is_indexed_by_stream(device, pa):
    """An STE has 64 bytes (ARM-STE-1, ARM-STE-5)."""
    assert ARM.start(linear(8), device, None) == Fetch("ste", pa, 8, (device, -1))
    assert ARM.start(linear(8), device, 9) == Fetch("ste", pa, 8, (device, 9))


def test_a_linear_table_is_aligned_to_its_size():
    """Address bits below the table's size do not count (ARM-STE-10)."""
    found = ARM.start(linear(8, TABLE + 0x40), 5, None)
    assert isinstance(found, Fetch)
    assert found.pa == TABLE + 5 * 64


@pytest.mark.parametrize("base", [linear(8), two_level(8, 6)])
@pytest.mark.parametrize("device", [256, 0x8001])
def test_a_stream_beyond_the_table(base, device):
    """C_BAD_STREAMID, and nothing was read (ARM-STE-5)."""
    found = ARM.start(base, device, None)
    assert kind(found) == "C_BAD_STREAMID"
    assert found.words == ()


@pytest.mark.parametrize("split", [6, 8, 10])
def test_a_two_level_table(split):
    """The upper bits choose the descriptor, the lower ones the STE that it leads to (ARM-STE-6)."""
    device = 3 << split | 5
    fetch = ARM.start(two_level(16, split), device, None)
    assert fetch == Fetch("l1std", TABLE + 3 * 8, 1, (device, -1, split))
    assert ARM.step(fetch, (STES | split + 1,)) == Fetch("ste", STES + 5 * 64, 8, (device, -1))


@pytest.mark.parametrize(
    ("word", "good"),
    [
        (STES | 9, True),
        (STES | 4, True),  # 8 STEs: 0 to 7
        (STES | 3, False),  # 4 STEs
        (STES | 0, False),
        (STES | 10, False),  # more than the split
        (STES | 31, False),
    ],
)
def test_the_span_of_a_descriptor(word, good):
    """A span of 0, beyond the split, or too short for the stream is C_BAD_STREAMID (ARM-STE-6)."""
    fetch = ARM.start(two_level(16, 8), 0x305, None)
    assert isinstance(fetch, Fetch)
    found = ARM.step(fetch, (word,))
    assert isinstance(found, Fetch) if good else kind(found) == "C_BAD_STREAMID"


# -- the STE


@pytest.mark.parametrize("config", [0, 1, 2, 3])
def test_an_ste_that_aborts(config):
    """Config 0, and the reserved values, abort; whatever else the STE holds (ARM-STE-1, ARM-STE-14)."""
    found = at_ste(ste(V=1, Config=config, S2TTB=ROOT_2, S2VMID=7))
    assert isinstance(found, Found)
    assert (found.mode, found.stage1, found.stage2) == ("abort", None, None)


def test_an_ste_that_bypasses():
    """Config 4: no tables."""
    found = at_ste(ste(V=1, Config=4))
    assert isinstance(found, Found)
    assert (found.mode, found.stage1, found.stage2) == ("bypass", None, None)


def test_an_ste_of_stage_2():
    """Config 6: root, VMID and format of stage 2, and ATS by EATS (ARM-STE-2, ARM-STE-3)."""
    found = at_ste(ste(**S2, EATS=1))
    assert isinstance(found, Found)
    assert (found.mode, found.stage1, found.tag, found.ats, found.stage) == ("translate", None, 7, True, "2")
    assert found.stage2 is not None
    assert (found.stage2.root_pa, found.stage2.tag) == (ROOT_2, 7)
    assert found.stage2.page_format.config == Stage2Config()
    assert not at_ste(ste(**S2)).ats


def test_a_stage_2_format_is_the_vendors_own_one():
    """Tables that are set up as the domain's have the same format object."""
    fmt = ArmStage2()
    found = at_ste(ste(**S2), arm=ArmSmmuStructures(ArmSmmuFeatures(), fmt))
    assert isinstance(found, Found)
    assert found.stage2.page_format is fmt


@pytest.mark.parametrize(
    ("fields", "features", "config"),
    [
        ({"S2T0SZ": 24, "S2SL0": 2}, {}, Stage2Config(input_bits=40)),
        ({"S2T0SZ": 24, "S2SL0": 1}, {}, Stage2Config(input_bits=40, concatenate=True)),
        (
            {"S2T0SZ": 24, "S2SL0": 1, "S2PS": 2},
            {},
            Stage2Config(input_bits=40, output_bits=40, concatenate=True),
        ),
        ({"S2TG": 1}, {}, Stage2Config(granule_lg2=16)),
        ({"S2TG": 2}, {}, Stage2Config(granule_lg2=14, concatenate=True)),
        ({"S2FWB": 1}, {}, Stage2Config(s2fwb=True)),
        ({"S2HA": 1}, {}, Stage2Config(ha=True)),
        ({"S2HA": 1, "S2HD": 1}, {}, Stage2Config(ha=True, hd=True)),
        ({"S2HD": 1}, {}, Stage2Config()),
        ({"S2AFFD": 1}, {}, Stage2Config(affd=True)),
        ({"S2PS": 6}, {}, Stage2Config()),  # no wider than OAS
        ({"S2PS": 7}, {"output_bits": 52, "granule": "64K"}, Stage2Config()),  # nor than the descriptors
        ({}, {"bbml": 1}, Stage2Config(bbml=1)),
        (
            {"S2T0SZ": 12, "S2SL0": 0, "S2SL0_2": 1, "S2DS": 1, "S2PS": 6},
            {"output_bits": 52, "ds": True},
            Stage2Config(input_bits=52, output_bits=52, ds=True),
        ),
        (
            {"S2T0SZ": 12, "S2TG": 1, "S2PS": 6},
            {"output_bits": 52, "granule": "64K"},
            Stage2Config(granule_lg2=16, input_bits=52, output_bits=52, lpa=True),
        ),
    ],
)
def test_the_stage_2_format_that_an_ste_describes(fields, features, config):
    """Granule, widths, start level, memory types and hardware update come from the STE (ARM-STE-2, ARM-LVL-4)."""
    found = at_ste(ste(**{**S2, **fields}), arm=made(**features))
    assert isinstance(found, Found), found
    assert found.stage2.page_format.config == config.plain


@pytest.mark.parametrize(
    "fields",
    [
        {"V": 0},
        {"S2AA64": 0},
        {"S2ENDI": 1},
        {"S2TG": 3},
        {"S2T0SZ": 15},
        {"S2T0SZ": 40},
        {"S2SL0": 0},
        {"S2SL0": 1},
        {"S2SL0": 3},
        {"S2SL0_2": 1},
        {"S2T0SZ": 24, "S2SL0": 0},
        {"S2T0SZ": 24, "S2PS": 2},  # level 0 with 40 bits of output
        {"S2PS": 0, "S2TTB": 1 << 32, "S2T0SZ": 32, "S2SL0": 1},
        {"EATS": 1, "S2S": 1},
        {"EATS": 2},
    ],
    ids=str,
)
def test_a_bad_ste(fields):
    """C_BAD_STE, with the words and the fact (ARM-STE-11, ARM-STE-13)."""
    words = ste(**{**S2, **fields})
    found = at_ste(words)
    assert kind(found) == "C_BAD_STE"
    assert (found.structure, found.words, found.pa) == ("ste", words, TABLE + 5 * 64)
    assert "(ARM-" in found.why


@pytest.mark.parametrize("config", [5, 7])
def test_an_ste_with_one_cd(config):
    """Config 5 and 7 lead to a CD: at a physical address, or at one that stage 2 translates (ARM-CD-5)."""
    found = at_ste(ste(**{**S2, **S1, "Config": config}))
    assert isinstance(found, Fetch)
    assert (found.structure, found.pa, found.words) == ("cd", CDS, 8)
    if config == 5:
        assert found.stage2 is None
    else:
        assert (found.stage2.root_pa, found.stage2.tag) == (ROOT_2, 7)


@pytest.mark.parametrize(
    ("fields", "pasid", "outcome"),
    [
        # no SubstreamID
        ({}, None, CDS),
        ({"S1CDMax": 4, "S1DSS": 0}, None, "F_STREAM_DISABLED"),
        ({"S1CDMax": 4, "S1DSS": 3}, None, "F_STREAM_DISABLED"),
        ({"S1CDMax": 4, "S1DSS": 1}, None, "bypass"),
        ({"S1CDMax": 4, "S1DSS": 2}, None, CDS),
        ({"S1DSS": 0}, None, CDS),  # without substreams S1DSS does not count
        # a SubstreamID
        ({}, 0, "C_BAD_SUBSTREAMID"),
        ({}, 5, "C_BAD_SUBSTREAMID"),
        ({"S1CDMax": 4}, 5, CDS + 5 * 64),
        ({"S1CDMax": 4}, 15, CDS + 15 * 64),
        ({"S1CDMax": 4}, 16, "C_BAD_SUBSTREAMID"),
        ({"S1CDMax": 4, "S1DSS": 2}, 5, CDS + 5 * 64),
        ({"S1CDMax": 4, "S1DSS": 2}, 0, "F_STREAM_DISABLED"),
        ({"S1CDMax": 4, "S1DSS": 1}, 0, CDS),
        # two levels
        ({"S1CDMax": 12, "S1Fmt": 1}, 0x145, CDS + 8 * 5),
        ({"S1CDMax": 12, "S1Fmt": 2}, 0xC45, CDS + 8 * 3),
        ({"S1CDMax": 12, "S1Fmt": 3}, 0x145, CDS + 0x145 * 64),
        ({"S1CDMax": 0, "S1Fmt": 1}, None, CDS),
        # out of range
        ({"S1CDMax": 21}, None, "C_BAD_STE"),
        ({"STRW": 2}, None, "C_BAD_STE"),
    ],
)
def test_the_cd_of_a_request(fields, pasid, outcome):
    """SubstreamID, S1CDMax, S1DSS and S1Fmt choose the CD, or end the request (ARM-STE-8, ARM-STE-9, ARM-CD-4)."""
    found = at_ste(ste(**{**S1, **fields}), pasid)
    if isinstance(outcome, int):
        assert isinstance(found, Fetch)
        assert found.pa == outcome
        assert found.structure == ("l1cd" if fields.get("S1Fmt") in (1, 2) and fields["S1CDMax"] else "cd")
    elif outcome == "bypass":
        assert isinstance(found, Found)
        assert found.mode == outcome
    else:
        assert kind(found) == outcome


def test_without_a_substream_stage_1_alone_may_be_bypassed():
    """S1DSS 1 with Config 7: stage 2 goes on."""
    found = at_ste(ste(**{**S2, **S1, "Config": 7, "S1CDMax": 4, "S1DSS": 1}))
    assert isinstance(found, Found)
    assert (found.stage1, found.stage2.root_pa, found.tag) == (None, ROOT_2, 7)


@pytest.mark.parametrize("fields", [{"Config": 4}, S2])
def test_a_substream_needs_stage_1(fields):
    """A SubstreamID under bypass or stage 2 alone is C_BAD_SUBSTREAMID (ARM-STE-9)."""
    assert kind(at_ste(ste(**{"V": 1, **fields}), 5)) == "C_BAD_SUBSTREAMID"


def test_strw_does_not_count_under_nesting():
    """With stage 2 the regime is EL1 (ARM-STE-8)."""
    assert isinstance(at_ste(ste(**{**S2, **S1, "Config": 7, "STRW": 2})), Fetch)


@pytest.mark.parametrize(("s1fmt", "pa"), [(1, 0x60_0000 + 5 * 64), (2, 0x60_0000 + 0x145 * 64)])
def test_a_leaf_of_cds(s1fmt, pa):
    """64 or 1024 CDs behind a level 1 descriptor; V = 0 is C_BAD_SUBSTREAMID (ARM-CD-4)."""
    fetch = at_ste(ste(**S1, S1CDMax=12, S1Fmt=s1fmt), 0x145)
    assert isinstance(fetch, Fetch)
    found = ARM.step(fetch, (0x60_0001,))
    assert isinstance(found, Fetch)
    assert (found.structure, found.pa, found.words) == ("cd", pa, 8)
    assert kind(ARM.step(fetch, (0x60_0000,))) == "C_BAD_SUBSTREAMID"


# -- the CD


def test_a_cd_of_the_lower_half():
    """Root, VMID and ASID, and the format of stage 1 (ARM-CD-1)."""
    found = at_cd(cd(**ONE_CD), EATS=1)
    assert isinstance(found, Found)
    assert (found.mode, found.stage2, found.tag, found.ats, found.stage) == ("translate", None, 0x3_0007, True, "1")
    assert (found.stage1.root_pa, found.stage1.tag) == (ROOT_1, 0x3_0007)
    assert found.stage1.page_format.config == Stage1Config()


def test_a_nested_cd():
    """Both stages, each under its own tag; the whole under VMID and ASID."""
    found = at_cd(cd(**ONE_CD), **S2 | {"Config": 7})
    assert isinstance(found, Found)
    assert (found.stage1.tag, found.stage2.tag, found.tag, found.stage) == (0x3_0007, 7, 0x3_0007, "12")
    assert ARM.stage1_tag(7, 3) == 0x3_0007


@pytest.mark.parametrize(
    ("fields", "features", "config"),
    [
        ({"T0SZ": 25}, {}, Stage1Config(input_bits=39)),
        ({"TG0": 1}, {}, Stage1Config(granule_lg2=16)),
        ({"TG0": 2, "HA": 1}, {}, Stage1Config(granule_lg2=14, ha=True)),
        ({"HA": 1, "HD": 1}, {}, Stage1Config(ha=True, hd=True)),
        ({"AFFD": 1}, {}, Stage1Config(affd=True)),
        ({"HAD0": 1}, {}, Stage1Config(had=True)),
        ({"IPS": 2}, {}, Stage1Config(output_bits=40)),
        (
            {"EPD0": 1, "EPD1": 0, "T1SZ": 24, "TG1": 1, "TTB1": ROOT_1},
            {},
            Stage1Config(upper=True, granule_lg2=14, input_bits=40),
        ),
        ({"EPD0": 1, "EPD1": 0, "T1SZ": 16, "TG1": 2, "TTB1": ROOT_1}, {}, Stage1Config(upper=True)),
        ({"EPD0": 1, "EPD1": 0, "T1SZ": 16, "TG1": 3, "TTB1": ROOT_1}, {}, Stage1Config(upper=True, granule_lg2=16)),
        ({"EPD1": 0}, {}, Stage1Config()),  # both halves: the lower one is used
        (
            {"T0SZ": 12, "DS": 1, "IPS": 6},
            {"output_bits": 52, "ds": True},
            Stage1Config(input_bits=52, output_bits=52, ds=True),
        ),
        (
            {"T0SZ": 12, "TG0": 1, "IPS": 6, "DS": 1},
            {"output_bits": 52, "granule": "64K"},
            Stage1Config(granule_lg2=16, input_bits=52, output_bits=52, lpa=True),
        ),
    ],
)
def test_the_stage_1_format_that_a_cd_describes(fields, features, config):
    """The half that is on, granule, widths and hardware update come from the CD (ARM-CD-1, ARM-FIRST-5)."""
    found = at_cd(cd(**{**ONE_CD, **fields}), made(**features))
    assert isinstance(found, Found), found
    assert found.stage1.page_format.config == config
    assert found.stage1.root_pa == ROOT_1


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"V": 0}, "C_BAD_CD"),
        ({"AA64": 0}, "C_BAD_CD"),
        ({"ENDI": 1}, "C_BAD_CD"),
        ({"TG0": 3}, "C_BAD_CD"),
        ({"T0SZ": 15}, "C_BAD_CD"),
        ({"T0SZ": 40}, "C_BAD_CD"),
        ({"TG0": 1, "T0SZ": 11}, "C_BAD_CD"),
        ({"IPS": 0, "TTB0": 1 << 32}, "C_BAD_CD"),
        ({"TTB0": 1 << 48, "IPS": 6}, "C_BAD_CD"),
        ({"EPD0": 1, "EPD1": 0, "TG1": 0, "T1SZ": 16}, "C_BAD_CD"),
        ({"EPD0": 1}, "F_TRANSLATION"),
    ],
    ids=str,
)
def test_a_bad_cd(fields, event):
    """C_BAD_CD; and a CD that forbids every walk gives translation faults (ARM-CD-2, ARM-CD-3)."""
    found = at_cd(cd(**{**ONE_CD, **fields}))
    assert kind(found) == event
    assert (found.structure, found.pa) == ("cd", CDS)


def test_what_epd_turns_off_is_not_looked_at():
    """Illegal fields of the half that is off do not matter (ARM-CD-2)."""
    assert isinstance(at_cd(cd(**ONE_CD, TG1=0, T1SZ=63, TTB1=1 << 51)), Found)


# -- layouts


@pytest.mark.parametrize(("name", "table"), [("ste", STE), ("cd", CD)])
def test_layouts_are_the_tables(name, table):
    """Every field lies where the specification has it; the rest is ignored."""
    layout = ARM.layouts[name]
    found = {field.name: (field.hi, field.lo) for field in layout.fields if field.role != "ignored"}
    extra = {"NSCFG1", "HAD1"} if name == "cd" else set()
    assert {key: bits for key, bits in found.items() if key not in extra} == positions(table)


@given(name=st.sampled_from(["ste", "cd"]), data=st.data())
def test_fields_come_back(name, data):
    """Any one field alone decodes to itself."""
    table = {"ste": STE, "cd": CD}[name]
    field, (hi, lo) = data.draw(st.sampled_from(sorted(positions(table).items())))
    value = data.draw(st.integers(1, (1 << hi - lo + 1) - 1))
    words = tuple(value << lo >> 64 * i & (1 << 64) - 1 for i in range(8))
    assert {key: got for key, got in ARM.layouts[name].decode(words).items() if got} == {field: value}


# -- a walk from plain memory


def memory() -> dict[int, int]:
    """A nested device 5: stage 1 maps 0x1000 to 0x7000, stage 2 maps low memory to 0x1000_0000 and up."""
    host = 0x1000_0000
    words: dict[int, int] = {}
    second, first = ArmStage2(), ArmStage1()
    for i, word in enumerate(ste(**{**S2, **S1, "Config": 7})):
        words[TABLE + 5 * 64 + 8 * i] = word
    words[ROOT_2] = second.table(3, ROOT_2 + 0x1000)
    words[ROOT_2 + 0x1000] = second.table(2, ROOT_2 + 0x2000)
    for i in range(512):
        words[ROOT_2 + 0x2000 + 8 * i] = second.leaf(21, host + (i << 21), second.default_attrs(3))
    for i, word in enumerate(cd(**ONE_CD)):
        words[host + CDS + 8 * i] = word
    table = ROOT_1
    for level in (3, 2, 1):
        words[host + table] = first.table(level, table + 0x1000)
        table += 0x1000
    words[host + table + 8] = first.leaf(12, 0x7000, first.default_attrs(3))
    return words


def test_a_nested_walk():
    """Every CD and stage 1 entry is read through stage 2; the outcome is stage 2 of stage 1."""
    words = memory()
    found = translate(lambda pa: words.get(pa, 0), ARM, linear(8), 5, 0x1234)
    assert isinstance(found.outcome, Translation)
    assert found.outcome.pa + 0x234 == 0x1000_7234
    assert found.outcome.rights == 3
    assert found.outcome.size_lg2 == 12


def test_a_nested_walk_that_stage_2_refuses():
    """A stage 1 table that stage 2 does not map is a stage 2 fault of class table, with its guest physical address."""
    words = memory()
    words[0x1000_0000 + ROOT_1] = ArmStage1().table(3, 0x8000_0000)
    found = translate(lambda pa: words.get(pa, 0), ARM, linear(8), 5, 0x1234).outcome
    assert isinstance(found, Refusal)
    assert (found.kind, found.stage, found.target, found.gpa) == ("not-present", "2", "table", 0x8000_0000)


def test_a_malformed_ste_in_memory():
    """The refusal carries the vendor's event."""
    words = memory()
    words[TABLE + 5 * 64 + 16] |= 3 << 46
    found = translate(lambda pa: words.get(pa, 0), ARM, linear(8), 5, 0x1234).outcome
    assert isinstance(found, Refusal)
    assert (found.kind, found.structure) == ("C_BAD_STE", "ste")
