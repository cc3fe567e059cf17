"""The plugin object: which strategy answers which hook."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.plugin import API, Capability, hookimpl
from hitless.refresh.recipes import Recipes, SplitRules
from hitless_arm_smmu import rules
from hitless_arm_smmu.commands import ArmSmmuCommands
from hitless_arm_smmu.emulator import ArmSmmuEmulator
from hitless_arm_smmu.events import ArmSmmuEvents
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.ownership import Gpt
from hitless_arm_smmu.realm import RealmHalf
from hitless_arm_smmu.stage1 import ArmStage1
from hitless_arm_smmu.stage2 import ArmStage2
from hitless_arm_smmu.structures import ArmSmmuStructures


class ArmSmmuPlugin:
    """SMMUv3: tables of both stages, stream tables, the GPT."""

    api = API
    title = "Arm SMMUv3 (System Memory Management Unit, IHI0070)"

    @hookimpl
    def features(self) -> type:
        return ArmSmmuFeatures

    @hookimpl
    def page_formats(self, features: ArmSmmuFeatures) -> Mapping[str, PageFormat]:
        return {"arm_smmu/stage2": ArmStage2(features.stage2), "arm_smmu/stage1": ArmStage1(features.stage1)}

    @hookimpl
    def split_rules(self, page_format: PageFormat, features: ArmSmmuFeatures) -> SplitRules:
        return rules.split_rules(page_format, features)

    @hookimpl
    def recipes(self, page_format: PageFormat, features: ArmSmmuFeatures) -> Recipes:
        return rules.recipes(features)

    @hookimpl
    def commands(self, page_format: PageFormat, features: ArmSmmuFeatures) -> ArmSmmuCommands:
        return ArmSmmuCommands(features, page_format)

    @hookimpl
    def events(self, page_format: PageFormat, features: ArmSmmuFeatures) -> ArmSmmuEvents:
        return ArmSmmuEvents(page_format.stage)

    @hookimpl
    def hardware(self, page_format: PageFormat, features: ArmSmmuFeatures) -> HardwareFacts:
        return rules.hardware(features)

    @hookimpl
    def structures(self, page_format: PageFormat, features: ArmSmmuFeatures) -> ArmSmmuStructures:
        return ArmSmmuStructures(features, page_format)

    @hookimpl
    def ownership(self, page_format: PageFormat, features: ArmSmmuFeatures) -> Gpt:
        return Gpt(features) if features.half == "host" else RealmHalf(features)

    @hookimpl
    def emulator(self, page_format: PageFormat, features: ArmSmmuFeatures) -> ArmSmmuEmulator:
        return ArmSmmuEmulator(page_format, features)

    @hookimpl
    def mutants(self, page_format: PageFormat, features: ArmSmmuFeatures) -> Sequence[Any]:
        from hitless_arm_smmu.mutants import mutants  # noqa: PLC0415 - only the checker needs them

        return mutants(page_format, features)

    @hookimpl
    def capabilities(self) -> Sequence[Capability]:
        why = "the RMM changes the size of a live entry by break-before-make"
        clause = "TF-RMM lib/s2tt, RTT fold and unfold; ARM-GPT-9"
        return [Capability(f"arm_smmu.rmm-{kind}", clause, why) for kind in ("unfold", "fold")]

    @hookimpl
    def spec_words(self) -> str:
        return files(__name__.partition(".")[0]).joinpath("spec_words.toml").read_text(encoding="utf-8")


plugin = ArmSmmuPlugin()
