"""Intel VT-d for hitless."""

from hitless_intel.plugin import plugin

__all__ = ["plugin"]
