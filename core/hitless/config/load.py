"""Reading a configuration without its plugins, and the one that stands in where there is no file."""

import os
from collections.abc import Sequence

from hitless.config.draft import named, read_file, read_text
from hitless.config.model import Backing, Config, DomainConfig, GuestConfig
from hitless.config.rules import rule_faults
from hitless.errors import PluginError
from hitless.plugin import VendorRegistry


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file; what only its plugins can tell is not checked.

    Raises:
        BadInput: the file cannot be read.
        ConfigurationError: all faults, each as ``problem @ path``.
    """
    draft = read_file(path)
    return draft.config(rule_faults(draft))


def load_text(text: str, source: str = "<text>") -> Config:
    """The configuration in a text; relative paths are relative to the working directory.

    Raises:
        ConfigurationError: all faults, each as ``problem @ path``.
    """
    draft = read_text(text, source)
    return draft.config(rule_faults(draft))


def default_config(
    registry: VendorRegistry, *, memory: int, backing: Backing = "in-place", vendors: Sequence[str] | None = None
) -> Config:
    """One slot from 0, 1 GiB hunks, all private; each vendor with its default format and features.

    ``memory`` is in bytes; of ``vendors`` (None: all that loaded) a repeated name counts once.

    Raises:
        PluginError: no such vendor, or there is none at all.
    """
    names = dict.fromkeys(vendors or sorted(registry.vendors))
    if not names:
        raise PluginError("no vendor plugin is installed", do="`hitless vendors` lists those that do not load")
    domains = named([DomainConfig(registry.vendor(name).name) for name in names])
    return Config(GuestConfig(memory=memory, backing=backing), domains, source="defaults")
