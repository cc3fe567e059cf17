"""A domain: one vendor's page table of a guest's memory, attached to devices behind units.

It is a notifier of guest_memfd. Everything that it writes to a reachable table is a plan.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import attrs
from attrs import define, field, frozen

from hitless.columns import Ranges
from hitless.errors import HitlessError, Pinned, UnitTimeout
from hitless.guest_memfd.conversion import ChangeRun, ChangeRuns, Conversion
from hitless.guest_memfd.guest import GUEST, HOST, GuestMemfd, near
from hitless.hardware.facts import Drops, Effect
from hitless.hardware.translator import Attachment
from hitless.hardware.unit import Unit
from hitless.hardware.vendor import Vendor
from hitless.iommufd import many
from hitless.iommufd.attach import Behind, attach_all, check_nesting, detach_all, found_for, ports_for
from hitless.iommufd.ioas import Ioas
from hitless.iommufd.layout import rules_under, runs_of, segments
from hitless.iommufd.live import adopt, lead_to
from hitless.iommufd.nested import GuestStage
from hitless.iommufd.owning import DomainOwners, entry_lg2
from hitless.iommufd.performing import Performer
from hitless.memory import PageAllocator, PhysicalMemory
from hitless.ownership import Ownership, OwnerTable, Policy
from hitless.pagetable import READ, WRITE
from hitless.plan import Plan, PlanStep
from hitless.refresh.assemble import Assembler
from hitless.refresh.changes import Changes
from hitless.refresh.commands import Words
from hitless.refresh.executor import Executor
from hitless.refresh.grow import Root
from hitless.refresh.planner import Planner, Prepared, give_back
from hitless.refresh.target import PlanRequest, Segment, Segments
from hitless.units import PAGE_LG2, SPACE, align_down, joined


@frozen
class DomainSettings:
    """What a configuration says of a domain.

    Args:
        policy: name of one of the vendor's policies; empty: its default.
        trusted: the devices' guest accepted them.
        merge: ``never``, ``at_once`` or ``on_request``.
        allow_break: do what cannot be done hitlessly instead of refusing it.
        strategy: ``refresh``, or ``unmap-remap``, the baseline that it is compared with.
    """

    policy: str = ""
    trusted: bool = False
    merge: str = "never"
    allow_break: bool = False
    strategy: str = "refresh"


@define(eq=False)
class Domain:
    """One domain; make it with :meth:`open`.

    ``owners`` is the owner table that its units consult (RMP, GPT, ...), ``choreography`` what its plans are made by.
    ``ioas``: which IOVAs lead to which guest memory; None: an IOVA is a guest physical address. ``stage1``: the guest's
    own tables over this domain's, which is then a nest parent. ``pinned``: guest physical ranges that the guest
    holds for its devices, or the host for its own ends: they do not convert.
    """

    name: str
    vendor: Vendor
    guest: GuestMemfd
    memory: PhysicalMemory
    tables: PageAllocator
    settings: DomainSettings
    policy: Policy
    owners: OwnerTable
    planner: Planner
    executor: Executor
    units: list[Unit]
    attachments: list[Attachment]
    ioas: Ioas | None = None
    stage1: GuestStage | None = None
    fenced: list[str] = field(factory=list)
    cuts: int = 0
    merges: int = 0
    pinned: list[tuple[int, int]] = field(factory=list)
    choreography: Ownership = field(init=False)
    performer: Performer = field(init=False)
    _pending: dict[int, Prepared] = field(factory=dict)
    _lock: threading.RLock = field(factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        self.choreography = self.vendor.ownership
        self.performer = Performer(self)

    @classmethod
    def open(
        cls,
        name: str,
        vendor: Vendor,
        guest: GuestMemfd,
        memory: PhysicalMemory,
        tables: PageAllocator,
        attach: list[Behind],
        settings: DomainSettings | None = None,
        *,
        ioas: Ioas | None = None,
        stage1: GuestStage | None = None,
        pasid: int | None = None,
    ) -> "Domain":
        """Make a domain's root table, attach it, and map what the policy maps.

        Args:
            name: unique among the guest's notifiers.
            vendor: strategies and page format.
            guest: whose memory is mapped.
            memory: where tables lie.
            tables: where they come from.
            attach: for each unit its tag for this domain and the devices (id, ATS on).
            settings: policy, trust, merging; None: the vendor's defaults.
            ioas: which IOVAs lead to which guest memory; None: an IOVA is a guest physical address.
            stage1: a guest's own tables, which the devices are attached through.
            pasid: of the devices' requests.

        Raises:
            HitlessError: no such policy, or not with these structures.  OutOfTableMemory.
        """
        settings = settings or DomainSettings()
        policy_name = settings.policy or vendor.ownership.default_policy
        if policy_name not in vendor.ownership.policies:
            raise HitlessError(
                f"no policy {policy_name!r}",
                who=vendor.name,
                do=f"choose one of {', '.join(vendor.ownership.policies)}",
            )
        policy = vendor.ownership.policies[policy_name]
        if not policy.maps_shared or policy.private_below is not None:
            settings = attrs.evolve(settings, trusted=True)  # nobody else's requests are translated by such tables
        space = ioas or Ioas.identity(guest.slots)
        if problem := policy.across(space.areas):
            raise HitlessError(problem, who=vendor.name)
        if stage1 is not None:
            check_nesting(vendor)
        fmt = vendor.page_format
        rules_for = partial(rules_under, vendor, max(guest.hunk_lg2, fmt.levels[0].lo))
        root = tables.allocate(fmt.top.table_lg2)
        owners = OwnerTable()
        behind = [
            (
                unit,
                [
                    Attachment(
                        device,
                        found_for(vendor, root, tag, stage1),
                        vendor.ownership,
                        owners,
                        trusted=settings.trusted,
                        ats=ats,
                        in_use=tables.in_use,
                        pasid=pasid,
                    )
                    for device, ats in devices
                ],
            )
            for unit, tag, devices in attach
        ]
        assembler = Assembler(
            fmt,
            rules_for(fmt),
            vendor.recipes,
            ports_for(vendor, attach, nested=stage1 is not None, pasid=pasid),
            vendor.hardware.coherent,
            settings.allow_break,
            vendor.name,
        )
        units = [unit for unit, _, _ in attach]
        planner = Planner(memory, tables, assembler, root, rules_for=rules_for)
        executor = Executor(memory, tables, {unit.name: unit for unit in units}, owners)
        domain = cls(
            name,
            vendor,
            guest,
            memory,
            tables,
            settings,
            policy,
            owners,
            planner,
            executor,
            units,
            [attachment for _, here in behind for attachment in here],
            ioas,
            stage1,
        )
        executor.owners = domain.performer
        planner.lead_to = partial(lead_to, domain) if vendor.structures is not None else None
        executor.covered = domain.covers
        try:
            attach_all(behind, stage1)
            domain._start()
        except UnitTimeout:
            raise  # its walker may still read the tables
        except HitlessError:
            detach_all(behind)
            tables.free(root, fmt.top.table_lg2)
            raise
        return domain

    def _start(self) -> None:
        """Enter the owners into the owner table, and map the guest's memory."""
        for start_pa, end_pa in (each for unit in self.units for each in unit.writes):
            self.vendor.ownership.reserve(self.owners, start_pa, end_pa)
        for slot in self.guest.slots.slots:
            for run in self.guest.runs(slot.gpa, slot.end):
                if run.owner != HOST:
                    size = run.end - run.start
                    lg2 = entry_lg2(self, run.start, run.pa)
                    self.vendor.ownership.initial(self.owners, run.pa, run.pa + size, run.owner, lg2)
        ranges = self.iovas((slot.gpa, slot.end) for slot in self.guest.slots.slots)
        if ranges:
            request = PlanRequest(ranges, lambda start, end: self.layout(start, end, None))
            self._execute(self.planner.plan(self.name, request))
        self.executor.counters = type(self.executor.counters)()

    # -- IOVAs and guest physical addresses

    def iovas(self, ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...] | Ranges:
        """The IOVA ranges that lead into guest physical ranges."""
        if self.ioas is None:
            return ranges if isinstance(ranges, Ranges) else tuple(ranges)
        if isinstance(ranges, Ranges):
            return many.iovas(self.ioas, ranges)
        return tuple(joined(each for start, end in ranges for each in self.ioas.iovas(start, end)))

    def owner(self, iova: int, conversion: Conversion | None) -> int | None:
        """Who owns the page behind an IOVA, now or after a conversion; None: there is no memory."""
        page = self.planner.assembler.fmt.leaf_lg2s[0]
        run = next(runs_of(self.guest, self.ioas, align_down(iova, page), align_down(iova, page) + 1, conversion), None)
        return None if run is None else run.owner

    @property
    def reaches_private(self) -> bool:
        """Whether its devices use guest-owned pages: they are trusted, and the policy maps them."""
        return self.settings.trusted and self.policy.maps_private

    def gpas(self, start: int, end: int) -> list[tuple[int, int]]:
        """The guest physical ranges that an IOVA range of this domain leads to."""
        return [(start, end)] if self.ioas is None else list(self.ioas.gpas(start, end))

    @property
    def root(self) -> Root:
        """The root table as it is now."""
        return Root(self.vendor.page_format, self.planner.root_pa)

    @property
    def view(self) -> Ioas | None:
        """The address space that its devices see: a guest's own, or the domain's; None: IOVAs are GPAs."""
        return self.ioas if self.stage1 is None else self.stage1.view

    # -- the layout that the policy asks for

    def layout(self, start: int, end: int, conversion: Conversion | None) -> Iterator[Segment]:
        """What ``[start, end)`` shall map, now or after a conversion; the edges are where leaves have to end."""
        runs = runs_of(self.guest, self.ioas, start, end, conversion)
        return segments(runs, self.policy, self.default_attrs, start, end)

    def segments(self, start: int, end: int, conversion: Conversion | None) -> Segments:
        """What :meth:`layout` gives, as columns."""
        runs = many.runs_of(self.guest, self.ioas, start, end, conversion)
        return many.segments(runs, self.policy, self.default_attrs, start, end)

    @property
    def default_attrs(self) -> int:
        """The attributes of every leaf that the domain lays out."""
        return self.vendor.page_format.default_attrs(READ | WRITE)

    # -- the notifier protocol

    def prepare(self, conversion: Conversion) -> Prepared:
        """Plan, and allocate every table that the plan needs.

        Raises:
            OutOfTableMemory, Refused, Pinned: nothing is allocated then.
        """
        if self.stage1 is not None:
            self.stage1.pages.hold(conversion.ranges, self.vendor.name)
        with self._lock:
            self._check_pins(conversion)
            prepared = self._plan(self._request(conversion, conversion))
            if self.ioas is not None:
                prepared.span = (0, SPACE)  # entries of one table may lead anywhere in guest memory
            self._pending[conversion.number] = prepared
            self.executor.run(prepared.plan.prepare)
            return prepared

    def isolate(self, conversion: Conversion) -> None:
        prepared = self._pending[conversion.number]
        refused = self.performer.run(prepared.plan.isolate, prepared, conversion)
        self._adopt(prepared)
        if refused:
            conversion.refused.append(refused)

    def own(self, conversion: Conversion) -> None:
        """Change the owner table for what guest_memfd has changed."""
        prepared = self._pending[conversion.number]
        steps: Sequence[PlanStep] = prepared.plan.own
        if not conversion.complete:
            owners = DomainOwners(self, conversion, _clipped(conversion.runs, conversion.done))
            steps = owners.choreography(self.owners, prepared.changes).own
        self.performer.run(steps, prepared, conversion)

    def refresh(self, conversion: Conversion) -> None:
        prepared = self._pending.pop(conversion.number)
        if conversion.complete:
            self.performer.run(prepared.plan.refresh, prepared, conversion)
            self._count(prepared)
        else:
            self._realign(conversion, prepared)

    def cancel(self, conversion: Conversion) -> None:
        with self._lock:
            prepared = self._pending.pop(conversion.number)
            give_back(self.tables, prepared.allocated)

    def revoke(self, start: int, end: int) -> None:
        """Unmap everything in the range; tables that map nothing any more are freed."""
        gone = self.iovas([(start, end)])
        if not gone:
            return

        def layout(a: int, b: int) -> Iterator[Segment]:
            at = a
            for first, last in gone:
                low, high = max(first, a), min(last, b)
                if low < high:
                    if at < low:
                        yield from self.layout(at, low, None)
                    yield Segment(low, high, None, 0)
                    at = high
            if at < b:
                yield from self.layout(at, b, None)

        with self._lock:
            request = PlanRequest(gone, layout, merge=True, owners=DomainOwners(self))
            prepared = self.planner.plan(self.name, request)
        self._execute(prepared)
        self._count(prepared)

    def merge(self, start: int, end: int) -> None:
        """Join what can be joined in a range: the policy ``on_request``."""
        self._lay_out_again(start, end, merge=True)

    def cut(self, start: int, end: int) -> None:
        """Cut leaves of a range that are larger than the split rules let them be by now."""
        self._lay_out_again(start, end, merge=False)

    def _lay_out_again(self, start: int, end: int, *, merge: bool) -> None:
        with self.guest.quiet(start, end), self._lock:
            ranges = self.iovas([(start, end)])
            layout = partial(self.layout, conversion=None)
            prepared = self._plan(PlanRequest(ranges, layout, merge=merge, owners=DomainOwners(self)))
            self._execute(prepared)
        self._count(prepared)

    def pending(self, conversion: Conversion) -> Prepared:
        """What the domain has prepared for a conversion under way."""
        return self._pending[conversion.number]

    # -- inside

    def _check_pins(self, conversion: Conversion) -> None:
        """Raise Pinned with the first offset that is held."""
        held = [
            offset
            for low, high in self.pinned
            for start, end in near(conversion.ranges, low, high)
            if low < end and start < high
            for _, _, offset in self.guest.slots.inside(max(low, start), min(high, end))
        ]
        if held:
            raise Pinned(min(held), self.name)

    def _plan(self, request: PlanRequest) -> Prepared:
        """The plan of a request; of one that leads to no IOVA of this domain, the owner changes alone."""
        if not request.ranges:
            before, own, after = request.owners.change(Changes(), [])
            return Prepared(Plan(self.name, [], [*before], [*own], [*after]), Changes())
        return self.planner.plan(self.name, request)

    def _request(self, conversion: Conversion, after: Conversion | None) -> PlanRequest:
        changed = conversion.done if after is None else conversion.ranges
        segments = partial(self.segments, conversion=after) if type(conversion.runs) is ChangeRuns else None
        wipes = self.policy.wipes
        return PlanRequest(
            self.iovas(conversion.ranges),
            lambda start, end: self.layout(start, end, after),
            wipe_first=wipes,
            owed=self.iovas(changed) if self.vendor.ownership.invalidate_after and not wipes else (),
            merge=self.settings.merge == "at_once",
            remap=self.settings.strategy == "unmap-remap",
            owned=after is None,
            owners=DomainOwners(self, after, () if after is None else conversion.runs),
            segments=segments,
        )

    def _realign(self, conversion: Conversion, prepared: Prepared) -> None:
        """The owner change did not do all: bring every mapping in line with what is owned now.

        Tables that isolate unlinked, and new ones that only refresh would have linked, are given
        back first: what has to be built again never needs more.
        """
        with self.guest.quiet(), self._lock:
            give_back(self.tables, list(prepared.changes.unlinked))
            give_back(self.tables, [*prepared.changes.unplaced, *self.performer.not_linked(prepared)])
            again = self._plan(self._request(conversion, None))
        self.performer.run(again.plan.all(), again, conversion)
        self._count(prepared)

    def _execute(self, prepared: Prepared) -> None:
        """All of a plan that no conversion stands behind."""
        self.performer.run(prepared.plan.all(), prepared)
        self._adopt(prepared)

    def _adopt(self, prepared: Prepared) -> None:
        """The root has grown, if the plan said so."""
        if prepared.grown is not None:
            adopt(self, prepared.grown)

    def _count(self, prepared: Prepared) -> None:
        changes = prepared.changes
        self.cuts += len(changes.cut) + len(changes.cut_together)
        self.merges += len(changes.merge) + len(changes.merge_together)

    def _decoder(self, unit: str) -> Callable[[Words], Sequence[Effect]]:
        """What tells what a unit does for a command."""
        for each in self.units:
            if each.name == unit:
                return each.decode
        return self.vendor.commands.decode

    def covers(self, unit: str, words: Words) -> int:
        """4K pages that an encoded command covers of the domain's own stage, as its unit decodes it."""
        pages, own = 0, self.vendor.page_format.stage
        for effect in self._decoder(unit)(words):
            if not isinstance(effect, Drops) or own not in effect.stages:
                continue
            if effect.device is not None and self.stage1 is not None:
                continue  # a nested device holds IOVAs of its guest's
            here = (effect.last >> PAGE_LG2) - (effect.first >> PAGE_LG2) + 1
            pages = max(pages, here)
        return pages


def _clipped(runs: Sequence[ChangeRun], ranges: Sequence[tuple[int, int]]) -> Sequence[ChangeRun]:
    """The parts of runs that lie in ranges."""
    if isinstance(runs, ChangeRuns):
        return many.clipped(runs, Ranges.each(ranges))
    found = []
    for run in runs:
        for start, end in ranges:
            a, b = max(start, run.start), min(end, run.end)
            if a < b:
                shift = a - run.start
                found.append(run._replace(start=a, end=b, old_pa=run.old_pa + shift, new_pa=run.new_pa + shift))
    return tuple(found)


__all__ = ["GUEST", "HOST", "Domain", "DomainSettings", "Plan"]
