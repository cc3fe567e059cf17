"""Arm SMMUv3 for hitless."""

from hitless_arm_smmu.plugin import plugin

__all__ = ["plugin"]
