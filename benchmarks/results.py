"""Results: the rows of results.json, what is asked of them, and the table that a person reads."""

import json
import os
import platform
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.validity import limit_ns
from hitless import __version__

TARGETS = {
    ("refresh-tables", "1G"): 1.2,
    ("refresh-tables", "2M"): 1.2,
    ("refresh", "1G"): 2.0,
    ("refresh", "2M"): 2.0,
    ("map", "4K"): 2.0,
    ("translate", "mixed"): 1.5,
    ("audit", "all"): 2.0,
    ("merge", "all"): 4.0,
}
"""The largest ratio that is aimed at."""
SINGLE_TARGETS = {"1G": 8.0, "split": 20.0}
"""The same for one conversion alone on AMD v1; the others may take twice AMD's time."""
GROWTH = 1.5
"""The most that a conversion may cost among a million, over its cost among a thousand."""


def row(job, measured):
    """One row of a job that was measured on both sides."""
    ramp = measured.ramp.median
    found = {
        "job": job.name,
        "format": job.page_format,
        "case": job.case,
        "n": job.n,
        "hitless_s": measured.hitless.median,
        "c_s": measured.c.median,
        "ratio": measured.ratio,
        "item": job.item,
        "hitless_quartiles_s": measured.hitless.quartiles,
        "c_quartiles_s": measured.c.quartiles,
        "repetitions": len(measured.c.values),
        "ramp_gb_s": ramp,
        "c_limit_ns": limit_ns(job.name, job.case, job.n, job.stage.rounds.stores, ramp),
        "target": TARGETS.get((job.name, job.case)),
    }
    if measured.differences:
        found["differences"] = measured.differences
    return found


def single_row(page_format, case, hitless, base):
    """One row of single conversions; ``c_s`` is the base in Python."""
    return {
        "job": "refresh-one",
        "format": page_format,
        "case": case,
        "n": 1,
        "hitless_s": hitless.median,
        "c_s": base.median,
        "ratio": hitless.median / base.median,
        "item": "conversion",
        "base": "memoryview",
        "hitless_quartiles_s": hitless.quartiles,
        "c_quartiles_s": base.quartiles,
        "repetitions": len(base.values),
        "target": None,
    }


def aim(rows):
    """Give single conversions their targets, which of other vendors depend on AMD's time."""
    amd = {each["case"]: each for each in rows if each["job"] == "refresh-one" and each["format"] == "amd/v1"}
    for each in rows:
        if each["job"] != "refresh-one" or each["case"] not in SINGLE_TARGETS:
            continue
        if each["format"] == "amd/v1":
            each["target"] = SINGLE_TARGETS[each["case"]]
        elif each["case"] in amd:
            each["target"] = 2 * amd[each["case"]]["hitless_s"] / each["c_s"]


def growth(rows):
    """How many times its cost among a thousand a conversion costs among a million: {(job, format): ratio}."""
    costs = {(each["job"], each["format"], each["case"]): each["hitless_s"] / each["n"] for each in rows}
    return {
        (job, page_format): costs[job, page_format, "curve-1000000"] / cost
        for (job, page_format, case), cost in costs.items()
        if case == "curve-1000" and (job, page_format, "curve-1000000") in costs
    }


def machine(ramp_gb_s):
    """What it ran on, without its name."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": memory("MemTotal") >> 30,
        "ramp_gb_s": ramp_gb_s,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def memory(what):
    """Bytes of a line of /proc/meminfo; what cannot be told is 8 GiB."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:")), 8 << 30)


def document(rows, memories, problems, host):
    """All of results.json."""
    return {
        "hitless": __version__,
        "schema": "bench/1",
        "machine": host,
        "void": problems,
        "jobs": rows,
        "memory": memories,
    }


def write(found, path):
    """Write results.json."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def time_text(seconds):
    """A time with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def each_text(found, side):
    """What one item took on one side."""
    return "" if found[side] is None else time_text(found[side] / found["n"])


def print_table(rows, console=None):
    """The table of a run."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (("job", "left"), ("case", "left"), ("format", "left")):
        table.add_column(name, justify=justify)
    for name in ("n", "hitless", "C", "an item", "in C", "ratio", "target", "spread", "GB/s"):
        table.add_column(name, justify="right")
    for each in rows:
        ratio, target = each["ratio"], each.get("target")
        low, high = each.get("hitless_quartiles_s", (each["hitless_s"],) * 2)
        missed = ratio is not None and target is not None and ratio > target
        table.add_row(
            each["job"],
            each["case"],
            each["format"],
            f"{each['n']:,}",
            time_text(each["hitless_s"]),
            "" if each["c_s"] is None else time_text(each["c_s"]),
            each_text(each, "hitless_s"),
            each_text(each, "c_s"),
            "" if ratio is None else f"[{'red' if missed else 'default'}]{ratio:.2f}[/]",
            "" if target is None else f"{target:.3g}",
            f"±{(high - low) / 2 / each['hitless_s']:.0%}",
            f"{each['ramp_gb_s']:.0f}" if "ramp_gb_s" in each else "",
        )
    console = console or Console(width=150)
    console.print(table)
    for (job, page_format), times in growth(rows).items():
        console.print(
            f"{job} on {page_format}: among a million a conversion costs {times:.2f} times its cost among a thousand"
            f" (aim: {GROWTH})",
            highlight=False,
        )


def print_memory(rows, console=None):
    """The figures of memory."""
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="memory", title_justify="left")
    for name in ("job", "case", "format"):
        table.add_column(name)
    for name in ("GiB", "conversions", "hitless MiB", "C MiB", "s"):
        table.add_column(name, justify="right")
    for each in rows:
        ours = each.get("hitless_bytes", each.get("bytes"))
        theirs, seconds = each.get("c_bytes"), each.get("seconds")
        table.add_row(
            *(each[key] for key in ("job", "case", "format")),
            f"{each['gib']:,}",
            f"{each.get('conversions', 0):,}",
            f"{ours / (1 << 20):.1f}",
            "" if theirs is None else f"{theirs / (1 << 20):.1f}",
            "" if seconds is None else f"{seconds:.4f}",
        )
    (console or Console(width=150)).print(table)
