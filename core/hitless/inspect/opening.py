"""Which address spaces an image is asked about: by format and root, or from a register."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from attrs import define, field, frozen

from hitless.errors import BadInput
from hitless.hardware.structures import ImageStructures, RootRegister
from hitless.inspect.devices import GuestView, SpaceKey, UnitView, look_up
from hitless.inspect.findings import Findings
from hitless.inspect.space import AddressSpace, Readable
from hitless.pagetable import PageFormat
from hitless.plugin import Vendor, VendorRegistry


@frozen
class Asked:
    """What is looked for.

    Args:
        vendor: as it is resolved for it.
        root: of tables of the vendor's page format; None: from a register.
        base: what the structures start from.
        name: the structure that the register points to.
        device, pasid: only these requests; None: all devices; requests without a PASID.
    """

    vendor: Vendor
    root: int | None = None
    base: int = 0
    name: str = ""
    device: int | None = None
    pasid: int | None = None

    @property
    def structures(self) -> ImageStructures:
        """The vendor's structures, which can be read from images where ``root`` is None."""
        return cast(ImageStructures, self.vendor.structures)


@define
class Space:
    """One address space of an image, and whose it is."""

    reader: AddressSpace
    devices: Sequence[int] = ()
    key: SpaceKey | None = None
    tags: Sequence[int] = ()

    @property
    def fmt(self) -> PageFormat:
        return self.reader.fmt

    def as_json(self) -> dict[str, Any]:
        """Devices, tables, and the totals once it is read."""
        reader, key = self.reader, self.key
        return {
            "devices": [f"{each:#x}" for each in self.devices],
            "format": self.fmt.name,
            "levels": len(self.fmt.levels),
            "root": f"{reader.root_pa:#x}",
            "stage": self.fmt.stage,
            "nested": key is not None and key.under is not None,
            "tag": None if key is None else key.root.tag,
            "tags": list(self.tags),
            "tables": reader.tables.total(),
            "table_bytes": reader.table_bytes,
            "bytes": reader.mapped,
        }


@define
class Opened:
    """The address spaces that were asked for; ``view``: what the structures say, if it starts from a register."""

    asked: Asked
    spaces: list[Space]
    view: UnitView | None = None
    findings: Findings = field(factory=Findings)


def registers(registry: VendorRegistry) -> dict[str, tuple[str, RootRegister]]:
    """By the name that people write: the vendor, and its register."""
    found = {}
    for vendor in sorted(registry.vendors):
        structures = registry.resolve(vendor).structures
        for name, register in getattr(structures, "registers", {}).items():
            found[f"{vendor}/{name}"] = (vendor, register)
    return found


def register_of(registry: VendorRegistry, name: str) -> tuple[str, RootRegister]:
    """The vendor and register of a name such as ``amd/device-table``.

    Raises:
        BadInput: there is none; names those that there are.
    """
    known = registers(registry)
    if name not in known:
        raise BadInput(f"there is no structure {name!r} to start from", do=f"choose one of {', '.join(known)}")
    return known[name]


def start_of(register: RootRegister, vendor: str, name: str, value: int, beside: Mapping[str, int]) -> int:
    """The base that structures start from.

    Raises:
        BadInput: a further register is missing.
    """
    for each, what in register.beside.items():
        if each not in beside:
            raise BadInput(
                f"{name} needs one more register: {each}",
                who=vendor,
                why=what,
                do=f"give its value, as hardware holds it, with --set {each}=0x...",
            )
    return register.base(value, beside)


def open_spaces(memory: Readable, asked: Asked, space: type[AddressSpace] = AddressSpace) -> Opened:
    """The address spaces, each read by a ``space``; no table is read yet, structures are."""
    findings = Findings()
    if asked.root is not None:
        reader = space(memory, asked.vendor.page_format, asked.root, findings=findings)
        return Opened(asked, [Space(reader)], None, findings)
    view = look_up(asked.structures, asked.base, memory, findings, asked.device, asked.pasid)
    spaces = []
    for sharing in view.spaces.values():
        key = sharing.key
        below = memory if key.under is None else GuestView(memory, key.under)
        reader = space(below, key.root.page_format, key.root.root_pa, key.rights, findings)
        spaces.append(Space(reader, sharing.devices, key, tuple(sorted(sharing.tags))))
    return Opened(asked, spaces, view, findings)
