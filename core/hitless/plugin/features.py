"""Features: one attrs class per vendor says what its hardware has and how it is set up.

Configuration, checker, kit and documentation all read that class.
"""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from attrs import frozen

_KEY = "hitless.feature"


@frozen
class FeatureInfo:
    """One field of a vendor's features class.

    Args:
        name: the field, and the key in a configuration.
        default: what holds when nobody says otherwise.
        sentence: what it is, for people.
        source: fact id or register field.
        values: the legal values; empty: any of the default's type.
        unconfirmed: the specification is not settled here.
        formats: the page formats that it matters to; empty: all.
    """

    name: str
    default: bool | int | str
    sentence: str
    source: str
    values: tuple[bool | int | str, ...]
    unconfirmed: bool
    formats: tuple[str, ...] = ()


def feature(
    default: Any,
    sentence: str,
    source: str,
    values: tuple[bool | int | str, ...] = (),
    *,
    unconfirmed: bool = False,
    formats: tuple[str, ...] = (),
) -> Any:
    """A field of a features class: default, a sentence, its source, the legal values.

    ``values`` may be left out for a bool, and where any value of the default's type is legal by itself. A value outside
    them is a configuration fault.
    ``formats`` names the page formats that it matters to, where it does not matter to all.

    A combination that hardware does not have is told by a method of the class,
    ``impossible(self) -> str | None``: one sentence with its fact id; see :func:`impossible`. One
    that it does not have with some page format: ``impossible_for(self, page_format)``.
    """
    legal = values or ((False, True) if isinstance(default, bool) else ())
    validators = [attrs.validators.in_(legal) if legal else _of_type(type(default))]
    metadata = {_KEY: (sentence, source, legal, unconfirmed, formats)}
    return attrs.field(default=default, validator=validators, metadata=metadata)


def _of_type(wanted: type) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    """Refuse what is not exactly of a type: True is no number here."""

    def check(_features: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if type(value) is not wanted:
            raise ValueError(f"{attribute.name} must be {wanted.__name__}, not {value!r}")

    return check


def feature_infos(cls: type) -> Iterator[FeatureInfo]:
    """Every feature of a vendor's features class, in order."""
    for each in attrs.fields(cls):
        sentence, source, values, unconfirmed, formats = each.metadata[_KEY]
        yield FeatureInfo(each.name, each.default, sentence, source, values, unconfirmed, formats)


def impossible_for(features: Any, page_format: str) -> str | None:
    """Why no hardware has a page format with these features: the vendor's sentence, from its own ``impossible_for``."""
    tell = getattr(features, "impossible_for", None)
    return None if tell is None else tell(page_format)


def impossible(features: Any) -> str | None:
    """Why hardware does not have this combination of features, in the vendor's sentence; None: it may."""
    tell = getattr(features, "impossible", None)
    return None if tell is None else tell()
