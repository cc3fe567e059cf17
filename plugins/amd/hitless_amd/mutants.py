"""Mistakes that one makes with an AMD IOMMU, and what they have to break.

Facts: AMD-INV-*, AMD-RMP-*, AMD-LVL-*.
"""

from collections.abc import Callable, Sequence

import attrs

from hitless.check.mutants import (
    LEFT,
    Declared,
    Harmless,
    Mutant,
    Reason,
    changed,
    neighbours,
    recoded,
    refilled,
    without,
)
from hitless.check.mutants import situations as at
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plan import Barrier, Fill, Invalidate, Step, Store
from hitless.refresh.commands import Words
from hitless_amd.commands import INVALIDATE_DEVTAB_ENTRY
from hitless_amd.dte import ADDRESS
from hitless_amd.features import AmdFeatures
from hitless_amd.owner_mutants import OWNER_MUTANTS
from hitless_amd.v1 import FC

_S, _PDE, _GN, _RESERVED = 1, 2, 4, 8
_PAGES = 3
_4K = 1 << 12


def _pages(code: Callable[[Invalidate], Sequence[Words]]) -> Callable[[Subject], Subject | None]:
    """Other words for each INVALIDATE_IOMMU_PAGES."""
    return lambda subject: recoded(subject, lambda step: code(step) if step.words[0] >> 60 == _PAGES else [step.words])


def _one_4k(step: Invalidate) -> Sequence[Words]:
    """S = 0: the first 4K, whatever the command was to cover."""
    head, word = step.words
    return [(head, step.first | word & (_PDE | _GN))]


def _many_4k(step: Invalidate) -> Sequence[Words]:
    """A command for each 4K."""
    head, word = step.words
    return [(head, page | word & (_PDE | _GN)) for page in range(step.first, step.last + 1, _4K)]


def _cleared(bit: int) -> Callable[[Invalidate], Sequence[Words]]:
    return lambda step: [(step.words[0], step.words[1] & ~bit)]


def _set(bit: int) -> Callable[[Invalidate], Sequence[Words]]:
    return lambda step: [(step.words[0], step.words[1] | bit)]


def _next_pasid(step: Invalidate) -> Sequence[Words]:
    return [(step.words[0] + 1, step.words[1])]


def _unaligned(step: Invalidate) -> Sequence[Words]:
    """The size code of twice the range, from a start that is not aligned to it: it codes a block around it."""
    head, word = step.words
    size = (step.last - step.first + 1) * 2
    return [(head, step.first | (size // 2 - 1) & ~(_4K - 1) | word & (_PDE | _GN) | _S)]


def _without_bit(position: int) -> Callable[[Subject], Subject | None]:
    """Neighbours' leaves in new tables without a bit."""

    def apply(subject: Subject) -> Subject | None:
        chosen = set(neighbours(subject))
        return refilled(subject, lambda run: run._replace(first=run.first & ~(1 << position)) if run in chosen else run)

    return apply


def _leaf_512g(subject: Subject) -> Subject | None:
    """A leaf of level 4, in the last entry of the first such table: far from the guest's memory."""
    fmt, table = subject.vendor.page_format, subject.root_pa
    for _ in range(fmt.top.number - 3):
        table = int(fmt.table_pa(subject.memory.load(table)))
    index = (1 << fmt.levels[3].bits) - 1
    word = fmt.leaf(fmt.levels[2].lo, 0, subject.truth.attrs)  # NextLevel = 0: the size is the level's
    extra = Store(table + 8 * index, 0, word, 0, "map", 3, index << fmt.levels[3].lo)
    return changed(subject, [*subject.steps, ("refresh", extra), ("refresh", Barrier())])


def _next_level_too_high(subject: Subject) -> Subject | None:
    """The cut's pointer names its own level as the next."""

    def each(step: Step) -> Step:
        cut = isinstance(step, Store) and step.what.startswith("cut")
        return attrs.evolve(step, new=step.new + (1 << 9)) if cut and isinstance(step, Store) else step

    return changed(subject, [(section, each(step)) for section, step in subject.steps])


def _alone(subject: Subject) -> Subject | None:
    """The larger root without the pointer to the old one."""

    def each(step: Step) -> Step:
        if isinstance(step, Fill) and subject.root_pa in {word & ADDRESS for _, word in step.overrides}:
            return Fill(step.pa, step.size_lg2, step.runs)
        return step

    return changed(subject, [(section, each(step)) for section, step in subject.steps])


def _v1(why: str) -> Callable[[Vendor], str]:
    return lambda vendor: "" if vendor.page_format.stage == "2" else why


def _v2(vendor: Vendor) -> str:
    return "" if vendor.page_format.stage == "1" else "v1 tables have no PASID, and their commands no GN (AMD-INV-7)"


def _erratum(vendor: Vendor) -> str:
    if vendor.page_format.stage == "1":
        return "PS is reserved above 1 GiB in v2 tables (AMD-GPT-3)"
    return "" if vendor.features.erratum_512g and vendor.features.mode > 3 else "the leaf is legal, or out of reach"


_COMMANDS: tuple[Mutant, ...] = (
    Mutant(
        "amd.inv-4k-after-2m",
        (2,),
        "a 4K invalidation follows the cut of a large leaf, which survives it (AMD-INV-2)",
        at.HIDE,
        Declared.old_stays,
        _pages(_one_4k),
    ),
    Mutant(
        "amd.many-4k-after-2m",
        (2,),
        "512 invalidations of 4K follow the cut of a 2M leaf: they do not add up (AMD-INV-4)",
        at.HIDE,
        Declared.old_stays,
        _pages(_many_4k),
    ),
    Mutant(
        "amd.pde-0-after-merge",
        (3,),
        "PDE = 0 after a table was merged (AMD-INV-1)",
        at.MERGE,
        lambda _: LEFT | {"R1"},
        _pages(_cleared(_PDE)),
    ),
    Mutant(
        "amd.pde-0-after-prune",
        (3, 37),
        "PDE = 0 after an empty table was unlinked (AMD-INV-1)",
        at.PRUNE,
        lambda _: LEFT | {"C2", "F1", "R1"},
        _pages(_cleared(_PDE)),
    ),
    Mutant(
        "amd.pde-in-4k-after-merge",
        (3,),
        "PDE = 1, but in commands of 4K: a directory entry's span has to lie within the range (AMD-INV-3)",
        at.MERGE,
        lambda _: LEFT | {"R1"},
        _pages(_many_4k),
    ),
    Mutant(
        "amd.reserved-bit-in-command",
        (),
        "a reserved bit of a command is set: the queue stops (AMD-CMD-10, AMD-CMD-11)",
        at.HIDE,
        lambda d: {"W1"} | d.old_stays(),
        _pages(_set(_RESERVED)),
    ),
    Mutant(
        "amd.gn-missing",
        (26,),
        "commands for v2 tables without GN name host translations (AMD-INV-7)",
        at.HIDE,
        Declared.old_stays,
        _pages(_cleared(_GN)),
        why_not=_v2,
    ),
    Mutant(
        "amd.wrong-pasid",
        (26,),
        "commands for v2 tables name the next PASID (AMD-INV-7)",
        at.HIDE,
        Declared.old_stays,
        _pages(_next_pasid),
        why_not=_v2,
    ),
)


_ENTRIES: tuple[Mutant, ...] = (
    Mutant(
        "amd.leaf-512g",
        (22,),
        "a 512 GiB leaf, which an erratum forbids (AMD-LVL-4)",
        at.HIDE,
        lambda d: {"W1"} | (LEFT if d.hardware.caches_not_present else set()),
        _leaf_512g,
        why_not=_erratum,
    ),
    Mutant(
        "amd.fc-lost-in-cut",
        (38,),
        "FC is lost in a cut: DMA to neighbours does not snoop any more (AMD-PTE-7)",
        at.HIDE,
        lambda _: {"N2"},
        _without_bit(FC.lo),
        why_not=_v1("v2 tables have no FC (AMD-GPT-4)"),
    ),
    Mutant(
        "amd.c-bit-lost-in-cut",
        (38,),
        "the C-bit is lost in a cut: DMA to neighbours goes past memory encryption (AMD-PTE-14)",
        at.HIDE,
        lambda _: {"N2"},
        _without_bit(47),
        features={"c_bit": 47},
    ),
    Mutant(
        "amd.next-level-too-high",
        (),
        "NextLevel of a pointer does not lead down (AMD-LVL-6)",
        at.HIDE,
        lambda _: {"N1", "W1"},
        _next_level_too_high,
        why_not=_v1("v2 pointers name no level (AMD-GPT-2)"),
    ),
    Mutant(
        "amd.mark-of-one-copy",
        (34,),
        "A and D of one copy of a size-7 run are not spread over the others (AMD-LVL-13)",
        at.HIDE_IN_RUN,
        lambda _: {"D1"},
        lambda subject: changed(subject, [(section, _unspread(step)) for section, step in subject.steps]),
        why_not=_v1("v2 tables have no runs (AMD-GPT-3)"),
        features={"size7": True, "rewrite_copies": True},
        raced=1,
    ),
)


def _unspread(step: Step) -> Step:
    return attrs.evolve(step, spread=[]) if isinstance(step, Store) else step


_ROOTS: tuple[Mutant, ...] = (
    Mutant(
        "amd.grow-without-devtab-invalidation",
        (),
        "the root grew, and a device table entry with the smaller one stays cached (AMD-LIVE-8, AMD-DTE-8)",
        at.GROW,
        lambda _: LEFT | {"F1"},
        lambda subject: without(
            subject, lambda _, step: isinstance(step, Invalidate) and step.words[0] >> 60 == INVALIDATE_DEVTAB_ENTRY
        ),
        features={"mode": 3, "dynamic_top": True},
    ),
    Mutant(
        "amd.grow-without-the-old-root",
        (),
        "entry 0 of the larger root does not point to the old one (AMD-LIVE-8)",
        at.GROW,
        lambda _: LEFT | {"N1"},
        _alone,
        features={"mode": 3, "dynamic_top": True},
    ),
)


def mutants(page_format: PageFormat, features: AmdFeatures) -> Sequence[Mutant | Harmless | Reason]:
    """AMD's own mutants, harmless changes and reasons."""
    return (
        *_COMMANDS,
        *_ENTRIES,
        *OWNER_MUTANTS,
        *_ROOTS,
        Harmless(
            "amd.unaligned-size-code",
            "a size code from an unaligned start: it codes a larger block around it (AMD-CMD-8)",
            at.HIDE,
            _pages(_unaligned),
        ),
        Reason(19, lambda _: "no command asks for draining: COMPLETION_WAIT drains by itself (AMD-WAIT-2)"),
        Reason(
            30, lambda _: "every size can be coded, and an unaligned start codes a larger block, never less (AMD-CMD-8)"
        ),
    )
