"""How an emulated unit is started and driven: what a vendor declares of QEMU's emulation of its units.

Registers and traces are told as data; whoever runs the emulator reads and writes them. So each declaration can be
looked at, and tested, where no emulator is installed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from attrs import frozen

from hitless.pagetable import Leaf
from hitless.refresh.commands import Words

Version: TypeAlias = tuple[int, int]
"""Major and minor version of the emulator."""


class Write(NamedTuple):
    """One write to a unit's register of 32 or 64 bits."""

    offset: int
    value: int
    bits: int = 64


class Until(NamedTuple):
    """Read a register until the bits of ``mask`` are ``value``; within a bound."""

    offset: int
    mask: int
    value: int
    bits: int = 32


Access: TypeAlias = Write | Until


class Queues(NamedTuple):
    """Where a unit's queues lie: address and number of entries of each."""

    command_pa: int
    command_entries: int
    event_pa: int
    event_entries: int


@frozen
class Ring:
    """The registers of a queue in memory.

    Args:
        head, tail: offsets of the registers, 32 bits each.
        step: what one entry adds to them: its bytes, or 1.
        wraps: the bit above the index tells odd turns from even ones.
    """

    head: int
    tail: int
    step: int = 1
    wraps: bool = False

    def pointer(self, count: int, entries: int) -> int:
        """The register's value after so many entries since the start."""
        return count % (2 * entries if self.wraps else entries) * self.step

    def advanced(self, before: int, raw: int, entries: int) -> int:
        """The entries since the start, from a register and what they were when it was read last."""
        turn = 2 * entries if self.wraps else entries
        return before + (raw % (turn * self.step) // self.step - before) % turn


@frozen
class Records:
    """Fault records in registers of 128 bits each.

    Args:
        offset, count: of the registers.
        valid: the bit of a record that tells that it holds one.
        clear: offset in a record, and the 32 bits to write there, to free it.
        also: writes that follow, such as of an overflow bit.
    """

    offset: int
    count: int
    valid: int
    clear: tuple[int, int]
    also: tuple[Write, ...] = ()


@frozen
class Alarm:
    """Bits of a register of 32 bits that tell that the unit has stopped its command queue.

    Args:
        acknowledged: offset of the register that holds what software has seen of them; None: there is none.
    """

    offset: int
    mask: int
    meaning: str
    acknowledged: int | None = None


class Traced(NamedTuple):
    """What a trace line tells of a request.

    Args:
        iova: as the line names it, which may be the start of the leaf; None: it names none.
        pa: what it leads to, the same distance from the request's; None: a fault.
        size_lg2: of the leaf; None: the line does not tell.
        at_start: ``pa`` is where the whole leaf leads to, whatever ``iova`` is.
    """

    iova: int | None
    pa: int | None
    size_lg2: int | None = None
    at_start: bool = False


class Asked(NamedTuple):
    """A request of a comparison, and what our walker found for it: ``leaf`` None is a fault."""

    iova: int
    write: bool
    leaf: Leaf | None


@frozen
class Deviation:
    """What the emulation is known to do otherwise.

    Args:
        id: stable, beginning with the vendor's name.
        seen: one sentence: what was seen, and where it comes from.
        applies: whether it may explain a difference, by what was asked.
        since, before: versions that have it: from the first on, and below the second; None: no bound.
    """

    id: str
    seen: str
    applies: Callable[[Asked], bool]
    since: Version | None = None
    before: Version | None = None

    def explains(self, version: Version, asked: Asked) -> bool:
        """Whether it may explain a difference in a version."""
        early = self.since is not None and version < self.since
        late = self.before is not None and version >= self.before
        return not early and not late and self.applies(asked)


class Emulator(Protocol):
    """A vendor's declaration for one page format.

    Attributes:
        board: the machine that the unit is on, one of :data:`hitless.machine.qemu.boards.BOARDS`.
        arguments: QEMU's own, that put a unit on it, and devices that stand before those that do DMA.
        machine: what is added to the board's ``-machine`` option.
        registers: physical address of the unit's registers, or the PCI device and function whose BAR 0 they are.
        features: values of the vendor's features that the emulation has.
        commands, events: its queues; events None: it writes none.
        alarms: what tells that it has stopped.
        waits_by_head: a wait writes no completion word: it is complete when the queue's head has passed it.
        traces: events to be switched on for :meth:`read_trace`.
        traces_rights: a request whose right is missing is traced as refused, at least where nothing is cached.
        oa_bits: width of the output addresses that it lets through.
        key_bits: so many bits of an IOVA tell its cached translation from others: of two that differ above, one may
            answer for the other.
        runs: leaves of several entries are translated.
        untranslated: addresses that the board keeps for itself, as (start, end), in order: neither translated nor
            mapped to.
        deviations: what it is known to do otherwise.
        blind: what nothing that is done with it can show, in a few words each.
    """

    board: str
    arguments: tuple[str, ...]
    machine: str
    registers: int | str
    features: Mapping[str, bool | int | str]
    commands: Ring
    events: Ring | Records | None
    alarms: tuple[Alarm, ...]
    waits_by_head: bool
    traces: tuple[str, ...]
    traces_rights: bool
    oa_bits: int
    key_bits: int
    runs: bool
    untranslated: tuple[tuple[int, int], ...]
    deviations: tuple[Deviation, ...]
    blind: tuple[str, ...]

    def unable(self, version: Version) -> str | None:
        """Why the emulation of this version cannot show this format with these features, in a sentence."""

    def start(self, queues: Queues) -> Sequence[Access]:
        """How the queues are set up and switched on; translation stays off."""

    def point(self, base: int, *, enabled: bool) -> Sequence[Access]:
        """How the register that leads to the structures is set, and translation switched on unless it is."""

    def forget(self) -> Sequence[Words]:
        """Commands that drop everything that the unit has cached."""

    def read_trace(self, line: str) -> Traced | None:
        """What one line of the trace tells of a translation; None: nothing."""
