"""Damaged tables: bits of real tables flipped at random. Reading them ends, in findings, never in errors.

``FUZZ_INPUTS`` says how many inputs in all; ``make fuzz`` takes 100,000.
"""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from agree import Session
from memories import Pages

from hitless.inspect.audit import Audit, AuditedSpace
from hitless.inspect.opening import open_spaces
from hitless.inspect.owners import Owners
from hitless.inspect.ranges import ranges
from hitless.memory.images import open_image

EXCERPTS = sorted((Path(__file__).parent / "excerpts").glob("*.json"))
INPUTS = int(os.environ.get("FUZZ_INPUTS", "180"))
PARTS = 4


def pages_of(path: Path) -> Pages:
    """An excerpt as pages that can be changed."""
    memory, image = Pages(), open_image(path.with_suffix(".lime.gz"))
    for segment in image.segments:
        for pa in range(segment.start, segment.end, 4096):
            memory.pages[pa >> 12] = image.view(pa, 512).copy()
    return memory


def damage(memory: Pages, rng: random.Random) -> list[tuple[np.ndarray, int, int]]:
    """Flip a few bits, mostly of words that are in use, or write words that lead to other tables; returns what was."""
    undo = []
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        page = memory.pages[rng.choice(list(memory.pages))]
        used = np.flatnonzero(page)
        at = int(rng.choice(used)) if len(used) and rng.random() < 0.9 else rng.randrange(512)
        undo.append((page, at, int(page[at])))
        kind = rng.random()
        if kind < 0.7:
            page[at] ^= np.uint64(1 << rng.randrange(64))
        elif kind < 0.9:
            other = rng.choice(list(memory.pages)) << 12
            page[at] = np.uint64(int(page[at]) & ~0xF_FFFF_FFFF_F000 | other)
        else:
            page[at] = np.uint64(rng.getrandbits(64))
    return undo


def read(session: Session, memory: Pages) -> int:
    """Everything that inspect and audit read; returns how many tables."""
    opened = open_spaces(memory, session.asked)
    for space in opened.spaces:
        end = 0
        for each in ranges(space.reader.chunks()):
            assert each.size > 0
            assert each.iova >= end
            end = each.iova + each.size
    audited = open_spaces(memory, session.asked, AuditedSpace)
    Audit(audited, Owners([]), session.asked.vendor).run()
    for each in audited.findings:
        assert each.where
        assert each.why
    return sum(space.reader.tables.total() for space in opened.spaces)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("path", EXCERPTS, ids=lambda path: path.stem)
def test_damaged_tables(path, part):
    """No exception, ranges in order, and never more tables than a bound."""
    session, memory = Session(json.loads(path.read_text())["inspect"]), pages_of(path)
    sound = read(session, memory)
    for number in range(-(-INPUTS // (PARTS * len(EXCERPTS)))):
        rng = random.Random(f"{path.stem} {part} {number}")
        undo = damage(memory, rng)
        assert read(session, memory) < 100 * sound + 20_000, f"input {number} of part {part}"
        for page, at, word in reversed(undo):
            page[at] = word
    assert read(session, memory) == sound
