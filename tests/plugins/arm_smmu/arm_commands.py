"""Commands and targets as the tests make them."""

from hitless.refresh.commands import Target
from hitless_arm_smmu import plugin
from hitless_arm_smmu.commands import ArmSmmuCommands
from hitless_arm_smmu.features import ArmSmmuFeatures

K4, M2, G1 = 1 << 12, 1 << 21, 1 << 30


def made(stage: int = 2, **features: object) -> ArmSmmuCommands:
    """The commands for tables of a stage."""
    told = ArmSmmuFeatures(**features)
    return ArmSmmuCommands(told, plugin.page_formats(told)[f"arm_smmu/stage{stage}"])


def leaves(first: int, size: int, level: int) -> Target:
    """Leaves of one level."""
    return Target(first, first + size - 1, 12 + 9 * level, level, False)


def table(first: int, size_lg2: int) -> Target:
    """A table pointer that went."""
    return Target(first, first + (1 << size_lg2) - 1, size_lg2, None, True)
