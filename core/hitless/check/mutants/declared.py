"""What vendor and setting declare, in the words in which the expectations of mutants are written."""

from collections.abc import Set as AbstractSet
from typing import TypeAlias

from attrs import frozen

from hitless.check.subject import Subject, TruthRun
from hitless.hardware.facts import Drops, HardwareFacts, Match
from hitless.hardware.vendor import Vendor
from hitless.ownership import GUEST, Boundary, OwnerChange, OwnerTable, Verdict
from hitless.plan import Own, Release, Store, effects_of, singles
from hitless.refresh.commands import Target
from hitless.refresh.recipes import Kind, Recipe
from hitless.units import PAGE_LG2, WORD_MAX

Rules: TypeAlias = AbstractSet[str]
"""Ids of the rules that a mistake has to break."""

LEFT = frozenset({"F2"})
"""What breaks where something stays cached that memory does not hold any more."""

SAFE = frozenset({"owner"})
"""Outcomes of an owner check that harm nobody."""


@frozen
class Declared:
    """A right plan's subject, asked about declarations only."""

    subject: Subject

    @property
    def vendor(self) -> Vendor:
        return self.subject.vendor

    @property
    def hardware(self) -> HardwareFacts:
        return self.subject.vendor.hardware

    @property
    def wipes(self) -> bool:
        """The policy unmaps what the device may not reach, before owners change."""
        return self.subject.policy.wipes

    @property
    def wiped_first(self) -> bool:
        """It does so, and something follows that the page has to be unmapped before (C2)."""
        return self.wipes and any(section in ("own", "refresh") for section, _ in self.subject.steps)

    @property
    def bounded(self) -> bool:
        """Leaves have to end where owners change (B1)."""
        return self.subject.policy.boundary is not Boundary.NONE

    @property
    def converting(self) -> TruthRun:
        """The first run that converts."""
        return self.subject.truth.converting[0]

    # -- the owner check

    def owners(self, *, after: bool) -> OwnerTable:
        """The owner table before the plan, or after it."""
        table = self.subject.owners.copy()
        if after:
            for step in effects_of(step for _, step in self.subject.steps):
                if isinstance(step, Own):
                    table.apply(step)
        return table

    def verdict(self, pa: int, leaf_lg2: int, *, after: bool) -> Verdict:
        """The owner check's answer before the plan, or after it."""
        return self.vendor.ownership.verdict(self.owners(after=after), pa, leaf_lg2, self.subject.trusted)

    def enters(self, pa: int, leaf_lg2: int, *, after: bool) -> bool:
        """Whether a leaf may enter a cache: it may not where the check's refusal is what would be cached."""
        return not self.vendor.ownership.cached or self.verdict(pa, leaf_lg2, after=after).ok

    @property
    def page_lg2(self) -> int:
        return self.vendor.split_rules.leaf_lg2s[0]

    @property
    def unsafe(self) -> bool:
        """Reaching the converted page by its old address harms more than the device (C1)."""
        verdict = self.verdict(self.converting.old_pa, self.page_lg2, after=True)
        return not verdict.ok and verdict.outcome not in SAFE

    @property
    def new_enters(self) -> bool:
        """The converted page's new leaf may be cached."""
        return not self.wipes and self.enters(self.converting.new_pa, self.page_lg2, after=True)

    @property
    def moves(self) -> bool:
        """A converted page gets another address in its leaf."""
        run = self.converting
        return run.old_pa != run.new_pa and not self.wipes

    # -- what stays behind

    def old_stays(self, *, pointers: bool = True) -> Rules:
        """The old large leaf stays cached from the cut to the end; and pointers, to a table that was swapped."""
        run = self.converting
        moves = self.moves and self.new_enters
        rules = self.late if not self.subject.grants(run.new_owner, run.start) or self.moves else set()
        rules = rules | (self.swapped() if pointers else set())
        return LEFT | rules | self.old_at_owner_change() | self.conflict(size=True, address=moves)

    @property
    def late(self) -> Rules:
        """A translation of the converted page's old address is used when all is done; or each use of it is refused."""
        if self.vendor.ownership.cached or self.verdict(self.converting.old_pa, self.page_lg2, after=True).ok:
            return {"F1"}
        return {"C1"} if self.unsafe else set()

    def swapped(self) -> Rules:
        """Where a run was taken apart by swapping its table, that one is freed at once."""
        steps = self.subject.steps
        return {"R1"} if any(section == "isolate" and isinstance(step, Release) for section, step in steps) else set()

    def old_at_owner_change(self) -> Rules:
        """The old large leaf is cached still when owners change."""
        rules = {"B1"} if self.bounded else set()
        if self.wiped_first:
            rules |= {"C2"} | ({"C1"} if self.unsafe else set())
        return rules

    def conflict(self, *, size: bool = False, address: bool = False) -> Rules:
        """Two leaves of one address differ so and may be cached together."""
        hardware = self.hardware
        conflicts = (
            (size and hardware.size_conflict)
            or (address and hardware.address_conflict)
            or (size and address and hardware.size_address_conflict)
        )
        return {"K1"} if conflicts else set()

    @property
    def large_lg2(self) -> int:
        """log2 of the size of the old leaf, where the situation cuts one."""
        return self.vendor.page_format.levels[1].lo

    @property
    def smallest_piece(self) -> int:
        """log2 of the smallest piece that the old leaf may be cached as."""
        pieces = [self.large_lg2, *self.hardware.pieces_lg2]
        if self.vendor.ownership.cached:
            pieces.append(self.verdict(self.converting.old_pa, self.large_lg2, after=False).size_lg2)
        return min(pieces)

    @property
    def joins(self) -> bool:
        """What the plan merges becomes part of a run afterwards, by stores of its own."""
        kinds = [step.what for _, step in self.subject.steps if isinstance(step, Store)]
        return "merge" in kinds and "resize" in kinds[kinds.index("merge") :]

    @property
    def whole_pieces_only(self) -> bool:
        """A command spares a cached leaf that reaches beyond its range."""
        return ranged(self.vendor, 1).leaf_match is Match.PIECE_INSIDE


def whole_tag_only(vendor: Vendor) -> bool:
    """Whether the smallest command drops everything of a tag."""
    drops = ranged(vendor, 0)
    return (drops.first, drops.last) == (0, WORD_MAX)


def one_round(vendor: Vendor, kind: Kind) -> bool:
    """Whether a kind of change takes one store."""
    recipe = vendor.recipes.of(kind)
    return isinstance(recipe, Recipe) and len(recipe.rounds) == 1


def ranged(vendor: Vendor, level: int, *, tables: bool = False) -> Drops:
    """What the vendor's command for one leaf of a level targets."""
    lo = vendor.page_format.levels[level].lo
    target = Target(0, (1 << lo) - 1, lo, None if tables else level, tables)
    words = vendor.commands.invalidate(target, 1)[0]
    return next(each for each in vendor.commands.decode(words) if isinstance(each, Drops))


def harms(vendor: Vendor) -> bool:
    """Whether an access that the owner does not grant harms more than the device that makes it."""
    verdict = _verdict_on_guest(vendor)
    return not verdict.ok and verdict.outcome not in SAFE


def checks_owners(vendor: Vendor) -> bool:
    """Whether a device that is not trusted is kept from guest-owned pages even where they are mapped."""
    return not _verdict_on_guest(vendor).ok


def _verdict_on_guest(vendor: Vendor) -> Verdict:
    """What an untrusted device is told of a page that is a guest's."""
    table, page_lg2 = OwnerTable(), vendor.split_rules.leaf_lg2s[0]
    table.set(0, 1 << page_lg2, GUEST, PAGE_LG2)
    return vendor.ownership.verdict(table, 0, page_lg2, trusted=False)


def own_drops(vendor: Vendor) -> bool:
    """Whether an owner change itself drops cached verdicts."""
    page = 1 << vendor.split_rules.leaf_lg2s[0]
    change = OwnerChange(0, page, GUEST)
    steps = vendor.ownership.own(OwnerTable(), [change], trusted=False, allow_break=False).own
    return any(isinstance(step, Own) and step.drops != "none" for step in effects_of(singles(steps)))
