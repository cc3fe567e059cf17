"""The plugin object: which strategy answers which hook."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from hitless.hardware.facts import HardwareFacts
from hitless.pagetable import PageFormat
from hitless.plugin import API, Capability, hookimpl
from hitless.refresh.recipes import Recipes, SplitRules
from hitless_riscv import rules
from hitless_riscv.commands import RiscvCommands
from hitless_riscv.emulator import RiscvEmulator
from hitless_riscv.events import RiscvEvents
from hitless_riscv.features import STAGE_1, STAGE_2, RiscvFeatures
from hitless_riscv.formats import configured
from hitless_riscv.ownership import Mpt
from hitless_riscv.structures import RiscvStructures
from hitless_riscv.sv import Stage1, Stage2


class RiscvPlugin:
    """The RISC-V IOMMU: both stages' tables, its directories, memory protection tables."""

    api = API
    title = "RISC-V IOMMU 1.0"

    @hookimpl
    def features(self) -> type:
        return RiscvFeatures

    @hookimpl
    def page_formats(self, features: RiscvFeatures) -> Mapping[str, PageFormat]:
        config = configured(features, features.mode, hardware_ad=features.hardware_ad)
        return {STAGE_2: Stage2(config), STAGE_1: Stage1(config)}

    @hookimpl
    def split_rules(self, page_format: PageFormat, features: RiscvFeatures) -> SplitRules:
        return rules.split_rules(page_format, features)

    @hookimpl
    def recipes(self, page_format: PageFormat, features: RiscvFeatures) -> Recipes:
        return rules.recipes(features)

    @hookimpl
    def commands(self, page_format: PageFormat, features: RiscvFeatures) -> RiscvCommands:
        return RiscvCommands(page_format, features)

    @hookimpl
    def events(self, page_format: PageFormat, features: RiscvFeatures) -> RiscvEvents:
        return RiscvEvents(page_format)

    @hookimpl
    def hardware(self, page_format: PageFormat, features: RiscvFeatures) -> HardwareFacts:
        return rules.hardware(features)

    @hookimpl
    def ownership(self, page_format: PageFormat, features: RiscvFeatures) -> Mpt:
        return Mpt(features)

    @hookimpl
    def structures(self, page_format: PageFormat, features: RiscvFeatures) -> RiscvStructures:
        return RiscvStructures(page_format, features)

    @hookimpl
    def emulator(self, page_format: PageFormat, features: RiscvFeatures) -> RiscvEmulator:
        return RiscvEmulator(page_format, features)

    @hookimpl
    def mutants(self, page_format: PageFormat, features: RiscvFeatures) -> Sequence[Any]:
        from hitless_riscv.mutants import mutants  # noqa: PLC0415 - only the checker needs them

        return mutants(page_format, features)

    @hookimpl
    def capabilities(self, features: RiscvFeatures) -> Sequence[Capability]:
        if not features.napot or features.napot_mix:
            return []
        why = "a unit that does not take a mix of entries needs a NAPOT run to be empty before its size changes"
        return [Capability("riscv.napot-resize", "Svnapot, changes of an entry (RISCV-NAPOT-5)", why)]

    @hookimpl
    def spec_words(self) -> str:
        return files(__name__.partition(".")[0]).joinpath("spec_words.toml").read_text(encoding="utf-8")


plugin = RiscvPlugin()
