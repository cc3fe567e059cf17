"""When a run is void: C is slower than it has to be, so that a ratio to it would say nothing.

The figures are those of C, gcc -O2, measured on a machine of this kind whose memory took a ramp of 64-bit words at
14 GB/s; the lower one where they were a range. A run's own C may take 1.3 times as long, scaled by the bandwidth that
was measured beside it.
"""

SLOWER = 1.3
RAMP_GB_S = 14.0

ROUND_NS = 65.0
"""An entry that is stored once more: the figure of conversions in leaves of 4K, for each round after the cut."""

C_NS = {
    ("refresh", "1G"): (100_000, 209.0),
    ("refresh", "2M"): (100_000, 226.0),
    ("translate", "mixed"): (1_000_000, 66.0),
    ("translate", "1G"): (1_000_000, 2.2),
    ("map", "4K"): (16_000_000, 0.6),
    ("audit", "all"): (16_000_000, 1.1),
    ("merge", "all"): (31_000, 245.0),
}
"""How many items were measured, and nanoseconds an item, by job and case.

What is not here, or is smaller, has no limit: a few items take longer each.
"""


def limit_ns(job, case, n, rounds, ramp_gb_s):
    """The most that C may take for an item; None: there is no figure.

    Args:
        job: as in results.json; ``refresh-tables`` is the same C work as ``refresh``.
        case: as in results.json.
        n: items.
        rounds: of stores that follow the cut.
        ramp_gb_s: the bandwidth that was measured in the same run.
    """
    name = "refresh" if job == "refresh-tables" else job
    items, known = C_NS.get((name, case), (n + 1, 0.0))
    if n < items:
        return None
    if name == "refresh":
        known += rounds * ROUND_NS
    return known * SLOWER * RAMP_GB_S / ramp_gb_s


def void(rows):
    """Why a run is void, a sentence for each row of results.json; empty if it counts."""
    found = []
    for row in rows:
        where = f"{row['job']} {row['case']} on {row['format']}"
        limit = row.get("c_limit_ns")
        if row.get("differences"):
            found.append(f"{where}: hitless and C differ: {row['differences'][0]}")
        if limit is not None and row["c_s"] * 1e9 / row["n"] > limit:
            each = row["c_s"] * 1e9 / row["n"]
            found.append(f"{where}: C takes {each:.1f} ns an item, {limit:.1f} ns is the most that counts")
    return found
