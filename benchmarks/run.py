"""Measures hitless beside C in one run: prints a table, writes results.json and a plot. ``make bench`` runs it.

Exit status 1: the run is void, because C was slower than it has to be, or the two did not agree on a word.
"""

import argparse
import gc
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import plot, results
from benchmarks.baseline import Baseline
from benchmarks.suite import CURVE, NAMES, Options, memories, rows
from benchmarks.validity import void
from hitless.errors import HitlessError

HERE = Path(__file__).parent


def asked(arguments):
    """The options of a command line, and where results go."""
    normal = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"only these: {', '.join(NAMES)}")
    parser.add_argument("--format", action="append", choices=normal.formats, help="only this; may be repeated")
    parser.add_argument("--gigabytes", type=int, default=normal.gigabytes, help="of the guest [%(default)s]")
    parser.add_argument("--conversions", type=int, default=normal.conversions, help="in one refresh [%(default)s]")
    parser.add_argument("--mapped", type=int, default=normal.mapped, help="GiB that are mapped [%(default)s]")
    parser.add_argument("--iovas", type=int, default=normal.iovas, help="that are translated [%(default)s]")
    parser.add_argument("--curve-to", type=int, default=CURVE[-1], help="conversions where curves end [%(default)s]")
    parser.add_argument("--checked", type=int, default=normal.checked, help="conversions to check [%(default)s]")
    parser.add_argument("--samples", type=int, default=normal.samples, help="single conversions [%(default)s]")
    parser.add_argument("--repetitions", type=int, default=normal.repetitions, help="at most [%(default)s]")
    parser.add_argument("--seconds", type=float, default=normal.budget, help="a job, then no more [%(default)s]")
    parser.add_argument("--into", type=Path, default=HERE, help="folder for results.json and results.svg")
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    found = parser.parse_args(arguments)
    if unknown := set(found.jobs) - set(NAMES):
        parser.error(f"no such job: {', '.join(sorted(unknown))}")
    options = Options(
        jobs=tuple(found.jobs) or NAMES,
        formats=tuple(found.format or normal.formats),
        gigabytes=found.gigabytes,
        conversions=found.conversions,
        mapped=found.mapped,
        iovas=found.iovas,
        curve=tuple(count for count in CURVE if count <= found.curve_to),
        repetitions=found.repetitions,
        budget=found.seconds,
        checked=found.checked,
        samples=found.samples,
    )
    return options, found.into, not found.no_memory


def main(arguments=None):
    """Measure what was asked for; the exit status."""
    options, into, with_memory = asked(arguments)
    console = Console(stderr=True)
    baseline = Baseline.load()
    gc.freeze()
    found = []
    for row in rows(baseline, options, console.print):
        found.append(row)
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} times C"
        console.print(f"{row['format']:<20}{row['job']:<16}{row['case']:<16}{ratio}", highlight=False)
    results.aim(found)
    problems = void(found)
    taken = memories(baseline, options) if with_memory else []
    ramps = sorted(row["ramp_gb_s"] for row in found if "ramp_gb_s" in row)
    host = results.machine(ramps[len(ramps) // 2] if ramps else None)
    into.mkdir(parents=True, exist_ok=True)
    document = results.document(found, taken, problems, host)
    results.write(document, into / "results.json")
    (into / "results.svg").write_text(plot.drawn(document), encoding="utf-8")
    results.print_table(found)
    results.print_memory(taken)
    for problem in problems:
        console.print(f"[bold red]VOID[/] {problem}", highlight=False)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HitlessError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
