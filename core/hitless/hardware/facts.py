"""What a vendor declares about its hardware: what commands drop, what a wait drains, what caches hold.

The running model and the checker read these declarations; walker, caches and queues are core's. So
a vendor's claims can be tested, and a reader can look each of them up: every declaration carries
the id of the fact that it rests on.

What a command does is made once per command, so it is slotted and unfrozen (a frozen attrs class costs twice as much to
make); nobody changes it.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from attrs import define, frozen

from hitless.bits import Layout
from hitless.refresh.commands import Encoder, Words
from hitless.units import WORD_MAX

STAGES = frozenset({"1", "2", "12"})
"""Which kinds of cached entries there are: of stage 1, of stage 2, and results of both."""


class Match(Enum):
    """Which cached entries a ranged command targets."""

    PIECE_OVERLAPS = "every cached piece that overlaps the range"
    PIECE_INSIDE = "only cached pieces that lie inside the range: a larger one survives"
    LEAF_OVERLAPS = "every cached piece of a leaf that overlaps the range"


@define(unsafe_hash=True)
class Drops:
    """What a command targets, once the wait behind it completes.

    Args:
        source: fact ids.
        leaves: whether cached leaf translations (with their verdicts) are targeted.
        tables: whether cached table pointers are.
        tag: only entries filed under it; None: every tag.
        first, last: address range, inclusive: guest physical where ``stages`` has stage 2 and not stage 1,
            else IOVAs.
        leaf_match, table_match: how entries and range are compared.
        leaf_levels: only leaves that stood at one of these levels; None: all.
        whole_lg2s: leaves of these sizes (log2) are targeted only where the range covers all of one: runs that
            hardware may have merged.
        device: the ATC of this device is targeted, not the unit's own caches.
        drains_reads, drains_writes: whether the next wait ends requests in flight that used a
            targeted translation; None: as the wait itself declares.
        tag_mask: the bits of a tag that have to be the same (a whole domain: not its PASID's).
        stages: which kinds of entries are targeted, some of :data:`STAGES`.
        pasid: with ``device``: the translations of this PASID; None: those without a PASID.
        every_pasid: with ``device``: those with and without any PASID.
    """

    source: str
    leaves: bool = True
    tables: bool = False
    tag: int | None = None
    first: int = 0
    last: int = WORD_MAX
    leaf_match: Match = Match.PIECE_OVERLAPS
    table_match: Match = Match.PIECE_OVERLAPS
    leaf_levels: frozenset[int] | None = None
    whole_lg2s: frozenset[int] = frozenset()
    device: int | None = None
    drains_reads: bool | None = None
    drains_writes: bool | None = None
    tag_mask: int = -1
    stages: frozenset[str] = STAGES
    pasid: int | None = None
    every_pasid: bool = False

    def of_tag(self, tag: int) -> bool:
        """Whether entries that are filed under a tag are targeted."""
        return self.tag is None or (self.tag ^ tag) & self.tag_mask == 0


@define(unsafe_hash=True)
class DropsStructure:
    """Cached structures that a command targets, once the wait behind it completes.

    Args:
        source: fact ids.
        structures: names of the vendor's structures; None: all.
        device: only those read for this device, in the bits of ``device_mask``; None: every device.
        pasid: only those read for this PASID; None: for any, or for none. Requests without a PASID read the
            structures of PASID 0.
        tag: only those that ended a request's structures with this tag, in the bits of ``tag_mask``; None: all.
    """

    source: str
    structures: frozenset[str] | None = None
    device: int | None = None
    device_mask: int = -1
    pasid: int | None = None
    tag: int | None = None
    tag_mask: int = -1


@define(unsafe_hash=True)
class Completes:
    """A wait: what it writes, and what it drains before.

    Args:
        store_pa, value, bits: the completion word.
        drains_reads, drains_writes: whether requests in flight that used dropped translations have ended.
    """

    source: str
    store_pa: int
    value: int
    bits: int
    drains_reads: bool = True
    drains_writes: bool = True


@define(unsafe_hash=True)
class Illegal:
    """A command that hardware refuses; the queue stops and the unit reports it."""

    source: str
    why: str


@define(unsafe_hash=True)
class NoEffect:
    """A legal command that concerns nothing that is modelled."""

    source: str


Effect: TypeAlias = Drops | DropsStructure | Completes | Illegal | NoEffect


class FaultRecord(NamedTuple):
    """What a unit reports of a request that it refused.

    Args:
        kind: one of the walk's (``not-present``, ``reserved``, ``range``, ``permission``, ``access``), or ``owner``
            (the owner check refused), ``conflict`` (overlapping cached entries), ``blocked``, ``fetch`` (table or
            structure could not be read), or the ``kind`` of a BadStructure.
        level: of the entry that refused; 0 where it was none.
        tag: what the translation is filed under; 0 where the structures did not get so far.
        pasid: the request's.
        stage: ``1`` or ``2``: the stage that refused; empty: a structure did, or no stage.
        target: what was being translated: the request's ``input``, or the guest physical address of a stage-1
            ``table`` entry or of a ``structure``, refused by stage 2.
        gpa: the address that stage 2 refused.
        structure, pa: the structure that is bad or could not be read, or (``pa`` alone) the entry that could not.
    """

    device: int
    iova: int
    write: bool
    kind: str
    level: int
    tag: int
    pasid: int | None = None
    stage: str = ""
    target: str = "input"
    gpa: int | None = None
    structure: str = ""
    pa: int = 0


class Commands(Encoder, Protocol):
    """A vendor's commands: encoding for the planner, decoding for the model."""

    words: int
    """64-bit words of one queue entry."""

    def decode(self, words: Words) -> Sequence[Effect]:
        """What the hardware does for a command; Illegal for one that it refuses."""

    def layout(self, words: Words) -> Layout | None:
        """The bits of a command; None: there is no such opcode.

        A vendor may leave it out, and with it what explanations and documentation read: ``layouts`` (all of them by
        name) and ``not_modelled`` (names of what has no layout or no effect here).
        """


class Events(Protocol):
    """A vendor's fault records."""

    words: int
    """64-bit words of one record."""

    def encode(self, fault: FaultRecord) -> Words | None:
        """The record that hardware writes; None where the architecture reports none."""

    def decode(self, words: Words) -> dict[str, int | str]:
        """A record by field, with ``event`` its name."""

    def layout(self, words: Words) -> Layout | None:
        """The bits of a record; None: there is no such code. May be left out, as :meth:`Commands.layout`."""

    def illegal_command(self, words: Words, pa: int) -> Words | None:
        """The record of a command at ``pa`` that the unit refuses; None where the architecture writes none.

        A vendor may leave it out: then its unit writes none.
        """


@frozen
class HardwareFacts:
    """What a vendor's units do, apart from commands.

    Args:
        source: fact ids.
        size_conflict: two cached leaves of different size for one address may end in a fault (rule K1).
        run_conflict: with ``size_conflict``: so may a run and a smaller leaf of the same level.
        address_conflict: the same for two that lead to different addresses: a new output address
            needs break-before-make.
        size_address_conflict: two cached leaves for one address that differ in size and in address are
            undefined: size and address never change together.
        atc_in_order: a device's invalidation takes effect after the commands that stand before it in
            the queue; if not, a wait has to stand between.
        caches_not_present: not-present results may be cached (Intel CM, AMD NpCache).
        pieces_lg2: sizes (log2) that a larger leaf may be cached as, besides the whole leaf.
        coherent: table walks snoop the CPU's caches.
        queue_entries: entries of the command queue.
        event_entries: entries of the event queue.
        caches_bad_structures: a structure that is refused, or not valid, may be cached too.
        spaces_share_tag: a host's own stage-1 tables behind one device are filed under one number of the device,
            with each address space's beside it (DomainID and PASID, VMID and ASID); if not, each under a number of
            its own alone (PSCID).
    """

    source: str
    size_conflict: bool = False
    run_conflict: bool = True
    address_conflict: bool = False
    size_address_conflict: bool = False
    atc_in_order: bool = False
    caches_not_present: bool = False
    pieces_lg2: tuple[int, ...] = ()
    coherent: bool = True
    queue_entries: int = 256
    event_entries: int = 128
    caches_bad_structures: bool = False
    spaces_share_tag: bool = True
