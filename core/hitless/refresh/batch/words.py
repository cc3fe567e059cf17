"""Words of entries on arrays, for attributes that differ from entry to entry."""

from collections.abc import Iterator

import numpy as np

from hitless.bits import BoolArray, U64Array, as_words
from hitless.pagetable import PageFormat


def leaf_words(fmt: PageFormat, lg2: int, oa: U64Array, attrs: U64Array) -> U64Array:
    """Leaves of one size; ``attrs`` is one for all, or one a leaf."""
    parts = list(_alike(attrs))
    if not parts:
        return np.empty(0, dtype=np.uint64)
    if len(parts) == 1:
        return as_words(fmt.leaf(lg2, oa, parts[0][0]))
    found = np.empty(len(oa), dtype=np.uint64)
    for value, which in parts:
        found[which] = fmt.leaf(lg2, oa[which], value)
    return found


def _alike(values: U64Array) -> Iterator[tuple[int, BoolArray]]:
    """Each value that occurs, and where."""
    if len(values) and bool((values == values[0]).all()):
        yield int(values[0]), np.ones(0, dtype=bool)
        return
    for value in np.unique(values).tolist():
        yield value, values == np.uint64(value)


def kinds(fmt: PageFormat, words: U64Array, level: int) -> tuple[BoolArray, BoolArray]:
    """Which words are leaves, and which are pointers."""
    present = np.broadcast_to(fmt.present(words), words.shape)
    leaf = np.logical_and(present, fmt.is_leaf(words, level))
    return leaf, np.logical_and(present, np.logical_not(leaf))


def hardware_bits(fmt: PageFormat, word: int, level: int) -> int:
    """Bits that a walker may set in an entry while it stands: A and D of a leaf, A of a pointer."""
    if not fmt.present(word):
        return 0
    if fmt.is_leaf(word, level):
        return fmt.hardware_set(level)
    layout = fmt.layout("table", level)
    return layout.hardware if layout else 0
