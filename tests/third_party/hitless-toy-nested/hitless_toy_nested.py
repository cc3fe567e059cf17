"""The toy's next generation: a device table, and a guest's stage 1 over the toy's tables. Nobody built TOY-9 to 13."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from attrs import evolve
from hitless_toy import KINDS, Flat, ToyCommands, ToyEvents, ToyPlugin, V

from hitless.bits import Field, Layout, bit, reserved
from hitless.hardware.facts import Drops, DropsStructure, Effect, FaultRecord, Illegal
from hitless.hardware.structures import (
    BadStructure,
    Fetch,
    Found,
    StageRoot,
    StructureEntry,
    StructureImage,
    StructureRound,
    StructureStore,
    TableSource,
)
from hitless.plugin import hookimpl
from hitless.refresh.commands import Target, Words

ROOT, TAG = Field("root", 51, 12), Field("tag", 63, 52)
FLAGS = (V, bit("N", 1, "nested"), bit("A", 2, "ATS"), bit("S", 3, "stop"), bit("P", 4, "pass through"))
GUEST = (Field("space", 115, 76, "GPA of the guest's space, in pages"), reserved(75, 64), reserved(127, 116))
DEVICE = Layout("toy device", "TOY-9", (*FLAGS, reserved(11, 5), ROOT, TAG, *GUEST), 128)
SPACE = Layout("toy space", "TOY-10", (V, reserved(11, 1), ROOT, Field("number", 63, 52)))
DEVICES_LG2 = 8
FORGET = Layout("FORGET", "TOY-11", (Field("device", 15, 0), reserved(59, 16), Field("opcode", 63, 60, fixed=3)))
UNNEST = Layout("UNNEST", "TOY-12", (Field("tag", 11, 0), reserved(59, 12), Field("opcode", 63, 60, fixed=4)))
MORE = {3: FORGET, 4: UNNEST}
ALL_KINDS = (*KINDS, "fetch", "device", "space", "command")


class Upper(Flat):
    """The same tables, owned by a guest."""

    name, source, stage = "toy/upper", "TOY-10", "1"


class ToyStructures:
    """Two words for each device; the second one leads to one word in guest memory."""

    layouts: ClassVar = {"device": DEVICE, "space": SPACE}

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | Found | BadStructure:
        if device >> (base & 0xFFF) or pasid is not None:
            return BadStructure("device", 0, (), "device", "no such device, or a PASID (TOY-9)")
        return Fetch("device", (base & ROOT.mask) + 16 * device, 2)

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        layout = self.layouts[fetch.structure]
        field = layout.decode(words)
        if fault := next(layout.faults(words), "" if field["V"] else "V is clear"):
            return BadStructure(fetch.structure, fetch.pa, words, fetch.structure, fault)
        if fetch.stage2 is not None:
            tag = self.stage1_tag(fetch.stage2.tag, field["number"])
            upper = StageRoot(Upper(), field["root"] << 12, tag)
            return Found("translate", upper, fetch.stage2, tag, ats=bool(fetch.context[0]))
        lower = StageRoot(Flat(), field["root"] << 12, field["tag"])
        if field["N"]:
            return Fetch("space", field["space"] << 12, 1, (field["A"],), lower)
        mode = "abort" if field["S"] else "bypass" if field["P"] else "translate"
        return Found(mode, None, lower if mode == "translate" else None, field["tag"], ats=bool(field["A"]))

    def stage1_tag(self, tag: int, space: int) -> int:
        return tag | space << 16

    def setup(
        self, entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None = None
    ) -> StructureImage:
        table = tables.allocate(DEVICES_LG2 + 4)
        writes, owned = [], []
        for entry in entries:
            space = 0
            if entry.stage1 is not None and guest is not None:
                space, root = guest.allocate(), entry.stage1.root_pa >> 12
                owned.append((space, SPACE.encode(V=1, root=root, number=entry.stage1.tag >> 16)))
            writes.append((table + 16 * entry.device, self.words(entry, space >> 12)))
        return StructureImage(table | DEVICES_LG2, tuple(writes), ((table, DEVICES_LG2 + 4),), tuple(owned))

    def words(self, entry: StructureEntry, space: int) -> tuple[int, ...]:
        nested, second = entry.stage1 is not None, entry.stage2
        if entry.blocked or second is None:
            return DEVICE.encode(V=1, S=int(entry.blocked), P=int(not entry.blocked), tag=entry.tag & TAG.ones)
        root = second.root_pa >> 12
        return DEVICE.encode(V=1, N=int(nested), A=int(entry.ats), root=root, tag=second.tag, space=space)

    def change(self, base: int, entry: StructureEntry, load: Callable[[int], int]) -> Sequence[StructureRound]:
        pa = (base & ROOT.mask) + 16 * entry.device
        now = load(pa), load(pa + 8)
        store = StructureStore(pa, now, self.words(entry, now[1] >> 12))
        return [StructureRound((store,), ((*FORGET.encode(device=entry.device), 0),))]


class NestedCommands(ToyCommands):
    """DROP reaches stage 2 only; UNNEST what was made through it; FORGET a device's structures."""

    def invalidate_nested(self, tag: int) -> Sequence[Words]:
        return [(*UNNEST.encode(tag=tag), 0)]

    def invalidate_device(self, target: Target, device: int) -> Sequence[Words]:
        return super().invalidate_device(target._replace(last=min(target.last, 0xFFFF_FFFF)), device)

    def decode(self, words: Words) -> Sequence[Effect]:
        layout = MORE.get(words[0] >> 60)
        if layout is None:
            found = super().decode(words)
            own = [isinstance(effect, Drops) and effect.device is None for effect in found]
            return [evolve(e, stages=frozenset({"2"})) if o else e for e, o in zip(found, own, strict=True)]
        if words[1] or any(layout.faults(words[0])):
            return [Illegal(layout.source, "a reserved bit is set")]
        if layout is FORGET:
            return [DropsStructure("TOY-11", device=words[0] & 0xFFFF)]
        return [Drops("TOY-12", True, True, words[0] & 0xFFF, tag_mask=0xFFFF, stages=frozenset({"1", "12"}))]

    def describe(self, words: Words) -> str:
        layout = MORE.get(words[0] >> 60)
        return super().describe(words) if layout is None else f"{layout.name} {words[0] & 0xFFFF:#x}"


class NestedEvents(ToyEvents):
    """The toy's records; of what stage 2 refused, the guest physical address; of a command, where it lay."""

    def encode(self, fault: FaultRecord) -> Words | None:
        address = fault.iova if fault.gpa is None else fault.gpa
        return (fault.device | fault.write << 16 | ALL_KINDS.index(fault.kind) << 32, address)

    def decode(self, words: Words) -> dict[str, int | str]:
        return {"event": ALL_KINDS[words[0] >> 32], "device": words[0] & 0xFFFF, "address": words[1]}

    def illegal_command(self, words: Words, pa: int) -> Words | None:
        return (ALL_KINDS.index("command") << 32, pa)


class NestedToy(ToyPlugin):
    """The toy, and what it has learned."""

    title = "The toy IOMMU, nested"
    page_formats = hookimpl(lambda self, features: {Flat.name: Flat(), Upper.name: Upper()})
    commands = hookimpl(lambda self: NestedCommands())
    events = hookimpl(lambda self: NestedEvents())
    structures = hookimpl(lambda self: ToyStructures())


plugin = NestedToy()
