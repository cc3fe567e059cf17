"""Generic mutants of tables and entries: what is linked, and what the words say."""

import attrs

from hitless.bits import MASK64
from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import LEFT, Declared, Rules, one_round, whole_tag_only
from hitless.check.mutants.edits import changed, is_a, links, moved, neighbours, refilled, steps_of, stores, without
from hitless.check.mutants.mutant import Mutant
from hitless.check.mutants.words import filled_word, illegal, narrower_pointer, other_attributes
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.ownership import GUEST
from hitless.plan import Barrier, Clean, Fill, FillRun, Own, Store
from hitless.units import align_down


def _snoops(vendor: Vendor) -> str:
    if vendor.hardware.coherent:
        return f"walkers snoop the CPU's caches, so that nothing has to be cleaned ({vendor.hardware.source})"
    return ""


def _one_barrier(vendor: Vendor) -> str:
    if one_round(vendor, "cut"):
        return ""
    return "a cut takes several rounds, and the first one's barrier stands before the link as well"


def _leaf_at_every_level(vendor: Vendor) -> str:
    fmt = vendor.page_format
    if fmt.layout("leaf", fmt.top.number) is None:
        return ""
    return f"with these features a leaf may stand at every level ({fmt.source})"


# -- before the link


def _link_before_fill(subject: Subject) -> Subject | None:
    link = next(links(subject), None)
    if link is None:
        return None
    return changed(subject, moved(steps_of(subject), is_a(Fill, Clean, Barrier, section="prepare"), link[0] + 1))


def _cleans_of(*, tables: bool, subject: Subject) -> Subject | None:
    filled = {step.pa for _, step in subject.steps if isinstance(step, Fill)}
    return without(subject, lambda _, step: isinstance(step, Clean) and (step.pa in filled) is tables)


# -- what a link and a leaf say


def _relinked(subject: Subject, number: int, step: Store, word: int | None) -> Subject | None:
    """One store of another word."""
    if word is None:
        return None
    steps = steps_of(subject)
    steps[number] = (steps[number][0], attrs.evolve(step, new=word))
    return changed(subject, steps)


def _narrower(subject: Subject) -> Subject | None:
    fmt = subject.vendor.page_format
    return next(
        (_relinked(subject, i, step, narrower_pointer(fmt, step.new, step.level)) for i, step in links(subject)), None
    )


def _pointers_carry_rights(vendor: Vendor) -> str:
    fmt = vendor.page_format
    if narrower_pointer(fmt, fmt.table(1, 0), 1) is None:
        return f"pointers of {fmt.name} carry no rights ({fmt.source})"
    return ""


def _reserved(subject: Subject) -> Subject | None:
    fmt = subject.vendor.page_format
    return next((_relinked(subject, i, step, illegal(fmt, step.new, step.level)) for i, step in links(subject)), None)


def _last_run(subject: Subject) -> FillRun | None:
    """The longest run of neighbours' leaves in the lowest table."""
    fmt = subject.vendor.page_format
    lo = fmt.levels[0].lo
    plain = [run for run in neighbours(subject) if fmt.is_leaf(run.first, 0) and fmt.leaf_lg2(run.first, 0) == lo]
    return max((run for run in plain if run.entries > 1), key=lambda run: run.entries, default=None)


def _refilled(subject: Subject, chosen: FillRun | None, first: int) -> Subject | None:
    return refilled(subject, lambda run: run._replace(first=first) if run == chosen else run)


def _attributes_lost(subject: Subject) -> Subject | None:
    run, fmt = _last_run(subject), subject.vendor.page_format
    word = None if run is None else other_attributes(fmt, run.first, 0)
    return None if word is None else _refilled(subject, run, word)


def _shifted(declared: Declared) -> Rules:
    """Two sizes and addresses are cached; and leaves lead to pages whose owner entries are larger."""
    rules = declared.conflict(size=True, address=True) if one_round(declared.vendor, "cut") else set()
    sized = declared.vendor.ownership.size_classes and declared.subject.grants(GUEST)
    return rules | ({"S1"} if sized else set())


def _cut_shifted(subject: Subject) -> Subject | None:
    run = _last_run(subject)
    if run is None:
        return None
    return _refilled(subject, run, (run.first + run.increment) & MASK64)


def _attributes_lost_in_merge(subject: Subject) -> Subject | None:
    fmt, steps, before = subject.vendor.page_format, steps_of(subject), 0
    for i, step in stores(subject, "merge"):
        word = other_attributes(fmt, step.new, step.level)
        if word is None:
            return None
        bit = word ^ step.new
        steps[i] = (steps[i][0], attrs.evolve(step, new=word, expected=step.expected ^ before))
        before = bit
    return changed(subject, steps)


def _too_large(subject: Subject) -> Subject | None:
    """A leaf where none may stand: in the root's last entry, far from the guest's memory."""
    fmt, top = subject.vendor.page_format, subject.vendor.page_format.top
    index = (1 << top.bits) - 1
    iova = fmt.canonical(index << top.lo)
    largest = max(size.lg2 for size in fmt.leaf_sizes if not size.entries_lg2)
    word = fmt.leaf(largest, 0, subject.truth.attrs)
    extra = Store(subject.root_pa + 8 * index, 0, word, 0, "map", top.number, iova)
    return changed(subject, [*subject.steps, ("refresh", extra), ("refresh", Barrier())])


# -- more than was asked


def _one_more(subject: Subject, *, wiped: bool) -> Subject | None:
    found = list(stores(subject, "wipe", "replace"))
    if not found:
        return None
    number, last = found[-1]
    fmt, pa = subject.vendor.page_format, last.pa + 8
    word = filled_word((step for _, step in subject.steps), pa)
    if word is None or fmt.leaf_lg2(word, last.level) != fmt.levels[last.level].lo:
        return None
    page = 1 << fmt.levels[last.level].lo
    other = subject.truth.converting[0].new_pa + page
    new = 0 if wiped else fmt.leaf(fmt.levels[last.level].lo, other, fmt.attrs(word, last.level))
    extra = attrs.evolve(last, pa=pa, iova=last.iova + page, expected=word, new=new)
    section = subject.steps[number][0]
    steps = [*subject.steps[: number + 1], (section, extra)]
    if not subject.vendor.hardware.coherent:
        steps.append((section, Clean(pa, 8)))
    return changed(subject, [*steps, *subject.steps[number + 1 :]])


def _replaced_too_much(declared: Declared) -> Rules:
    other = declared.converting.new_pa + (1 << declared.page_lg2)
    left = set() if whole_tag_only(declared.vendor) else LEFT
    if not declared.verdict(other, declared.page_lg2, after=True).ok:
        return left | {"N1"}
    return left | {"N2"} | declared.conflict(address=True)


# -- a table in the wrong hands


def _given_away(subject: Subject) -> Subject | None:
    fill = next((step for _, step in subject.steps if isinstance(step, Fill)), None)
    if fill is None:
        return None
    extra = Own("table page", fill.pa, fill.pa + 4096, GUEST, 12)
    at_own = next((i for i, (section, _) in enumerate(subject.steps) if section == "own"), len(subject.steps))
    return changed(subject, [*subject.steps[:at_own], ("own", extra), *subject.steps[at_own:]])


def _mapped(subject: Subject) -> Subject | None:
    fmt = subject.vendor.page_format
    for i, step in reversed(list(stores(subject, "replace", "map"))):
        lo = fmt.levels[step.level].lo
        word = fmt.leaf(lo, align_down(subject.root_pa, lo), fmt.attrs(step.new, step.level))
        return _relinked(subject, i, step, word)
    return None


TABLE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.link-before-fill",
        (1,),
        "a new table is linked before it is filled",
        at.HIDE,
        lambda _: {"N1"},
        _link_before_fill,
    ),
    Mutant(
        "generic.fill-not-ordered",
        (1,),
        "no barrier stands between the fill of a table and the store that links it",
        at.HIDE,
        lambda _: {"N1"},
        lambda subject: without(subject, is_a(Barrier, section="prepare")) if any(links(subject)) else None,
        why_not=_one_barrier,
    ),
    Mutant(
        "generic.fill-not-cleaned",
        (1,),
        "a new table is not pushed out of the CPU's cache before it is linked, and walkers do not snoop",
        at.HIDE,
        lambda _: {"N1"},
        lambda subject: _cleans_of(tables=True, subject=subject),
        why_not=_snoops,
    ),
    Mutant(
        "generic.store-not-cleaned",
        (28,),
        "stores to reachable entries are not pushed out of the CPU's cache, and walkers do not snoop",
        at.HIDE,
        lambda d: {"C2", *d.old_stays()},
        lambda subject: _cleans_of(tables=False, subject=subject),
        why_not=_snoops,
    ),
    Mutant(
        "generic.pointer-without-write",
        (18,),
        "the pointer to a new table grants less than the leaf that it replaces",
        at.HIDE,
        lambda _: {"N1"},
        _narrower,
        why_not=_pointers_carry_rights,
    ),
    Mutant(
        "generic.reserved-bit",
        (),
        "a reserved bit of the new pointer is set",
        at.HIDE,
        lambda _: {"N1", "W1"},
        _reserved,
    ),
    Mutant(
        "generic.attributes-lost-in-cut",
        (38,),
        "the leaves of a new table have other attributes than the leaf that it replaces",
        at.HIDE,
        lambda _: {"N2"},
        _attributes_lost,
    ),
    Mutant(
        "generic.attributes-lost-in-merge",
        (38,),
        "the leaf that replaces a table has other attributes than the leaves in it",
        at.MERGE,
        lambda d: {"M1", "N2"} | (set() if d.joins else {"C2"}),
        _attributes_lost_in_merge,
    ),
    Mutant(
        "generic.cut-shifted",
        (),
        "the leaves of a new table lead one page too far",
        at.HIDE,
        lambda d: {"N2"} | _shifted(d),
        _cut_shifted,
    ),
    Mutant(
        "generic.leaf-of-an-illegal-size",
        (22,),
        "a leaf stands at a level at which the vendor lays out none",
        at.HIDE,
        lambda d: {"W1"} | (LEFT if d.hardware.caches_not_present else set()),
        _too_large,
        why_not=_leaf_at_every_level,
    ),
    Mutant(
        "generic.one-page-too-many-wiped",
        (16,),
        "one page more than was asked is unmapped",
        at.HIDE,
        lambda d: {"N1"} | (set() if whole_tag_only(d.vendor) else LEFT),
        lambda subject: _one_more(subject, wiped=True),
    ),
    Mutant(
        "generic.one-page-too-many-replaced",
        (16,),
        "one page more than was asked gets another address",
        at.HIDE,
        _replaced_too_much,
        lambda subject: _one_more(subject, wiped=False),
    ),
    Mutant(
        "generic.table-given-away",
        (),
        "the page of a table in use becomes guest-owned",
        at.HIDE,
        lambda _: {"T1"},
        _given_away,
    ),
    Mutant(
        "generic.table-mapped",
        (),
        "the page of the root table is mapped writable for a device",
        at.SHOW,
        lambda _: {"C1", "C2", "T1"},
        _mapped,
    ),
)
"""Mutants of tables and entries."""
