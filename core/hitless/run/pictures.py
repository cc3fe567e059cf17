"""What a report shows of a run: figures at some moments, and the address space at the end."""

from bisect import bisect_right

from attrs import define, field

from hitless.guest_memfd.guest import HOST, GuestRun
from hitless.inspect.ranges import ranges
from hitless.inspect.space import AddressSpace
from hitless.pagetable import count_leaves
from hitless.report.addresses import Area
from hitless.report.build import RunPicture, Sample
from hitless.run.world import Station, World

_MOMENTS = 64
_AREAS = 100_000


@define
class Sampler:
    """Takes samples of every domain of a world: at most 64 to 128, ever further apart."""

    world: World
    samples: list[list[Sample]] = field(init=False)
    _every: int = 1

    def __attrs_post_init__(self) -> None:
        self.samples = [[] for _ in self.world.stations]
        self.take(0)

    def after(self, number: int) -> None:
        """A conversion is done, the ``number``-th."""
        if number % self._every:
            return
        self.take(number)
        if len(self.samples[0]) > 2 * _MOMENTS:
            self.samples = [each[::2] for each in self.samples]
            self._every *= 2

    def take(self, number: int) -> None:
        """One sample of each domain."""
        for station, samples in zip(self.world.stations, self.samples, strict=True):
            domain, done = station.domain, station.domain.executor.counters
            fmt, root = domain.vendor.page_format, domain.planner.root_pa
            leaves = sum(count_leaves(station.machine.arena, fmt, root).values())
            used = station.machine.tables.used_pages
            samples.append(Sample(number, used, leaves, done.invalidations, done.waits))

    def pictures(self, number: int) -> list[RunPicture]:
        """What there is to show of each domain, after the last conversion."""
        if self.samples[0][-1].conversions != number:
            self.take(number)
        return [
            RunPicture(samples, _areas(station))
            for station, samples in zip(self.world.stations, self.samples, strict=True)
        ]


def _areas(station: Station) -> list[Area]:
    """Leaves of one size and owner, side by side."""
    domain = station.domain
    space = AddressSpace(station.machine.arena, domain.vendor.page_format, domain.planner.root_pa)
    owned = [(run.start, run.end, "S" if run.owner == HOST else "P") for run in _runs(station)]
    starts = [start for start, _, _ in owned]
    found: list[Area] = []
    for each in ranges(space.chunks()):
        lg2, at, end = space.entries.kinds[each.kind].leaf_lg2, each.iova, each.iova + each.size
        while at < end and len(found) < _AREAS:
            index = bisect_right(starts, at) - 1
            inside = index >= 0 and at < owned[index][1]
            edge = min(owned[index][1], end) if inside else end
            found.append(Area(at, edge - at, lg2, owned[index][2] if inside else ""))
            at = edge
    return found


def _runs(station: Station) -> list[GuestRun]:
    guest = station.domain.guest
    return [run for slot in guest.slots.slots for run in guest.runs(slot.gpa, slot.end)]
