"""Runs a conversion log through every domain of a configuration."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from hitless.config import Config, DomainConfig, open_registry
from hitless.errors import BadInput, HitlessError, OutOfTableMemory, OwnerChangeRefused, Pinned, Refused
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.guest_memfd.log import LogConversion, LogFile, open_log, read_log
from hitless.plugin import VendorRegistry
from hitless.processes import side_by_side
from hitless.run.checking import Check
from hitless.run.result import LogCounts, Row, RunResult
from hitless.run.world import MachineName, World, open_world
from hitless.units import size_text

if TYPE_CHECKING:
    from hitless.run.pictures import Sampler

Progress: TypeAlias = Callable[[str, int, int | None], None]

_PROBLEMS_SHOWN = 20
_WORTH_PROCESSES = 64 << 10


def _silent(label: str, done: int, total: int | None) -> None:
    """No progress."""


@define
class _Pass:
    """One pass of the log through one world."""

    world: World
    counts: LogCounts = field(factory=LogCounts)
    problems: list[str] = field(factory=list)
    more: int = 0
    sampler: "Sampler | None" = None

    def run(self, log: LogFile, limit: int | None, progress: Callable[[int], None]) -> list[Row]:
        """All conversions, one after the other; a line that cannot be read ends the pass, and what was done stands."""
        begun = time.perf_counter()
        reader = read_log(log, limit)
        try:
            for number, conversion in enumerate(reader, 1):
                self._convert(conversion)
                if self.sampler is not None:
                    self.sampler.after(number)
                if number % 64 == 0:
                    progress(number)
        except BadInput as error:
            self.problems.append(str(error))  # the log's fault, the same in every world
        except HitlessError as error:
            if error.exit_status != BadInput.exit_status:
                raise
            self._problem(error)
        counts = reader.counts
        self.counts.lines = counts.lines
        self.counts.cut_lines, self.counts.ignored_lines = counts.cut_lines, counts.ignored_lines
        rows = [station.finish() for station in self.world.stations]
        if self.sampler is not None:
            total = self.counts.conversions + self.counts.unchanged + self.counts.outside
            for row, picture in zip(rows, self.sampler.pictures(total), strict=True):
                row.picture = picture
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
            raise BadInput(
                f"range [{conversion.start:#x}, {conversion.end:#x}) straddles the end of a slot",
                where=f"line {conversion.line_number}: {conversion.text}",
                rule="slots are " + ", ".join(f"[{s.gpa:#x}, {s.end:#x})" for s in slots.slots),
                do="describe the guest's memory with [[guest.slot]] or --memory",
            )
        page = self.world.guest.page_size
        if (conversion.start | conversion.end) % page:
            raise BadInput(
                f"range [{conversion.start:#x}, {conversion.end:#x}) is not one of whole {size_text(page)} pages",
                where=f"line {conversion.line_number}: {conversion.text}",
                do="give guest.page_size as the guest that made the log has it",
            )
        try:
            done = self.world.guest.convert(
                [(conversion.start, conversion.end)], GUEST if conversion.to_private else HOST
            )
        except (Refused, OutOfTableMemory, OwnerChangeRefused, Pinned) as error:
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
    return _REASONS.get(type(error), "out-of-table-memory")


_REASONS: dict[type[HitlessError], str] = {OwnerChangeRefused: "owner-change-refused", Pinned: "pinned"}


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
    check: Check = "none",
    machine: MachineName = "memory",
    pictures: bool = False,
    progress: Progress = _silent,
) -> RunResult:
    """Run a log through all domains, once for each strategy; ``check`` says which of the plans are checked.

    ``machine`` says where: with ``qemu``, on emulated units, one QEMU for each. ``pictures``: rows hold what a report
    shows.

    The same configuration, log, seed and version give the same result but for ``seconds``.

    Raises:
        BadInput, PluginError: the log cannot be opened, or a domain not be made.
    """
    deciding = frozenset({"refresh"} if "refresh" in strategies else strategies)
    jobs = [
        _Job(config, domains, strategy, seed, limit, check, machine, pictures)
        for strategy, domains in worlds_of(config, strategies)
    ]
    processes = min(len(jobs), len(os.sched_getaffinity(0)))
    if isinstance(log, LogFile) or processes == 1 or _is_small(log):
        with nullcontext(log) if isinstance(log, LogFile) else open_log(log) as opened:
            passes = [job.run(registry, opened, progress) for job in jobs]
    else:
        passes = _side_by_side(jobs, log, processes, progress)
    rows = [row for each in passes for row in each[1]]
    problems = [
        problem for job, each in zip(jobs, passes, strict=True) if job.strategy in deciding for problem in each[2]
    ]
    return RunResult(passes[0][0] if passes else LogCounts(), rows, list(dict.fromkeys(problems)), deciding)


Pass: TypeAlias = tuple[LogCounts, list[Row], list[str]]


@frozen
class _Job:
    """One world to run the log through; plain data, so that another process can do it."""

    config: Config
    domains: tuple[DomainConfig, ...]
    strategy: str
    seed: int
    limit: int | None
    check: Check
    machine: MachineName
    pictures: bool = False

    @property
    def label(self) -> str:
        return f"{', '.join(domain.name for domain in self.domains)} ({self.strategy})"

    def run(self, registry: VendorRegistry, log: LogFile, progress: Progress) -> Pass:
        """Run the log; the world is closed afterwards."""
        world = open_world(self.config, self.domains, registry, self.strategy, self.seed, self.check, self.machine)
        try:
            a_pass = _Pass(world, sampler=_sampler(world) if self.pictures else None)
            rows = a_pass.run(log, self.limit, lambda done: progress(self.label, done, None))
        finally:
            world.close()
        return a_pass.counts, rows, a_pass.problems

    def run_alone(self, path: str) -> Pass:
        """Run the log in a process that has nothing loaded yet."""
        with open_log(path) as log:
            return self.run(open_registry(self.config), log, _silent)


def _sampler(world: World) -> "Sampler":
    from hitless.run.pictures import Sampler  # noqa: PLC0415 - most runs show nothing

    return Sampler(world)


def _is_small(log: str | Path) -> bool:
    """Whether starting processes would cost more than it brings."""
    try:
        return Path(log).stat().st_size < _WORTH_PROCESSES
    except OSError:
        return True


def _side_by_side(jobs: Sequence[_Job], log: str | Path, processes: int, progress: Progress) -> list[Pass]:
    """Worlds share nothing, so they run in processes; the results are in the order of the jobs."""
    for job in jobs:
        progress(job.label, 0, None)

    def done(number: int, result: Pass) -> None:
        progress(jobs[number].label, result[0].conversions, result[0].conversions)

    return side_by_side([partial(job.run_alone, str(log)) for job in jobs], processes, done)
