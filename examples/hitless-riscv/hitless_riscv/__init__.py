"""The RISC-V IOMMU for hitless."""

from hitless_riscv.plugin import plugin

__all__ = ["plugin"]
