"""The words of context and PASID entries that say what is asked for.

Spec: VT-d 5.10, sections 9.3, 9.4 and 9.6. Facts: INTEL-CTX-*.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from hitless.bits import Layout
from hitless.errors import HitlessError
from hitless.hardware.structures import StructureEntry
from hitless.refresh.commands import Words
from hitless_intel.features import IntelFeatures
from hitless_intel.first_stage import FirstStage
from hitless_intel.layouts import (
    AW_BITS,
    FIRST,
    NESTED,
    PASS_THROUGH,
    SECOND,
    TT_PASS_THROUGH,
    UNTRANSLATED,
    WITH_ATS,
)
from hitless_intel.second_stage import SecondStage

_AW_OF = {bits: value for value, bits in AW_BITS.items()}
DID = 0xFFFF


def effective_pasid(entry: StructureEntry) -> int:
    """The PASID that requests are translated under: for those without one RID_PASID, which we take from the tag.

    A first-stage tag holds it; over a second stage alone it is 0 (INTEL-CTX-7, INTEL-INV-11).
    """
    if entry.pasid is not None:
        return entry.pasid
    return entry.tag >> 16 if entry.stage1 is not None else 0


def refuse(entry: StructureEntry, what: str, fact: str, do: str) -> NoReturn:
    """Raise for what the structures cannot say."""
    where = f"device {entry.device:#x}" + ("" if entry.pasid is None else f", PASID {entry.pasid:#x}")
    raise HitlessError(what, who="intel", where=where, rule=fact, do=do)


class EntryWriter:
    """Encodes entries, and refuses what a unit with these features could not use."""

    def __init__(self, layouts: Mapping[str, Layout], features: IntelFeatures) -> None:
        self.layouts = layouts
        self._features = features

    def context(self, entry: StructureEntry) -> Words:
        """A legacy context entry, P set."""
        if entry.stage1 is not None or entry.pasid is not None:
            refuse(entry, "legacy mode has neither first stage nor PASIDs", "INTEL-CTX-5", "use mode scalable")
        self._check(entry)
        tag = {"P": 1, "DID": entry.tag}
        if entry.stage2 is None:
            return self.layouts["context"].encode(TT=TT_PASS_THROUGH, AW=self._widest, **tag)
        return self.layouts["context"].encode(
            TT=WITH_ATS if entry.ats else UNTRANSLATED,
            AW=_AW_OF[self._second(entry).aw],
            SSPTPTR=entry.stage2.root_pa >> 12,
            **tag,
        )

    def scalable_context(self, entries: Sequence[StructureEntry], directory_pa: int, pdts: int) -> Words:
        """A scalable-mode context entry for all that is asked of one device, P set."""
        return self.layouts["scalable-context"].encode(
            P=1,
            DTE=int(any(each.ats for each in entries)),
            PASIDE=int(any(each.pasid is not None for each in entries)),
            PDTS=pdts,
            PASIDDIRPTR=directory_pa >> 12,
            RID_PASID=next((effective_pasid(each) for each in entries if each.pasid is None), 0),
        )

    def pasid(self, entry: StructureEntry) -> Words:
        """A PASID table entry, P set."""
        self._check(entry)
        # Without a second stage AW says nothing, but emulators measure canonical addresses by it (INTEL-CTX-19).
        fields = {"P": 1, "DID": entry.tag & DID, "PWSNP": int(self._features.coherent), "AW": self._widest}
        if entry.stage1 is not None:
            first = entry.stage1.page_format
            if not isinstance(first, FirstStage):
                refuse(entry, f"{first.name} is no first-stage format", "INTEL-CTX-3", "use intel/first-stage")
            fields |= {"FSPM": len(first.levels) - 4, "EAFE": int(first.extended)}
            fields["FSPTPTR"] = entry.stage1.root_pa >> 12
        if entry.stage2 is not None:
            second = self._second(entry)
            fields |= {"AW": _AW_OF[second.aw], "SSPTPTR": entry.stage2.root_pa >> 12}
            fields |= {"SSADE": 1} if second.dirty else {}
        return self.layouts["pasid"].encode(PGTT=translation_type(entry), **fields)

    @property
    def _widest(self) -> int:
        """AW of the widest second-stage tables that the unit walks."""
        return max(value for value, bits in AW_BITS.items() if self._features.walks(bits))

    def _second(self, entry: StructureEntry) -> SecondStage:
        second = entry.stage2.page_format if entry.stage2 else None
        if not isinstance(second, SecondStage):
            refuse(
                entry, f"{second and second.name} is no second-stage format", "INTEL-CTX-3", "use intel/second-stage"
            )
        return second

    def _check(self, entry: StructureEntry) -> None:
        """What a unit must have for an entry, and whether its tag holds what the entry can say."""
        features, kind = self._features, translation_type(entry)
        if entry.ats and not features.device_tlb:
            refuse(entry, "ATS on a unit without device TLBs", "INTEL-CTX-11", "set device_tlb, or leave ATS out")
        more = entry.ats or kind == NESTED or entry.pasid is not None
        if more and features.half == "private" and not features.trusted_ats:
            refuse(
                entry,
                "ATS, PASIDs and nested tables are not for trusted devices",
                "INTEL-TDX-11",
                "set trusted_ats, or attach it with its secure EPT alone",
            )
        if kind == PASS_THROUGH and not features.pass_through:
            refuse(entry, "the unit lets nothing through untranslated", "INTEL-CTX-11", "give a table, or block it")
        if kind == NESTED and not features.nesting:
            refuse(entry, "the unit cannot nest translations", "INTEL-CTX-11", "set nesting, or give one table")
        if effective_pasid(entry) >> features.pasid_bits:
            refuse(entry, f"a PASID has {features.pasid_bits} bits here", "INTEL-CTX-12", "use a smaller PASID")
        above = effective_pasid(entry) if entry.stage1 is not None else 0
        if entry.tag >> 16 != above:
            refuse(
                entry, f"tag {entry.tag:#x} does not hold PASID {above:#x}", "INTEL-INV-11", "tag it DID | PASID << 16"
            )
        if entry.stage2 is not None and entry.stage2.tag != entry.tag & DID:
            refuse(entry, f"second stage of tag {entry.stage2.tag:#x}", "INTEL-INV-1", "tag it with the DID")


def translation_type(entry: StructureEntry) -> int:
    """PGTT of an entry (INTEL-CTX-3)."""
    if entry.stage1 is not None:
        return FIRST if entry.stage2 is None else NESTED
    return PASS_THROUGH if entry.stage2 is None else SECOND


def check_domains(entries: Sequence[StructureEntry]) -> None:
    """First-stage and pass-through entries share no DID with second-stage and nested ones (INTEL-CTX-10)."""
    second = {each.tag & DID for each in entries if each.stage2 is not None}
    for each in entries:
        if each.stage2 is None and each.tag & DID in second:
            what = f"DID {each.tag & DID:#x} is also a second-stage table's"
            refuse(each, what, "INTEL-CTX-10", "give first-stage and pass-through entries a DID of their own")
