"""The Vendor record: all strategies of one vendor for one format, resolved once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from hitless.hardware.emulator import Emulator
from hitless.hardware.facts import Commands, Events, HardwareFacts
from hitless.hardware.structures import Structures
from hitless.ownership import Ownership
from hitless.pagetable import PageFormat
from hitless.refresh.recipes import Recipes, SplitRules


@frozen
class Vendor:
    """What a domain works with; made when it opens, never changed.

    Args:
        name: the vendor's name.
        distribution, version: who shipped the plugin.
        features: an instance of the vendor's features class.
        rules: gives makers of the vendor's own rules, for the checker.
        mutants: gives the vendor's own mutants, harmless changes and reasons; see :mod:`hitless.check.mutants`.
        origins: for each strategy the distribution (and extension) that answered.
        structures: None: a unit takes each device's root table, format and tag from the domain.
        emulator: how QEMU's emulation of its units is driven; None: there is none.
    """

    name: str
    distribution: str
    version: str
    page_format: PageFormat
    features: Any
    split_rules: SplitRules
    recipes: Recipes
    commands: Commands
    events: Events
    hardware: HardwareFacts
    ownership: Ownership
    origins: Mapping[str, str]
    structures: Structures | None = None
    emulator: Emulator | None = None
    rules: Callable[[], Sequence[Callable[[], Any]]] = tuple
    mutants: Callable[[], Sequence[Any]] = tuple
