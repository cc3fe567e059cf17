"""What a run found, and how it is written down."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, field

from hitless import __version__
from hitless.hardware.dma import DmaCounters
from hitless.refresh.executor import Counters
from hitless.units import lg2_text

if TYPE_CHECKING:
    from hitless.report.build import RunPicture


@define
class LogCounts:
    """The lines of a log: each is exactly one of the five kinds.

    Args:
        lines: all of them.
        conversions: events that changed an owner, or that were refused.
        unchanged: events whose pages had that owner already.
        outside: events wholly outside every slot.
        cut_lines: a last line that was cut.
        ignored_lines: everything that is not one of the two events.
        pages: 4 KiB pages that changed owner.
    """

    lines: int = 0
    conversions: int = 0
    pages: int = 0
    unchanged: int = 0
    outside: int = 0
    cut_lines: int = 0
    ignored_lines: int = 0


@define
class Row:
    """One domain under one strategy.

    Args:
        ioas, pasid, stage1: the address space, the PASID of its requests, and the format of a guest's own tables; empty
            or None where there is none.
        checked, check_violations: plans that were checked, and by rule what broke in them.
        story: of the first of these violations, told.
        witnessed: of emulated units, how translations were seen; None: the units are the model's. What such a unit
            cannot show is null in JSON.
        picture: what a report shows, if one was asked for.
    """

    domain: str
    vendor: str
    format: str
    features: dict[str, bool | int | str]
    backing: str
    policy: str
    machine: str
    units: int
    strategy: str
    ioas: str = ""
    pasid: int | None = None
    stage1: str = ""
    dma: DmaCounters = field(factory=DmaCounters)
    done: Counters = field(factory=Counters)
    cuts: int = 0
    merges: int = 0
    tables: int = 0
    tables_peak: int = 0
    leaves: dict[int, int] = field(factory=dict)
    refused: Counter[str] = field(factory=Counter)
    freed_table_reads: int = 0
    conflicts: int = 0
    fenced: list[str] = field(factory=list)
    checked: int = 0
    check_violations: Counter[str] = field(factory=Counter)
    story: str = ""
    witnessed: dict[str, int] | None = None
    seconds: float = 0.0
    picture: "RunPicture | None" = None

    @property
    def violations(self) -> dict[str, int]:
        """How often each rule broke; empty if none did."""
        found = {
            "N1 neighbour_faults": self.dma.neighbour_faults,
            "N2 neighbour_misrouted": self.dma.neighbour_misrouted,
            "C1 converted_misrouted": self.dma.converted_misrouted,
            "C1 machine_checks": self.dma.machine_checks,
            "K1 conflicts": self.conflicts,
            "F1 stale_after_refresh": self.dma.stale,
            "R1 freed_table_reads": self.freed_table_reads,
        }
        found |= {f"{rule} in checked plans": count for rule, count in sorted(self.check_violations.items())}
        return {rule: count for rule, count in found.items() if count}

    def as_json(self) -> dict[str, Any]:
        """The row with the keys of schema run/1."""
        return {
            "domain": self.domain,
            "vendor": self.vendor,
            "format": self.format,
            "features": self.features,
            "backing": self.backing,
            "policy": self.policy,
            "machine": self.machine,
            "units": self.units,
            "strategy": self.strategy,
            "ioas": self.ioas,
            "pasid": self.pasid,
            "stage1": self.stage1,
            "near_dma": self.dma.near,
            "neighbour_dma": self.dma.neighbour,
            "neighbour_faults": self.dma.neighbour_faults,
            "neighbour_misrouted": self.dma.neighbour_misrouted,
            "converted_dma": self.dma.converted,
            "converted_misrouted": self.dma.converted_misrouted,
            "machine_checks": self._modelled(self.dma.machine_checks),
            "stale_after_refresh": self.dma.stale,
            "freed_table_reads": self._modelled(self.freed_table_reads),
            "conflicts": self._modelled(self.conflicts),
            "witnessed": self.witnessed,
            "cuts": self.cuts,
            "merges": self.merges,
            "stores": self.done.stores,
            "invalidations": self.done.invalidations,
            "invalidated_pages": self.done.invalidated_pages,
            "waits": self.done.waits,
            "tables": self.tables,
            "tables_peak": self.tables_peak,
            "leaves": {lg2_text(lg2): self.leaves[lg2] for lg2 in sorted(self.leaves)},
            "refused": [{"reason": reason, "count": count} for reason, count in sorted(self.refused.items())],
            "fenced": self.fenced,
            "checked": self.checked,
            "check_violations": {rule: self.check_violations[rule] for rule in sorted(self.check_violations)},
            "seconds": round(self.seconds, 3),
        }

    def _modelled(self, count: int) -> int | None:
        """A count that only the model can make."""
        return count if self.witnessed is None else None


@define
class RunResult:
    """A whole run.

    Args:
        log: counts of the log's lines.
        rows: one per domain and strategy.
        problems: bad input and refusals, as text for people, in order.
        deciding: the strategies whose violations decide the exit status.
    """

    log: LogCounts
    rows: list[Row]
    problems: list[str]
    deciding: frozenset[str]

    @property
    def status(self) -> int:
        """0; 1 a rule broke; 2 bad input, or a conversion was refused."""
        if any(row.violations for row in self.rows if row.strategy in self.deciding):
            return 1
        return 2 if self.problems or any(row.refused or row.fenced for row in self.rows) else 0

    def as_json(self) -> dict[str, Any]:
        """Schema run/1."""
        return {
            "hitless": __version__,
            "schema": "run/1",
            "log": asdict(self.log),
            "domains": [row.as_json() for row in self.rows],
            "problems": self.problems,
        }
