"""The plugin object: which strategy answers which hook."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.plugin import API, Capability, hookimpl
from hitless.refresh.recipes import Recipes, SplitRules
from hitless_amd import rules
from hitless_amd.commands import AmdCommands
from hitless_amd.emulator import AmdEmulator
from hitless_amd.events import AmdEvents
from hitless_amd.features import AmdFeatures
from hitless_amd.formats import v1_format, v2_format
from hitless_amd.ownership import Rmp
from hitless_amd.structures import AmdStructures


class AmdPlugin:
    """AMD-Vi: v1 host tables, v2 guest tables, the RMP."""

    api = API
    title = "AMD-Vi (AMD I/O Virtualization Technology, 48882)"

    @hookimpl
    def features(self) -> type:
        return AmdFeatures

    @hookimpl
    def page_formats(self, features: AmdFeatures) -> Mapping[str, PageFormat]:
        return {
            "amd/v1": v1_format(features, features.mode),
            "amd/v2": v2_format(features, features.guest_levels),
        }

    @hookimpl
    def split_rules(self, page_format: PageFormat, features: AmdFeatures) -> SplitRules:
        return rules.split_rules(page_format, features)

    @hookimpl
    def recipes(self, page_format: PageFormat, features: AmdFeatures) -> Recipes:
        return rules.recipes(features)

    @hookimpl
    def commands(self, page_format: PageFormat, features: AmdFeatures) -> AmdCommands:
        return AmdCommands(page_format, features)

    @hookimpl
    def events(self, page_format: PageFormat, features: AmdFeatures) -> AmdEvents:
        return AmdEvents(page_format)

    @hookimpl
    def hardware(self, page_format: PageFormat, features: AmdFeatures) -> HardwareFacts:
        return rules.hardware(features)

    @hookimpl
    def ownership(self, page_format: PageFormat, features: AmdFeatures) -> Rmp:
        return Rmp(features)

    @hookimpl
    def structures(self, page_format: PageFormat, features: AmdFeatures) -> AmdStructures:
        return AmdStructures(page_format, features)

    @hookimpl
    def emulator(self, page_format: PageFormat, features: AmdFeatures) -> AmdEmulator:
        return AmdEmulator(page_format, features)

    @hookimpl
    def mutants(self, page_format: PageFormat, features: AmdFeatures) -> Sequence[Any]:
        from hitless_amd.mutants import mutants  # noqa: PLC0415 - only the checker needs them

        return mutants(page_format, features)

    @hookimpl
    def capabilities(self) -> Sequence[Capability]:
        why = "without the firmware engine, RMP and IOPTE of a guest-owned 2M page change one after the other"
        return [
            Capability(f"amd.trusted-{kind}", "58151, capability bits 6 and 7; AMD-RMP-12", why, formats=("amd/v1",))
            for kind in ("smash", "unsmash")
        ]

    @hookimpl
    def spec_words(self) -> str:
        return files(__name__.partition(".")[0]).joinpath("spec_words.toml").read_text(encoding="utf-8")


plugin = AmdPlugin()
