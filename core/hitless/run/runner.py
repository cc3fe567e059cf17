"""Runs a conversion log through every domain of a configuration."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeAlias

from attrs import define, field

from hitless.config import Config, DomainConfig
from hitless.errors import HitlessError, OutOfTableMemory, OwnerChangeRefused, Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.guest_memfd.log import LogConversion, LogFile, open_log, read_log
from hitless.plugin import VendorRegistry
from hitless.run.result import LogCounts, Row, RunResult
from hitless.run.world import World, open_world

Progress: TypeAlias = Callable[[str, int, int | None], None]

_PROBLEMS_SHOWN = 20


def _silent(label: str, done: int, total: int | None) -> None:
    """No progress."""


@define
class _Pass:
    """One pass of the log through one world."""

    world: World
    counts: LogCounts = field(factory=LogCounts)
    problems: list[str] = field(factory=list)
    more: int = 0

    def run(self, log: LogFile, limit: int | None, progress: Callable[[int], None]) -> list[Row]:
        """All conversions, one after the other; a line that cannot be read ends the pass, and what was done stands."""
        begun = time.perf_counter()
        reader = read_log(log, limit)
        try:
            for number, conversion in enumerate(reader, 1):
                self._convert(conversion)
                if number % 64 == 0:
                    progress(number)
        except HitlessError as error:
            self._problem(error)
        counts = reader.counts
        self.counts.lines = counts.lines
        self.counts.cut_lines, self.counts.ignored_lines = counts.cut_lines, counts.ignored_lines
        rows = [station.finish() for station in self.world.stations]
        for row in rows:
            row.seconds = time.perf_counter() - begun
        if self.more:
            self.problems.append(f"... and {self.more} more problems of these kinds")
        return rows

    def _convert(self, conversion: LogConversion) -> None:
        """Carry out one line; a refusal leaves everything as it was and is counted."""
        slots = self.world.guest.slots
        if not slots.touches(conversion.start, conversion.end):
            self.counts.outside += 1
            return
        if not slots.contains(conversion.start, conversion.end):
            raise HitlessError(
                f"range [{conversion.start:#x}, {conversion.end:#x}) straddles the end of a slot",
                where=f"line {conversion.line_number}: {conversion.text}",
                rule="slots are " + ", ".join(f"[{s.gpa:#x}, {s.end:#x})" for s in slots.slots),
                do="describe the guest's memory with [[guest.slot]] or --memory",
            )
        try:
            done = self.world.guest.convert(
                [(conversion.start, conversion.end)], GUEST if conversion.to_private else HOST
            )
        except (Refused, OutOfTableMemory, OwnerChangeRefused) as error:
            self.counts.conversions += 1
            self._refused(error, conversion)
            return
        if done is None:
            self.counts.unchanged += 1
            return
        self.counts.conversions += 1
        self.counts.pages += done.pages
        for unit, devices in done.fenced:
            self._problem(
                HitlessError(
                    f"unit {unit} did not answer and is fenced",
                    where=f"line {conversion.line_number}, range [{conversion.start:#x}, {conversion.end:#x})",
                    rule="H1: nothing is freed while a wait is outstanding; what does not answer is fenced",
                    do=f"devices {', '.join(map(str, devices))} are blocked; their old memory is never freed",
                )
            )

    def _refused(self, error: HitlessError, conversion: LogConversion) -> None:
        reason = error.reason if isinstance(error, Refused) else _reason(error)
        first = True
        for station in self.world.stations:
            if not error.who or len(self.world.stations) == 1 or error.who == station.row.vendor:
                first = reason not in station.row.refused
                station.row.refused[reason] += 1
        if first:
            error.where = f"line {conversion.line_number}: {conversion.text}; {error.where}".rstrip("; ")
            self._problem(error)

    def _problem(self, error: HitlessError) -> None:
        if len(self.problems) < _PROBLEMS_SHOWN:
            names = ", ".join(f"{s.row.domain} ({s.row.strategy})" for s in self.world.stations)
            self.problems.append(f"{names}: {error}")
        else:
            self.more += 1


def _reason(error: HitlessError) -> str:
    return "owner-change-refused" if isinstance(error, OwnerChangeRefused) else "out-of-table-memory"


def worlds_of(config: Config, strategies: Sequence[str]) -> list[tuple[str, tuple[DomainConfig, ...]]]:
    """Which domains share a guest: by default none; each strategy has guests of its own."""
    groups = [config.domains] if config.guest.together else [(domain,) for domain in config.domains]
    return [(strategy, group) for group in groups for strategy in strategies]


def run_log(
    config: Config,
    registry: VendorRegistry,
    log: str | Path | LogFile,
    *,
    strategies: Sequence[str] = ("refresh",),
    seed: int = 0,
    limit: int | None = None,
    progress: Progress = _silent,
) -> RunResult:
    """Run a log through all domains, once for each strategy.

    The same configuration, log, seed and version give the same result but for ``seconds``.

    Raises:
        BadInput, PluginError: the log cannot be opened, or a domain not be made.
    """
    counts: LogCounts | None = None
    rows: list[Row] = []
    problems: list[str] = []
    deciding = frozenset({"refresh"} if "refresh" in strategies else strategies)
    with nullcontext(log) if isinstance(log, LogFile) else open_log(log) as opened:
        for strategy, domains in worlds_of(config, strategies):
            label = f"{', '.join(domain.name for domain in domains)} ({strategy})"
            world = open_world(config, domains, registry, strategy, seed)
            try:
                a_pass = _Pass(world)
                rows += a_pass.run(opened, limit, lambda done, label=label: progress(label, done, None))  # type: ignore[misc]
            finally:
                world.close()
            counts = counts or a_pass.counts
            problems += [problem for problem in a_pass.problems if strategy in deciding]
    return RunResult(counts or LogCounts(), rows, problems, deciding)
