"""The machine in memory: an arena for tables and queues, and units that run on declared facts."""

import random
from collections.abc import Sequence
from typing import Any, TypeAlias

from attrs import define, field

from hitless.errors import HitlessError
from hitless.hardware.unit import Unit
from hitless.hardware.vendor import Vendor
from hitless.memory import Arena, JoinedMemory, PageAllocator, PhysicalMemory
from hitless.units import align_up

TableMemory: TypeAlias = PageAllocator

QUEUE_BYTES = 1 << 20
STRUCTURE_BYTES = 1 << 26


@define(eq=False)
class Machine:
    """Physical memory for queues, tables and structures (in this order), with units.

    Guest memory has addresses but no bytes here: what counts is where a request arrives. Where a guest owns tables
    or structures that a unit reads, :meth:`add_memory` gives it bytes.

    Args:
        seed: decides when everything happens.
        base_pa: of the arena; guest memory lies elsewhere.
        table_bytes: how much memory there is for tables; structures have memory of their own.
    """

    seed: int = 0
    base_pa: int = 1 << 40
    table_bytes: int = 1 << 34
    name: str = "memory"
    arena: Arena = field(init=False)
    memory: PhysicalMemory = field(init=False)
    tables: PageAllocator = field(init=False)
    structures: PageAllocator = field(init=False)
    units: dict[str, Unit] = field(factory=dict)
    rng: random.Random = field(init=False)
    _next_queue: int = field(init=False)
    _more: list[Arena] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.arena = self._open(QUEUE_BYTES + self.table_bytes + STRUCTURE_BYTES)
        self.memory = self.arena
        self.tables = PageAllocator(self.arena, self.base_pa + QUEUE_BYTES, self.table_bytes)
        self.structures = PageAllocator(self.arena, self.base_pa + QUEUE_BYTES + self.table_bytes, STRUCTURE_BYTES)
        self.rng = random.Random(self.seed)
        self._next_queue = self.base_pa

    def _open(self, size: int) -> Arena:
        return Arena(self.base_pa, size)

    @property
    def tally(self) -> dict[str, int] | None:
        """How translations were seen, by kind of witness; None: the units are the model's own."""
        return None

    def add_memory(self, start_pa: int, end_pa: int) -> None:
        """Give a physical range bytes that units can read; before the units are added.

        Raises:
            HitlessError: there are units already.
        """
        if self.units:
            raise HitlessError("memory is added before units are", who=self.name, do="call add_memory first")
        self._more.append(Arena(start_pa, end_pa - start_pa))
        self.memory = JoinedMemory([self.arena, *self._more])

    def split_tables(self, sizes: Sequence[int]) -> list[PageAllocator]:
        """The memory for tables in parts, one for each of several users; together no more than there is.

        Raises:
            HitlessError: they are more.
        """
        if sum(sizes) > self.table_bytes:
            raise HitlessError("there is less memory for tables", who=self.name, do="ask for less, or make it larger")
        if len(sizes) == 1:
            return [self.tables]
        start = self.base_pa + QUEUE_BYTES
        return [PageAllocator(self.arena, start + sum(sizes[:i]), size) for i, size in enumerate(sizes)]

    def add_unit(self, name: str, vendor: Vendor, devices: Sequence[int] = ()) -> Unit:
        """A unit of a vendor, with its queues and completion word in the arena; ``devices``: what will be behind it.

        Raises:
            HitlessError: the name is taken.
        """
        if name in self.units:
            raise HitlessError(f"two units are named {name!r}", do="give every unit a name of its own")
        facts = vendor.hardware
        unit = self._make_unit(
            vendor,
            devices,
            name=name,
            facts=facts,
            commands=vendor.commands,
            events=vendor.events,
            memory=self.memory,
            queue_pa=self._reserve(facts.queue_entries * vendor.commands.words * 8),
            event_pa=self._reserve(facts.event_entries * vendor.events.words * 8),
            wait_pa=self._reserve(4096),
            rng=random.Random(self.rng.random()),
            structures=vendor.structures,
            structure_memory=self.structures,
        )
        self.units[name] = unit
        return unit

    def place(self, devices: Sequence[int]) -> list[int]:
        """The ids that devices behind a unit have on this machine: here any."""
        return list(devices)

    def _make_unit(self, vendor: Vendor, devices: Sequence[int], **parts: Any) -> Unit:
        return Unit(**parts)

    def _reserve(self, size: int) -> int:
        at = self._next_queue
        self._next_queue += align_up(size, 12)
        if self._next_queue > self.base_pa + QUEUE_BYTES:
            raise HitlessError("too many units for the memory set aside for queues", do="use fewer units")
        return at

    def close(self) -> None:
        """Give all memory back."""
        for each in (self.arena, *self._more):
            each.close()
