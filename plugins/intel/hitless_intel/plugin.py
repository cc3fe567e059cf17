"""The plugin object: which strategy answers which hook."""

from collections.abc import Mapping

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.plugin import API, hookimpl
from hitless.refresh.recipes import Recipes, SplitRules
from hitless_intel import rules
from hitless_intel.commands import IntelCommands
from hitless_intel.events import IntelEvents
from hitless_intel.features import IntelFeatures
from hitless_intel.ownership import Tdx
from hitless_intel.second_stage import SecondStage


class IntelPlugin:
    """VT-d: second-stage tables, TDX."""

    api = API
    title = "Intel VT-d (Virtualization Technology for Directed I/O)"

    @hookimpl
    def features(self) -> type:
        return IntelFeatures

    @hookimpl
    def page_formats(self, features: IntelFeatures) -> Mapping[str, PageFormat]:
        large = ((1,) if features.sslps_2m else ()) + ((2,) if features.sslps_1g else ())
        fmt = SecondStage(
            features.haw, snoop_control=features.snoop_control, dirty=features.ssads, leaf_levels=(0, *large)
        )
        return {"intel/second-stage": fmt}

    @hookimpl
    def split_rules(self, page_format: PageFormat, features: IntelFeatures) -> SplitRules:
        return rules.split_rules(page_format)

    @hookimpl
    def recipes(self, page_format: PageFormat, features: IntelFeatures) -> Recipes:
        return rules.recipes(features)

    @hookimpl
    def commands(self, page_format: PageFormat, features: IntelFeatures) -> IntelCommands:
        return IntelCommands(features)

    @hookimpl
    def events(self, page_format: PageFormat, features: IntelFeatures) -> IntelEvents:
        return IntelEvents()

    @hookimpl
    def hardware(self, page_format: PageFormat, features: IntelFeatures) -> HardwareFacts:
        return rules.hardware(features)

    @hookimpl
    def ownership(self, page_format: PageFormat, features: IntelFeatures) -> Tdx:
        return Tdx()


plugin = IntelPlugin()
