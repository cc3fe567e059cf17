"""From a device and a process id to the tables: device directory, device context, process directory, process context.

Spec: RISC-V IOMMU 1.0, data structures, process to translate an IOVA. Facts: RISCV-DC-*, RISCV-PC-*.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

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
from hitless_riscv.capabilities import features_of
from hitless_riscv.commands import NESTED, PSCID_LO, RiscvCommands
from hitless_riscv.contexts import BARE, ContextWriter, device_bits, process_bits
from hitless_riscv.features import MODES, RiscvFeatures
from hitless_riscv.formats import CODES, Formats
from hitless_riscv.layouts import structure_layouts
from hitless_riscv.live import LiveContexts
from hitless_riscv.mpt import read_mpt
from hitless_riscv.setup import setup

_NONE = -1
"""In a context: the request has no process id."""
_OFF, _BARE_MODE, _ONE_LEVEL, _THREE_LEVELS = 0, 1, 2, 4
_SILENT = frozenset({"1", "2", ""})


class _Way(NamedTuple):
    """What the unit remembers of a request in the process directory; the context of a Fetch.

    Args:
        process: the process id.
        level: of the directory page that is read; 0: it holds contexts.
        ats, hardware_ad, silent: EN_ATS, SADE and DTF of the device context.
    """

    process: int
    level: int
    ats: int
    hardware_ad: int
    silent: int


class RiscvStructures:
    """Reader and writer of one unit's structures; ``base`` is the ddtp register."""

    registers: Mapping[str, RootRegister] = {"ddt": RootRegister("ddtp", tells={"capabilities": features_of})}
    owner_tables: Mapping[str, OwnerImage] = {"mpt": OwnerImage("mmpt of the host's supervisor domain", read_mpt)}
    not_modelled = (
        "Sv32 (SXL, GXL) and big-endian tables (SBE): taken for a context that is misconfigured",
        "translated requests that hold guest physical addresses (T2GPA)",
        "page requests (EN_PRI, PRPR) and quality of service (RCID, MCID): their fields have no effect",
        "MSI page tables: msiptp, msi_addr_mask and msi_addr_pattern are checked, and no address is taken for an MSI's",
        "supervisor requests (ENS, SUM)",
    )

    def __init__(self, page_format: PageFormat, features: RiscvFeatures) -> None:
        self.layouts: Mapping[str, Layout] = structure_layouts(msi_flat=features.msi_flat)
        self._features = features
        self._formats = Formats(page_format, features)
        self._contexts = ContextWriter(self.layouts, features)
        self._modes = {code for code, mode in CODES.items() if MODES.index(mode) <= MODES.index(features.widest)}
        self._dc_lg2 = 6 if features.msi_flat else 5
        self._commands = {
            "1": RiscvCommands(self._formats.stage1(features.mode, hardware_ad=features.hardware_ad), features),
            "2": RiscvCommands(self._formats.stage2(features.mode, hardware_ad=features.hardware_ad), features),
        }

    # -- reading

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | Found | BadStructure:
        """The root of the device directory, or what ddtp itself says (RISCV-DC-1, RISCV-DC-3)."""
        register = self.layouts["ddtp"].decode(base)
        mode = register["mode"]
        if mode == _OFF or mode > _THREE_LEVELS:
            return BadStructure("ddtp", 0, (base,), "256", "ddtp.iommu_mode is Off, or reserved (RISCV-DC-1)")
        if mode == _BARE_MODE:
            return Found("bypass", None, None, 0)
        levels = mode - _ONE_LEVEL + 1
        bits = sum(device_bits(self._features)[:levels])
        if device >> bits:
            why = f"device {device:#x} has more than {bits} bits (RISCV-DC-3)"
            return BadStructure("ddtp", 0, (base,), "260", why, absent=True)
        return self._directory(register["PPN"] << 12, levels - 1, device, _NONE if pasid is None else pasid)

    def _directory(self, page: int, level: int, device: int, process: int) -> Fetch:
        """The entry of a device in a page of the device directory (RISCV-DC-2)."""
        bits = device_bits(self._features)
        index = device >> sum(bits[:level]) & (1 << bits[level]) - 1
        if level == 0:
            return Fetch("dc", page + (index << self._dc_lg2), 1 << self._dc_lg2 - 3, (device, process))
        return Fetch(("", "ddt", "ddt-level2")[level], page + 8 * index, 1, (device, process, level))

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        if fetch.structure.startswith("ddt"):
            device, process, level = fetch.context
            page = self._pointer(fetch, words, "258", "259")
            return page if isinstance(page, BadStructure) else self._directory(page, level - 1, device, process)
        if fetch.structure == "dc":
            return self._device(fetch, words)
        if fetch.structure == "pc":
            return self._process(fetch, words)
        way = _Way(*fetch.context)
        page = self._pointer(fetch, words, _kind(266, way.silent), _kind(267, way.silent))
        if isinstance(page, BadStructure):
            return page
        return _in_processes(page, way._replace(level=way.level - 1), fetch)

    def _pointer(self, fetch: Fetch, words: tuple[int, ...], invalid: str, misconfigured: str) -> int | BadStructure:
        """The next page of a directory (RISCV-DC-4)."""
        layout = self.layouts[fetch.structure]
        fields = layout.decode(words)
        if not fields["V"]:
            return BadStructure(fetch.structure, fetch.pa, words, invalid, "V is 0 (RISCV-DC-4)", absent=True)
        if fault := next(layout.faults(words), None):
            return BadStructure(fetch.structure, fetch.pa, words, misconfigured, f"{fault} (RISCV-DC-4)")
        return fields["PPN"] << 12

    def _device(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        """What the device context says, or causes 258 to 260."""
        _, process = fetch.context
        dc = self.layouts["dc"].decode(words)
        if not dc["tc.V"]:
            return BadStructure("dc", fetch.pa, words, "258", "tc.V is 0 (RISCV-DC-5)", absent=True)
        if fault := next(self.layouts["dc"].faults(words), None) or self._misconfigured(dc):
            return BadStructure("dc", fetch.pa, words, "259", fault)
        silent, below = dc["tc.DTF"], self._below(dc)
        if not dc["tc.PDTV"]:
            if process != _NONE:
                why = "a request with process id where PDTV is 0 (RISCV-PC-5)"
                return BadStructure("dc", fetch.pa, words, _kind(260, silent), why)
            return self._found(dc["fsc.MODE"], dc["fsc.PPN"], dc["ta.PSCID"], below, dc)
        levels, bits = process_bits(dc["fsc.MODE"])
        if process != _NONE and process >> bits:
            why = f"process id {process:#x} has more than {bits} bits (RISCV-PC-5)"
            return BadStructure("dc", fetch.pa, words, _kind(260, silent), why)
        if dc["fsc.MODE"] == BARE or (process == _NONE and not dc["tc.DPE"]):  # RISCV-PC-6
            return self._found(BARE, 0, 0, below, dc)
        way = _Way(max(process, 0), levels - 1, dc["tc.EN_ATS"], dc["tc.SADE"], silent)
        first = fetch._replace(stage2=below, pasid=0 if process == _NONE else None)
        return _in_processes(dc["fsc.PPN"] << 12, way, first)

    def _misconfigured(self, dc: Mapping[str, int]) -> str | None:
        """What makes a device context misconfigured, beside reserved bits (RISCV-DC-6)."""
        stage1, stage2, pdtv = dc["fsc.MODE"], dc["iohgatp.MODE"], dc["tc.PDTV"]
        known = {BARE, *self._modes}
        checks = (
            (dc["tc.T2GPA"] and (not dc["tc.EN_ATS"] or stage2 == BARE), "T2GPA needs EN_ATS and a second stage"),
            (dc["tc.EN_PRI"] and not dc["tc.EN_ATS"], "EN_PRI needs EN_ATS"),
            (dc["tc.PRPR"] and not dc["tc.EN_PRI"], "PRPR needs EN_PRI"),
            (dc["tc.DPE"] and not pdtv, "DPE needs PDTV"),
            (dc["tc.SBE"] or dc["tc.SXL"], "the unit has neither big-endian tables nor Sv32"),
            (
                (dc["tc.GADE"] or dc["tc.SADE"]) and not self._features.hardware_ad,
                "GADE and SADE need capabilities.AMO_HWAD",
            ),
            (stage2 not in known, f"iohgatp.MODE {stage2} is no mode of the unit"),
            (stage2 != BARE and dc["iohgatp.PPN"] & 3, "stage 2's root is not aligned to 16K"),
            (not pdtv and stage1 not in known, f"iosatp.MODE {stage1} is no mode of the unit"),
            (
                pdtv and process_bits(stage1)[1] not in range(self._features.process_id_bits + 1),
                f"pdtp.MODE {stage1} is no mode of the unit",
            ),
            (dc.get("msiptp.MODE", 0) > 1, "msiptp.MODE is neither Off nor Flat"),
        )
        return next((f"{why} (RISCV-DC-6)" for wrong, why in checks if wrong), None)

    def _below(self, dc: Mapping[str, int]) -> StageRoot | None:
        """Stage 2's tables; None where it is Bare."""
        if dc["iohgatp.MODE"] == BARE:
            return None
        fmt = self._formats.stage2(CODES[dc["iohgatp.MODE"]], hardware_ad=bool(dc["tc.GADE"]))
        return StageRoot(fmt, dc["iohgatp.PPN"] << 12, dc["iohgatp.GSCID"])

    def _process(self, fetch: Fetch, words: tuple[int, ...]) -> Found | BadStructure:
        """What the process context says, or causes 266 and 267 (RISCV-PC-3, RISCV-PC-4)."""
        way = _Way(*fetch.context)
        pc = self.layouts["pc"].decode(words)
        if not pc["ta.V"]:
            return BadStructure("pc", fetch.pa, words, _kind(266, way.silent), "ta.V is 0 (RISCV-PC-3)", absent=True)
        fault = next(self.layouts["pc"].faults(words), None)
        if not fault and pc["fsc.MODE"] not in {BARE, *self._modes}:
            fault = f"fsc.MODE {pc['fsc.MODE']} is no mode of the unit"
        if fault:
            return BadStructure("pc", fetch.pa, words, _kind(267, way.silent), f"{fault} (RISCV-PC-4)")
        tc = {"tc.SADE": way.hardware_ad, "tc.EN_ATS": way.ats, "tc.DTF": way.silent}
        return self._found(pc["fsc.MODE"], pc["fsc.PPN"], pc["ta.PSCID"], fetch.stage2, tc)

    def _found(self, mode: int, ppn: int, pscid: int, below: StageRoot | None, tc: Mapping[str, int]) -> Found:
        """Both stages, one of them, or neither."""
        ats, silent = bool(tc["tc.EN_ATS"]), _SILENT if tc["tc.DTF"] else frozenset[str]()
        if mode == BARE:
            tag = 0 if below is None else below.tag
            return Found("translate" if below else "bypass", None, below, tag, ats=ats, silent=silent)
        tag = pscid if below is None else self.stage1_tag(below.tag, pscid)
        fmt = self._formats.stage1(CODES[mode], hardware_ad=bool(tc["tc.SADE"]))
        return Found("translate", StageRoot(fmt, ppn << 12, tag), below, tag, ats=ats, silent=silent)

    def devices(self, base: int, load: Callable[[int], int]) -> Iterator[range]:
        """The devices whose contexts lie in a page that the directory leads to."""
        register = self.layouts["ddtp"].decode(base)
        if _ONE_LEVEL <= register["mode"] <= _THREE_LEVELS:
            yield from self._devices(register["PPN"] << 12, register["mode"] - _ONE_LEVEL, 0, load)

    def _devices(self, page: int, level: int, first: int, load: Callable[[int], int]) -> Iterator[range]:
        bits = device_bits(self._features)
        if level == 0:
            yield range(first, first + (1 << bits[0]))
            return
        for index in range(1 << bits[level]):
            try:
                fields = self.layouts["ddt"].decode(load(page + 8 * index))
            except BusError:
                return
            if fields["V"]:
                below = first | index << sum(bits[:level])
                yield from self._devices(fields["PPN"] << 12, level - 1, below, load)

    # -- writing

    def stage1_tag(self, tag: int, space: int) -> int:
        """GSCID and PSCID, marked as nested: a host's PSCID alone is another tag (RISCV-INV-2)."""
        return tag | space << PSCID_LO | NESTED

    def setup(
        self, entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None = None
    ) -> StructureImage:
        """See :func:`hitless_riscv.setup.setup`."""
        return setup(entries, tables, guest, self._contexts, self._features)

    def change(self, base: int, entry: StructureEntry, load: Callable[[int], int]) -> Sequence[StructureRound]:
        """See :class:`hitless_riscv.live.LiveContexts`."""
        live = LiveContexts(self, self._contexts, self._commands["1"], self._commands["2"], load)
        return live.change(base, entry)


def _in_processes(page: int, way: _Way, fetch: Fetch) -> Fetch:
    """The entry of a process in a page of the process directory (RISCV-PC-2)."""
    if way.level == 0:
        pa = page + 16 * (way.process & 0xFF)
        return fetch._replace(structure="pc", pa=pa, words=2, context=way)
    index = way.process >> 8 + 9 * (way.level - 1) & 0x1FF
    name = ("", "pdt", "pdt-level2")[way.level]
    return fetch._replace(structure=name, pa=page + 8 * index, words=1, context=way)


def _kind(cause: int, silent: int) -> str:
    """The cause, and whether DTF keeps it out of the fault queue (RISCV-EVT-5)."""
    return f"{cause} DTF" if silent else str(cause)
