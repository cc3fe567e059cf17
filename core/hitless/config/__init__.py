"""Configuration: TOML into attrs, with all faults at once.

A configuration is code: it imports the plugins that it names, and only those.
"""

from hitless.config.check import check, load_checked, open_registry, select
from hitless.config.load import default_config, load, load_text
from hitless.config.model import (
    AreaConfig,
    Backing,
    Config,
    DeviceConfig,
    DomainConfig,
    GuestConfig,
    IoasConfig,
    PluginConfig,
    RangeConfig,
    SlotConfig,
    StageConfig,
    UnitConfig,
)

__all__ = [
    "AreaConfig",
    "Backing",
    "Config",
    "DeviceConfig",
    "DomainConfig",
    "GuestConfig",
    "IoasConfig",
    "PluginConfig",
    "RangeConfig",
    "SlotConfig",
    "StageConfig",
    "UnitConfig",
    "check",
    "default_config",
    "load",
    "load_checked",
    "load_text",
    "open_registry",
    "select",
]
