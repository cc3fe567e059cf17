"""Spec words: what a vendor's specification says in bits, as data that owes nothing to the vendor's code.

The vendor's hook ``spec_words`` gives the text of a TOML document. Each of its tables is one example that somebody
worked out by hand from the specification, and names its source.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import cattrs
import tomli
from attrs import field, frozen

from hitless.errors import BadInput
from hitless.units import parse_size


@frozen
class SpecWord:
    """What all examples have.

    Args:
        source: specification, section, table.
        formats: the page formats that it holds for; empty: all.
        features: it holds where the vendor's features have these values.
    """

    source: str = field(kw_only=True)
    formats: tuple[str, ...] = field(default=(), kw_only=True)
    features: dict[str, bool | int | str] = field(factory=dict, kw_only=True)

    def holds(self, page_format: str, features: Any) -> bool:
        """Whether it is about a page format, as set up with an instance of the vendor's features class."""
        if self.formats and page_format not in self.formats:
            return False
        return all(getattr(features, name, None) == value for name, value in self.features.items())


@frozen
class LeafWord(SpecWord):
    """A leaf: the word of its first entry, that leads to ``oa`` with the rights R, W or RW of plain guest memory."""

    size: str
    oa: int
    word: int
    rights: str = "RW"

    @property
    def lg2(self) -> int:
        """log2 of the size."""
        return parse_size(self.size).bit_length() - 1


@frozen
class PointerWord(SpecWord):
    """A pointer in a table of a level, by the vendor's number, to a table at ``child``."""

    level: int
    child: int
    word: int


@frozen
class CommandWord(SpecWord):
    """A command.

    Args:
        name: the specification's.
        words: low word first.
        call: one key, ``invalidate``, ``invalidate_tag``, ``invalidate_device`` or ``wait``, with its arguments: the
            encoder has to give these words among others.
        effects: what the decoder has to say, in order; ``kind`` is the class's name, other keys are its attributes.
    """

    name: str
    words: tuple[int, ...]
    call: dict[str, dict[str, Any]] = field(factory=dict)
    effects: tuple[dict[str, Any], ...] = ()


@frozen
class StructureWord(SpecWord):
    """A structure, or the register that leads to them: words, and the fields that are not 0."""

    name: str
    words: tuple[int, ...]
    fields: dict[str, int] = field(factory=dict)


@frozen
class ChainRead:
    """One structure that the unit reads."""

    structure: str
    pa: int
    words: tuple[int, ...]


@frozen
class Chain(SpecWord):
    """What a unit reads for a device, one structure after the other, and what comes of it.

    Args:
        base: the register.
        read: every structure, in order.
        found: attributes of :class:`hitless.hardware.structures.Found`; ``root1`` and ``root2`` are the roots of its
            stages, ``tag1`` and ``tag2`` their tags. ``bad``: the kind of a BadStructure.
    """

    base: int
    device: int
    read: tuple[ChainRead, ...]
    found: dict[str, Any]
    pasid: int | None = None


@frozen
class EventWord(SpecWord):
    """A fault record: ``fault`` has the attributes of a FaultRecord, ``event`` the name that the decoder gives."""

    event: str
    words: tuple[int, ...]
    fault: dict[str, Any]


@frozen
class SpecWords:
    """All examples of a vendor."""

    leaf: tuple[LeafWord, ...] = ()
    pointer: tuple[PointerWord, ...] = ()
    command: tuple[CommandWord, ...] = ()
    structure: tuple[StructureWord, ...] = ()
    chain: tuple[Chain, ...] = ()
    event: tuple[EventWord, ...] = ()

    @classmethod
    def parse(cls, text: str, vendor: str) -> "SpecWords":
        """Read a document.

        Raises:
            BadInput: it is no TOML, or a table has other keys than it should; all faults, each with its path.
        """
        do = "mend the document that hook spec_words gives; docs/authors-guide.md says what stands in it"
        try:
            return _converter().structure(tomli.loads(text), cls)
        except tomli.TOMLDecodeError as error:
            raise BadInput("the spec words are no TOML", who=vendor, why=str(error), do=do) from error
        except cattrs.errors.BaseValidationError as error:
            why = "; ".join(cattrs.transform_error(error))
            raise BadInput("the spec words cannot be read", who=vendor, why=why, do=do) from error

    @property
    def all(self) -> Sequence[SpecWord]:
        """Every example."""
        return [each for name in attrs.fields_dict(SpecWords) for each in getattr(self, name)]


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(bool | int | str, lambda value, _: value)
    converter.register_structure_hook(int | None, lambda value, _: value)
    return converter


def _strict(kind: type) -> Any:
    def structure(value: object, _: object) -> object:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, not {value!r}")
        return value

    return structure


Arguments = Mapping[str, Any]
