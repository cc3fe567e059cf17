"""The plugin object: which strategy answers which hook."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from hitless.hardware.facts import HardwareFacts
from hitless.ownership import Ownership
from hitless.pagetable import PageFormat
from hitless.plugin import API, Capability, hookimpl
from hitless.refresh.recipes import Recipes, SplitRules
from hitless_intel import formats, rules
from hitless_intel.commands import IntelCommands
from hitless_intel.emulator import IntelEmulator
from hitless_intel.events import IntelEvents
from hitless_intel.features import FIRST_STAGE, SECOND_STAGE, IntelFeatures
from hitless_intel.ownership import Tdx
from hitless_intel.secure_ept import SecureEpt
from hitless_intel.structures import IntelStructures


class IntelPlugin:
    """VT-d: second-stage and first-stage tables, their structures, TDX."""

    api = API
    title = "Intel VT-d (Virtualization Technology for Directed I/O)"

    @hookimpl
    def features(self) -> type:
        return IntelFeatures

    @hookimpl
    def page_formats(self, features: IntelFeatures) -> Mapping[str, PageFormat]:
        return {
            SECOND_STAGE: formats.second_stage(features, features.aw, dirty=features.ssads),
            FIRST_STAGE: formats.first_stage(features, features.first_stage_levels, extended=features.eafe),
        }

    @hookimpl
    def split_rules(self, page_format: PageFormat, features: IntelFeatures) -> SplitRules:
        return rules.split_rules(page_format)

    @hookimpl
    def recipes(self, page_format: PageFormat, features: IntelFeatures) -> Recipes:
        return rules.recipes(page_format, features)

    @hookimpl
    def commands(self, page_format: PageFormat, features: IntelFeatures) -> IntelCommands:
        return IntelCommands(features, page_format.name)

    @hookimpl
    def events(self, page_format: PageFormat, features: IntelFeatures) -> IntelEvents:
        return IntelEvents(scalable=features.scalable(page_format.name))

    @hookimpl
    def structures(self, page_format: PageFormat, features: IntelFeatures) -> IntelStructures:
        return IntelStructures(page_format, features)

    @hookimpl
    def hardware(self, page_format: PageFormat, features: IntelFeatures) -> HardwareFacts:
        return rules.hardware(page_format, features)

    @hookimpl
    def ownership(self, page_format: PageFormat, features: IntelFeatures) -> Ownership:
        outcome = "machine-check" if features.stale_dma == "machine-check" else "owner"
        if page_format.name == SECOND_STAGE and features.half == "private":
            return SecureEpt(blocking=features.sept_resize == "blocking", outcome=outcome)
        return Tdx(outcome)

    @hookimpl
    def emulator(self, page_format: PageFormat, features: IntelFeatures) -> IntelEmulator:
        return IntelEmulator(page_format, features)

    @hookimpl
    def mutants(self, page_format: PageFormat, features: IntelFeatures) -> Sequence[Any]:
        from hitless_intel.mutants import mutants  # noqa: PLC0415 - only the checker needs them

        return mutants(page_format, features)

    @hookimpl
    def capabilities(self, features: IntelFeatures) -> Sequence[Capability]:
        why = "the TDX module demotes and promotes a Secure EPT page only while it is blocked"
        return [Capability("intel.tdx-demote", "TDH.MEM.RANGE.BLOCK, TDH.MEM.PAGE.DEMOTE", why)]

    @hookimpl
    def spec_words(self) -> str:
        return files(__name__.partition(".")[0]).joinpath("spec_words.toml").read_text(encoding="utf-8")


plugin = IntelPlugin()
