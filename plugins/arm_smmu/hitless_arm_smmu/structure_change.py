"""Changes an STE or a CD that is in use: an attach, a new root, a fence.

Spec: IHI0070 3.21.3 and 5.4.1. Facts: ARM-STE-4, ARM-STE-12, ARM-CMD-2, ARM-CMD-9.

Hardware reads a structure in single 64-bit units, and may cache any mix of words. So one word may
change at once; where more differ, word 0 turns the structure off first, and requests are aborted
until it is on again. Then all that was made with the old words is invalidated.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    StructureEntry,
    StructureRound,
    StructureStore,
)
from hitless.refresh.commands import Words
from hitless_arm_smmu.command_layouts import ATC_INV, CFGI_CD, CFGI_STE, LAYOUTS, TLBI_NH_ASID, TLBI_S12_VMALL
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.regime import STAGE_1, cd_fields, unfit
from hitless_arm_smmu.structure_layouts import BYPASS, CD, STE
from hitless_arm_smmu.structure_setup import ste_fields

_CONFIG, _V, _CD_V = STE["Config"].mask, STE["V"].mask, CD["V"].mask
_TO_CDS = ("S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS")
_NESTED = 7
_ATC_ALL = 52

Load = Callable[[int], int]


class Reader(Protocol):
    """The reading half of the structures, which finds what is to be changed."""

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | BadStructure:
        """See :class:`hitless.hardware.structures.Structures`."""

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        """See :class:`hitless.hardware.structures.Structures`."""


def change(
    reader: Reader, base: int, entry: StructureEntry, load: Load, features: ArmSmmuFeatures
) -> list[StructureRound]:
    """The rounds after which a device, or one PASID of it, is translated by other tables, by none, or aborted.

    Raises:
        HitlessError: there is no structure to change, or the change needs CDs that nobody set up.
    """
    at = _follow(reader, reader.start(base, entry.device, None), load, "ste")
    old = _words(at, load)
    nested = STE.decode(old)["Config"] == _NESTED or (entry.stage1 is not None and entry.stage2 is not None)
    if entry.pasid is not None and not (nested and entry.blocked):
        return _change_cd(reader, entry, at, old, load, features)
    if entry.blocked:  # of a nested PASID too: its CD is the guest's
        return _change_ste(entry, at.pa, old, (_off(old), *old[1:]))
    fields = ste_fields(entry, features)
    if entry.stage1 is None:
        if STE.decode(old)["S1CDMax"]:
            raise unfit(f"device {entry.device:#x} has CDs for its PASIDs", "set up the unit's structures anew")
        return _change_ste(entry, at.pa, old, STE.encode(**fields))
    new = STE.encode(**fields, **{name: STE.decode(old)[name] for name in _TO_CDS})
    rounds = [] if nested else _change_cd(reader, entry, at, old, load, features)
    return [*rounds, *_change_ste(entry, at.pa, old, new)]


def _change_ste(entry: StructureEntry, pa: int, old: Words, new: Words) -> list[StructureRound]:
    """New words of an STE; what was made with the old ones goes, by VMID."""
    live = bool(old[0] & _V and old[0] & _CONFIG)
    fields = STE.decode(old)
    command = _command(CFGI_STE, SID=entry.device, Leaf=1)
    rounds = _stores(pa, old, new, _off(old) if live else None, command)
    if rounds and live and fields["Config"] != BYPASS:
        rounds.append(StructureRound((), (_command(TLBI_S12_VMALL, VMID=fields["S2VMID"]),)))
        rounds += _atc(entry, fields["EATS"])
    return rounds


def _off(old: Words) -> int:
    """Word 0 of an STE that aborts; it keeps its way to the CDs."""
    return old[0] & ~_CONFIG | _V


def _change_cd(
    reader: Reader, entry: StructureEntry, at: Fetch, ste: Words, load: Load, features: ArmSmmuFeatures
) -> list[StructureRound]:
    """New words of a CD, or V = 0; what was made with the old ones goes, by ASID."""
    fields = STE.decode(ste)
    if not fields["S1ContextPtr"] or fields["Config"] == _NESTED:
        raise unfit(f"device {entry.device:#x} has no CDs of the host", "set up the unit's structures anew")
    pasid = -1 if entry.pasid is None else entry.pasid
    on = ste if fields["Config"] & STAGE_1 else (ste[0] & ~_CONFIG | (BYPASS | STAGE_1) << 1, *ste[1:])
    cd = _follow(reader, reader.step(at._replace(context=(entry.device, pasid)), on), load, "cd")
    old = _words(cd, load)
    if entry.blocked or entry.stage1 is None:
        new: Words = (old[0] & ~_CD_V, *old[1:])
    else:
        new = CD.encode(**cd_fields(entry.stage1, features))
    live = bool(old[0] & _CD_V)
    command = _command(CFGI_CD, SID=entry.device, SSID=max(pasid, 0), Leaf=1)
    rounds = _stores(cd.pa, old, new, old[0] & ~_CD_V if live else None, command)
    if rounds and live:
        asid = CD.decode(old)["ASID"]
        rounds.append(StructureRound((), (_command(TLBI_NH_ASID, VMID=fields["S2VMID"], ASID=asid),)))
        rounds += _atc(entry, fields["EATS"])
    return rounds


def _stores(pa: int, old: Words, new: Words, off: int | None, command: Words) -> list[StructureRound]:
    """Rounds of stores, each with the command that drops the cached structure.

    ``off``: word 0 of a structure in use, turned off; None: it is off, and nothing else of it is looked at.
    """
    now, rounds = list(old), list[StructureRound]()

    def store(indexes: Iterable[int], words: Words) -> None:
        stores = tuple(StructureStore(pa + 8 * i, (now[i],), (words[i],)) for i in indexes if now[i] != words[i])
        if stores:
            rounds.append(StructureRound(stores, (command,)))
        for i in indexes:
            now[i] = words[i]

    changed = [i for i in range(len(old)) if old[i] != new[i]]
    if len(changed) > 1:
        if off is not None:
            store([0], (off,))
        store(range(1, len(old)), new)
    store(changed if len(changed) == 1 else [0], new)
    return rounds


def _follow(reader: Reader, at: Fetch | Found | BadStructure, load: Load, structure: str) -> Fetch:
    """The fetch of a structure on a request's way."""
    while isinstance(at, Fetch):
        if at.structure == structure:
            return at
        at = reader.step(at, _words(at, load))
    why = at.why if isinstance(at, BadStructure) else "nothing leads there"
    raise unfit(f"there is no {structure} to change: {why}", "set up the unit's structures anew")


def _words(fetch: Fetch, load: Load) -> Words:
    return tuple(load(fetch.pa + 8 * i) for i in range(fetch.words))


def _atc(entry: StructureEntry, eats: int) -> list[StructureRound]:
    """With ATS, after the TLBI: everything that the device, or its PASID, holds (ARM-SYNC-4)."""
    if not eats:
        return []
    space = {} if entry.pasid is None else {"SSV": 1, "SSID": entry.pasid}
    return [StructureRound((), (_command(ATC_INV, SID=entry.device, Size=_ATC_ALL, **space),))]


def _command(opcode: int, **fields: int) -> Words:
    return LAYOUTS[opcode].encode(opcode=opcode, **fields)
