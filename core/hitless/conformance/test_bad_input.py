"""Bad input: what does not exist is refused in words."""

import pytest

from hitless.conformance.cases import Case
from hitless.conformance.failing import fail, require
from hitless.conformance.kit import Kit
from hitless.errors import HitlessError


@pytest.mark.iommu("BAD1", each="format")
def test_features_that_do_not_exist_are_refused(kit: Kit, at: Case) -> None:
    """An unknown feature, a value of another type, and one that is not legal are each refused by name."""
    infos = kit.registry.features(kit.vendor)
    wrong: list[tuple[str, object]] = [("no_such_feature", True)]
    wrong += [(info.name, 3.5) for info in infos]
    wrong += [(info.name, _other(info.values)) for info in infos if info.values and not isinstance(info.default, bool)]
    for name, value in wrong:
        try:
            kit.registry.resolve(kit.vendor, at.format.name, {name: value})
        except HitlessError as error:
            require(name in str(error), f"{at.title}: {name} = {value!r} is refused without being named: {error}")
        else:
            fail(f"{at.title}: feature {name} = {value!r} is taken, though it is not legal")


def _other(values: tuple[bool | int | str, ...]) -> object:
    """A value of the right type that is none of the legal ones."""
    if isinstance(values[0], str):
        return "no such value"
    return max(value for value in values if isinstance(value, int)) + 1


@pytest.mark.iommu("BAD1", each="format")
def test_formats_that_do_not_exist_are_refused(kit: Kit, at: Case) -> None:
    """An unknown page format is refused, with the names of those that there are."""
    try:
        kit.registry.resolve(kit.vendor, f"{kit.vendor}/no-such-format")
    except HitlessError as error:
        require(
            at.format.name in str(error), f"an unknown page format is refused without saying which there are: {error}"
        )
    else:
        fail(f"{kit.vendor}: page format '{kit.vendor}/no-such-format' is resolved")
