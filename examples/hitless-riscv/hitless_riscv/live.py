"""How one live device or process context comes to say something else.

V is cleared by one store, the directory caches are told, then the translation caches, then the device, and each is
waited for: commands may be executed out of order. Then the other words are written, and the one with V last; what was
not valid is cached nowhere, so that nothing follows.

Spec: RISC-V IOMMU 1.0, software guidelines. Facts: RISCV-LIVE-6, RISCV-LIVE-7, RISCV-LIVE-8, RISCV-INV-12.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    StructureEntry,
    StructureRound,
    StructureStore,
)
from hitless.refresh.commands import Target, Words
from hitless.units import WORD_MAX
from hitless_riscv.command_layouts import INVAL_DDT, INVAL_PDT, VMA
from hitless_riscv.commands import RiscvCommands, head
from hitless_riscv.contexts import BARE, ContextWriter, unfit

_DV, _GV, _PSCV = 1 << 33, 1 << 33, 1 << 32
_EVERYTHING = Target(0, WORD_MAX, 12, None, tables=True)


class Reader(Protocol):
    """The reading half of the structures, which finds what is to be changed."""

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | Found | BadStructure:
        """See :class:`hitless.hardware.structures.Structures`."""

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        """See :class:`hitless.hardware.structures.Structures`."""


class LiveContexts:
    """Changes contexts that a unit reads.

    Args:
        reader: finds them.
        contexts: makes their words.
        first, second: commands of stage 1 of a host, and of stage 2.
        load: reads one word of memory.
    """

    def __init__(
        self,
        reader: Reader,
        contexts: ContextWriter,
        first: RiscvCommands,
        second: RiscvCommands,
        load: Callable[[int], int],
    ) -> None:
        self._reader, self._contexts, self._load = reader, contexts, load
        self._first, self._second = first, second

    def change(self, base: int, entry: StructureEntry) -> Sequence[StructureRound]:
        """The rounds after which a device, or one PASID of it, is translated by other tables, by none, or aborted.

        Raises:
            HitlessError: there is no context to change, or the change needs a process directory that nobody set up.
        """
        at = self._follow(entry, self._reader.start(base, entry.device, None), "dc")
        old = self._words(at)
        fields = self._contexts.layouts["dc"].decode(old)
        if entry.blocked and (entry.pasid is None or fields["iohgatp.MODE"] != BARE):
            return self._change_device(entry, at.pa, old, (old[0] & ~1, *old[1:]))  # a nested PASID's is its guest's
        if entry.pasid is not None:
            return self._change_process(entry, at, old, entry.pasid)
        if not fields["tc.PDTV"]:
            return self._change_device(entry, at.pa, old, self._contexts.device(entry))
        if entry.stage1 is not None and (entry.stage2 is not None or not fields["tc.DPE"]):
            why = "its process directory is its guest's, or has no process 0 for requests without PASID"
            raise unfit(entry, why, "RISCV-PC-6", "set up the unit's structures anew")
        kept = {name: fields[name] for name in ("tc.PDTV", "fsc.MODE", "fsc.PPN")}
        new = self._contexts.device(entry._replace(stage1=None), **kept, **{"tc.DPE": int(entry.stage1 is not None)})
        rounds = self._change_device(entry, at.pa, old, new)
        return [*(self._change_process(entry, at, new, 0) if entry.stage1 else ()), *rounds]

    def _change_device(self, entry: StructureEntry, pa: int, old: Words, new: Words) -> list[StructureRound]:
        """Other words of a device context; with it go its process contexts, and all that they gave."""
        fields = self._contexts.layouts["dc"].decode(old)
        command = (head(INVAL_DDT) | _DV | entry.device << 40, 0)
        if fields["iohgatp.MODE"] != BARE:
            gscid = fields["iohgatp.GSCID"]
            gone = [*self._second.invalidate_tag(gscid), (head(VMA) | _GV | gscid << 44, 0)]
        elif fields["tc.PDTV"]:
            gone = [(head(VMA), 0)]  # of every PSCID that its processes have
        else:
            gone = [*self._first.invalidate_tag(fields["ta.PSCID"])] if fields["fsc.MODE"] != BARE else []
        devices: list[Words] = []
        if fields["tc.EN_ATS"]:
            devices += self._first.invalidate_device(_EVERYTHING, entry.device)
            devices += [self._first.invalidate_whole_device(entry.device)] if fields["tc.PDTV"] else []
        return _rounds(pa, old, new, command, gone, devices)

    def _change_process(self, entry: StructureEntry, dc: Fetch, words: Words, pasid: int) -> list[StructureRound]:
        """Other words of a process context of the host's."""
        device = self._contexts.layouts["dc"].decode(words)
        if not device["tc.PDTV"] or device["iohgatp.MODE"] != BARE:
            raise unfit(entry, "it has no process directory of the host's", "RISCV-PC-7", "set it up anew")
        on = (words[0] | 1, *words[1:])
        at = self._follow(entry, self._reader.step(dc._replace(context=(entry.device, pasid)), on), "pc")
        old = self._words(at)
        new = (old[0] & ~1, *old[1:]) if entry.blocked or entry.stage1 is None else self._contexts.process(entry)
        pscid = self._contexts.layouts["pc"].decode(old)["ta.PSCID"]
        command = (head(INVAL_PDT) | _DV | entry.device << 40 | pasid << 12, 0)
        devices: Sequence[Words] = ()
        if device["tc.EN_ATS"]:
            devices = self._first.invalidate_device(_EVERYTHING, entry.device, entry.pasid)
        return _rounds(at.pa, old, new, command, self._first.invalidate_tag(pscid), devices)

    def _follow(self, entry: StructureEntry, at: Fetch | Found | BadStructure, structure: str) -> Fetch:
        """The fetch of a structure on a request's way."""
        while isinstance(at, Fetch):
            if at.structure == structure:
                return at
            at = self._reader.step(at, self._words(at))
        why = at.why if isinstance(at, BadStructure) else "nothing leads there"
        raise unfit(entry, f"there is no {structure} to change: {why}", "RISCV-DC-4", "name it when they are set up")

    def _words(self, fetch: Fetch) -> Words:
        return tuple(self._load(fetch.pa + 8 * i) for i in range(fetch.words))


def _rounds(
    pa: int, old: Words, new: Words, command: Words, gone: Sequence[Words], devices: Sequence[Words]
) -> list[StructureRound]:
    """Out and in again; none if the context says it already."""
    if old == new or not (old[0] & 1 or new[0] & 1):
        return []
    rounds: list[StructureRound] = []
    off = old[0] & ~1
    if old[0] & 1:
        rounds.append(StructureRound((StructureStore(pa, old[:1], (off,)),), (command,)))
        rounds += [StructureRound((), tuple(commands)) for commands in (gone, devices) if commands]
    if new[0] & 1:
        stores = [
            StructureStore(pa + 8 * i, (before,), (after,))
            for i, (before, after) in enumerate(zip(old, new, strict=True))
            if i and before != after
        ]
        rounds.append(StructureRound((*stores, StructureStore(pa, (off,), new[:1])), ()))
    return rounds
