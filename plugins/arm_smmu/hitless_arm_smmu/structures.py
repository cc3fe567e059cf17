"""From a StreamID to the tables: stream table, STE, CD.

Spec: IHI0070 chapters 3.3 and 5. Facts: ARM-STE-*, ARM-CD-*.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from hitless.bits import Layout
from hitless.errors import BusError
from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    OwnerImage,
    RootRegister,
    StageRoot,
    StructureEntry,
    StructureImage,
    StructureRound,
    TableSource,
)
from hitless.pagetable import PageFormat
from hitless_arm_smmu.commands import ASID_LO
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.gpt_image import read_gpt
from hitless_arm_smmu.regime import STAGE_1, STAGE_2, cd_regime, ste_regime
from hitless_arm_smmu.stage1 import ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config
from hitless_arm_smmu.structure_change import change
from hitless_arm_smmu.structure_layouts import BYPASS, CD, L1CD, L1STD, LAYOUTS, STE, STRTAB_BASE
from hitless_arm_smmu.structure_setup import setup

NO_PASID = -1
"""In a Fetch's context: the request has no SubstreamID."""
_LEAF_CDS_LG2 = {1: 6, 2: 10}  # by S1Fmt; others: linear
_SSID_BITS = 20
_FULL_ATS, _SPLIT_ATS = 1, 2


class ArmSmmuStructures:
    """Reader and writer of the structures of one SMMU.

    A tag is VMID, or VMID | ASID << 16 where there is a stage 1.
    """

    layouts: Mapping[str, Layout] = LAYOUTS
    registers: Mapping[str, RootRegister] = {
        "stream-table": RootRegister(
            "SMMU_STRTAB_BASE",
            beside={"strtab_base_cfg": "SMMU_STRTAB_BASE_CFG: form of the table, and how many StreamIDs it holds"},
            base=lambda value, beside: value | beside["strtab_base_cfg"] << 64,
        )
    }
    owner_tables: Mapping[str, OwnerImage] = {
        "gpt": OwnerImage(
            "SMMU_ROOT_GPT_BASE",
            read_gpt,
            {"gpt_base_cfg": "SMMU_ROOT_GPT_BASE_CFG: granule, protected size, size of a level 0 region"},
        )
    }
    not_modelled = (
        "both halves of a CD at once: the lower one is used",
        "TBI",
        "stalls",
        "EL2 streams",
        "VMSAv8-32 tables",
        "bits of STE and CD that have no field here: they belong to other features, or are reserved (ARM-STE-7)",
    )

    def __init__(self, features: ArmSmmuFeatures, page_format: PageFormat) -> None:
        self._features = features
        self._stage1: dict[Stage1Config, ArmStage1] = {}
        self._stage2: dict[Stage2Config, ArmStage2] = {}
        if isinstance(page_format, ArmStage1):
            self._stage1[page_format.config] = page_format
        elif isinstance(page_format, ArmStage2):
            self._stage2[page_format.config.plain] = page_format

    def stage1_tag(self, tag: int, space: int) -> int:
        return tag | space << ASID_LO

    # -- reading

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | BadStructure:
        """The STE, or the descriptor of a second level's table; C_BAD_STREAMID beyond the table (ARM-STE-5)."""
        register = STRTAB_BASE.decode(base)
        size, split = register["LOG2SIZE"], register["SPLIT"]
        if device >> size:
            why = f"StreamID {device:#x} has more than {size} bits (ARM-STE-5)"
            return _bad("ste", 0, (), "C_BAD_STREAMID", why, absent=True)
        table = register["ADDR"] << 6
        context = (device, NO_PASID if pasid is None else pasid)
        if register["FMT"] == 0:
            return Fetch("ste", _aligned(table, size + 6) + 64 * device, 8, context)
        table = _aligned(table, max(size - split, 0) + 3)
        return Fetch("l1std", table + 8 * (device >> split), 1, (*context, split))

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        if fetch.structure == "l1std":
            return self._l1std(fetch, words)
        if fetch.structure == "ste":
            return self._ste(fetch, words)
        return _l1cd(fetch, words) if fetch.structure == "l1cd" else self._cd(fetch, words)

    def _l1std(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | BadStructure:
        """A span of 0, of more than the split, or too short for the StreamID: C_BAD_STREAMID (ARM-STE-6)."""
        device, pasid, split = fetch.context
        fields, index = L1STD.decode(words), device & (1 << split) - 1
        span = fields["Span"]
        if not 0 < span <= split + 1 or index >> span - 1:
            why = f"Span {span} does not reach StreamID {device:#x} (ARM-STE-6)"
            return _bad("l1std", fetch.pa, words, "C_BAD_STREAMID", why, absent=span <= split + 1)
        return Fetch("ste", _aligned(fields["L2Ptr"] << 6, span + 5) + 64 * index, 8, (device, pasid))

    def _ste(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        """What Config says (ARM-STE-1), or C_BAD_STE."""
        _, pasid = fetch.context
        ste = STE.decode(words)
        config = ste["Config"]
        if not ste["V"]:
            return _bad("ste", fetch.pa, words, "C_BAD_STE", "V is 0 (ARM-STE-1)", absent=True)
        if config < BYPASS:  # ARM-STE-14
            return Found("abort", None, None, 0)
        if pasid != NO_PASID and not config & STAGE_1:
            why = f"SubstreamID {pasid:#x} where there is no stage 1 (ARM-STE-9)"
            return _bad("ste", fetch.pa, words, "C_BAD_SUBSTREAMID", why)
        below: StageRoot | None = None
        if config & STAGE_2:
            regime = ste_regime(ste, self._features)
            if isinstance(regime, str):
                return _bad("ste", fetch.pa, words, "C_BAD_STE", regime)
            below = StageRoot(self._second(regime), ste["S2TTB"] << 4, ste["S2VMID"])
        ats = ste["EATS"] == _FULL_ATS
        if (ats and ste["S2S"]) or (ste["EATS"] == _SPLIT_ATS and (config != 7 or ste["S2S"])):
            return _bad("ste", fetch.pa, words, "C_BAD_STE", f"EATS {ste['EATS']} does not go with it (ARM-STE-13)")
        if config & STAGE_1:
            return self._to_cd(fetch, words, ste, below, ats)
        return _second_only(below, ats, ste)

    def _to_cd(
        self, fetch: Fetch, words: tuple[int, ...], ste: Mapping[str, int], below: StageRoot | None, ats: bool
    ) -> Fetch | Found | BadStructure:
        """The CD of a request, by its SubstreamID or by S1DSS (ARM-STE-8, ARM-STE-9)."""
        _, pasid = fetch.context
        bits, dss = ste["S1CDMax"], ste["S1DSS"]
        if bits > _SSID_BITS or (ste["STRW"] and not ste["Config"] & STAGE_2):
            why = "S1CDMax is out of range, or STRW names a regime that is not modelled (ARM-STE-8)"
            return _bad("ste", fetch.pa, words, "C_BAD_STE", why)
        if pasid == NO_PASID:
            if bits and dss in (0, 3):
                why = "S1DSS ends requests without SubstreamID (ARM-STE-9)"
                return _bad("ste", fetch.pa, words, "F_STREAM_DISABLED", why)
            if bits and dss == 1:
                return _second_only(below, ats, ste)
        elif pasid >> bits or not bits:
            why = f"SubstreamID {pasid:#x} where S1CDMax is {bits} (ARM-STE-9)"
            return _bad("ste", fetch.pa, words, "C_BAD_SUBSTREAMID", why)
        elif pasid == 0 and dss == 2:
            why = "SubstreamID 0, whose CD is for requests without one (ARM-STE-9)"
            return _bad("ste", fetch.pa, words, "F_STREAM_DISABLED", why)
        index = max(pasid, 0)
        context = (index, ste["S2VMID"], int(ats), ste["S2R"])
        pointer = ste["S1ContextPtr"] << 6
        if bits and ste["S1Fmt"] in _LEAF_CDS_LG2:
            leaf_lg2 = _LEAF_CDS_LG2[ste["S1Fmt"]]
            return Fetch("l1cd", pointer + 8 * (index >> leaf_lg2), 1, (*context, leaf_lg2), below)
        return Fetch("cd", pointer + 64 * index, 8, context, below)

    def _cd(self, fetch: Fetch, words: tuple[int, ...]) -> Found | BadStructure:
        """Stage 1's tables, or C_BAD_CD (ARM-CD-2)."""
        _, vmid, ats, recorded = fetch.context[:4]
        cd = CD.decode(words)
        if not cd["V"]:
            return _bad("cd", fetch.pa, words, "C_BAD_CD", "V is 0 (ARM-CD-1)", absent=True)
        if cd["EPD0"] and cd["EPD1"]:
            return _bad("cd", fetch.pa, words, "F_TRANSLATION", "EPD0 and EPD1 forbid every walk (ARM-CD-3)")
        regime = cd_regime(cd, self._features)
        if isinstance(regime, str):
            return _bad("cd", fetch.pa, words, "C_BAD_CD", regime)
        root = cd["TTB1" if regime.upper else "TTB0"] << 4
        tag = self.stage1_tag(vmid, cd["ASID"])
        first = StageRoot(self._first(regime), root, tag)
        silent = _silent({"1": cd["R"], "2": recorded})
        return Found("translate", first, fetch.stage2, tag, ats=bool(ats), silent=silent)

    def devices(self, base: int, load: Callable[[int], int]) -> Iterator[range]:
        """All StreamIDs of a linear table; of a two-level one those that are spanned (ARM-STE-5, ARM-STE-6)."""
        register = STRTAB_BASE.decode(base)
        size, split = register["LOG2SIZE"], register["SPLIT"]
        if register["FMT"] == 0:
            yield range(1 << size)
            return
        table = _aligned(register["ADDR"] << 6, max(size - split, 0) + 3)
        for index in range(1 << max(size - split, 0)):
            try:
                span = L1STD.decode(load(table + 8 * index))["Span"]
            except BusError:
                return
            if 0 < span <= split + 1:
                yield range(index << split, (index << split) + (1 << span - 1))

    def _first(self, config: Stage1Config) -> ArmStage1:
        """The format of a configuration; made once."""
        if config not in self._stage1:
            self._stage1[config] = ArmStage1(config)
        return self._stage1[config]

    def _second(self, config: Stage2Config) -> ArmStage2:
        """The same, for stage 2."""
        if config not in self._stage2:
            self._stage2[config] = ArmStage2(config)
        return self._stage2[config]

    # -- writing

    def setup(
        self, entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None = None
    ) -> StructureImage:
        """See :func:`hitless_arm_smmu.structure_setup.setup`."""
        return setup(entries, tables, guest, self._features)

    def change(self, base: int, entry: StructureEntry, load: Callable[[int], int]) -> Sequence[StructureRound]:
        """See :func:`hitless_arm_smmu.structure_change.change`."""
        return change(self, base, entry, load, self._features)


def _second_only(below: StageRoot | None, ats: bool, ste: Mapping[str, int]) -> Found:
    """Stage 2 alone, or nothing (bypass)."""
    if below is None:
        return Found("bypass", None, None, 0)
    return Found("translate", None, below, below.tag, ats=ats, silent=_silent({"2": ste["S2R"]}))


def _silent(recorded: Mapping[str, int]) -> frozenset[str]:
    """The stages whose faults are not recorded, as CD.R and STE.S2R say (ARM-EVT-4)."""
    return frozenset(stage for stage, bit in recorded.items() if not bit)


def _l1cd(fetch: Fetch, words: tuple[int, ...]) -> Fetch | BadStructure:
    """A leaf of CDs, or C_BAD_SUBSTREAMID where there is none (ARM-CD-4)."""
    index, vmid, ats, recorded, leaf_lg2 = fetch.context
    fields = L1CD.decode(words)
    if not fields["V"]:
        why = f"no CDs for SubstreamID {index:#x} (ARM-CD-4)"
        return _bad("l1cd", fetch.pa, words, "C_BAD_SUBSTREAMID", why, absent=True)
    pa = (fields["L2Ptr"] << 12) + 64 * (index & (1 << leaf_lg2) - 1)
    return Fetch("cd", pa, 8, (index, vmid, ats, recorded), fetch.stage2)


def _bad(structure: str, pa: int, words: tuple[int, ...], kind: str, why: str, *, absent: bool = False) -> BadStructure:
    return BadStructure(structure, pa, words, kind, why, absent)


def _aligned(pa: int, lg2: int) -> int:
    """Hardware takes the low bits of a table's address as 0 (ARM-STE-10)."""
    return pa >> lg2 << lg2
