"""Vendors as a planner with a mistake takes them to be: another encoder, other recipes."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from hitless.hardware.vendor import Vendor
from hitless.refresh.commands import Target, Words
from hitless.refresh.recipes import Recipe, Recipes

Encode: TypeAlias = Callable[[Any, Target, int], Sequence[Words]]


class Misencoder:
    """A vendor's commands, but for how a target is encoded.

    Args:
        commands: the vendor's own.
        invalidate, device: what is sent instead, from the own commands, the target and the tag or device.
    """

    def __init__(self, commands: Any, invalidate: Encode | None = None, device: Encode | None = None) -> None:
        self._commands = commands
        self._invalidate = invalidate
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._commands, name)

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        own: Sequence[Words]
        if self._invalidate is None:
            own = self._commands.invalidate(target, tag)
            return own
        return self._invalidate(self._commands, target, tag)

    def invalidate_device(self, target: Target, device: int, pasid: int | None = None) -> Sequence[Words]:
        own: Sequence[Words]
        if self._device is None or pasid is not None:
            own = self._commands.invalidate_device(target, device, pasid)
            return own
        return self._device(self._commands, target, device)


def encoding(invalidate: Encode | None = None, device: Encode | None = None) -> Callable[[Vendor], Vendor]:
    """The vendor with other encodings of targets."""
    return lambda vendor: attrs.evolve(vendor, commands=Misencoder(vendor.commands, invalidate, device))


def with_recipe(**recipes: Recipe) -> Callable[[Vendor], Vendor]:
    """The vendor with other recipes."""

    def planned_as(vendor: Vendor) -> Vendor:
        changed: Recipes = attrs.evolve(vendor.recipes, **recipes)
        return attrs.evolve(vendor, recipes=changed)

    return planned_as
