"""The plugin door: hook specs, features, the manager and the Vendor record.

A vendor plugin is one object with ``api = 1`` and hook implementations marked with
:data:`hookimpl`, found through the entry-point group ``hitless.vendors``; the entry's name is the
vendor's name. An extension, group ``hitless.extensions``, replaces or wraps single strategies.
"""

from hitless.guest_memfd.conversion import ConversionRecord
from hitless.hardware.vendor import Vendor
from hitless.plugin.capabilities import Capability
from hitless.plugin.features import FeatureInfo, feature, feature_infos, impossible
from hitless.plugin.manager import Broken, PluginSource, VendorRegistry
from hitless.plugin.specs import API, hookimpl

__all__ = [
    "API",
    "Broken",
    "Capability",
    "ConversionRecord",
    "FeatureInfo",
    "PluginSource",
    "Vendor",
    "VendorRegistry",
    "feature",
    "feature_infos",
    "hookimpl",
    "impossible",
]
