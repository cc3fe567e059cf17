"""Mistakes that a plan may have: each changes the steps of a case in place, at random."""

import random
from collections.abc import Callable
from typing import TypeAlias

from attrs import evolve

from check import mini
from check.mini import PAGE, POOLS, Case
from hitless.plan import Barrier, Clean, Fill, Invalidate, Own, Release, Store, Wait

Mistake: TypeAlias = Callable[[random.Random, Case], None]


def _some(rng: random.Random, case: Case, *kinds: type) -> int | None:
    """The index of a random step of some kinds."""
    found = [index for index, (_, step) in enumerate(case.steps) if isinstance(step, kinds or (object,))]
    return rng.choice(found) if found else None


def _without(*kinds: type) -> Mistake:
    def without(rng: random.Random, case: Case) -> None:
        if (index := _some(rng, case, *kinds)) is not None:
            del case.steps[index]

    return without


def _moved(kind: type, by: tuple[int, ...]) -> Mistake:
    """A step too early or too late: release or invalidate early, link before fill, a barrier too late, ..."""

    def moved(rng: random.Random, case: Case) -> None:
        if (index := _some(rng, case, kind)) is not None:
            case.steps.insert(max(index + rng.choice(by), 0), case.steps.pop(index))

    return moved


def _command(
    change: Callable[[random.Random, Case, Invalidate], tuple[int, int]],
) -> Mistake:
    """Another command in place of a random one."""

    def command(rng: random.Random, case: Case) -> None:
        if (index := _some(rng, case, Invalidate)) is not None:
            section, step = case.steps[index]
            assert isinstance(step, Invalidate)
            case.steps[index] = section, evolve(step, words=change(rng, case, step))

    return command


def _narrowed(rng: random.Random, case: Case, step: Invalidate) -> tuple[int, int]:
    first = rng.randrange(case.facts.pages)
    return step.words[0], first | rng.randrange(first, min(first + 2, case.facts.pages)) << 32


def _retagged(rng: random.Random, case: Case, step: Invalidate) -> tuple[int, int]:
    return step.words[0] ^ rng.choice((1, 2, 3, 16)) << 16, step.words[1]


def _flipped(rng: random.Random, case: Case, step: Invalidate) -> tuple[int, int]:
    """Pointers or leaves left out, another level, a drain bit."""
    bits = (mini.POINTERS,) * 4 + (mini.LEAVES, mini.DRAIN_READS, mini.DRAIN_WRITES, 1 << 10, 1 << 11, 1 << 12)
    return step.words[0] ^ rng.choice(bits), step.words[1]


def _stored(rng: random.Random, case: Case) -> None:
    """A store too many, of an entry that another step stores: of any leaf, of nothing, of what stood there, ...

    Never of another pointer to the same table: the engine knows a table by one set of rights.
    """
    index = _some(rng, case, Store)
    leaves = [word for word in case.words.values() if word & 3 == 3] or [0]
    if index is not None:
        section, step = case.steps[index]
        assert isinstance(step, Store)
        other = (step.new ^ mini.WR,) if step.new & mini.L else ()
        words = (0, rng.choice(leaves), step.expected, step.new, step.new | 1 << 7, *other)
        again = evolve(step, new=rng.choice(words))
        case.steps.insert(index + rng.choice((0, 1, 1, 2, 3, 8)), (section, again))


def _undone(rng: random.Random, case: Case) -> None:
    """A store that is taken back later."""
    index = _some(rng, case, Store)
    if index is not None:
        section, step = case.steps[index]
        assert isinstance(step, Store)
        undo = evolve(step, new=step.expected)
        case.steps.insert(rng.randint(index + 1, len(case.steps)), (section, undo))


def _owned(rng: random.Random, case: Case) -> None:
    """An owner change at a wrong moment."""
    pa = rng.choice(POOLS) + rng.randrange(case.facts.pages) * PAGE
    step = Own("SET", pa, pa + PAGE, rng.choice((0, 1)), 12, rng.choice(("none", "iotlb")))
    case.steps.insert(rng.randrange(len(case.steps) + 1), ("own", step))


def _shuffled(rng: random.Random, case: Case) -> None:
    """Some steps in a row in any order."""
    first = rng.randrange(max(len(case.steps) - 3, 1))
    some = case.steps[first : first + rng.randrange(3, 12)]
    rng.shuffle(some)
    case.steps[first : first + len(some)] = some


MISTAKES: tuple[Mistake, ...] = (
    _without(Invalidate),
    _without(Wait),
    _without(Barrier),
    _without(Clean, Barrier),
    _without(Store, Fill),
    _moved(Invalidate, (-3, -2, -1, 1, 2)),
    _moved(Release, (-4, -3, -2, -1)),
    _moved(Fill, (1, 2, 3, 4)),
    _moved(Barrier, (-2, -1, 1, 2, 3)),
    _moved(Wait, (-2, -1, 1, 2, 3)),
    _moved(Store, (-3, -2, -1, 1, 2, 3)),
    _command(_narrowed),
    _command(_retagged),
    _command(_flipped),
    _stored,
    _undone,
    _owned,
    _shuffled,
)
