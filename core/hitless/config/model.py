"""What a configuration says, as attrs classes; sizes are bytes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from attrs import field, frozen

Size: TypeAlias = Annotated[int, "size"]
"""Bytes: an integer, or a text such as ``"4K"`` or ``"0x40000000"``."""
Backing: TypeAlias = Literal["in-place", "separate", "scattered"]


@frozen
class SlotConfig:
    """``[[guest.slot]]``: guest physical ``gpa`` on is ``offset`` on of the guest_memfd."""

    gpa: Size
    size: Size
    offset: Size


@frozen
class RangeConfig:
    """``[[guest.shared]]`` and ``[[guest.private]]``: guest physical memory that starts with that owner."""

    start: Size
    size: Size


@frozen
class GuestConfig:
    """``[guest]``: slots (or ``memory``, one slot from 0), hunk, backing, owners at the start."""

    memory: Size | None = None
    slot: tuple[SlotConfig, ...] = ()
    hunk: Size = 1 << 30
    page_size: Size = 4096
    backing: Backing = "in-place"
    owner: Literal["private", "shared"] = "private"
    shared: tuple[RangeConfig, ...] = ()
    private: tuple[RangeConfig, ...] = ()
    together: bool = False

    @property
    def slots(self) -> tuple[SlotConfig, ...]:
        """All slots, ``memory`` included."""
        return self.slot if self.memory is None else (SlotConfig(0, self.memory, 0),)


@frozen
class AreaConfig:
    """``[[ioas.area]]``: IOVAs ``iova`` on lead to guest physical ``gpa`` on."""

    iova: Size
    gpa: Size
    size: Size


@frozen
class IoasConfig:
    """``[[ioas]]``: an address space, which domains and guests' stages 1 name."""

    name: str
    area: tuple[AreaConfig, ...] = ()


@frozen
class StageConfig:
    """``[domain.stage1]``: a guest's own tables over the domain's, in the last ``memory`` bytes of the guest."""

    format: str
    ioas: str = ""
    memory: Size = 16 << 20


@frozen
class DomainConfig:
    """``[[domain]]``: one vendor's page table of the guest."""

    vendor: str
    name: str = ""
    format: str = ""
    extensions: tuple[str, ...] = ()
    features: Mapping[str, Any] = field(factory=dict)
    policy: str = ""
    trusted: bool = False
    merge: Literal["never", "at_once", "on_request"] = "never"
    allow_break: bool = False
    units: tuple[str, ...] = ()
    table_memory: Size = 1 << 34
    ioas: str = ""
    pasid: int | None = None
    stage1: StageConfig | None = None


@frozen
class DeviceConfig:
    """``[[unit.device]]``: its id (RID, StreamID), whether it uses ATS, and its domain.

    Without ``domain`` it is in every domain that lists the unit; these then have PASIDs of their own.
    """

    id: int
    ats: bool = False
    domain: str = ""


@frozen
class UnitConfig:
    """``[[unit]]``: one IOMMU, with the devices behind it."""

    name: str
    vendor: str
    device: tuple[DeviceConfig, ...] = ()

    @property
    def devices(self) -> tuple[DeviceConfig, ...]:
        """All devices behind it."""
        return self.device

    def devices_of(self, domain: str) -> tuple[DeviceConfig, ...]:
        """The devices that are attached to a domain."""
        return tuple(each for each in self.device if each.domain in ("", domain))


@frozen
class PluginConfig:
    """``[[vendor]]`` and ``[[extension]]``: one under development, ``module:object``, in a folder ``path``."""

    name: str
    plugin: str
    path: str = ""


@frozen
class Config:
    """A whole configuration; ``source`` is the file it came from, ``folder`` what its paths are relative to."""

    guest: GuestConfig = field(factory=GuestConfig)
    domain: tuple[DomainConfig, ...] = ()
    unit: tuple[UnitConfig, ...] = ()
    vendor: tuple[PluginConfig, ...] = ()
    extension: tuple[PluginConfig, ...] = ()
    source: str = "configuration"
    folder: str = "."
    ioas: tuple[IoasConfig, ...] = ()

    @property
    def domains(self) -> tuple[DomainConfig, ...]:
        """All ``[[domain]]`` tables."""
        return self.domain

    @property
    def units(self) -> tuple[UnitConfig, ...]:
        """All ``[[unit]]`` tables."""
        return self.unit

    def ioas_named(self, name: str) -> IoasConfig | None:
        """An ``[[ioas]]`` table; None: there is none of that name."""
        return next((each for each in self.ioas if each.name == name), None)

    @property
    def vendors(self) -> tuple[PluginConfig, ...]:
        """Vendors under development."""
        return self.vendor

    @property
    def extensions(self) -> tuple[PluginConfig, ...]:
        """Extensions under development."""
        return self.extension
