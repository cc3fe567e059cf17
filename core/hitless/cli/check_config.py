"""What ``hitless check --config`` checks: the domains of a configuration, as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from hitless.check.campaign import Kind, Task
from hitless.config import Config, DomainConfig, load_checked
from hitless.plugin import VendorRegistry

_AT_ONCE = 6


def config_tasks(
    path: str, vendors: Sequence[str], scenarios: tuple[str, ...], kinds: Sequence[Kind]
) -> tuple[VendorRegistry, list[Task]]:
    """A configuration's plugins, and tasks for each of its domains.

    Raises:
        BadInput, ConfigurationError: the file, or what it says.
    """
    config, registry = load_checked(path, vendors)
    tasks = []
    for told in config.domains:
        vendor = registry.resolve(told.vendor, told.format, told.features, told.extensions)
        fixed = _fixed(config, told, told.policy or vendor.ownership.default_policy)
        parts = [scenarios[first : first + _AT_ONCE] for first in range(0, len(scenarios), _AT_ONCE)]
        place, features = (told.vendor, vendor.page_format.name), dict(told.features)
        tasks += [
            Task(kind, *place, features, part, path, told.extensions, fixed, told.name)
            for kind in kinds
            for part in parts
        ]
    return registry, tasks


def _fixed(config: Config, told: DomainConfig, policy: str) -> Mapping[str, Any]:
    """What the configuration says of stages."""
    fixed: dict[str, Any] = {
        "backing": config.guest.backing,
        "trusted": told.trusted,
        "policy": policy,
        "merge": told.merge,
        "nested": told.stage1 is not None,
    }
    if told.units:
        units = {unit.name: unit for unit in config.units}
        fixed["units"] = tuple(
            ((1, tuple(each.id for each in units[name].devices_of(told.name) if each.ats)),) for name in told.units
        )
    return fixed
