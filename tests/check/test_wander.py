"""The oracle against single runs of the machine it enumerates."""

import random

import pytest

from check.oracle import Seen, enumerate_plan
from check.plans import draw
from check.shrink import tell
from check.wander import Run

FIELDS = ("results", "pairs", "freed", "flight")


def run(case, rng, moves):
    """What one run of each unit and tag sees, moment by moment."""
    of_units = [Run(case, unit, rng).run(moves) for unit in case.units]
    moments = []
    for parts in zip(*of_units, strict=True):
        seen = Seen()
        for part in parts:
            seen |= part
        moments.append(seen)
    return moments


@pytest.mark.parametrize("seed", range(40))
def test_no_run_sees_more_than_the_oracle(seed):
    """At no moment of any run is there a result, a pair, a read of a freed table or a flight that the oracle lacks."""
    case = draw(seed, mutated=bool(seed & 1))
    rng = random.Random(seed)
    allowed = enumerate_plan(case)
    for _ in range(2):
        for moment, seen in enumerate(run(case, rng, 60)):
            for name in FIELDS:
                more = getattr(seen, name) - getattr(allowed[moment], name)
                assert not more, f"seed {seed}, after {moment} steps, {name}: {more}\n{tell(case)}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [14, 16, 21, 34, 57, 61, 67, 79, 104, 115, 129, 139, 170])
def test_many_runs_see_all_that_the_oracle_says(seed):
    """On short plans: what the oracle says may be seen is seen, at that very moment, by one run or another."""
    case = draw(seed, mutated=bool(seed & 1))
    rng = random.Random(seed)
    moments = enumerate_plan(case)
    unseen = {(at, name, each) for at, seen in enumerate(moments) for name in FIELDS for each in getattr(seen, name)}
    for _ in range(400):
        for at, seen in enumerate(run(case, rng, 60)):
            unseen -= {(at, name, each) for name in FIELDS for each in getattr(seen, name)}
        if not unseen:
            return
    pytest.fail(f"seed {seed}: {unseen}\n{tell(case)}")
