"""Device table and GCR3 tables: what stands before AMD's page tables.

Spec: 48882 sections 2.2.2 (device table) and 2.2.6 (guest tables). Facts: AMD-DTE-*, AMD-GCR-*.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from hitless.bits import Layout
from hitless.errors import HitlessError
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
    StructureStore,
    TableSource,
)
from hitless.pagetable import READ, WRITE, PageFormat
from hitless.refresh.commands import Target, Words
from hitless.units import WORD_MAX
from hitless_amd.commands import INVALIDATE_DEVTAB_ENTRY, AmdCommands
from hitless_amd.dte import ADDRESS, DTE, GCR3, Gcr3Tables, encode, gcr3_fields, gcr3_table, pasids
from hitless_amd.features import AmdFeatures
from hitless_amd.formats import v1_format, v2_format
from hitless_amd.rmp_image import read_rmp
from hitless_amd.sdte import SDTE
from hitless_amd.v1 import AmdV1
from hitless_amd.v2 import AmdV2

_DEVICES_PER_PAGE = 4096 // 32
_NO_TRANSLATION, _RESERVED_MODE = 0, 7
_BAD, _BAD_RZ = "ILLEGAL_DEV_TABLE_ENTRY", "ILLEGAL_DEV_TABLE_ENTRY RZ"
_EVERYTHING = Target(0, WORD_MAX, 12, None, tables=True)


class AmdStructures:
    """The device table, and the GCR3 tables below it.

    The base register is the Device Table Base Address: bits 8:0 the table's 4K pages minus 1, bits 51:12 its
    address (AMD-DTE-20). A tag is DomainID | PASID << 16.
    """

    layouts: Mapping[str, Layout] = {
        "dte": DTE,
        "gcr3": GCR3,
        "gcr3-level2": GCR3,
        "gcr3-level3": GCR3,
        "sdte": SDTE,
    }
    not_modelled = (
        *(
            f"{what}: their fields have no effect"
            for what in (
                "interrupt remapping",
                "page requests (PPR, GPRP)",
                "exclusion ranges",
                "system management and port I/O control",
                "virtual IOMMUs",
            )
        ),
        "GCR3 tables at guest physical addresses (GCR3TRPMode)",
    )
    registers: Mapping[str, RootRegister] = {
        "device-table": RootRegister("Device Table Base Address Register", {"snp": False, "glx": 2})
    }
    owner_tables: Mapping[str, OwnerImage] = {
        "rmp": OwnerImage(
            "RMP_BASE, MSR C001_0132",
            read_rmp,
            {"rmp_end": "RMP_END, MSR C001_0133: the last byte of the table"},
            {"snp": True},
        )
    }

    def __init__(self, page_format: PageFormat, features: AmdFeatures) -> None:
        self._features = features
        self._formats: dict[tuple[str, int], PageFormat] = {(page_format.name, len(page_format.levels)): page_format}
        self._c = 1 << features.c_bit if features.c_bit else 0
        self._v1 = AmdCommands(v1_format(features, features.mode), features)
        self._v2 = AmdCommands(v2_format(features, features.guest_levels), features)

    # -- what hardware reads

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | Found | BadStructure:
        pa = (base & ADDRESS & ~self._c) + 32 * device
        if device >= ((base & 0x1FF) + 1) * _DEVICES_PER_PAGE:
            why = "the device table ends before this DeviceID (AMD-DTE-21)"
            return BadStructure("dte", pa, (), _BAD, why, absent=True)
        return Fetch("dte", pa, 4, () if pasid is None else (pasid,))

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        if fetch.structure == "dte":
            return self._device(fetch, words)
        return self._gcr3(fetch, words)

    def _device(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        dte = DTE.decode(words)
        if not dte["V"]:
            return Found("abort" if self._features.snp else "bypass", None, None, 0)
        if fault := self._fault(words, dte):
            return BadStructure("dte", fetch.pa, words, *fault)
        if not dte["TV"]:
            return Found("abort", None, None, dte["DomainID"])
        pasid = fetch.context[0] if fetch.context else None
        if pasid is not None and not dte["GV"]:
            why = "a request with a PASID, and GV = 0 (AMD-DTE-22)"
            return BadStructure("dte", fetch.pa, words, "INVALID_DEVICE_REQUEST", why)
        if pasid is None and not (dte["GV"] and dte["GIOV"]):
            return self._found(words, None, dte["DomainID"])
        return self._gcr3_entry(dte["GLX"], gcr3_table(words), pasid or 0, words)

    def _fault(self, words: tuple[int, ...], dte: Mapping[str, int]) -> tuple[str, str] | None:
        """Event and reason of a DTE that hardware refuses (AMD-DTE-15)."""
        if reason := next(iter(DTE.faults(words)), None):
            return _BAD_RZ, f"{reason} (AMD-DTE-14)"
        if not dte["TV"]:
            return None
        levels = 4 + self._features.hats
        if dte["Mode"] == _RESERVED_MODE or dte["Mode"] > levels:
            return _BAD_RZ, f"Mode {dte['Mode']} is reserved, or above the {levels} levels of EFR.HATS (AMD-LVL-14)"
        if dte["HAD"] == 2:
            return _BAD_RZ, "HAD = 2 is reserved (AMD-DTE-5)"
        if dte["GV"] and dte["GLX"] > self._features.glx:
            return _BAD_RZ, f"GLX {dte['GLX']} is reserved, or above EFR.GLX = {self._features.glx} (AMD-GCR-2)"
        if dte["GV"] and dte["GuestPagingMode"] > 1:
            return _BAD_RZ, f"GuestPagingMode {dte['GuestPagingMode']} is reserved (AMD-DTE-19)"
        if self._features.snp and (dte["Mode"] == _NO_TRANSLATION or dte["DomainID"] == 0):
            return _BAD, "with SNP, TV needs a v1 table and a DomainID other than 0 (AMD-RMP-15, AMD-DTE-16)"
        return None

    def _gcr3_entry(self, level: int, table: int, pasid: int, dte: tuple[int, ...]) -> Fetch | BadStructure:
        """The read of a GCR3 entry at a level counted from 0 (AMD-GCR-2)."""
        name = "gcr3" if level == 0 else f"gcr3-level{level + 1}"
        index = pasid >> 9 * level
        pa = (table & ~self._c) + 8 * (index & 511)
        if level == DTE.decode(dte)["GLX"] and index > 511:
            return BadStructure(name, pa, (), "not-present", f"PASID {pasid:#x} is beyond the GCR3 table (AMD-GCR-3)")
        return Fetch(name, pa, 1, (level, pasid, *dte))

    def _gcr3(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        level, pasid, *dte = fetch.context
        if not words[0] & 1:
            why = f"PASID {pasid:#x} has no v2 table (AMD-GCR-3)"
            return BadStructure(fetch.structure, fetch.pa, words, "not-present", why, absent=True)
        if reason := next(iter(GCR3.faults(words)), None):
            return BadStructure(fetch.structure, fetch.pa, words, "reserved", f"{reason} (AMD-GCR-5)")
        address = words[0] & ADDRESS
        if level:
            return self._gcr3_entry(level - 1, address, pasid, tuple(dte))
        fields = DTE.decode(dte)
        tag = fields["DomainID"] | pasid << 16
        guest = self._format(AmdV2.name, 4 + fields["GuestPagingMode"])
        return self._found(tuple(dte), StageRoot(guest, address & ~self._c, tag), tag)

    def _found(self, dte: tuple[int, ...], stage1: StageRoot | None, tag: int) -> Found:
        fields = DTE.decode(dte)
        stage2 = None
        if fields["Mode"] != _NO_TRANSLATION:
            host = self._format(AmdV1.name, fields["Mode"])
            stage2 = StageRoot(host, dte[0] & ADDRESS & ~self._c, fields["DomainID"])
        rights = READ * fields["IR"] | WRITE * fields["IW"]
        return Found("translate" if stage1 or stage2 else "bypass", stage1, stage2, tag, rights, bool(fields["I"]))

    def _format(self, name: str, levels: int) -> PageFormat:
        found = self._formats.get((name, levels))
        if found is None:
            make = v1_format if name == AmdV1.name else v2_format
            found = self._formats[name, levels] = make(self._features, levels)
        return found

    def devices(self, base: int, load: Callable[[int], int]) -> Iterator[range]:
        """As many as the table has entries (AMD-DTE-20)."""
        yield range(((base & 0x1FF) + 1) * _DEVICES_PER_PAGE)

    # -- what software writes

    def stage1_tag(self, tag: int, space: int) -> int:
        """DomainID | PASID << 16 (AMD-INV-7)."""
        return tag | space << 16

    def setup(
        self, entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None = None
    ) -> StructureImage:
        """A device table up to the highest DeviceID; who is not named is held off by V = 1, TV = 0 (AMD-DTE-7).

        All of it lies in host memory, GCR3 tables too (AMD-GCR-4).
        """
        devices: dict[int, list[StructureEntry]] = {}
        for entry in entries:
            devices.setdefault(entry.device, []).append(entry)
        pages = max(devices, default=0) // _DEVICES_PER_PAGE + 1
        size_lg2 = 12 + (pages - 1).bit_length()
        table = tables.allocate(size_lg2)
        blocks = [(table, size_lg2)]
        writes: list[tuple[int, tuple[int, ...]]] = []
        words = list(self._blocked()) * (pages * _DEVICES_PER_PAGE)
        for device, named in devices.items():
            gcr3 = self._gcr3_tables(named, tables)
            words[4 * device : 4 * device + 4] = self._entry(named, gcr3.root if gcr3 else None)
            if gcr3:
                writes += gcr3.writes
                blocks += [(pa, 12) for pa in gcr3.pages]
        writes.insert(0, (table, tuple(words)))
        return StructureImage(table | self._c | pages - 1, tuple(writes), tuple(blocks))

    def _gcr3_tables(self, entries: Sequence[StructureEntry], tables: TableSource) -> Gcr3Tables | None:
        """The GCR3 tables of a device; None where no PASID of it has a v2 table."""
        made: Gcr3Tables | None = None
        for entry in entries:
            if entry.stage1 is None:
                continue
            made = made or Gcr3Tables(self._features.glx + 1, self._c, tables)
            if (entry.pasid or 0) >> 9 * made.levels:
                why = f"PASID {entry.pasid:#x} is beyond GCR3 tables of {made.levels} levels"
                raise _cannot(entry, why, "AMD-GCR-2")
            made.set(entry.pasid or 0, 0 if entry.blocked else self._gcr3_word(entry))
        return made

    def _gcr3_word(self, entry: StructureEntry) -> int:
        """The GCR3 entry of a PASID; guest physical addresses have no C-bit."""
        if entry.stage1 is None:
            return 0
        return entry.stage1.root_pa | GCR3["V"].mask | (0 if entry.stage2 else self._c)

    def _blocked(self) -> tuple[int, ...]:
        return encode({"V": 1})

    def _entry(self, entries: Sequence[StructureEntry], gcr3: int | None) -> tuple[int, ...]:
        """The DTE of a device: one DomainID and one v1 table for all of its PASIDs."""
        first = entries[0]
        if len({(entry.tag & 0xFFFF, entry.stage2) for entry in entries}) > 1:
            raise _cannot(first, "all PASIDs of a device share its DomainID and v1 table", "AMD-DTE-3")
        whole = next((entry for entry in entries if entry.pasid is None), None)
        blocked = whole is not None and whole.blocked
        if blocked and gcr3 is None:
            return self._blocked()
        fields = self._host_fields(first, ats=any(entry.ats for entry in entries))
        if gcr3 is not None:
            guest = next(entry.stage1 for entry in entries if entry.stage1 is not None)
            fields |= {
                "GV": 1,
                "GIOV": int(whole is not None and whole.stage1 is not None),
                "GLX": self._features.glx,
                **gcr3_fields(gcr3 | self._c),
                "GuestPagingMode": len(guest.page_format.levels) - 4,
            }
        return encode(fields | ({"TV": 0, "I": 0} if blocked else {}))

    def _host_fields(self, entry: StructureEntry, *, ats: bool) -> dict[str, int]:
        """The fields that do not depend on PASIDs."""
        mode = len(entry.stage2.page_format.levels) if entry.stage2 else _NO_TRANSLATION
        if self._features.snp and mode == _NO_TRANSLATION:
            what = "a v2 table stands alone" if entry.stage1 else "a device bypasses translation"
            raise _cannot(entry, f"{what}, and SNP demands a v1 table", "AMD-RMP-15, AMD-RMP-19")
        if self._features.snp and not entry.tag & 0xFFFF:
            raise _cannot(entry, "SNP demands a DomainID other than 0", "AMD-RMP-15")
        root = (entry.stage2.root_pa | self._c) >> 12 if entry.stage2 else 0
        rights = {"IR": 1, "IW": 1, "I": int(ats), "HAD": self._features.had}
        return {"V": 1, "TV": 1, "Mode": mode, "root": root, "DomainID": entry.tag & 0xFFFF, **rights}

    def change(self, base: int, entry: StructureEntry, load: Callable[[int], int]) -> Sequence[StructureRound]:
        """One 128-bit store of V to DomainID, and one of a GCR3 entry; then what may be cached of the old ones.

        The GCR3 tables are those of :meth:`setup`. A root that has grown invalidates the DTE alone,
        since both roots translate alike (AMD-LIVE-8).
        """
        pa = (base & ADDRESS & ~self._c) + 32 * entry.device
        old = tuple(load(pa + 8 * i) for i in range(4))
        stores: list[StructureStore] = []
        commands: list[Words] = []
        gone = [*pasids(old, load, self._c)] if entry.pasid is None else [entry.pasid]
        if entry.pasid is not None or (entry.stage1 is not None and not entry.blocked):
            slot, before = self._slot(old, entry, load)
            stores.append(StructureStore(slot, (before,), (0 if entry.blocked else self._gcr3_word(entry),)))
        new = self._lower_half(old, entry)
        if new != old[:2]:
            stores.append(StructureStore(pa, old[:2], new))
            commands.append((INVALIDATE_DEVTAB_ENTRY << 60 | entry.device, 0))
        stores = [store for store in stores if store.new != store.expected]
        if not stores:
            return []
        if old[0] & DTE["TV"].mask and not (len(stores) == 1 and self._grown(old, new, load)):
            commands += self._forget(old, entry, gone)
        return [StructureRound(tuple(stores), tuple(commands))]

    def _lower_half(self, old: tuple[int, ...], entry: StructureEntry) -> tuple[int, ...]:
        """Words 0 and 1: with ``blocked`` TV and I go, and everything else stays for the day it comes back.

        Of one PASID only the v1 table stands here, which all PASIDs share.
        """
        if entry.pasid is not None:
            host = self._host_fields(entry, ats=entry.ats) if entry.stage2 and not entry.blocked else {}
            return encode({name: host[name] for name in ("Mode", "root") if host}, old)[:2]
        if entry.blocked:
            return encode({"V": 1, "TV": 0, "I": 0}, old)[:2]
        fields = self._host_fields(entry, ats=entry.ats) | {"GIOV": int(entry.stage1 is not None)}
        return encode(fields, old)[:2]

    def _slot(self, dte: tuple[int, ...], entry: StructureEntry, load: Callable[[int], int]) -> tuple[int, int]:
        """Address and word of the GCR3 entry of a PASID."""
        pasid = entry.pasid or 0
        fields = DTE.decode(dte)
        table, level = gcr3_table(dte), fields["GLX"]
        if not fields["GV"] or pasid >> 9 * (level + 1):
            raise _cannot(entry, f"its device table entry has no GCR3 table for PASID {pasid:#x}", "AMD-GCR-1")
        while True:
            slot = (table & ~self._c) + 8 * (pasid >> 9 * level & 511)
            word = load(slot)
            if level == 0:
                return slot, word
            if not word & 1:
                raise _cannot(entry, f"its GCR3 tables have no level {level} for PASID {pasid:#x}", "AMD-GCR-2")
            table, level = word & ADDRESS, level - 1

    def _grown(self, old: tuple[int, ...], new: tuple[int, ...], load: Callable[[int], int]) -> bool:
        """Whether nothing changed but the root: to a higher one whose entries 0 lead down to the old one."""
        fields = ("Mode", "root")
        before, after = (DTE.decode((*words[:2], 0, 0)) for words in (old, new))
        if any(before[name] != after[name] for name in before if name not in fields):
            return False
        if before["Mode"] == _NO_TRANSLATION or after["Mode"] <= before["Mode"]:
            return False
        table = new[0] & ADDRESS
        for mode in range(after["Mode"] - 1, before["Mode"] - 1, -1):
            word = load(table & ~self._c)
            table = word & ADDRESS
            if word != self._format(AmdV1.name, mode + 1).table(mode, table):
                return False
        return table == old[0] & ADDRESS

    def _forget(self, dte: tuple[int, ...], entry: StructureEntry, pasids: Sequence[int]) -> Iterator[Words]:
        """Everything that was cached through a DTE: of the unit, then of the device (AMD-DTE-9, AMD-INV-9)."""
        fields = DTE.decode(dte)
        if entry.pasid is None:
            yield from self._v1.invalidate_tag(fields["DomainID"])
        for pasid in pasids:
            yield from self._v2.invalidate_tag(fields["DomainID"] | pasid << 16)
        if not fields["I"]:
            return
        if entry.pasid is None:
            yield from self._v1.invalidate_device(_EVERYTHING, entry.device)
        for pasid in pasids:
            yield from self._v2.invalidate_device(_EVERYTHING, entry.device, pasid)


def _cannot(entry: StructureEntry, why: str, source: str) -> HitlessError:
    return HitlessError(
        "the device table cannot say what is asked of it",
        who="amd",
        where=f"device {entry.device:#x}",
        rule=source,
        why=why,
    )
