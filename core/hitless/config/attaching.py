"""Which devices are attached to which domains, behind which units, and under which tags."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hitless.config.model import Config, DeviceConfig, DomainConfig
from hitless.plugin import Vendor


class Place(NamedTuple):
    """A domain behind one unit: the tag that the unit files it under, and its devices there."""

    unit: str
    tag: int
    devices: tuple[DeviceConfig, ...]


ONE_DEVICE = (DeviceConfig(8),)
"""What is behind the unit of a domain that names none."""


def machines_of(domains: Sequence[DomainConfig]) -> list[list[DomainConfig]]:
    """The domains that are in one machine: those that share units, directly or through others."""
    groups: list[tuple[set[str], list[DomainConfig]]] = []
    for told in domains:
        units, here = set(told.units), [told]
        for group in [group for group in groups if group[0] & units]:
            groups.remove(group)
            units, here = units | group[0], group[1] + here
        groups.append((units, here))
    order = {told.name: i for i, told in enumerate(domains)}
    found = [sorted(here, key=lambda each: order[each.name]) for _, here in groups]
    return sorted(found, key=lambda here: order[here[0].name])


def places_of(
    config: Config, domains: Iterable[DomainConfig], vendor_of: Callable[[DomainConfig], Vendor]
) -> dict[str, list[Place]]:
    """For each domain of one machine its places.

    Domains of stage 1 whose devices are the same have one tag, in which their PASIDs tell them apart (a DomainID, a
    VMID), where the vendor's units file them so; every other domain has a tag of its own.
    """
    found: dict[str, list[Place]] = {}
    known: dict[str, list[tuple[frozenset[int], str, int]]] = {}
    for told in domains:
        vendor = vendor_of(told)
        places = found.setdefault(told.name, [])
        for name, devices in _units(config, told):
            here = known.setdefault(name, [])
            ids, stage = frozenset(each.id for each in devices), vendor.page_format.stage
            base = max((each[2] for each in here), default=0) + 1
            tag = base
            if stage == "1" and vendor.structures is not None and vendor.hardware.spaces_share_tag:
                base = next((each[2] for each in here if each[1] == stage and each[0] & ids), base)
                tag = vendor.structures.stage1_tag(base, told.pasid or 0)
            here.append((ids, stage, base))
            places.append(Place(name, tag, devices))
    return found


def _units(config: Config, told: DomainConfig) -> list[tuple[str, tuple[DeviceConfig, ...]]]:
    if not told.units:
        return [(f"{told.name}-iommu0", ONE_DEVICE)]
    units = {unit.name: unit for unit in config.units}
    return [(name, units[name].devices_of(told.name)) for name in told.units if name in units]
