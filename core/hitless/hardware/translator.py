"""The request side of a unit: structures, caches and walks on declared data.

What a walk sees comes from memory or from what is cached, at random: the model is the worst hardware that the
declarations allow.
"""

import random
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from attrs import define, field

from hitless.errors import BusError
from hitless.hardware.caches import Cache, CachedLeaf, CachedStructure, CachedTable
from hitless.hardware.facts import Drops, DropsStructure, FaultRecord, HardwareFacts
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, Structures
from hitless.hardware.walker import (
    Refusal,
    Step,
    Target,
    Translation,
    find,
    no_memory,
    read_structure,
    through,
)
from hitless.memory import PhysicalMemory
from hitless.ownership import Ownership, OwnerTable
from hitless.pagetable import READ, WRITE, Leaf, Position, WalkFault
from hitless.units import PAGE_LG2

_STRUCTURES_CACHED = 0.97
"""How often a request meets only cached structures, where all of its own are."""

Requester: TypeAlias = tuple[int, int | None]
"""A device, and the PASID of its requests."""


@define(eq=False)
class Attachment:
    """A device, or one PASID of it, behind a unit, and the domain that it is attached to.

    Args:
        found: what the structures say of it; where the vendor declares none, what hardware uses.
        trusted: its guest accepted it: it may reach that guest's private pages.
        ats: it has an ATC and uses it.
        in_use: whether a physical address lies in an allocated table (rule R1).
        blocked: moved to a blocking state: every request is aborted.
        pasid: None: its requests carry none.
    """

    device: int
    found: Found
    ownership: Ownership
    owners: OwnerTable
    trusted: bool = False
    ats: bool = False
    in_use: Callable[[int], bool] = lambda _pa: True
    blocked: bool = False
    pasid: int | None = None
    atc: Cache = field(factory=Cache)

    @property
    def tag(self) -> int:
        """What its translations are filed under."""
        return self.found.tag


class Translated(NamedTuple):
    """A request's translation: ``entry`` is what it was made from, ``tag`` what that is filed under."""

    pa: int
    entry: CachedLeaf
    tag: int


@define(eq=False)
class Translator:
    """Translates requests as a unit does.

    Args:
        facts: the vendor's declarations.
        structures: None: every device's :attr:`Attachment.found` is what hardware uses.
        memory: what the walker reads.
        rng: what decides when things happen.
        report: writes a fault record.
        base: the register that leads to the structures.
        in_use: whether a physical address lies in the memory of structures that is allocated (rule R1).
        caches: by stage (of STAGES) and tag.
    """

    facts: HardwareFacts
    structures: Structures | None
    memory: PhysicalMemory
    rng: random.Random
    report: Callable[[FaultRecord], None]
    base: int = 0
    in_use: Callable[[int], bool] = lambda _pa: True
    caches: dict[tuple[str, int], Cache] = field(factory=dict)
    cached_structures: dict[tuple[str, int, int | None], CachedStructure] = field(factory=dict)
    freed_table_reads: int = 0
    conflicts: int = 0
    _known: dict[Requester, Found] = field(factory=dict)

    def translate(self, attachment: Attachment, iova: int, write: bool) -> Translated | str:
        """Translate one request; the kind of fault, if it gets none. Faults are reported as events."""
        if attachment.blocked:
            return "blocked"
        found = attachment.found if self.structures is None else self._find(attachment)
        if isinstance(found, Refusal):
            return self._refuse(attachment, None, iova, write, found)
        if found.mode != "translate":
            return self._walk(attachment, found, None, iova, write)
        mine = self.cache(found.stage, found.tag)
        ats = attachment.ats and (found.ats or self.structures is None)
        cached = (attachment.atc if ats else mine).leaves_at(iova)
        if cached:
            if self.conflict(cached):
                refusal = _refusal("conflict", found.stage, cached[0].level, iova)
                return self._refuse(attachment, found, iova, write, refusal)
            if self.rng.random() < 0.75:
                entry = self.rng.choice(cached) if len(cached) > 1 else cached[0]
                if entry.rights & (WRITE if write else READ):
                    return self._use(attachment, found, entry, iova, write)
        if ats:
            cached = mine.leaves_at(iova)
            if cached and self.rng.random() < 0.5:
                entry = self.rng.choice(cached)
                attachment.atc.add_leaf(entry)
                return self._use(attachment, found, entry, iova, write)
        return self._walk(attachment, found, mine, iova, write)

    # -- what commands do

    def drop(self, drops: Drops) -> None:
        """Forget what a command targets in the unit's own caches."""
        for (stage, tag), cache in self.caches.items():
            if stage in drops.stages and drops.of_tag(tag):
                cache.drop(drops)

    def drop_structures(self, drops: DropsStructure) -> None:
        """Forget cached structures that a command targets."""
        for key in [key for key, each in self.cached_structures.items() if each.targeted(drops)]:
            del self.cached_structures[key]
        self._known.clear()

    def cache(self, stage: str, tag: int) -> Cache:
        """The cache of a stage's entries under a tag."""
        found = self.caches.get((stage, tag))
        if found is None:
            found = self.caches[stage, tag] = Cache(combined=stage == "12")
        return found

    # -- structures

    def set_base(self, base: int) -> None:
        """Write the register; nothing of the old structures stays cached."""
        self.base = base
        self.cached_structures.clear()
        self._known.clear()

    def _find(self, attachment: Attachment) -> Found | Refusal:
        """What cached structures say of a device, or memory where it is not cached, and sometimes where it is.

        A structure that is cached stays until a command drops it, even if a request has read a newer one.
        """
        requester = attachment.device, attachment.pasid
        known = self._known.get(requester)
        if known is not None and self.rng.random() < _STRUCTURES_CACHED:
            return known
        sight = _Sight(self, attachment, None)
        found = find(self.structures, self.base, *requester, sight)  # type: ignore[arg-type]
        if isinstance(found, Found) and sight.only_cached:
            self._known[requester] = found
        return found

    # -- tables

    def conflict(self, cached: list[CachedLeaf]) -> bool:
        """Whether cached leaves for one address may not stand beside each other (rule K1); counts it."""
        if len(cached) < 2:
            return False
        runs = self.facts.run_conflict
        shapes = self.facts.size_conflict and len({each.shape(runs=runs) for each in cached if each.stable}) > 1
        if shapes or (self.facts.address_conflict and len({each.pa - each.start for each in cached}) > 1):
            self.conflicts += 1
            return True
        return False

    def _walk(
        self, attachment: Attachment, found: Found, cache: Cache | None, iova: int, write: bool
    ) -> Translated | str:
        """Walk from the roots, or from anything that is cached; cache what is found, unless it bypasses."""
        sight = _Sight(self, attachment, cache)
        at = through(found, iova, WRITE if write else READ, sight)
        entry = at if isinstance(at, Refusal) else self._entry(attachment, found, at, sight, iova)
        if isinstance(entry, Refusal):
            return self._refuse(attachment, found, iova, write, entry)
        if entry.stable and cache is not None:
            cache.add_leaf(entry)
            cache.evict(self.rng)
            if attachment.ats and (found.ats or self.structures is None):
                attachment.atc.add_leaf(entry)
                attachment.atc.evict(self.rng)
        return self._use(attachment, found, entry, iova, write)

    def _entry(
        self, attachment: Attachment, found: Found, at: Translation, sight: "_Sight", iova: int
    ) -> CachedLeaf | Refusal:
        """What is cached of a translation, if the owner check lets it."""
        if sight.upper is not None and sight.lower is not None:
            return _combined(at, sight.upper, sight.lower)
        leaf = at.stage1 or at.stage2 or Leaf("", 0, at.start, at.size_lg2, at.pa, at.rights, 0, 0)
        entry = self.piece(attachment, found.stage1 or found.stage2, leaf, iova)
        if isinstance(entry, str):
            return _refusal(entry, found.stage, leaf.level, iova)
        return entry if entry.rights == at.rights else entry._replace(rights=at.rights)

    def piece(
        self, attachment: Attachment, root: StageRoot | None, leaf: Leaf, address: int, *, host: bool = True
    ) -> CachedLeaf | str:
        """What is cached of a leaf, all of it or a piece; or the outcome of an owner check that refuses."""
        size_lg2 = leaf.size_lg2
        if host and attachment.ownership.cached:
            pa = leaf.oa + address - leaf.iova
            verdict = attachment.ownership.verdict(attachment.owners, pa, size_lg2, attachment.trusted)
            if not verdict.ok:
                return verdict.outcome
            size_lg2 = min(size_lg2, verdict.size_lg2)
        smaller = [piece for piece in self.facts.pieces_lg2 if piece < size_lg2]
        if smaller and self.rng.random() < 0.5:
            size_lg2 = self.rng.choice(smaller)
        start = address >> size_lg2 << size_lg2
        stage, stable, attrs = "", True, leaf.attrs
        if root is not None:
            fmt = root.page_format
            stage, stable = fmt.stage, fmt.cacheable(leaf.word, leaf.level)
            attrs = attrs & ~fmt.hardware_set(leaf.level) | fmt.hardware_clears(leaf.level)  # as nobody had used it
        return CachedLeaf(
            start,
            size_lg2,
            leaf.oa + start - leaf.iova,
            leaf.rights,
            attrs,
            leaf.level,
            leaf.iova,
            leaf.size_lg2,
            stable,
            stage,
            None,
            host,
        )

    def _use(self, attachment: Attachment, found: Found, entry: CachedLeaf, iova: int, write: bool) -> Translated | str:
        """The address behind an entry; where verdicts are not cached, memory itself answers."""
        pa = entry.pa + iova - entry.start
        if not attachment.ownership.cached:
            size_lg2 = (entry.lower or entry).leaf_lg2
            outcome = self.memory_refuses(attachment, pa, size_lg2)
            if outcome:
                return self._refuse(attachment, found, iova, write, _refusal(outcome, entry.stage, entry.level, iova))
        return Translated(pa, entry, found.tag)

    def memory_refuses(self, attachment: Attachment, pa: int, leaf_lg2: int) -> str:
        """The outcome of an access that the owner of the memory forbids; empty if it may go on."""
        verdict = attachment.ownership.verdict(attachment.owners, pa, leaf_lg2, attachment.trusted)
        return "" if verdict.ok else verdict.outcome

    def _refuse(self, attachment: Attachment, found: Found | None, iova: int, write: bool, why: Refusal) -> str:
        """Report a fault, where it is one that a unit records; its kind. ``found`` None: the structures refused."""
        if why.kind != "machine-check" and (found is None or why.stage not in found.silent):
            tag = 0 if found is None else found.tag
            place = (why.stage, why.target, why.gpa, why.structure, why.pa)
            self.report(FaultRecord(attachment.device, iova, write, why.kind, why.level, tag, attachment.pasid, *place))
        return why.kind


def _refusal(kind: str, stage: str, level: int, iova: int) -> Refusal:
    """A refusal of the request's own address, by its last stage."""
    return Refusal(kind, stage[-1:], level, gpa=iova if stage == "2" else None)


def _combined(at: Translation, upper: CachedLeaf, lower: CachedLeaf) -> CachedLeaf:
    """Both stages' entries as one: the smaller piece, and the rights of both."""
    return upper._replace(
        start=at.start,
        size_lg2=at.size_lg2,
        pa=at.pa,
        rights=at.rights,
        stable=upper.stable and lower.stable,
        stage="12",
        lower=lower,
        host=True,
    )


class _Sight:
    """What one request's walk sees: memory, and what its unit has cached.

    ``cache`` is that of the whole translation, if there is one stage. ``upper`` and ``lower`` are the entries of
    stage 1 and stage 2 that the request's own address went through, in a nested translation. ``only_cached``: what
    the structures say is what is cached of them.
    """

    __slots__ = ("attachment", "cache", "lower", "only_cached", "unit", "upper")

    def __init__(self, unit: Translator, attachment: Attachment, cache: Cache | None) -> None:
        self.unit = unit
        self.attachment = attachment
        self.cache = cache
        self.upper: CachedLeaf | None = None
        self.lower: CachedLeaf | None = None
        self.only_cached = True

    def begin(self, root: StageRoot, address: int, want: int, target: Target, *, nested: bool) -> Step:
        """The root, a cached table further down, or a cached leaf of one stage of two."""
        unit, fmt, cache = self.unit, root.page_format, self.cache
        if nested or cache is None:
            cache = unit.cache(fmt.stage, root.tag)
            if cached := cache.leaves_at(address):
                if unit.conflict(cached):
                    return WalkFault(fmt.stage, cached[0].level, address, 0, "conflict")
                entry = unit.rng.choice(cached)
                if entry.rights & want and unit.rng.random() < 0.5:
                    return self._half(entry, target)
        at = fmt.start(root.root_pa, address)
        for pointer in cache.tables_at(address):
            if type(at) is Position and pointer.level < at.level and unit.rng.random() < 0.5:
                at = Position(fmt.stage, pointer.level, pointer.table_pa, address, pointer.rights)
        return at

    def entry(self, root: StageRoot, position: Position, pa: int, target: Target, *, nested: bool) -> Step:
        """An entry in memory; what it leads to is cached: pointers, and the leaves of one stage of two."""
        unit, fmt = self.unit, root.page_format
        guest_owned = nested and fmt.stage == "1"
        if guest_owned:
            if refused := self._refused(pa):
                return WalkFault(fmt.stage, position.level, position.iova, 0, refused)
        elif not self.attachment.in_use(position.table_pa):
            unit.freed_table_reads += 1
        try:
            at = fmt.step(position, unit.memory.load(pa))
        except BusError:
            return no_memory(position)
        if type(at) is Position:
            below = fmt.levels[at.level]
            span = below.lo + below.bits
            cache = unit.cache(at.stage, root.tag) if nested or self.cache is None else self.cache
            cache.add_table(CachedTable(at.iova >> span << span, span, at.level, at.table_pa, at.rights, at.stage))
        elif nested and type(at) is Leaf:
            return self._cached_half(root, at, position.iova, target, host=not guest_owned)
        return at

    def _cached_half(self, root: StageRoot, leaf: Leaf, address: int, target: Target, *, host: bool) -> Step:
        """One stage's leaf, cached as far as the owner check lets it."""
        unit = self.unit
        entry = unit.piece(self.attachment, root, leaf, address, host=host)
        if isinstance(entry, str):
            return WalkFault(leaf.stage, leaf.level, address, leaf.word, entry)
        if entry.stable:
            cache = unit.cache(leaf.stage, root.tag)
            cache.add_leaf(entry)
            cache.evict(unit.rng)
        return self._half(entry, target)

    def _half(self, entry: CachedLeaf, target: Target) -> Leaf:
        """An entry of one stage as the walk goes on with it: no larger than it is cached."""
        if target == "input":
            if entry.stage == "1":
                self.upper = entry
            else:
                self.lower = entry
        return Leaf(entry.stage, entry.level, entry.start, entry.size_lg2, entry.pa, entry.rights, entry.attrs, 0)

    def structure(self, fetch: Fetch, pa: int | None) -> Fetch | Found | BadStructure | None:
        """A cached structure, or memory; what was read is cached, if nothing is yet."""
        unit, attachment = self.unit, self.attachment
        key = fetch.structure, attachment.device, attachment.pasid if fetch.pasid is None else fetch.pasid
        cached = unit.cached_structures.get(key)
        if cached is not None and unit.rng.random() < 0.5:
            return cached.outcome
        if pa is None:
            return None
        if fetch.stage2 is not None:
            if refused := self._refused(pa):
                return BadStructure(fetch.structure, pa, (), refused, "the owner of the memory refused it")
        elif not unit.in_use(pa):
            unit.freed_table_reads += 1
        words, outcome = read_structure(unit.memory.load, unit.structures, fetch, pa)  # type: ignore[arg-type]
        if cached is not None:
            self.only_cached = self.only_cached and outcome == cached.outcome
        elif unit.facts.caches_bad_structures or not isinstance(outcome, BadStructure):
            unit.cached_structures[key] = CachedStructure(*key, words, outcome)
        return outcome

    def _refused(self, pa: int) -> str:
        """What memory itself answers to the unit's own read of guest memory; empty: nothing."""
        if self.attachment.ownership.cached:
            return ""  # the verdict came with the translation
        return self.unit.memory_refuses(self.attachment, pa, PAGE_LG2)
