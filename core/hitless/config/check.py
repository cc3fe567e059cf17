"""What only the plugins can tell of a configuration: vendors, formats, features, policies, widths."""

import os
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import attrs

from hitless.config.draft import Draft, read_file
from hitless.config.fitting import input_faults, inputs, page_faults, stage1_faults, structure_faults
from hitless.config.model import Config, DomainConfig, GuestConfig
from hitless.config.rules import entry_faults, rule_faults
from hitless.config.structure import Row, at, fault, shown
from hitless.errors import BadInput, ConfigurationError, HitlessError, PluginError
from hitless.guest_memfd.backing import make_backing
from hitless.plugin import Vendor, VendorRegistry
from hitless.plugin.manager import EXTENSIONS, VENDORS
from hitless.units import PAGE, size_text

GUEST_PA = 1 << 41
"""Where guest memory lies in the machines that run a configuration; tables lie below."""


def open_registry(config: Config | None, vendors: Sequence[str] | None = None) -> VendorRegistry:
    """The plugins that a configuration names, and no others.

    Args:
        config: None: ``vendors``, or without them every installed vendor.
        vendors: of a configuration: only these of its vendors.

    Raises:
        PluginError: no vendor of ``vendors`` is installed; names those that are.
        ConfigurationError: a plugin under development cannot be loaded; names each.
    """
    if config is None:
        installed = sorted({entry.name for entry in entry_points(group=VENDORS)})
        for name in vendors or ():
            if name not in installed:
                raise PluginError(
                    f"no vendor {name!r} is installed",
                    do=f"choose one of {', '.join(installed) or 'none: no plugin is installed'}",
                )
        return VendorRegistry.installed(vendors, [])
    registry, faults = _open(Draft.of(select(config, vendors)))
    if faults:
        raise ConfigurationError(config.source, faults)
    return registry


def check(config: Config, registry: VendorRegistry) -> None:
    """Check all of a configuration.

    Raises:
        ConfigurationError: all faults, each as ``problem @ path``.
    """
    draft = Draft.of(config)
    draft.config([*rule_faults(draft), *plugin_faults(draft, registry)])
    draft.config(structure_faults(config, {row.value.name: row.path for row in draft.domains}, registry))


def load_checked(path: str | os.PathLike[str], vendors: Sequence[str] | None = None) -> tuple[Config, VendorRegistry]:
    """A configuration and its plugins, both checked.

    With ``vendors`` only their domains are left, and no other plugin is loaded.

    Raises:
        BadInput: the file cannot be read, or has no domain of such a vendor.
        ConfigurationError: all faults, each as ``problem @ path``.
    """
    draft = read_file(path)
    faults = list(rule_faults(draft))
    if vendors:
        kept = tuple(row for row in draft.domains if row.value.vendor in vendors)
        draft = attrs.evolve(draft, domains=kept)
        if not draft.faults and not faults:
            _known_vendors([row.value for row in read_file(path).domains], vendors)
    registry, broken = _open(draft)
    config = draft.config([*faults, *broken, *plugin_faults(draft, registry)])
    draft.config(structure_faults(config, {row.value.name: row.path for row in draft.domains}, registry))
    return select(config, vendors), registry


def select(config: Config, vendors: Sequence[str] | None) -> Config:
    """The configuration with only the domains of some vendors, and what belongs to them.

    Raises:
        BadInput: it has no domain of such a vendor.
    """
    if not vendors:
        return config
    _known_vendors(config.domain, vendors)
    domains = tuple(domain for domain in config.domain if domain.vendor in vendors)
    names = {domain.name for domain in domains}
    listed = {unit for domain in domains for unit in domain.units}
    units = tuple(
        attrs.evolve(unit, device=tuple(each for each in unit.device if each.domain in ("", *names)))
        for unit in config.unit
        if unit.name in listed
    )
    extensions = {name for domain in domains for name in domain.extensions}
    return attrs.evolve(
        config,
        domain=domains,
        unit=units,
        vendor=tuple(each for each in config.vendor if each.name in vendors),
        extension=tuple(each for each in config.extension if each.name in extensions),
    )


def _known_vendors(domains: Sequence[DomainConfig], vendors: Sequence[str]) -> None:
    known = sorted({domain.vendor for domain in domains})
    for name in vendors:
        if name not in known:
            raise BadInput(
                f"the configuration has no domain of vendor {name!r}", do=f"it has {', '.join(known) or 'none'}"
            )


# -- plugins


def _open(draft: Draft) -> tuple[VendorRegistry, list[str]]:
    """The plugins of a draft; those under development that do not load are faults."""
    named_vendors = {row.value.vendor for row in draft.domains}
    named_extensions = {name for row in draft.domains for name in row.value.extensions}
    registry = VendorRegistry.installed(
        named_vendors - {row.value.name for row in draft.vendors},
        named_extensions - {row.value.name for row in draft.extensions},
    )
    faults = []
    for rows, extension in ((draft.vendors, False), (draft.extensions, True)):
        for row in rows:
            told = row.value
            if any(entry_faults(row, draft.folder)):
                continue  # told by the rules
            path = str(Path(draft.folder, told.path)) if told.path else None
            try:
                registry.add_object(told.name, told.plugin, path, extension=extension)
            except PluginError as error:
                faults.append(fault(f"{error.what}: {error.why}", f"{row.path}.plugin"))
    return registry, faults


def plugin_faults(draft: Draft, registry: VendorRegistry) -> Iterator[str]:
    """Every fault that the plugins of a draft see."""
    local = {row.value.name for row in draft.vendors}
    for row in draft.domains:
        name = row.value.vendor
        if name in registry.vendors:
            yield from _domain(draft, row, registry)
        elif name not in local and "vendor" not in draft.unread:
            yield fault(_not_loaded(registry, name, "vendor", VENDORS), f"{row.path}.vendor")


def _not_loaded(registry: VendorRegistry, name: str, what: str, group: str) -> str:
    for broken in registry.broken:
        if broken.name == name:
            return f"{what} {shown(name)} does not load: {broken.cause}"
    known = ", ".join(sorted({entry.name for entry in entry_points(group=group)})) or "none"
    return f"no {what} {shown(name)} is installed, there are {known}"


def _domain(draft: Draft, row: Row[DomainConfig], registry: VendorRegistry) -> Iterator[str]:
    """One domain against its vendor and extensions."""
    told = row.value
    local = {each.value.name for each in draft.extensions}
    missing = [(i, name) for i, name in enumerate(told.extensions) if name not in registry.extensions]
    for index, name in missing:
        if name not in local and "extension" not in draft.unread:
            yield fault(_not_loaded(registry, name, "extension", EXTENSIONS), f"{row.path}.extensions[{index}]")
    extensions = tuple(name for name in told.extensions if name in registry.extensions)
    try:
        faults = list(_features(row, registry, extensions))
        yield from faults
        formats = registry.format_names(told.vendor, extensions)
        if told.format and told.format not in formats:
            problem = f"{told.vendor} has no format {shown(told.format)}, it has {', '.join(formats)}"
            yield fault(problem, f"{row.path}.format")
        if not faults and not missing:
            known = told.format if told.format in formats else ""
            vendor = registry.resolve(told.vendor, known, told.features, extensions)
            yield from _policy(row, vendor)
            yield from _halves(draft, row, vendor)
            if known == told.format and draft.guest is not None:
                yield from _widths(draft, draft.guest, row, vendor)
            if known == told.format:
                yield from stage1_faults(draft, row, vendor, registry)
    except HitlessError as error:  # a hook failed, or two extensions replace the same strategy
        yield fault(f"{error.what}: {error.why or error.do}", row.path)


def _features(row: Row[DomainConfig], registry: VendorRegistry, extensions: Sequence[str]) -> Iterator[str]:
    path, vendor, values = f"{row.path}.features", row.value.vendor, row.value.features
    for each in registry.feature_faults(vendor, values, extensions, row.value.format):
        problem, _, key = each.rpartition(" @ .")
        yield fault(problem, at(path, key)) if key in values else fault(each, path)


def _policy(row: Row[DomainConfig], vendor: Vendor) -> Iterator[str]:
    policies = vendor.ownership.policies
    if row.value.policy and row.value.policy not in policies:
        known = ", ".join(policies)
        yield fault(f"{vendor.name} has no policy {shown(row.value.policy)}, it has {known}", f"{row.path}.policy")


def _halves(draft: Draft, row: Row[DomainConfig], vendor: Vendor) -> Iterator[str]:
    """Addresses against the two halves that one table holds, where it does."""
    told, policies = row.value, vendor.ownership.policies
    policy = policies.get(told.policy or vendor.ownership.default_policy)
    if policy is None or policy.private_below is None:
        return
    if told.stage1 is not None:
        yield fault("no guest's tables stand over a table that holds both halves", f"{row.path}.stage1")
    elif draft.guest is not None:
        ranges = inputs(draft, draft.guest.value, told.ioas)
        if problem := policy.across((start, start, end - start) for start, end in ranges):
            yield fault(problem, f"{row.path}.{'ioas' if told.ioas else 'features'}")


def _widths(draft: Draft, guest: Row[GuestConfig], row: Row[DomainConfig], vendor: Vendor) -> Iterator[str]:
    """The format's smallest page, and its addresses, against the guest's memory."""
    fmt, where = vendor.page_format.largest, f"{row.path}.format"
    yield from _granule(guest.value, row, vendor)
    told, slots = row.value, guest.value.slots
    space = f"{row.path}.ioas" if told.ioas else where
    what = "an IOVA range" if told.ioas else "guest memory"
    ranges = inputs(draft, guest.value, told.ioas)
    yield from input_faults(fmt, ranges, what, space)
    if told.ioas:
        yield from page_faults(fmt, ranges, what, space)
    size = max((slot.offset + slot.size for slot in slots), default=0)
    if guest.value.hunk > 0 and guest.value.hunk & guest.value.hunk - 1 == 0:
        pools = make_backing(guest.value.backing, GUEST_PA, size, guest.value.hunk.bit_length() - 1).pools()
        top = max(end for _, end, _ in pools)
        if top > 1 << fmt.oa_bits:
            yield fault(f"physical memory ends at {top:#x}, {fmt.name} has {fmt.oa_bits} bits of address", where)


def _granule(guest: GuestConfig, row: Row[DomainConfig], vendor: Vendor) -> Iterator[str]:
    """The format's smallest page against the guest's pages, slots and backing."""
    fmt, where = vendor.page_format, f"{row.path}.format"
    granule = 1 << fmt.levels[0].lo
    text = f"the smallest page of {fmt.name} is {size_text(granule)}"
    policy = vendor.ownership.policies.get(row.value.policy or vendor.ownership.default_policy)
    stays = policy is not None and policy.check_alone and guest.backing == "in-place"
    if granule > guest.page_size and not stays:
        yield fault(
            f"{text}, the guest converts pages of {size_text(guest.page_size)}: a cut cannot reach them; give "
            "guest.page_size, or memory in place under a policy that leaves everything mapped",
            where,
        )
    if granule == PAGE:
        return
    if guest.backing == "scattered":
        yield fault(f"{text}, scattered memory lies in pages of 4K", where)
    for slot in guest.slots:
        if (slot.gpa | slot.offset | slot.size) % granule:
            yield fault(f"{text}, the slot at {slot.gpa:#x} is not made of such pages", where)
