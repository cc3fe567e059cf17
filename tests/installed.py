"""Which vendors are installed here: the three of this distribution, and whoever stands beside them."""

from importlib.metadata import entry_points

OWN = ("amd", "arm_smmu", "intel")
VENDORS = sorted({entry.name for entry in entry_points(group="hitless.vendors")})
"""All, in the order in which hitless names them."""
NAMES = ", ".join(VENDORS)
