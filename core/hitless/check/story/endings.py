"""Requests of a replay as data, and what is asked when its steps are done.

An ending does its asking on a replay. It gives the lines of a program that assert what was seen, if that is what the
rule forbids, and nothing if not.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from hitless.check.replay import Replay
from hitless.check.replay.cached import Outcome
from hitless.hardware.caches import CachedLeaf
from hitless.hardware.facts import HardwareFacts

Ending: TypeAlias = Callable[[Replay], list[str]]
Judged: TypeAlias = Callable[[Outcome], bool]
"""Whether an outcome is what the rule forbids."""

_DEFAULTS = (False, "", None)


class Ask(NamedTuple):
    """A request: where it goes, whether it writes, and through which unit, tag and ATC; see :class:`Replay`."""

    iova: int
    write: bool = False
    unit: str = ""
    tag: int | None = None
    device: int | None = None

    def code(self, *leave_out: str) -> str:
        """As a program writes it."""
        named = {key: value for key, value in self._asdict().items() if key not in ("iova", *leave_out)}
        told = [f"{key}={value!r}" for key, value in named.items() if value not in _DEFAULTS]
        return ", ".join([f"{self.iova:#x}", *told])

    def arguments(self, *leave_out: str) -> dict[str, object]:
        """As keyword arguments, without the IOVA."""
        return {key: value for key, value in self._asdict().items() if key not in ("iova", *leave_out)}


class Look(NamedTuple):
    """A walk before a step: see :meth:`hitless.check.replay.Replay.walk`."""

    before: int
    ask: Ask
    older: tuple[tuple[int, int], ...] = ()
    table: int = 0
    piece: int = 0
    overtakes: bool = False
    held: bool = False

    def do(self, replay: Replay) -> Outcome:
        """Walk now."""
        more = {"older": dict(self.older), "table": self.table, "piece": self.piece, "overtakes": self.overtakes}
        more["held"] = self.held
        return replay.walk(self.ask.iova, **self.ask.arguments(), **more)  # type: ignore[arg-type]

    def code(self) -> str:
        """As a program writes it."""
        more = "" if not self.older else ", older={" + ", ".join(f"{pa:#x}: {word:#x}" for pa, word in self.older) + "}"
        more += f", table={self.table:#x}" if self.table else ""
        more += f", piece={self.piece}" if self.piece else ""
        more += ", overtakes=True" if self.overtakes else ""
        more += ", held=True" if self.held else ""
        return f"replay.walk({self.ask.code()}{more})"


def walks(look: Look, wrong: Judged) -> Ending:
    """A walk ends as it must not."""

    def ending(replay: Replay) -> list[str]:
        seen = look.do(replay)
        return [f"assert {look.code()} == {seen}"] if wrong(seen) else []

    return ending


def hits(ask: Ask, wrong: Judged) -> Ending:
    """A cached translation takes a request where it must not go."""

    def ending(replay: Replay) -> list[str]:
        found = [seen for seen in replay.hits(ask.iova, **ask.arguments()) if wrong(seen)]  # type: ignore[arg-type]
        return [f"assert {found[0]} in replay.hits({ask.code()})"] if found else []

    return ending


def completes_late(ask: Ask, wrong: Judged) -> Ending:
    """A request that was translated before completes where it must not."""

    def ending(replay: Replay) -> list[str]:
        seen = replay.late(ask.iova, **ask.arguments("device"))  # type: ignore[arg-type]
        found = [each for each in seen if wrong(each)]
        return [f"assert {found[0]} in replay.late({ask.code('device')})"] if found else []

    return ending


def conflicts(ask: Ask, hardware: HardwareFacts) -> Ending:
    """K1: two cached leaves that may not stand beside each other."""

    def ending(replay: Replay) -> list[str]:
        leaves = replay.cached(ask.iova, **ask.arguments("write"))  # type: ignore[arg-type]
        for i, one in enumerate(leaves):
            for other in leaves[i + 1 :]:
                if _conflict(one, other, hardware):
                    asked = ask.code("write")
                    shapes = f"[({one.leaf_lg2}, {_to(one, ask):#x}), ({other.leaf_lg2}, {_to(other, ask):#x})]"
                    return [
                        f"leaves = replay.cached({asked})",
                        f"held = [(leaf.leaf_lg2, leaf.pa + {ask.iova:#x} - leaf.start) for leaf in leaves]",
                        f"assert all(shape in held for shape in {shapes}), held",
                    ]
        return []

    return ending


def _to(leaf: CachedLeaf, ask: Ask) -> int:
    return leaf.pa + ask.iova - leaf.start


def _conflict(one: CachedLeaf, other: CachedLeaf, hardware: HardwareFacts) -> bool:
    size, address = one.leaf_lg2 != other.leaf_lg2, one.pa - one.start != other.pa - other.start
    declared = (size and hardware.size_conflict) or (address and hardware.address_conflict)
    return one.stable and other.stable and bool(declared or (size and address and hardware.size_address_conflict))


def holds_structure(ask: Ask) -> Ending:
    """F2: a unit holds a structure that memory does not hold any more."""

    def ending(replay: Replay) -> list[str]:
        found = replay.structures(unit=ask.unit, tag=ask.tag)
        return [f"assert replay.structures({ask.code('write', 'device').partition(', ')[2]})"] if found else []

    return ending


def spans_cached(ask: Ask, edge: int) -> Ending:
    """B1: a cached translation reaches over an edge."""

    def ending(replay: Replay) -> list[str]:
        leaves = replay.cached(ask.iova, **ask.arguments("write"))  # type: ignore[arg-type]
        if not any(leaf.start < edge < leaf.start + (1 << leaf.size_lg2) for leaf in leaves):
            return []
        over = f"leaf.start < {edge:#x} < leaf.start + (1 << leaf.size_lg2)"
        return [f"assert any({over} for leaf in replay.cached({ask.code('write')}))"]

    return ending


def spans_in_memory(edge: int) -> Ending:
    """B1: a leaf in memory reaches over an edge."""

    def ending(replay: Replay) -> list[str]:
        leaf = replay.leaf(edge - 1)
        if leaf is None or not leaf.iova < edge < leaf.iova + (1 << leaf.size_lg2):
            return []
        return [
            f"leaf = replay.leaf({edge - 1:#x})",
            f"assert leaf.iova < {edge:#x} < leaf.iova + (1 << leaf.size_lg2)",
        ]

    return ending


def sizes_differ(iova: int) -> Ending:
    """S1: a leaf leads to a page whose owner entry has another size."""

    def ending(replay: Replay) -> list[str]:
        leaf = replay.leaf(iova)
        if leaf is None:
            return []
        pa = leaf.oa + iova - leaf.iova
        size = replay.owners.entry_lg2(pa)
        if leaf.size_lg2 == size:
            return []
        return [
            f"assert (replay.leaf({iova:#x}).size_lg2, replay.owners.entry_lg2({pa:#x})) == ({leaf.size_lg2}, {size})"
        ]

    return ending


def reads_freed(look: Look, table_pa: int) -> Ending:
    """R1: a walk reads a table that is free."""

    def ending(replay: Replay) -> list[str]:
        look.do(replay)
        return [look.code(), f"assert {table_pa:#x} in replay.freed"] if table_pa in replay.freed else []

    return ending


def reaches_table(look: Look, pa: int) -> Ending:
    """T1: a write arrives in a table."""

    def ending(replay: Replay) -> list[str]:
        seen = look.do(replay)
        return [f"assert {look.code()}.pa == {pa:#x}"] if not seen.fault and seen.pa == pa else []

    return ending


def left_behind(ask: Ask) -> Ending:
    """F2: a cache holds what memory could not put there any more: a leaf, or a pointer."""

    def ending(replay: Replay) -> list[str]:
        leaves = replay.left(ask.iova, **ask.arguments("write"))  # type: ignore[arg-type]
        if leaves:
            asked = ask.code("write")
            return [f"assert {leaves[0].pa:#x} in [leaf.pa for leaf in replay.left({asked})]"]
        tables = replay.pointers(ask.iova, **ask.arguments("write", "device"))  # type: ignore[arg-type]
        return [f"assert {tables[0]:#x} in replay.pointers({ask.code('write', 'device')})"] if tables else []

    return ending


def run_disagrees(iova: int, size_lg2: int) -> Ending:
    """W1: the entries of one run do not say one thing."""

    def ending(replay: Replay) -> list[str]:
        said = replay.run_words(iova, size_lg2)
        return [f"assert len(set(replay.run_words({iova:#x}, {size_lg2}))) > 1"] if len(set(said)) > 1 else []

    return ending


def table_is_owned(pa: int) -> Ending:
    """T1: a table's page is not the host's."""

    def ending(replay: Replay) -> list[str]:
        owner = replay.owners.owner(pa)
        return [f"assert replay.owners.owner({pa:#x}) == {owner}"] if owner else []

    return ending


def races() -> Ending:
    """A1: the next step finds what the plan does not expect."""

    def ending(replay: Replay) -> list[str]:
        return ["assert replay.races()"] if replay.races() else []

    return ending


def illegal(pa: int, level: int) -> Ending:
    """W1: memory holds a word that is illegal at a level."""

    def ending(replay: Replay) -> list[str]:
        found = replay.faults(pa, level)
        return [f"assert {found[0]!r} in replay.faults({pa:#x}, {level})"] if found else []

    return ending


def refused(unit: str) -> Ending:
    """W1: a unit has stopped at an illegal command."""

    def ending(replay: Replay) -> list[str]:
        why = replay.ports[unit].stopped if unit in replay.ports else ""
        return [f"assert replay.ports[{unit!r}].stopped == {why!r}"] if why else []

    return ending


def covers(step: int, first: int, last: int) -> Ending:
    """E1: what the command of a step covers."""

    def ending(replay: Replay) -> list[str]:
        seen = replay.covers(step)
        return [f"assert ({first:#x}, {last:#x}) in replay.covers({step})"] if (first, last) in seen else []

    return ending


def changes(iova: int, step: int) -> Ending:
    """M1: a merge changes a translation."""

    def ending(replay: Replay) -> list[str]:
        before = replay.translation(iova)
        replay.run(step + 1)
        after = replay.translation(iova)
        if before == after:
            return []
        return [
            f"before = replay.translation({iova:#x})",
            f"replay.run({step + 1})",
            f"assert replay.translation({iova:#x}) != before",
        ]

    return ending


def outstanding() -> Ending:
    """H1: commands that no wait has completed for."""

    def ending(replay: Replay) -> list[str]:
        units = replay.outstanding()
        return [f"assert replay.outstanding() == {units}"] if units else []

    return ending
