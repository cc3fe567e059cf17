"""Mistakes that one makes with VT-d, and what they have to break.

Facts: INTEL-INV-*, INTEL-QI-*, INTEL-WAIT-*.
"""

from collections.abc import Callable, Sequence

from hitless.check.mutants import (
    LEFT,
    Declared,
    Harmless,
    Mutant,
    Reason,
    Rules,
    encoding,
    neighbours,
    recoded,
    refilled,
)
from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import whole_tag_only
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plan import Invalidate
from hitless.refresh.commands import Target, Words
from hitless_intel.descriptors import IOTLB, PASID_IOTLB, descriptor_type
from hitless_intel.features import FIRST_STAGE, IntelFeatures
from hitless_intel.second_stage import EMT, SNP
from hitless_intel.tdx_mutants import TDX_MUTANTS

_DW, _DR = 1 << 6, 1 << 7
_IH = 1 << 6  # in the high word
_AM = 0x3F
_ONE_PASID = 1 << 32


def _iotlb(low: Callable[[int], int], high: Callable[[int], int] = int) -> Callable[[Subject], Subject | None]:
    """Other words for each IOTLB or PASID IOTLB descriptor."""

    def code(step: Invalidate) -> Sequence[Words]:
        first, second, *rest = step.words
        if descriptor_type(first) not in (IOTLB, PASID_IOTLB):
            return [step.words]
        return [(low(first), high(second), *rest)]

    return lambda subject: recoded(subject, code)


def _as_it_is(word: int) -> int:
    return word


def _in_one(commands: object, target: Target, tag: int) -> Sequence[Words]:
    """The whole target in one descriptor: AM as large as it takes, from wherever the target starts."""
    words: Words = commands.invalidate(target._replace(last=target.first + 0xFFF), tag)[0]  # type: ignore[attr-defined]
    mask = (target.last - target.first >> 12).bit_length()
    return [(words[0], words[1] & ~_AM | mask, *words[2:])]


def _without(mask: int) -> Callable[[Subject], Subject | None]:
    """Neighbours' leaves in new tables without some bits."""

    def apply(subject: Subject) -> Subject | None:
        chosen = set(neighbours(subject))
        return refilled(subject, lambda run: run._replace(first=run.first & ~mask) if run in chosen else run)

    return apply


def _drains(vendor: Vendor) -> str:
    if vendor.page_format.name == FIRST_STAGE:
        return "PASID-selective descriptors have no drain bits: they always drain (INTEL-WAIT-9)"
    if vendor.features.version >= 2:
        return "from version 2 on a unit always drains (INTEL-WAIT-4)"
    return "" if vendor.features.drain else "this unit cannot be asked to drain (INTEL-WAIT-3)"


def _page_selective(vendor: Vendor) -> str:
    return "" if vendor.features.psi else "without PSI every descriptor covers a domain, pointers too (INTEL-QI-6)"


def _small_mask(vendor: Vendor) -> str:
    if why := _page_selective(vendor):
        return why
    largest = max(vendor.split_rules.leaf_lg2s)
    return "" if 12 + vendor.features.mamv < largest else "no leaf is larger than what CAP.MAMV can mask (INTEL-QI-6)"


def _first_stage(vendor: Vendor) -> str:
    return "" if vendor.page_format.name == FIRST_STAGE else "second-stage translations have no PASID (INTEL-INV-1)"


def _second_stage(why: str) -> Callable[[Vendor], str]:
    return lambda vendor: why if vendor.page_format.name == FIRST_STAGE else ""


def _snoops(vendor: Vendor) -> str:
    if vendor.page_format.name == FIRST_STAGE:
        return "first-stage tables have no SNP (INTEL-FS-9)"
    return "" if vendor.features.snoop_control else "without ECAP.SC there is no SNP (INTEL-SS-12)"


def _flying(declared: Declared) -> Rules:
    """A request that used the old leaf is in flight still."""
    return declared.late | ({"C2"} if declared.wiped_first else set()) | _other_words(declared)


def _other_words(declared: Declared) -> Rules:
    """A command for a whole tag is one that the encoder would not have sent."""
    return {"E1"} if whole_tag_only(declared.vendor) else set()


_DRAINS = (
    ("no-drain-bits", "neither reads nor writes", _DW | _DR),
    ("no-drain-of-writes", "no writes", _DW),
    ("no-drain-of-reads", "no reads", _DR),
)
_COMMANDS: tuple[Mutant, ...] = (
    Mutant(
        "intel.ih-1-after-merge",
        (3,),
        "IH = 1 after a table was merged (INTEL-INV-3)",
        at.MERGE,
        lambda _: LEFT | {"R1"},
        _iotlb(_as_it_is, lambda high: high | _IH),
        why_not=_page_selective,
    ),
    Mutant(
        "intel.ih-1-after-prune",
        (3, 37),
        "IH = 1 after an empty table was unlinked (INTEL-INV-3)",
        at.PRUNE,
        lambda d: LEFT | d.late | {"C2", "R1"},
        _iotlb(_as_it_is, lambda high: high | _IH),
        why_not=_page_selective,
    ),
    *(
        Mutant(
            f"intel.{name}",
            (19,),
            f"commands ask to drain {what} (INTEL-WAIT-3)",
            at.HIDE,
            _flying,
            _iotlb(lambda low, bits=bits: low & ~bits),  # type: ignore[misc]
            why_not=_drains,
        )
        for name, what, bits in _DRAINS
    ),
    Mutant(
        "intel.beyond-mamv",
        (30,),
        "one descriptor for a leaf larger than CAP.MAMV can mask: the queue stops (INTEL-QI-6, INTEL-QI-10)",
        at.HIDE_IN_LARGEST,
        lambda d: {"W1"} | d.old_stays(),
        planned_as=encoding(_in_one),
        why_not=_small_mask,
    ),
    Mutant(
        "intel.unaligned-range",
        (30,),
        "one descriptor for two pages that are no aligned block: AM masks the low address bits (INTEL-QI-6)",
        at.HIDE_TWO,
        lambda d: LEFT | {"E1"} | _flying(d),
        planned_as=encoding(_in_one),
        why_not=_page_selective,
    ),
    Mutant(
        "intel.wrong-pasid",
        (26,),
        "commands for first-stage tables name the next PASID (INTEL-INV-11)",
        at.HIDE,
        lambda d: d.old_stays() | _other_words(d),
        _iotlb(lambda low: low + _ONE_PASID),
        why_not=_first_stage,
    ),
)


_ENTRIES: tuple[Mutant, ...] = (
    Mutant(
        "intel.snp-lost-in-cut",
        (38,),
        "SNP is lost in a cut: DMA to neighbours need not snoop any more (INTEL-SS-12)",
        at.HIDE,
        lambda _: {"N2"},
        _without(SNP.mask),
        why_not=_snoops,
    ),
    Mutant(
        "intel.emt-lost-in-cut",
        (38,),
        "EMT is lost in a cut: neighbours turn uncacheable (INTEL-SS-11)",
        at.HIDE,
        lambda _: {"N2"},
        _without(EMT.mask),
        why_not=_second_stage("first-stage tables have no EMT (INTEL-FS-9)"),
    ),
)


def mutants(page_format: PageFormat, features: IntelFeatures) -> Sequence[Mutant | Harmless | Reason]:
    """VT-d's own mutants, harmless changes and reasons."""
    return (
        *_COMMANDS,
        *_ENTRIES,
        *TDX_MUTANTS,
        Harmless(
            "intel.drain-bits-for-nothing",
            "from version 2 on a unit drains without being asked (INTEL-WAIT-4)",
            at.HIDE,
            _iotlb(lambda low: low & ~(_DW | _DR)),
            why_not=_second_stage("PASID-selective descriptors have no drain bits (INTEL-WAIT-9)"),
            features={"version": 2},
        ),
        Reason(19, _drains),
    )
