"""How one live context or PASID entry comes to say something else.

P is cleared by one store, caches are told, that is waited for; then the other words are written, and the
word with P last. Between the two, requests fault: what they would reach is not the same before and after.

Spec: VT-d 5.10, sections 6.5.2.12 and 6.5.3.3. Facts: INTEL-CTX-4, INTEL-CTX-15, INTEL-QI-9.
"""

from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from hitless.hardware.structures import StructureEntry, StructureRound, StructureStore
from hitless.refresh.commands import Target, Words
from hitless.units import WORD_MAX
from hitless_intel.commands import IntelCommands
from hitless_intel.entries import EntryWriter, effective_pasid, refuse, translation_type
from hitless_intel.features import FIRST_STAGE, SECOND_STAGE, IntelFeatures
from hitless_intel.layouts import NESTED, SECOND, WITH_ATS

_EVERYTHING = Target(0, WORD_MAX, 12, None, True)
_PAGE = ~0xFFF
Load = Callable[[int], int]


@frozen
class _Live:
    """An entry in memory: where it is, what it holds."""

    pa: int
    words: tuple[int, ...]

    @property
    def present(self) -> bool:
        return bool(self.words[0] & 1)

    def cleared(self) -> StructureStore:
        """The store that clears P, and leaves the rest for those who look."""
        return StructureStore(self.pa, self.words[:1], (self.words[0] & ~1,))

    def written(self, new: Sequence[int]) -> tuple[StructureStore, ...]:
        """The stores that make an entry without P say something else: the word with P last."""
        others = [
            StructureStore(self.pa + 8 * i, (old,), (word,))
            for i, (old, word) in enumerate(zip(self.words, new, strict=True))
            if i and old != word
        ]
        return (*others, StructureStore(self.pa, (self.words[0] & ~1,), (new[0],)))


class LiveEntries:
    """Changes the structures that a unit reads."""

    def __init__(self, entries: EntryWriter, features: IntelFeatures, *, scalable: bool) -> None:
        self._entries = entries
        self._layouts = entries.layouts
        self._caching = features.caching_mode
        self._scalable = scalable
        features = evolve(features, mode="scalable" if scalable else "legacy")
        self._second = IntelCommands(features, SECOND_STAGE)
        self._first = IntelCommands(features, FIRST_STAGE)

    def change(self, base: int, entry: StructureEntry, load: Load) -> Sequence[StructureRound]:
        """Up to three rounds; none if the entry says it already."""
        return self._change_pasid(base, entry, load) if self._scalable else self._change_context(base, entry, load)

    # -- legacy mode

    def _change_context(self, base: int, entry: StructureEntry, load: Load) -> Sequence[StructureRound]:
        live = _read(
            _child(load, (base & _PAGE) + (entry.device >> 8) * 16, entry) + (entry.device & 0xFF) * 16, 2, load
        )
        old = self._layouts["context"].decode(live.words)
        drops = [self._second.invalidate_context(entry.device, old["DID"]), *self._second.invalidate_tag(old["DID"])]
        if old["TT"] == WITH_ATS:
            drops += self._second.invalidate_device(_EVERYTHING, entry.device)
        new = None if entry.blocked else self._entries.context(entry)
        appears = [self._second.invalidate_context(entry.device, 0), *self._second.invalidate_tag(entry.tag)]
        return self._rounds(live, new, drops, appears)

    # -- scalable mode

    def _change_pasid(self, base: int, entry: StructureEntry, load: Load) -> Sequence[StructureRound]:
        table_pa = _child(load, (base & _PAGE) + (entry.device >> 7) * 8, entry)
        context = _read(table_pa + (entry.device & 0x7F) * 32, 4, load)
        fields = self._layouts["scalable-context"].decode(context.words)
        if entry.blocked and entry.pasid is None:
            return self._block(context, entry.device, ats=bool(fields["DTE"]))
        if entry.ats and not fields["DTE"]:
            refuse(entry, "DTE of the context entry is 0", "INTEL-CTX-7", "ask for ATS when the structures are set up")
        pasid = effective_pasid(entry)
        if entry.pasid is None and pasid != fields["RID_PASID"] and not entry.blocked:
            refuse(entry, f"RID_PASID is not {pasid:#x}", "INTEL-CTX-7", "tag it with the RID_PASID of the device")
        if pasid >> 6 >> fields["PDTS"] + 7:
            refuse(entry, "the PASID is beyond the directory", "INTEL-CTX-7", "name it when the structures are set up")
        table_pa = _child(load, (fields["PASIDDIRPTR"] << 12) + (pasid >> 6) * 8, entry)
        live = _read(table_pa + (pasid & 63) * 64, 8, load)
        new = None if entry.blocked else self._entries.pasid(entry)
        old = self._layouts["pasid"].decode(live.words)
        drops = [self._second.invalidate_pasid_entry(old["DID"], pasid)]
        drops += self._drop_all(old["PGTT"], old["DID"], pasid)
        if fields["DTE"]:
            drops += self._second.invalidate_device(_EVERYTHING, entry.device, entry.pasid)
        did = entry.tag & 0xFFFF
        appears = [self._second.invalidate_pasid_entry(did, pasid)]
        appears += self._drop_all(translation_type(entry), did, pasid)
        rounds = self._rounds(live, new, drops, appears)
        return rounds if context.present or entry.blocked else [*rounds, self._unblock(context, entry.device)]

    def _drop_all(self, kind: int, did: int, pasid: int) -> Sequence[Words]:
        """Every translation that an entry of this type gave: filed under DID, or under DID and PASID (INTEL-INV-11)."""
        if kind == SECOND:
            return self._second.invalidate_tag(did)
        found = [*self._first.invalidate_tag(did | pasid << 16)]
        return [*found, *self._second.invalidate_tag(did)] if kind == NESTED else found

    def _block(self, context: _Live, device: int, *, ats: bool) -> Sequence[StructureRound]:
        """The whole device: its context entry goes, and with it what any PASID of it had cached (INTEL-CTX-15)."""
        if not context.present:
            return []
        commands = [self._second.invalidate_context(device, 0), self._second.invalidate_every_pasid_entry()]
        commands.append(self._second.invalidate_everything())
        commands += [*self._second.invalidate_whole_device(device)] if ats else []
        return [StructureRound((context.cleared(),), tuple(commands))]

    def _unblock(self, context: _Live, device: int) -> StructureRound:
        new = (context.words[0] | 1, *context.words[1:])
        commands = (self._second.invalidate_context(device, 0),) if self._caching else ()
        return StructureRound(context.written(new), commands)

    def _rounds(
        self, live: _Live, new: Words | None, drops: Sequence[Words], appears: Sequence[Words]
    ) -> Sequence[StructureRound]:
        """Out and in again; what appears needs a command only where not-present entries are cached (INTEL-INV-6)."""
        if live.words == new:
            return []
        rounds = [StructureRound((live.cleared(),), tuple(drops))] if live.present else []
        if new is not None:
            rounds.append(StructureRound(live.written(new), tuple(appears) if self._caching else ()))
        return rounds


def _read(pa: int, count: int, load: Load) -> _Live:
    return _Live(pa, tuple(load(pa + 8 * i) for i in range(count)))


def _child(load: Load, pa: int, entry: StructureEntry) -> int:
    """The table that an entry above points to; it must be there, since a change has no memory for tables."""
    word = load(pa)
    if not word & 1:
        refuse(
            entry,
            f"the entry at {pa:#x} is not present",
            "INTEL-CTX-4",
            "name the device when the structures are set up",
        )
    return word & _PAGE
