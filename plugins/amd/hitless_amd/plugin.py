"""The plugin object: which strategy answers which hook."""

from collections.abc import Mapping

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.plugin import API, hookimpl
from hitless.refresh.recipes import Recipes, SplitRules
from hitless_amd import rules
from hitless_amd.commands import AmdCommands
from hitless_amd.events import AmdEvents
from hitless_amd.features import AmdFeatures
from hitless_amd.ownership import Rmp
from hitless_amd.v1 import AmdV1


class AmdPlugin:
    """AMD-Vi: v1 host tables, the RMP."""

    api = API
    title = "AMD-Vi (AMD I/O Virtualization Technology, 48882)"

    @hookimpl
    def features(self) -> type:
        return AmdFeatures

    @hookimpl
    def page_formats(self, features: AmdFeatures) -> Mapping[str, PageFormat]:
        return {"amd/v1": AmdV1(features.mode, force_coherent=features.force_coherent)}

    @hookimpl
    def split_rules(self, page_format: PageFormat, features: AmdFeatures) -> SplitRules:
        return rules.split_rules(page_format)

    @hookimpl
    def recipes(self, page_format: PageFormat, features: AmdFeatures) -> Recipes:
        return rules.recipes(features)

    @hookimpl
    def commands(self, page_format: PageFormat, features: AmdFeatures) -> AmdCommands:
        return AmdCommands()

    @hookimpl
    def events(self, page_format: PageFormat, features: AmdFeatures) -> AmdEvents:
        return AmdEvents()

    @hookimpl
    def hardware(self, page_format: PageFormat, features: AmdFeatures) -> HardwareFacts:
        return rules.hardware(features)

    @hookimpl
    def ownership(self, page_format: PageFormat, features: AmdFeatures) -> Rmp:
        return Rmp(features)


plugin = AmdPlugin()
