"""Who owns a page: owner tables, the check that an IOMMU makes, and the choreography of a conversion."""

from hitless.ownership.many import OwnerChanges, edges, inner, owns
from hitless.ownership.policy import Boundary, Policy
from hitless.ownership.raw import RawEntry, RawTable
from hitless.ownership.strategy import (
    ANY_LG2,
    Block,
    Choreography,
    Close,
    Follow,
    OwnerChange,
    Ownership,
    Verdict,
    size_class,
)
from hitless.ownership.table import FIRMWARE, GUEST, HOST, OTHER_GUEST, OwnerTable

__all__ = [
    "ANY_LG2",
    "FIRMWARE",
    "GUEST",
    "HOST",
    "OTHER_GUEST",
    "Block",
    "Boundary",
    "Choreography",
    "Close",
    "Follow",
    "OwnerChange",
    "OwnerChanges",
    "OwnerTable",
    "Ownership",
    "Policy",
    "RawEntry",
    "RawTable",
    "Verdict",
    "edges",
    "inner",
    "owns",
    "size_class",
]
