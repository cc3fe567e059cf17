"""Which jobs a run does, on which stages."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from benchmarks import checker, memory, results, single
from benchmarks.jobs import SIZES, Audit, Map, Merge, Refresh, Translate
from benchmarks.measure import in_turn
from benchmarks.stage import VENDORS, Stage, room

NAMES = ("refresh", "refresh-tables", "refresh-one", "map", "translate", "audit", "merge", "check", "curve")
DENSITY = 1_000_000 / (16 << 10)
"""Conversions per GiB along the curve: a million over 16 TiB."""
CURVE = (100, 1_000, 10_000, 100_000, 1_000_000)
SLACK_BYTES = 3 << 30
"""Memory that a job leaves to everybody else."""


@frozen
class Options:
    """What a run does.

    Args:
        jobs: names of :data:`NAMES`.
        formats: the vendors' main formats.
        gigabytes, conversions: of refreshes, and of what is translated, audited and merged.
        mapped: GiB of the guest that is mapped.
        iovas: that are translated.
        curve: conversions of the points of the curve.
        repetitions: at most.
        budget: seconds after which a job is not repeated any more.
        checked: conversions of the plan that is checked.
        samples: single conversions of each case.
    """

    jobs: tuple = NAMES
    formats: tuple = tuple(VENDORS)
    gigabytes: int = 64
    conversions: int = 100_000
    mapped: int = 1024
    iovas: int = 1_000_000
    curve: tuple = CURVE
    repetitions: int = 15
    budget: float = 4.0
    checked: int = 10_000
    samples: int = 200


def rows(baseline, options, say) -> Iterator[dict]:
    """Rows of results.json, as they are measured; ``say`` is told what could not be done as asked."""
    for page_format in options.formats:
        yield from _measured(_large(baseline, page_format, options), options)
        yield from _measured(_maps(baseline, page_format, options, say), options)
        if "refresh-one" in options.jobs:
            found = single.measure(baseline, page_format, options.samples)
            yield from (results.single_row(page_format, case, *found[case]) for case in single.CASES)
        if "check" in options.jobs:
            yield _check(page_format, options)
        if "curve" in options.jobs:
            yield from _measured(_curve(baseline, page_format, options, say), options)


def memories(baseline, options):
    """The figures of memory, a row each."""
    found = []
    for page_format in options.formats:
        if "refresh" in options.jobs:
            found += memory.figures(page_format)
        found.append(memory.starting(baseline, page_format))
    return found


def _measured(jobs, options):
    """Each job's row; one whose C was disturbed is measured once more."""
    for job in jobs:
        for _ in range(2):
            row = results.row(job, in_turn(job, options.repetitions, options.budget))
            limit = row["c_limit_ns"]
            if limit is None or row["c_s"] * 1e9 / row["n"] <= limit:
                break
        yield row


@contextmanager
def _stage(baseline, page_format, gigabytes, leaf_lg2, conversions, **more):
    stage = Stage(baseline, page_format, gigabytes, leaf_lg2, room(gigabytes, leaf_lg2, conversions), **more)
    try:
        yield stage
    finally:
        stage.close()


def _large(baseline, page_format, options):
    """Refreshes in leaves of 1G and 2M; translation and merging where 1G leaves were cut; an audit of 4K leaves."""
    size, count = options.gigabytes, options.conversions
    wanted = set(options.jobs)
    if wanted & {"refresh", "refresh-tables", "translate", "merge"}:
        with _stage(baseline, page_format, size, SIZES["1G"], count) as stage:
            yield from _refreshes(stage, "1G", count, wanted)
            if "translate" in wanted:
                yield Translate(stage, "translate", "mixed", options.iovas, conversions=count)
                yield Translate(stage, "translate", "1G", options.iovas)
            if "merge" in wanted:
                yield Merge(stage, "merge", "all", 0, conversions=count)
    if wanted & {"refresh", "refresh-tables"}:
        with _stage(baseline, page_format, size, SIZES["2M"], count) as stage:
            yield from _refreshes(stage, "2M", count, wanted)
    if "audit" in wanted:
        with _stage(baseline, page_format, size, SIZES["4K"], 0) as stage:
            yield Audit(stage, "audit", "all", size << 18, conversions=count)


def _refreshes(stage, case, count, wanted):
    for name in ("refresh-tables", "refresh"):
        if name in wanted:
            yield Refresh(stage, name, case, count, complete=name == "refresh")


def _maps(baseline, page_format, options, say):
    """A guest mapped by leaves of each size; smaller, if two tables of it do not fit into memory."""
    if "map" not in options.jobs:
        return
    for case, leaf_lg2 in SIZES.items():
        gigabytes = options.mapped
        while 2 * room(gigabytes, leaf_lg2, 0) + SLACK_BYTES > results.memory("MemAvailable") and gigabytes > 1:
            gigabytes //= 2
        if gigabytes < options.mapped:
            say(f"map {case}: {gigabytes} GiB instead of {options.mapped}, for want of memory")
        with _stage(baseline, page_format, gigabytes, leaf_lg2, 0, empty=True) as stage:
            yield Map(stage, "map", case, gigabytes << 30 >> leaf_lg2)


def _curve(baseline, page_format, options, say):
    """Refreshes of ever more conversions in ever larger guests, at one density."""
    for count in options.curve:
        gigabytes = max(round(count / DENSITY), 1)
        if 2 * room(gigabytes, SIZES["1G"], count) + SLACK_BYTES > results.memory("MemAvailable"):
            say(f"curve: {count:,} conversions over {gigabytes:,} GiB are left out, for want of memory")
            continue
        with _stage(baseline, page_format, gigabytes, SIZES["1G"], count) as stage:
            yield from _refreshes(stage, f"curve-{count}", count, ("refresh-tables", "refresh"))


def _check(page_format, options):
    """The checker alone on one plan; C has no such thing."""
    _, seconds, _ = checker.measure(VENDORS[page_format], options.gigabytes, options.checked)
    return {
        "job": "check",
        "format": page_format,
        "case": "1G",
        "n": options.checked,
        "hitless_s": seconds,
        "c_s": None,
        "ratio": None,
        "item": "conversion",
        "target": None,
    }
