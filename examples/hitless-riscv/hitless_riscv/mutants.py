"""Mistakes that one makes with a RISC-V IOMMU, and what they have to break.

Facts: RISCV-INV-*, RISCV-FENCE-*, RISCV-PTE-*, RISCV-NAPOT-*.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from hitless.check.mutants import (
    LEFT,
    Declared,
    Harmless,
    Mutant,
    Reason,
    Rules,
    neighbours,
    recoded,
    refilled,
    replaced,
)
from hitless.check.mutants import situations as at
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plan import Invalidate, Section, Step, Store
from hitless.refresh.commands import Words
from hitless_riscv import pte
from hitless_riscv.command_layouts import GVMA, VMA
from hitless_riscv.commands import RiscvCommands, head
from hitless_riscv.features import RiscvFeatures

_FUNC3 = 1 << 7
_AV, _RESERVED, _PSCV, _GV, _NL = 1 << 10, 1 << 11, 1 << 32, 1 << 33, 1 << 34
_S = 1 << 9  # in word 1
_ALL_ONES = (1 << 52) - 1 << 10
_PR, _PW = 1 << 12, 1 << 13

Apply = Callable[[Subject], Subject | None]


def _iotinval(low: Callable[[int], int], high: Callable[[int], int] = int) -> Apply:
    """Other words for each IOTINVAL."""

    def code(step: Invalidate) -> Sequence[Words]:
        if step.words[0] & 0x3FF not in (head(VMA), head(GVMA)):
            return [step.words]
        return [(low(step.words[0]), high(step.words[1]))]

    return lambda subject: recoded(subject, code)


def _first_page(step: Invalidate) -> Sequence[Words]:
    """Without S: the first 4K, whatever the command was to cover."""
    return [(step.words[0], step.first >> 2)]


def _other_stage(low: int) -> int:
    """VMA for GVMA and the other way round; a GVMA has no PSCID."""
    return (low ^ _FUNC3) & ~_PSCV


def _next_id(subject: Subject) -> Subject | None:
    """The next GSCID, or PSCID."""
    one = 1 << 44 if subject.vendor.page_format.stage == "2" else 1 << 12
    return _iotinval(lambda low: low + one)(subject)


class _Fences:
    """The vendor's commands, whose fence does not ask for something."""

    def __init__(self, commands: RiscvCommands, missing: int) -> None:
        self._commands = commands
        self._missing = missing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._commands, name)

    def wait(self, store_pa: int, value: int) -> Words:
        """IOFENCE.C without PR, or without PW."""
        low, high = self._commands.wait(store_pa, value)
        return (low & ~self._missing, high)


def _fence_without(missing: int) -> Apply:
    def apply(subject: Subject) -> Subject | None:
        fences: Any = _Fences(subject.vendor.commands, missing)  # type: ignore[arg-type]
        return attrs.evolve(subject, vendor=attrs.evolve(subject.vendor, commands=fences))

    return apply


def _in_neighbours(change: Callable[[int], int]) -> Apply:
    """Other words for neighbours' leaves in new tables."""

    def apply(subject: Subject) -> Subject | None:
        chosen = set(neighbours(subject))
        return refilled(subject, lambda run: run._replace(first=change(run.first)) if run in chosen else run)

    return apply


def _in_pointers(mask: int) -> Apply:
    """Bits that are set in the pointer of a cut."""

    def each(_: Section, step: Step) -> Step:
        cut = isinstance(step, Store) and step.what.startswith("cut")
        return attrs.evolve(step, new=step.new | mask) if cut and isinstance(step, Store) else step

    return lambda subject: replaced(subject, each)


def _wrong_size_code(word: int) -> int:
    """N, with the PPN as in a plain leaf."""
    return word & ~pte.RUN.mask if word & pte.N.mask else word


def _unspread(subject: Subject) -> Subject | None:
    return replaced(subject, lambda _, step: attrs.evolve(step, spread=[]) if isinstance(step, Store) else step)


def _flying(declared: Declared) -> Rules:
    """A request that used the old leaf is in flight still."""
    return {"F1"} | ({"C2"} if declared.wiped_first else set())


def _second_stage(vendor: Vendor) -> str:
    return "" if vendor.page_format.stage == "2" else "IOTINVAL.VMA takes a PSCID (RISCV-INV-2)"


_COMMANDS: tuple[Mutant, ...] = (
    Mutant(
        "riscv.one-page-after-cut",
        (2, 29),
        "a command for one page follows the cut of a large leaf, which may be cached in pieces (RISCV-LIVE-5)",
        at.HIDE,
        lambda _: LEFT,
        lambda subject: recoded(subject, _first_page),
        features={"address_range": True},
    ),
    Mutant(
        "riscv.nl-0-after-merge",
        (3,),
        "an address without NL after a table was merged: pointers stay cached (RISCV-INV-5)",
        at.MERGE,
        lambda _: LEFT | {"R1"},
        _iotinval(lambda low: low & ~_NL),
        features={"non_leaf": True},
    ),
    Mutant(
        "riscv.av-1-after-merge",
        (3,),
        "a unit without NL is given an address after a table was merged (RISCV-INV-5)",
        at.MERGE,
        lambda _: LEFT | {"R1"},
        lambda subject: recoded(subject, lambda step: [(step.words[0] | _AV, step.first >> 2)]),
        features={"non_leaf": False},
    ),
    Mutant(
        "riscv.nl-0-after-prune",
        (3, 37),
        "an address without NL after an empty table was unlinked (RISCV-INV-5)",
        at.PRUNE,
        lambda _: LEFT | {"C2", "F1", "R1"},
        _iotinval(lambda low: low & ~_NL),
        features={"non_leaf": True},
    ),
    Mutant(
        "riscv.wrong-stage",
        (26,),
        "IOTINVAL.VMA for second-stage tables, or IOTINVAL.GVMA for those of a host (RISCV-INV-2, RISCV-INV-3)",
        at.HIDE,
        Declared.old_stays,
        _iotinval(_other_stage),
    ),
    Mutant(
        "riscv.next-id",
        (26,),
        "commands name the next GSCID or PSCID (RISCV-INV-2, RISCV-INV-3)",
        at.HIDE,
        Declared.old_stays,
        _next_id,
    ),
    Mutant(
        "riscv.pscv-in-gvma",
        (30,),
        "PSCV in IOTINVAL.GVMA: the queue stops (RISCV-CMD-2)",
        at.HIDE,
        lambda d: {"W1"} | d.old_stays(),
        _iotinval(lambda low: low | _PSCV),
        why_not=_second_stage,
    ),
    Mutant(
        "riscv.reserved-bit-in-command",
        (30,),
        "a reserved bit of a command is set: the queue stops (RISCV-CMD-1)",
        at.HIDE,
        lambda d: {"W1"} | d.old_stays(),
        _iotinval(lambda low: low | _RESERVED),
    ),
    Mutant(
        "riscv.range-of-all-ones",
        (30,),
        "a range of all ones for the whole space: what it does is not specified (RISCV-INV-7)",
        at.HIDE,
        Declared.old_stays,
        _iotinval(int, lambda _: _ALL_ONES | _S),
        features={"address_range": True},
    ),
    Mutant(
        "riscv.fence-without-pw",
        (19,),
        "IOFENCE.C without PW: writes that used the old translation are not done (RISCV-FENCE-2)",
        at.HIDE,
        _flying,
        _fence_without(_PW),
    ),
    Mutant(
        "riscv.fence-without-pr",
        (19,),
        "IOFENCE.C without PR: reads that used the old translation are not done (RISCV-FENCE-2)",
        at.HIDE,
        _flying,
        _fence_without(_PR),
    ),
)
_ENTRIES: tuple[Mutant, ...] = (
    Mutant(
        "riscv.u-lost-in-cut",
        (38,),
        "U is lost in a cut: requests are a user's (RISCV-PTE-4)",
        at.HIDE,
        lambda _: {"N1", "N2"},
        _in_neighbours(lambda word: word & ~pte.U.mask),
    ),
    Mutant(
        "riscv.a-lost-in-cut",
        (38,),
        "A is lost in a cut where hardware does not set it: every access faults (RISCV-AD-2)",
        at.HIDE,
        lambda _: {"N1", "N2"},
        _in_neighbours(lambda word: word & ~pte.A.mask),
        features={"hardware_ad": False},
    ),
    Mutant(
        "riscv.io-memory-in-cut",
        (38,),
        "the memory type changes in a cut (RISCV-PTE-9)",
        at.HIDE,
        lambda _: {"N2"},
        _in_neighbours(lambda word: word | pte.IO << pte.PBMT.lo),
        features={"svpbmt": True},
    ),
    Mutant(
        "riscv.user-pointer",
        (),
        "U, A and D are set in a pointer, where they are reserved (RISCV-PTE-11)",
        at.HIDE,
        lambda _: {"N1", "W1"},
        _in_pointers(pte.U.mask | pte.A.mask | pte.D.mask),
    ),
    Mutant(
        "riscv.run-without-size-code",
        (22,),
        "N, with PPN[3:0] as in a plain leaf: a reserved size (RISCV-NAPOT-1)",
        at.HIDE,
        lambda _: {"N1", "W1"},
        _in_neighbours(_wrong_size_code),
        features={"napot": True},
    ),
    Mutant(
        "riscv.mark-of-one-entry",
        (34,),
        "A and D of one entry of a NAPOT run are not spread over the others (RISCV-NAPOT-4)",
        at.HIDE_IN_RUN,
        lambda _: {"D1"},
        _unspread,
        features={"napot": True, "napot_mix": True, "hardware_ad": True},
        raced=1,
    ),
)


def mutants(page_format: PageFormat, features: RiscvFeatures) -> Sequence[Mutant | Harmless | Reason]:
    """The vendor's own mutants, harmless changes and reasons."""
    whose = _GV if page_format.stage == "2" else _PSCV
    return (
        *_COMMANDS,
        *_ENTRIES,
        Harmless(
            "riscv.every-space",
            "GV or PSCV is missing: the command takes every guest, or every space of the host (RISCV-INV-4)",
            at.HIDE,
            _iotinval(lambda low: low & ~whose),
        ),
    )
