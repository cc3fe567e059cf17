"""Changes of one feature that hardware may have, for pages that tell what is different then."""

from collections.abc import Iterator, Mapping
from typing import Any

from hitless.errors import HitlessError
from hitless.hardware.vendor import Vendor
from hitless.plugin import VendorRegistry
from hitless.plugin.features import impossible_for


def deviations(
    registry: VendorRegistry, name: str, page_format: str, base: Mapping[str, Any]
) -> Iterator[tuple[str, Vendor]]:
    """Each single change of a feature that matters to the format, as text, with the vendor that it gives.

    A second feature changes too where hardware does not have the first alone.
    """
    for info in registry.features(name):
        if info.formats and page_format not in info.formats:
            continue
        for value in info.values:
            if value != base.get(info.name, info.default):
                change = _possible(registry, name, page_format, base, {info.name: value})
                if change is not None:
                    told = ", ".join(f"`{key} = {feature_text(each)}`" for key, each in change.items())
                    yield told, registry.resolve(name, page_format, {**base, **change})


def feature_text(value: Any) -> str:
    """A feature's value as options and configurations write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _possible(
    registry: VendorRegistry, name: str, page_format: str, base: Mapping[str, Any], change: dict[str, Any]
) -> dict[str, Any] | None:
    """A change of features, with one more if hardware does not have it alone; None: it takes more than that."""
    more = ({info.name: value} for info in registry.features(name) for value in info.values)
    for each in ({}, *more):
        if not each.keys() & change.keys() and _is_possible(registry, name, page_format, {**base, **each, **change}):
            return {**change, **{key: value for key, value in each.items() if value != base.get(key)}}
    return None


def _is_possible(registry: VendorRegistry, name: str, page_format: str, features: Mapping[str, Any]) -> bool:
    if registry.feature_faults(name, features):
        return False
    try:
        vendor = registry.resolve(name, page_format, features)
    except HitlessError:
        return False
    return impossible_for(vendor.features, page_format) is None
