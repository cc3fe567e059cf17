"""Who owns a page: owner tables, the check that an IOMMU makes, and the choreography of a conversion."""

from hitless.ownership.policy import Boundary, Policy
from hitless.ownership.strategy import OwnerChange, Ownership, Verdict
from hitless.ownership.table import GUEST, HOST, OwnerTable

__all__ = [
    "GUEST",
    "HOST",
    "Boundary",
    "OwnerChange",
    "OwnerTable",
    "Ownership",
    "Policy",
    "Verdict",
]
