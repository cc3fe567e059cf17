"""Recipes: how a vendor changes a live entry, as data."""

from enum import Enum
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from hitless.bits import W, keep

Kind: TypeAlias = Literal["cut", "merge", "replace", "wipe", "map", "prune", "resize", "clean"]
KINDS: tuple[Kind, ...] = ("cut", "merge", "replace", "wipe", "map", "prune")
"""The kinds of change that every vendor has a recipe for; ``resize`` is for those that have runs.

``clean`` takes the mark of a write out of a leaf: one store everywhere, and an invalidation, since what is cached as
written is not marked again.
"""


class Scope(Enum):
    """What the invalidation that closes a round has to reach."""

    NONE = "nothing"
    LEAF = "the leaf that the entry held"
    TABLE = "the table pointer that the entry held, and everything below it"


class WordFunction(Protocol):
    """A word to store, from the words before and after a recipe: ints, or uint64 arrays."""

    def __call__(self, old: W, new: W, /) -> W:
        """As above."""


@frozen
class Round:
    """One store to the entry, and the invalidation and wait that close it.

    Args:
        word: the word to store, from (word before the recipe, word after it): two ints, or two uint64 arrays of one
            length for many entries at once. Written with the helpers of :mod:`hitless.bits`, it takes both.
        scope: what the invalidation reaches; with NONE there is no wait either.
        text: the word in symbols, for people: ``new``, ``0``, ``old | nT``.
    """

    word: "WordFunction"
    scope: Scope
    text: str


@frozen
class Recipe:
    """One to three rounds; ``source`` is the fact id that allows them."""

    rounds: tuple[Round, ...]
    source: str


@frozen
class Impossible:
    """A change that this hardware cannot do without a neighbour noticing.

    Args:
        reason: stable word for counting, such as ``arm_smmu.bbml0-cut``.
        why: one sentence.
        source: fact id.
        do: the ways out.
        breaking: the recipe that is used all the same under ``allow_break``; None: there is none.
    """

    reason: str
    why: str
    source: str
    do: str
    breaking: Recipe | None = None


@frozen
class Recipes:
    """How one format's live entries are changed.

    ``cut``: leaf to table, same translation. ``merge``: table to leaf, same translation.
    ``replace``: leaf to leaf of the same size, other address or attributes. ``wipe``: leaf to
    empty. ``map``: empty to leaf or table. ``prune``: table to empty.

    ``resize``: a run to smaller leaves, or leaves to a run, in their own table, same translation.
    A recipe here rewrites each entry of the run in its place, and the invalidation reaches the
    whole run. None: the whole table is rebuilt and its pointer swapped with one store, unless the
    format declares ``run_mix``.
    """

    cut: Recipe | Impossible
    merge: Recipe | Impossible
    replace: Recipe | Impossible
    wipe: Recipe | Impossible
    map: Recipe | Impossible
    prune: Recipe | Impossible
    resize: Recipe | Impossible | None = None

    def of(self, kind: Kind) -> Recipe | Impossible | None:
        """The recipe of one kind of change."""
        found: Recipe | Impossible | None = _CLEAN if kind == "clean" else getattr(self, kind)
        return found


@frozen
class SplitRules:
    """Which leaves a vendor lets the planner lay out.

    Args:
        leaf_lg2s: sizes (log2), ascending; a subset of what the format can encode, its root grown as far as it goes.
        source: fact ids.
        whole_tag_commands: above so many commands of one round for one unit, one command for the
            whole tag is cheaper (a declared cost; rule E1).
    """

    leaf_lg2s: tuple[int, ...]
    source: str
    whole_tag_commands: int = 1024


def new_word(old: W, new: W) -> W:
    """The word after the change: most rounds store it."""
    return new


def empty(old: W, new: W) -> W:
    """0: the break of break-before-make, and a wipe."""
    return keep(new, 0)


def one_store(scope: Scope, source: str) -> Recipe:
    """The recipe of hardware that takes the new word at once."""
    return Recipe((Round(new_word, scope, "new"),), source)


def break_before_make(scope: Scope, source: str) -> Recipe:
    """Write 0, invalidate, wait, write the new word."""
    return Recipe((Round(empty, scope, "0"), Round(new_word, Scope.NONE, "new")), source)


_CLEAN = one_store(Scope.LEAF, "D1: what is cached as written is not marked again")
