"""From a device and a PASID to the tables that translate its requests, as a VT-d unit reads its structures.

Spec: VT-d 5.10, sections 3.4, 7.1.3 and 9.1 to 9.6. Facts: INTEL-CTX-*, INTEL-FLT-*.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

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
from hitless_intel.entries import EntryWriter
from hitless_intel.features import IntelFeatures
from hitless_intel.formats import Formats
from hitless_intel.layouts import (
    AW_BITS,
    FIRST,
    LEGACY,
    NESTED,
    PASS_THROUGH,
    SCALABLE,
    SECOND,
    TT_PASS_THROUGH,
    UNTRANSLATED,
    WITH_ATS,
    structure_layouts,
)
from hitless_intel.live_entries import LiveEntries
from hitless_intel.reasons import kind_of
from hitless_intel.setup import Setup

_PER_TABLE = 64
"""PASID table entries of one table, which one directory entry points to."""
_ABSENT = frozenset({0x01, 0x02, 0x39, 0x41, 0x51, 0x59})
"""Reasons that say: P, LP or UP is 0."""
_ALL_FAULTS = frozenset({"1", "2", ""})


class _Request(NamedTuple):
    """What the unit remembers of a request between its structures; the context of a Fetch.

    Args:
        pasid: the request's, or RID_PASID once the context entry has told it; -1: none yet.
        recorded: no structure so far had FPD set.
        ats: DTE.
        privileged: RID_PRIV, for a request without PASID.
    """

    device: int
    pasid: int
    recorded: int = 1
    ats: int = 0
    privileged: int = 0


class IntelStructures:
    """Reader and writer of one unit's structures.

    Args:
        page_format: the format that the unit's domain uses; structures that describe just it lead to this object.
    """

    not_modelled: ClassVar[Sequence[str]] = tuple(
        f"{what}: its bits are read and let be"
        for what in ("the host permission table (HPTE, HPTPTR)", "EPTR", "page requests (PRE)")
    )

    registers: Mapping[str, RootRegister] = {
        "root-table": RootRegister("Root Table Address Register", {"mode": "scalable", "ssads": True})
    }
    owner_tables: Mapping[str, OwnerImage] = {}

    def __init__(self, page_format: PageFormat, features: IntelFeatures) -> None:
        self.layouts: Mapping[str, Layout] = structure_layouts(features.haw, second_stage_dirty=features.ssads)
        self._features = features
        self._formats = Formats(page_format, features)
        self._scalable = features.scalable(page_format.name)
        self._entries = EntryWriter(self.layouts, features)
        self._live = LiveEntries(self._entries, features, scalable=self._scalable)
        self._steps: Mapping[str, Callable[[Fetch, tuple[int, ...]], Fetch | Found | BadStructure]] = {
            "root": self._root,
            "scalable-root": self._scalable_root,
            "context": self._context,
            "scalable-context": self._scalable_context,
            "pasid-dir": self._directory,
            "pasid": self._pasid,
        }

    # -- reading

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | Found | BadStructure:
        """The root entry of the device's bus; ``base`` is the root table address register."""
        fields = self.layouts["rtaddr"].decode(base)
        here = Fetch("rtaddr", 0, 1, _Request(device, -1))
        if fault := next(self.layouts["rtaddr"].faults(base), None):
            return _bad(here, (base,), 0x30, f"{fault} (INTEL-CTX-5)")
        if fields["TTM"] not in (LEGACY, SCALABLE):
            return _bad(here, (base,), 0x30, f"TTM {fields['TTM']} is no translation mode (INTEL-CTX-5)")
        scalable = fields["TTM"] == SCALABLE
        if pasid is not None and not scalable:
            return _bad(here, (base,), 0x31, "legacy mode takes no requests with PASID (INTEL-FLT-8)")
        request = _Request(device, -1 if pasid is None else pasid)
        return Fetch("scalable-root" if scalable else "root", (fields["RTA"] << 12) + (device >> 8) * 16, 2, request)

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        return self._steps[fetch.structure](fetch, words)

    def _root(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | BadStructure:
        entry = self.layouts["root"].decode(words)
        if not entry["P"]:
            return _bad(fetch, words, 0x01, "P is 0 (INTEL-CTX-1)")
        if fault := next(self.layouts["root"].faults(words), None):
            return _bad(fetch, words, 0x0A, f"{fault} (INTEL-CTX-1)")
        request = _Request(*fetch.context)
        return Fetch("context", (entry["CTP"] << 12) + (request.device & 0xFF) * 16, 2, request)

    def _scalable_root(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | BadStructure:
        """Only the half of the device's own context table counts."""
        request = _Request(*fetch.context)
        upper = request.device >> 7 & 1
        half = (words[0], 0) if not upper else (0, words[1])
        entry = self.layouts["scalable-root"].decode(half)
        if not entry["UP" if upper else "LP"]:
            return _bad(fetch, words, 0x39, f"{'UP' if upper else 'LP'} is 0 (INTEL-CTX-6)")
        if fault := next(self.layouts["scalable-root"].faults(half), None):
            return _bad(fetch, words, 0x3A, f"{fault} (INTEL-CTX-6)")
        table = entry["UCTP" if upper else "LCTP"] << 12
        return Fetch("scalable-context", table + (request.device & 0x7F) * 32, 4, request)

    def _context(self, fetch: Fetch, words: tuple[int, ...]) -> Found | BadStructure:
        entry = self.layouts["context"].decode(words)
        fetch = _seen(fetch, entry)
        if not entry["P"]:
            return _bad(fetch, words, 0x02, "P is 0 (INTEL-CTX-2)")
        if fault := next(self.layouts["context"].faults(words), None):
            return _bad(fetch, words, 0x0B, f"{fault} (INTEL-CTX-2)")
        kind, aw, did = entry["TT"], AW_BITS.get(entry["AW"], 0), entry["DID"]
        if kind == TT_PASS_THROUGH and self._features.pass_through:
            return Found("bypass", None, None, did, silent=_silent(fetch))
        if kind == UNTRANSLATED or (kind == WITH_ATS and self._features.device_tlb):
            if not self._features.walks(aw):
                return _bad(fetch, words, 0x03, f"the unit walks no tables of AW {entry['AW']} (INTEL-SS-18)")
            stage2 = StageRoot(self._formats.second(aw, dirty=False), entry["SSPTPTR"] << 12, did)
            return Found("translate", None, stage2, did, ats=kind == WITH_ATS, silent=_silent(fetch))
        return _bad(fetch, words, 0x03, f"TT {kind} is reserved, or not supported (INTEL-CTX-11)")

    def _scalable_context(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | BadStructure:
        entry = self.layouts["scalable-context"].decode(words)
        fetch = _seen(fetch, entry)
        if not entry["P"]:
            return _bad(fetch, words, 0x41, "P is 0 (INTEL-CTX-7)")
        if fault := next(self.layouts["scalable-context"].faults(words), None):
            return _bad(fetch, words, 0x42, f"{fault} (INTEL-CTX-7)")
        if entry["DTE"] and not self._features.device_tlb:
            return _bad(fetch, words, 0x43, "DTE is 1, but the unit has no ECAP.DT (INTEL-CTX-11)")
        request = _Request(*fetch.context)
        held = _PER_TABLE << entry["PDTS"] + 7
        if request.pasid < 0:
            request = request._replace(pasid=entry["RID_PASID"], privileged=entry["RID_PRIV"])
            if request.pasid >= held:
                return _bad(fetch, words, 0x48, f"RID_PASID {request.pasid:#x} is beyond {held} PASIDs (INTEL-FLT-9)")
        elif not entry["PASIDE"]:
            return _bad(fetch, words, 0x45, "PASIDE is 0 (INTEL-CTX-7)")
        elif request.pasid >> self._features.pasid_bits:
            limit = self._features.pasid_bits
            return _bad(fetch, words, 0x89, f"PASID {request.pasid:#x} has more than {limit} bits (INTEL-CTX-12)")
        elif request.pasid >= held:
            return _bad(fetch, words, 0x46, f"PASID {request.pasid:#x} is beyond {held} PASIDs (INTEL-CTX-7)")
        at = (entry["PASIDDIRPTR"] << 12) + request.pasid // _PER_TABLE * 8
        return Fetch("pasid-dir", at, 1, request._replace(ats=entry["DTE"]))

    def _directory(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | BadStructure:
        entry = self.layouts["pasid-dir"].decode(words)
        fetch = _seen(fetch, entry)
        if not entry["P"]:
            return _bad(fetch, words, 0x51, "P is 0 (INTEL-CTX-8)")
        if fault := next(self.layouts["pasid-dir"].faults(words), None):
            return _bad(fetch, words, 0x52, f"{fault} (INTEL-CTX-8)")
        request = _Request(*fetch.context)
        return Fetch("pasid", (entry["SMPTBLPTR"] << 12) + request.pasid % _PER_TABLE * 64, 8, request)

    def _pasid(self, fetch: Fetch, words: tuple[int, ...]) -> Found | BadStructure:
        entry = self.layouts["pasid"].decode(words)
        fetch = _seen(fetch, entry)
        if not entry["P"]:
            return _bad(fetch, words, 0x59, "P is 0 (INTEL-CTX-3)")
        if fault := next(self.layouts["pasid"].faults(words), None):
            return _bad(fetch, words, 0x5A, f"{fault} (INTEL-CTX-3)")
        if fault := self._unusable(entry):
            return _bad(fetch, words, 0x5B, fault)
        request = _Request(*fetch.context)
        kind, did = entry["PGTT"], entry["DID"]
        if kind in (FIRST, NESTED) and request.privileged and not entry["SRE"]:
            return _bad(fetch, words, 0x5D, "RID_PRIV is 1, but SRE is 0 (INTEL-FLT-10)")
        stage1 = stage2 = None
        if kind in (FIRST, NESTED):
            first = self._formats.first(entry["FSPM"] + 4, extended=bool(entry["EAFE"]))
            stage1 = StageRoot(first, entry["FSPTPTR"] << 12, did | request.pasid << 16)
        if kind in (SECOND, NESTED):
            second = self._formats.second(AW_BITS[entry["AW"]], dirty=bool(entry.get("SSADE")))
            stage2 = StageRoot(second, entry["SSPTPTR"] << 12, did)
        tag = did if kind == SECOND else did | request.pasid << 16
        if kind == PASS_THROUGH:
            return Found("bypass", None, None, tag, ats=bool(request.ats), silent=_silent(fetch))
        return Found("translate", stage1, stage2, tag, ats=bool(request.ats), silent=_silent(fetch))

    def _unusable(self, entry: Mapping[str, int]) -> str | None:
        """Why hardware calls a PASID entry invalid: what it cannot do (INTEL-FLT-10)."""
        kind, features = entry["PGTT"], self._features
        if kind not in (FIRST, SECOND, NESTED, PASS_THROUGH):
            return f"PGTT {kind} is reserved (INTEL-CTX-3)"
        if kind == NESTED and not features.nesting:
            return "PGTT is 3, but the unit has no ECAP.NEST (INTEL-CTX-11)"
        if kind == PASS_THROUGH and not features.pass_through:
            return "PGTT is 4, but the unit has no ECAP.PT (INTEL-CTX-11)"
        if kind in (SECOND, NESTED) and not features.walks(AW_BITS.get(entry["AW"], 0)):
            return f"the unit walks no tables of AW {entry['AW']} (INTEL-SS-18)"
        if kind in (FIRST, NESTED) and (entry["FSPM"] > 1 or (entry["FSPM"] and not features.fs5lp)):
            return f"the unit has no paging mode FSPM {entry['FSPM']} (INTEL-FS-7)"
        return None

    def devices(self, base: int, load: Callable[[int], int]) -> Iterator[range]:
        """Those of buses whose root entry is present; in scalable mode of each half of a bus (INTEL-CTX-6)."""
        fields = self.layouts["rtaddr"].decode(base)
        for bus in range(256):
            try:
                low, high = (load((fields["RTA"] << 12) + 16 * bus + at) for at in (0, 8))
            except BusError:
                return
            if fields["TTM"] == LEGACY and low & 1:
                yield range(bus << 8, bus + 1 << 8)
            for half, word in enumerate((low, high) if fields["TTM"] == SCALABLE else ()):
                if word & 1:
                    yield range((bus << 8) + 128 * half, (bus << 8) + 128 * (half + 1))

    # -- writing

    def stage1_tag(self, tag: int, space: int) -> int:
        """DID of the second stage, with the PASID that a guest's address space has (INTEL-INV-11)."""
        return tag | space << 16

    def setup(
        self, entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None = None
    ) -> StructureImage:
        """Root table and context tables, in scalable mode also directories and PASID tables: none is a guest's."""
        image = Setup(self._entries, tables)
        return image.scalable(entries) if self._scalable else image.legacy(entries)

    def change(self, base: int, entry: StructureEntry, load: Callable[[int], int]) -> Sequence[StructureRound]:
        """P is cleared and that is waited for; then the rest is written, the word with P last (INTEL-CTX-4)."""
        return self._live.change(base, entry, load)


def _seen(fetch: Fetch, entry: Mapping[str, int]) -> Fetch:
    """The fetch, with FPD of its structure remembered, which counts whether or not P is set (INTEL-FLT-13)."""
    request = _Request(*fetch.context)
    return fetch._replace(context=request._replace(recorded=0)) if entry["FPD"] else fetch


def _silent(fetch: Fetch) -> frozenset[str]:
    """Behind a structure with FPD set no fault is recorded, of either stage (INTEL-FLT-13)."""
    return frozenset() if _Request(*fetch.context).recorded else _ALL_FAULTS


def _bad(fetch: Fetch, words: tuple[int, ...], code: int, why: str) -> BadStructure:
    kind = kind_of(code, recorded=bool(_Request(*fetch.context).recorded))
    return BadStructure(fetch.structure, fetch.pa, words, kind, why, absent=code in _ABSENT)
