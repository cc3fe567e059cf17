"""hitless: refresh IOMMU mappings under DMA, for every vendor, from one guest_memfd protocol.

Importing this package imports nothing heavy; each room is imported by who needs it.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
