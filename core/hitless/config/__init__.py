"""Configuration: TOML into attrs, with all faults at once.

A configuration is code: it imports the plugins that it names, and only those.
"""

from hitless.config.check import check, load_checked, open_registry, select
from hitless.config.load import default_config, load, load_text
from hitless.config.model import (
    Backing,
    Config,
    DeviceConfig,
    DomainConfig,
    GuestConfig,
    PluginConfig,
    RangeConfig,
    SlotConfig,
    UnitConfig,
)

__all__ = [
    "Backing",
    "Config",
    "DeviceConfig",
    "DomainConfig",
    "GuestConfig",
    "PluginConfig",
    "RangeConfig",
    "SlotConfig",
    "UnitConfig",
    "check",
    "default_config",
    "load",
    "load_checked",
    "load_text",
    "open_registry",
    "select",
]
