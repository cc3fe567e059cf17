"""Makes vectors of our own: operations on a format, and every word that they led to, as JSON and as a C header."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from attrs import define, field

from hitless import __version__
from hitless.bits import MASK64
from hitless.errors import BadInput
from hitless.pagetable import PageFormat, count_leaves, tables, translate
from hitless.vectors.recording import CONFIG, Op
from hitless.vectors.replay import Replay

_FEATURES: Sequence[list[str]] = ([], ["sign_extend"], ["s2"])
_INVALID = -22
_RANGES, _RANGES_LG2 = 40, 34
_PROTS = (3, 1, 7, 2, 19, 35, 11, 5)


def make(fmt: PageFormat) -> dict[str, Any]:
    """A recording of a format, in the form that :func:`hitless.vectors.read_recording` reads.

    The same format gives the same recording.

    Raises:
        BadInput: the format answers no recordings.
    """
    name, config = _configuration(fmt)
    made = [_Maker(type(fmt), name, config, case) for case in ("sizes", "protections", "edges", "ranges", "remap")]
    cases = [maker.made() for maker in made]
    return {
        "fmt": name,
        "origin": f"hitless {__version__} {fmt.name}",
        "map_ops": sum(op["op"] == "map" for case in cases for op in case["ops"]),
        "cases": cases,
    }


def _configuration(fmt: PageFormat) -> tuple[str, dict[str, Any]]:
    """The name and configuration of a recording that come closest to a format."""
    base = {
        **CONFIG,
        "vasz": fmt.iova_bits,
        "oasz": fmt.oa_bits,
        "level": fmt.top.number,
        "granule": fmt.levels[0].lo,
    }
    found: list[tuple[int, str, dict[str, Any]]] = []
    for name in fmt.recorded_as:
        for features in _FEATURES:
            config = {**base, "features": features}
            made = type(fmt).from_recording({**config, "fmt": name})
            if made is not None:
                found.append((_likeness(fmt, made), name, config))
    if not found:
        raise BadInput(
            f"{fmt.name} answers no recordings",
            do="give its class recorded_as, from_recording and from_prot; see docs/formats.md",
        )
    _, name, config = max(found, key=lambda each: each[0])
    return name, config


def _likeness(fmt: PageFormat, made: PageFormat) -> int:
    """How much of a format a recording's configuration gives again."""
    top = 1 << (fmt.iova_bits - 1)
    return sum(
        (
            4 * (made.levels == fmt.levels),
            2 * (made.canonical(top) == fmt.canonical(top)),
            made.leaf_lg2s == fmt.leaf_lg2s,
        )
    )


@define
class _Maker:
    """One case under way."""

    cls: type[PageFormat]
    fmt_name: str
    config: Mapping[str, Any]
    name: str
    ops: list[dict[str, Any]] = field(factory=list)
    dumps: list[dict[str, Any]] = field(factory=list)

    def made(self) -> dict[str, Any]:
        """The case: operations done, tables dumped."""
        config = {**self.config, "fmt": self.fmt_name}
        fmt = self.cls.from_recording(config)
        if fmt is None:
            raise ValueError(f"{self.cls.name} does not answer {config}")
        replay = Replay.of(fmt, config)
        try:
            for op in getattr(self, f"_{self.name}")(replay):
                self._do(replay, op)
            self._dump(replay)
            leaves = sum(run["n"] for run in self.dumps[-1]["runs"] if run["k"] == "leaf")
            pointers = sum(run["n"] for run in self.dumps[-1]["runs"] if run["k"] == "table")
        finally:
            replay.close()
        return {
            "name": self.name,
            "config": dict(self.config),
            "info": {"pgsize_bitmap": hex(sum(1 << lg2 for lg2 in fmt.leaf_lg2s)), "max_vasz": fmt.iova_bits},
            "ops": self.ops,
            "dumps": self.dumps,
            "counts": {"leaf_entries": leaves, "table_entries": pointers},
        }

    # -- the operations of each case

    def _sizes(self, replay: Replay) -> Iterator[Op]:
        """One leaf of every size: size S maps [S, 2S)."""
        for lg2, prot in zip(replay.sizes(), self._prots(replay), strict=False):
            if lg2 + 2 < replay.fmt.iova_bits:
                pa = 3 << lg2
                yield self._op(
                    replay, 1 << lg2, pa if pa + (1 << lg2) <= 1 << replay.fmt.oa_bits else 0, 1 << lg2, prot
                )

    def _protections(self, replay: Replay) -> Iterator[Op]:
        """Every combination of protection bits, legal or not."""
        page = 1 << replay.sizes()[0]
        for prot in range(64):
            yield self._op(replay, prot * page, (64 + prot) * page, page, prot)

    def _edges(self, replay: Replay) -> Iterator[Op]:
        """The last pages of input and output, both halves, and one step beyond each; what is not aligned."""
        fmt, page, prot = replay.fmt, 1 << replay.sizes()[0], next(self._prots(replay))
        half, end, top = 1 << (fmt.iova_bits - 1), 1 << fmt.iova_bits, (1 << fmt.oa_bits) - page
        starts = (0, half - page, half, end - page, end, fmt.canonical(half), fmt.canonical(end - page))
        for number, iova in enumerate(dict.fromkeys(starts)):
            if iova <= MASK64:
                yield Op("map", iova, page, number * page, prot)
        yield self._op(replay, 2 * page, top, page, prot)
        yield self._op(replay, 3 * page, top + page, page, prot)
        yield self._op(replay, 4 * page, top, 2 * page, prot)
        yield self._op(replay, 6 * page + page // 2, 0, page, prot)

    def _ranges(self, replay: Replay) -> Iterator[Op]:
        """Ranges of any size and alignment, side by side: the largest leaves that fit."""
        rng, sizes = random.Random(self.fmt_name), [lg2 for lg2 in replay.sizes() if lg2 < _RANGES_LG2]
        page, at = 1 << sizes[0], 0
        for prot in islice(self._prots(replay), _RANGES):
            lg2 = rng.choice(sizes)
            unit, odd = 1 << lg2, rng.choice((0, 0, page)) if lg2 < sizes[0] + 10 else 0
            at = -(-at // unit) * unit + rng.randrange(4) * page
            size = unit * rng.randrange(1, 3) + rng.randrange(6) * page
            pa = at + (rng.randrange(4) << sizes[-1]) + odd
            if at + size <= 1 << (replay.fmt.iova_bits - 1) and pa + size <= 1 << replay.fmt.oa_bits:
                yield self._op(replay, at, pa, size, prot)
            at += size

    def _remap(self, replay: Replay) -> Iterator[Op]:
        """Unmap and map again with another size; a map over what is mapped fails."""
        prot = next(self._prots(replay))
        plain = [size.lg2 for size in replay.fmt.leaf_sizes if not size.entries_lg2 and size.lg2 in replay.sizes()]
        page, large = 1 << plain[0], 1 << plain[min(1, len(plain) - 1)]
        yield self._op(replay, large, page, page, prot)
        yield self._unmap(replay, large, page)
        yield self._op(replay, large, 2 * large, large, prot)
        yield self._op(replay, large, 0, page, prot)
        self._dump(replay)
        yield self._unmap(replay, large, large)
        yield self._op(replay, large, page, large, prot)

    # -- doing and dumping

    def _prots(self, replay: Replay) -> Iterator[int]:
        """Legal protections, over and over."""
        legal = [prot for prot in _PROTS if replay.fmt.from_prot(prot, replay.config) is not None]
        return cycle(legal)

    def _op(self, replay: Replay, iova: int, pa: int, size: int, prot: int) -> Op:
        """A map; its IOVA counts from the start of what the format translates."""
        low = replay.fmt.canonical(0)
        return Op("map", low + iova, size, pa, prot)

    def _unmap(self, replay: Replay, iova: int, size: int) -> Op:
        return Op("unmap", replay.fmt.canonical(0) + iova, size)

    def _do(self, replay: Replay, op: Op) -> None:
        """Do an operation, and write down what it led to."""
        row: dict[str, Any] = {"op": op.op, "iova": hex(op.iova), "size": hex(op.size)}
        if op.op == "unmap":
            self.ops.append({**row, "unmapped": hex(replay.unmap(op.iova, op.size))})
            return
        why = replay.map(op)
        ends = {"ret": _INVALID if why else 0, "mapped": hex(0 if why else op.size)}
        self.ops.append({**row, "pa": hex(op.pa), "prot": op.prot, **ends})
        asked = op.iova + op.size // 2 + 0x123 % op.size
        if asked <= MASK64:
            found = translate(replay.arena, replay.fmt, replay.root_pa, asked) or 0
            self.ops.append({"op": "phys", "iova": hex(asked), "pa": hex(found)})

    def _dump(self, replay: Replay) -> None:
        """Every word of the tables, as runs."""
        fmt = replay.fmt
        found = sorted(tables(replay.arena, fmt, replay.root_pa), key=lambda each: (-each[0].number, each[1]))
        runs = [run for level, base, pa, words in found for run in _runs(fmt, level.number, base, pa, words)]
        self.dumps.append(
            {
                "after_op": len(self.ops),
                "top": hex(replay.root_pa),
                "top_level": fmt.top.number,
                "top_items": 1 << fmt.top.bits,
                "pages": replay.tables.used_pages,
                "leaves": {
                    str(lg2): count for lg2, count in sorted(count_leaves(replay.arena, fmt, replay.root_pa).items())
                },
                "runs": runs,
            }
        )


def _runs(fmt: PageFormat, number: int, base: int, pa: int, words: Any) -> Iterator[dict[str, Any]]:
    """The entries of a table that are not empty, those that rise evenly as one."""
    run: dict[str, Any] = {}
    last = step = 0
    for index in np.flatnonzero(words).tolist():
        word = int(words[index])
        here = _entry(fmt, number, base, pa, index, word)
        rise = (word - last) & MASK64
        same = (
            run
            and run["i"] + run["n"] == index
            and all(run.get(key) == here.get(key) for key in ("k", "lg2", "contig"))
        )
        if same and not (here.get("contig") and here["oa"] != run["oa"]) and (run["n"] == 1 or rise == step):
            run, step = {**run, "n": run["n"] + 1, "inc": hex(rise)}, rise
        else:
            if run:
                yield run
            run = here
        last = word
    if run:
        yield run


def _entry(fmt: PageFormat, number: int, base: int, pa: int, index: int, word: int) -> dict[str, Any]:
    level = fmt.levels[number]
    row = {"l": number, "tab": hex(pa), "i": index, "n": 1, "iova": hex(fmt.canonical(base + (index << level.lo)))}
    row |= {"raw": f"{word:#018x}", "inc": "0x0"}
    if not fmt.is_leaf(word, number):
        return {"k": "table", **row, "child": hex(fmt.table_pa(word))}
    lg2 = int(fmt.leaf_lg2(word, number))
    return {"k": "leaf", **row, "oa": hex(fmt.leaf_oa(word, number)), "lg2": lg2, "contig": max(0, lg2 - level.lo)}


# -- as a C header

_HEAD = """/* {origin}: operations on page tables, and every word that they lead to. Made by `hitless vectors make`. */
#ifndef {guard}
#define {guard}

#include <stdint.h>

/* A map or unmap: ret is 0 or a negative errno. prot: READ 1, WRITE 2, CACHE 4, NOEXEC 8, MMIO 16, PRIV 32. */
struct hitless_op {{ uint8_t unmap; uint64_t iova, size, pa; uint32_t prot; int32_t ret; }};
/* n entries of one table, from index on: raw, raw + inc, ... modulo 2^64. level 0 = smallest page. */
struct hitless_words {{ uint32_t after_op; uint8_t leaf, level; uint32_t index, n; uint64_t table, iova, raw, inc; }};
"""


def c_header(made: Mapping[str, Any]) -> str:
    """A recording as a C header: per case its operations, and the words after them; ``after_op`` counts those."""
    name = _identifier(made["fmt"])
    lines = [_HEAD.format(origin=made["origin"], guard=f"HITLESS_{name.upper()}_H")]
    for case in made["cases"]:
        prefix = f"hitless_{name}_{_identifier(case['name'])}"
        done = [op["op"] in ("map", "unmap") for op in case["ops"]]
        ops = [op for op, real in zip(case["ops"], done, strict=True) if real]
        lines += _array(f"struct hitless_op {prefix}_ops", map(_c_op, ops))
        words = [_c_words(run, sum(done[: dump["after_op"]])) for dump in case["dumps"] for run in dump["runs"]]
        lines += _array(f"struct hitless_words {prefix}_words", words)
    return "\n".join([*lines, "#endif"]) + "\n"


def _array(head: str, rows: Iterable[str]) -> list[str]:
    return [f"static const {head}[] = {{", *(f"\t{{ {row} }}," for row in rows), "};", ""]


def _c_op(op: Mapping[str, Any]) -> str:
    unmap = int(op["op"] == "unmap")
    numbers = [op["iova"], op["size"], op.get("pa", "0x0")]
    return f"{unmap}, {', '.join(f'{each}ull' for each in numbers)}, {op.get('prot', 0)}, {op.get('ret', 0)}"


def _c_words(run: Mapping[str, Any], after: int) -> str:
    head = f"{after}, {int(run['k'] == 'leaf')}, {run['l']}, {run['i']}, {run['n']}"
    return f"{head}, {', '.join(f'{run[key]}ull' for key in ('tab', 'iova', 'raw', 'inc'))}"


def _identifier(text: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in text)
