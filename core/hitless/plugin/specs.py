"""The hooks that a vendor plugin implements, one per strategy.

Each hook is called for one vendor at a time, with that vendor's plugin and the extensions that the
configuration names for it, and with nobody else's. The first answer that is not None counts; an
extension answers first (``tryfirst``) or wraps the answer (``wrapper=True``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pluggy

from hitless.guest_memfd.conversion import ConversionRecord
from hitless.hardware.emulator import Emulator
from hitless.hardware.facts import Commands, Events, HardwareFacts
from hitless.hardware.structures import Structures
from hitless.ownership import Ownership
from hitless.pagetable import PageFormat
from hitless.plugin.capabilities import Capability
from hitless.refresh.recipes import Recipes, SplitRules

API = 1
PROJECT = "hitless"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class FeaturesHook(Protocol):
    """What the vendor's hardware may have."""

    def features(self) -> type:
        """The attrs class whose fields were made with :func:`hitless.plugin.feature`."""


class PageFormatsHook(Protocol):
    """The vendor's page formats."""

    def page_formats(self, features: Any) -> Mapping[str, PageFormat]:
        """Formats by name (``amd/v1``), the default one first.

        Args:
            features: an instance of the vendor's features class.
        """


class SplitRulesHook(Protocol):
    """Which leaves may be laid out."""

    def split_rules(self, page_format: PageFormat, features: Any) -> SplitRules:
        """The leaf sizes that the planner may use, and when one command for a whole tag is cheaper."""


class RecipesHook(Protocol):
    """How a live entry is changed."""

    def recipes(self, page_format: PageFormat, features: Any) -> Recipes:
        """The recipes for cut, merge, replace, wipe, map and prune."""


class CommandsHook(Protocol):
    """The vendor's command queue."""

    def commands(self, page_format: PageFormat, features: Any) -> Commands:
        """Encoder and decoder of commands."""


class EventsHook(Protocol):
    """The vendor's fault records."""

    def events(self, page_format: PageFormat, features: Any) -> Events:
        """Encoder and decoder of fault records."""


class HardwareHook(Protocol):
    """What the vendor's units do, apart from commands."""

    def hardware(self, page_format: PageFormat, features: Any) -> HardwareFacts:
        """Declared facts: what is cached, whether cached entries can conflict."""


class OwnershipHook(Protocol):
    """Who may touch a page."""

    def ownership(self, page_format: PageFormat, features: Any) -> Ownership:
        """The owner check, the policies and the choreography of an owner change."""


class StructuresHook(Protocol):
    """What stands before the vendor's page tables."""

    def structures(self, page_format: PageFormat, features: Any) -> Structures:
        """Reader and writer of device table, context entries, stream table and the like.

        Optional: without it, a unit takes each device's root table, format and tag from the domain.
        """


class EmulatorHook(Protocol):
    """QEMU's emulation of the vendor's units."""

    def emulator(self, page_format: PageFormat, features: Any) -> Emulator:
        """How the emulation is started and driven, and what it does otherwise.

        Optional: without it, the vendor has the machine in memory alone. A format that is not emulated says so in
        :meth:`hitless.hardware.emulator.Emulator.unable`.
        """


class RulesHook(Protocol):
    """Rules of a vendor's, or a stranger's, own, for the checker."""

    def rules(self, page_format: PageFormat, features: Any) -> Sequence[Callable[[], Any]]:
        """Makers of rules: each gives a fresh :class:`hitless.check.rules.Rule`, whose id begins with the distribution.

        Optional, and asked only when plans are checked: import what it takes inside the hook. Every plugin that
        implements it is asked, and the answers are joined: an extension adds its own.
        """


class MutantsHook(Protocol):
    """The vendor's own mistakes, for the checker."""

    def mutants(self, page_format: PageFormat, features: Any) -> Sequence[Any]:
        """Mutants that the checker must catch, harmless changes, and reasons why a mistake has no mutant.

        Each is a :class:`hitless.check.mutants.Mutant`, ``Harmless`` or ``Reason``; the room of hooks knows none of
        them. Optional, and asked only when mutants are run: import what it takes inside the hook. Every plugin that
        implements it is asked, and the answers are joined: an extension adds its own.
        """


class CapabilitiesHook(Protocol):
    """What the vendor's hardware has not."""

    def capabilities(self, features: Any) -> Sequence[Capability]:
        """Capabilities, each with the register field or clause that it stands for.

        Optional, and asked only by the conformance kit, which then skips the rules that they waive. Every plugin that
        implements it is asked, and the answers are joined.
        """


class SpecWordsHook(Protocol):
    """Words of the vendor's specification, to hold its plugin against."""

    def spec_words(self) -> str:
        """The text of a TOML document: leaves, pointers, commands, structures and events, each with its source.

        Asked only by the conformance kit, which fails without it. See docs/authors-guide.md for what stands in it.
        """


class ConversionDoneHook(Protocol):
    """An observer."""

    def conversion_done(self, record: ConversionRecord) -> None:
        """Called once after each conversion, for every plugin that implements it."""


class Specs:
    """All hook specs as pluggy reads them; signatures are those of the protocols above."""

    @hookspec(firstresult=True)
    def features(self) -> type:
        """See :class:`FeaturesHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def page_formats(self, features: Any) -> Mapping[str, PageFormat]:
        """See :class:`PageFormatsHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def split_rules(self, page_format: PageFormat, features: Any) -> SplitRules:
        """See :class:`SplitRulesHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def recipes(self, page_format: PageFormat, features: Any) -> Recipes:
        """See :class:`RecipesHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def commands(self, page_format: PageFormat, features: Any) -> Commands:
        """See :class:`CommandsHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def events(self, page_format: PageFormat, features: Any) -> Events:
        """See :class:`EventsHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def hardware(self, page_format: PageFormat, features: Any) -> HardwareFacts:
        """See :class:`HardwareHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def ownership(self, page_format: PageFormat, features: Any) -> Ownership:
        """See :class:`OwnershipHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def structures(self, page_format: PageFormat, features: Any) -> Structures:
        """See :class:`StructuresHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def emulator(self, page_format: PageFormat, features: Any) -> Emulator:
        """See :class:`EmulatorHook`."""
        raise NotImplementedError

    @hookspec
    def rules(self, page_format: PageFormat, features: Any) -> Sequence[Callable[[], Any]]:
        """See :class:`RulesHook`."""
        raise NotImplementedError

    @hookspec
    def mutants(self, page_format: PageFormat, features: Any) -> Sequence[Any]:
        """See :class:`MutantsHook`."""
        raise NotImplementedError

    @hookspec
    def capabilities(self, features: Any) -> Sequence[Capability]:
        """See :class:`CapabilitiesHook`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def spec_words(self) -> str:
        """See :class:`SpecWordsHook`."""
        raise NotImplementedError

    @hookspec
    def conversion_done(self, record: ConversionRecord) -> None:
        """See :class:`ConversionDoneHook`."""


STRATEGIES = ("split_rules", "recipes", "commands", "events", "hardware", "ownership")
"""Hooks that take a format and features; each gives one field of the Vendor record."""

OPTIONAL = ("structures", "emulator")
"""The same, for what a vendor may leave out: its field is then None."""
