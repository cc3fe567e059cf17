"""N1, N2, C1, C2, F1: what a device may see."""

from typing import ClassVar

from hitless.check.rules.base import OutcomeRule, Seen
from hitless.check.subject import Subject


class NeighbourFaults(OutcomeRule):
    """N1."""

    id: ClassVar[str] = "N1"
    sentence: ClassVar[str] = "DMA to a neighbour never faults"
    do: ClassVar[str] = (
        "keep every neighbour translated: build the new table first, link it with one store, wait before what differs"
    )

    def judge(self, seen: Seen, subject: Subject) -> str | None:
        run = seen.run
        if run is None or run.converts or not subject.grants(run.old_owner, run.start) or not seen.fault:
            return None
        return f"DMA to a neighbour faults ({seen.fault})"


class NeighbourMisrouted(OutcomeRule):
    """N2."""

    id: ClassVar[str] = "N2"
    sentence: ClassVar[str] = "DMA to a neighbour always reaches its own page, with its own rights and attributes"
    do: ClassVar[str] = "store what maps the neighbours as they are mapped, attributes included"

    def judge(self, seen: Seen, subject: Subject) -> str | None:
        run = seen.run
        if run is None or run.converts or not subject.grants(run.old_owner, run.start) or seen.fault:
            return None
        if seen.pa != run.new_pa:
            return f"DMA to a neighbour reaches {seen.pa:#x}, its page is {run.new_pa:#x}"
        return _attributes(seen, subject)


class ConvertedIsSafe(OutcomeRule):
    """C1."""

    id: ClassVar[str] = "C1"
    sentence: ClassVar[str] = "DMA to a converted page gives the old page, a safe fault, or the new page"
    do: ClassVar[str] = "let nothing lead to the page when its owner changes, or to a third page at any time"

    def judge(self, seen: Seen, subject: Subject) -> str | None:
        if seen.unsafe:
            return f"DMA ends in a {seen.fault}"
        run = seen.run
        if run is None or not run.converts or seen.fault or seen.moment != "running":
            return None
        if seen.pa not in (run.old_pa, run.new_pa):
            pages = f"neither the old page {run.old_pa:#x} nor the new {run.new_pa:#x}"
            return f"DMA to a converted page reaches {seen.pa:#x}, {pages}"
        return None


class PresentOwner(OutcomeRule):
    """C2."""

    id: ClassVar[str] = "C2"
    sentence: ClassVar[str] = (
        "after isolate with policy wipe a fault; after refresh what the present owner and policy grant this device"
    )
    do: ClassVar[str] = "store what the present owner and the policy ask for, and nothing else"

    def judge(self, seen: Seen, subject: Subject) -> str | None:
        run = seen.run
        if run is None or not run.converts:
            return None
        changes = run.old_owner != run.new_owner  # else isolate may have been refused half way
        if seen.moment == "isolated" and subject.policy.wipes and changes and not seen.fault:
            return f"isolate has returned, and DMA still reaches {seen.pa:#x}"
        if seen.moment == "ended" and seen.where == "memory":
            return _not_as_granted(seen, subject)
        return None


class NothingStale(OutcomeRule):
    """F1."""

    id: ClassVar[str] = "F1"
    sentence: ClassVar[str] = (
        "after refresh returns, no request completes with a translation that the present owner would not grant"
    )
    do: ClassVar[str] = (
        "invalidate what was replaced on every unit, tag and device, as large as it was cached, and wait"
    )

    def judge(self, seen: Seen, subject: Subject) -> str | None:
        run = seen.run
        if run is None:
            return None if seen.fault else "DMA reaches a page where the guest has no memory"
        if not run.converts:
            if subject.grants(run.old_owner, run.start) or seen.fault:
                return None
            return f"DMA reaches {seen.pa:#x}, which its owner does not grant this device"
        if seen.moment != "ended" or seen.where == "memory":
            return None
        return _not_as_granted(seen, subject)


def _not_as_granted(seen: Seen, subject: Subject) -> str | None:
    """After refresh: what differs from what the present owner and the policy grant."""
    run = seen.run
    if run is None:
        return None
    if not subject.grants(run.new_owner, run.start):
        return None if seen.fault else f"refresh has returned, and DMA still reaches {seen.pa:#x}"
    if seen.fault:
        return f"refresh has returned, and DMA faults ({seen.fault}) where the present owner grants access"
    if seen.pa != run.new_pa:
        return f"refresh has returned, and DMA reaches {seen.pa:#x} instead of {run.new_pa:#x}"
    return _attributes(seen, subject)


def _attributes(seen: Seen, subject: Subject) -> str | None:
    """Attributes that differ from those that mappings of the address space have there."""
    level_bits = subject.vendor.page_format.hardware_set(0)
    own = None if seen.run is None else seen.run.attrs
    wanted = subject.truth.attrs if own is None else own
    if (seen.attrs ^ wanted) & ~level_bits:
        return f"DMA has attributes {seen.attrs:#x} instead of {wanted & ~level_bits:#x}"
    return None
