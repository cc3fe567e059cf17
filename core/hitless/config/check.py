"""What only the plugins can tell of a configuration: vendors, formats, features, policies, units."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hitless.config.load import load
from hitless.config.model import Config, DomainConfig, UnitConfig
from hitless.errors import BadInput, ConfigurationError, PluginError
from hitless.guest_memfd.slots import Slot, Slots
from hitless.plugin import VendorRegistry


def open_registry(config: Config | None, vendors: Sequence[str] | None = None) -> VendorRegistry:
    """The plugins that a configuration (or ``vendors``) names; without either, every installed vendor.

    Raises:
        PluginError: a plugin under development cannot be imported.
    """
    if config is None:
        return VendorRegistry.installed(vendors, [])
    local = {each.name for each in config.vendor}
    local_extensions = {each.name for each in config.extension}
    extensions = {name for domain in config.domains for name in domain.extensions} - local_extensions
    registry = VendorRegistry.installed({domain.vendor for domain in config.domains} - local, extensions)
    for entries, extension in ((config.vendor, False), (config.extension, True)):
        for each in entries:
            path = Path(config.folder, each.path) if each.path else None
            registry.add_object(each.name, each.plugin, path, extension=extension)
    return registry


def load_checked(path: str) -> tuple[Config, VendorRegistry]:
    """A configuration and its plugins, both checked.

    Raises:
        BadInput, ConfigurationError, PluginError.
    """
    config = load(path)
    registry = open_registry(config)
    check(config, registry)
    return config, registry


def check(config: Config, registry: VendorRegistry) -> None:
    """Everything that structure alone does not tell.

    Raises:
        ConfigurationError: all faults.
    """
    faults = [*_guest(config)]
    for index, domain in enumerate(config.domains):
        faults += _domain(config, registry, domain, f"$.domain[{index}]")
    faults += _units(config)
    if faults:
        raise ConfigurationError(config.source, faults)


def _guest(config: Config) -> Iterator[str]:
    try:
        slots = Slots([Slot(each.gpa, each.offset, each.size) for each in config.guest.slots])
    except BadInput as error:
        yield f"{error.what} @ $.guest.slot"
        return
    for key in ("shared", "private"):
        for index, each in enumerate(getattr(config.guest, key)):
            end = each.start + each.size
            if not each.size or (each.start | each.size) % 4096 or not slots.contains(each.start, end):
                yield f"[{each.start:#x}, {end:#x}) is not a range of the guest's pages @ $.guest.{key}[{index}]"


def _domain(config: Config, registry: VendorRegistry, domain: DomainConfig, path: str) -> Iterator[str]:
    try:
        registry.vendor(domain.vendor)
    except PluginError as error:
        yield f"{error.what}: {error.why or error.do} @ {path}.vendor"
        return
    unknown = [name for name in domain.extensions if name not in registry.extensions]
    for name in unknown:
        yield f"no extension {name!r} is installed @ {path}.extensions"
    if unknown:
        return
    faults = [
        fault.replace("@ .", f"@ {path}.features.")
        for fault in registry.feature_faults(domain.vendor, domain.features, domain.extensions)
    ]
    yield from faults
    formats = registry.format_names(domain.vendor, domain.extensions)
    if domain.format and domain.format not in formats:
        yield f"{domain.vendor} has no format {domain.format!r}, it has {', '.join(formats)} @ {path}.format"
        return
    if faults:
        return
    try:
        vendor = registry.resolve(domain.vendor, domain.format, domain.features, domain.extensions)
    except PluginError as error:
        yield f"{error.what}: {error.why or error.do} @ {path}"
        return
    policies = vendor.ownership.policies
    if domain.policy and domain.policy not in policies:
        yield f"{domain.vendor} has no policy {domain.policy!r}, it has {', '.join(policies)} @ {path}.policy"
    granule = 1 << vendor.page_format.levels[0].lo
    if granule > config.guest.page_size:
        yield f"the granule {granule:#x} is larger than guest.page_size @ {path}.format"
    for each in config.guest.slots:
        end = each.gpa + each.size
        if end - 1 >> vendor.page_format.iova_bits:
            yield f"guest memory up to {end:#x} is wider than the format's {vendor.page_format.iova_bits} bits @ {path}"


def _units(config: Config) -> Iterator[str]:
    units = {unit.name: unit for unit in config.units}
    used: dict[str, list[str]] = {}
    for index, domain in enumerate(config.domains):
        for name in domain.units:
            path = f"$.domain[{index}].units"
            if name not in units:
                yield f"no unit {name!r}, there are {', '.join(units) or 'none'} @ {path}"
            elif units[name].vendor != domain.vendor:
                yield f"unit {name!r} is {units[name].vendor}'s, not {domain.vendor}'s @ {path}"
            else:
                used.setdefault(name, []).append(domain.name)
    for index, unit in enumerate(config.units):
        yield from _devices(unit, used.get(unit.name, []), f"$.unit[{index}]")


def _devices(unit: UnitConfig, domains: Sequence[str], path: str) -> Iterator[str]:
    if not domains:
        yield f"no domain uses unit {unit.name!r} @ {path}.name"
    if not unit.devices:
        yield f"unit {unit.name!r} has no [[unit.device]] @ {path}"
    ids = [device.id for device in unit.devices]
    for number, device in enumerate(unit.devices):
        if not 0 <= device.id < 1 << 16:
            yield f"a device id has 16 bits, {device.id:#x} has not @ {path}.device[{number}].id"
        if device.id in ids[:number]:
            yield f"device {device.id:#x} stands twice @ {path}.device[{number}].id"
        if device.domain and device.domain not in domains:
            yield f"domain {device.domain!r} does not use this unit @ {path}.device[{number}].domain"
        if not device.domain and len(domains) > 1:
            yield f"say which of {', '.join(domains)} the device is in @ {path}.device[{number}].domain"
