"""AMD-Vi for hitless."""

from hitless_amd.plugin import plugin

__all__ = ["plugin"]
