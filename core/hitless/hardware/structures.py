"""What stands before the page tables: device table, context and PASID entries, stream table, as a vendor declares them.

A translation starts from (device, PASID or none, IOVA, access). The unit holds one base register; from there it
reads one structure after the other until it knows which tables to walk. A vendor gives two pure functions for that,
:meth:`Structures.start` and :meth:`Structures.step`, as a page format gives a walk step, and two that write
structures. Reading, caching and dropping are core's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from hitless.bits import Layout, U64Array
from hitless.pagetable import READ, WRITE, PageFormat
from hitless.refresh.commands import Words

Mode: TypeAlias = Literal["translate", "bypass", "abort"]


class StageRoot(NamedTuple):
    """One stage's tables.

    Args:
        root_pa: of the root table; a guest physical address where this is stage 1 over a stage 2.
        tag: what cached entries of this stage are filed under.
    """

    page_format: PageFormat
    root_pa: int
    tag: int


class Fetch(NamedTuple):
    """The next structure that the unit reads.

    Args:
        structure: its name in :attr:`Structures.layouts`.
        pa: of its first word.
        words: 64-bit words of it.
        context: what the vendor's own step has to remember until the words are there.
        stage2: ``pa`` is a guest physical address, and is translated by these tables first.
        pasid: what the structure is filed under, where that is not the request's own PASID.
    """

    structure: str
    pa: int
    words: int
    context: tuple[int, ...] = ()
    stage2: StageRoot | None = None
    pasid: int | None = None


class Found(NamedTuple):
    """What the structures say of a device's requests.

    Args:
        mode: ``translate``; ``bypass``: addresses are used as they are; ``abort``: every request is refused.
        stage1, stage2: tables; both in a nested translation.
        tag: what the whole translation is filed under: stage 1's tag, or stage 2's where there is no stage 1.
        rights: READ | WRITE that the structures grant.
        ats: the device may ask for translations and hold them.
        silent: stages whose faults are not recorded (Arm: STE.S2R, CD.R; VT-d: FPD); an empty text: what the
            structures themselves refuse.
    """

    mode: Mode
    stage1: StageRoot | None
    stage2: StageRoot | None
    tag: int
    rights: int = READ | WRITE
    ats: bool = False
    silent: frozenset[str] = frozenset()

    @property
    def stage(self) -> str:
        """Which kind of entry the whole translation is cached as: ``1``, ``2`` or ``12``; empty: none."""
        return ("1" if self.stage1 is not None else "") + ("2" if self.stage2 is not None else "")


class BadStructure(NamedTuple):
    """A structure that hardware refuses.

    Args:
        structure, pa, words: what was read where (``pa`` as it was fetched: guest physical if a guest owns it); no
            words: the unit never read it (a device beyond the table).
        kind: what the vendor's events encode: the event's name or reason code, as text.
        why: one sentence with the fact id.
        absent: nothing stands there: the entry is not valid, or lies beyond its table. Else it is malformed.
    """

    structure: str
    pa: int
    words: tuple[int, ...]
    kind: str
    why: str
    absent: bool = False


class StructureEntry(NamedTuple):
    """What the structures shall say of a device, or of one PASID of it.

    Neither stage: requests bypass translation. ``blocked``: they are aborted, whatever the stages.
    ``tag`` is the whole translation's, as in :class:`Found`.
    """

    device: int
    pasid: int | None
    stage1: StageRoot | None
    stage2: StageRoot | None
    tag: int
    ats: bool = False
    blocked: bool = False


class StructureImage(NamedTuple):
    """The structures of one unit, ready to be written: nothing reads them before the register holds ``base``.

    Args:
        base: the register as hardware holds it, mode and size bits included.
        writes: (pa, words) in any order.
        blocks: the memory that they lie in, (pa, size_lg2).
        guest_writes: (gpa, words) of structures that a guest owns, in its own memory.
    """

    base: int
    writes: tuple[tuple[int, tuple[int, ...]], ...]
    blocks: tuple[tuple[int, int], ...]
    guest_writes: tuple[tuple[int, tuple[int, ...]], ...] = ()


class StructureStore(NamedTuple):
    """One aligned compare-and-exchange of one word, or of two where the vendor's hardware reads them as one."""

    pa: int
    expected: tuple[int, ...]
    new: tuple[int, ...]


class StructureRound(NamedTuple):
    """Stores to live structures, in order; then commands; then one wait."""

    stores: tuple[StructureStore, ...]
    commands: tuple[Words, ...]


class TableSource(Protocol):
    """Where memory for structures comes from."""

    def allocate(self, size_lg2: int = 12) -> int:
        """Address of a zeroed, naturally aligned block; raises OutOfTableMemory."""


class GuestMemory(TableSource, Protocol):
    """Guest memory for structures that a guest owns, by guest physical address."""

    def store(self, gpa: int, word: int) -> None:
        """Write one word."""


class Structures(Protocol):
    """A vendor's structures; ``layouts`` holds each one's bits by name (``dte``, ``context``, ``ste``).

    A vendor may add ``not_modelled``, names of what has no layout or no effect here, for the documentation.
    """

    layouts: Mapping[str, Layout]

    def start(self, base: int, device: int, pasid: int | None) -> Fetch | Found | BadStructure:
        """The first structure to read for a request; ``base`` is the register, mode and size bits included."""

    def step(self, fetch: Fetch, words: tuple[int, ...]) -> Fetch | Found | BadStructure:
        """What the words that were read lead to: a pure function."""

    def stage1_tag(self, tag: int, space: int) -> int:
        """What stage 1 over a stage 2 files its entries under, and the combined results theirs.

        ``tag`` is stage 2's; ``space`` tells the address spaces of one guest apart (ASID, PASID, PSCID).
        """

    def setup(
        self, entries: Sequence[StructureEntry], tables: TableSource, guest: TableSource | None = None
    ) -> StructureImage:
        """Structures of a unit for all of its devices; what is not named is refused by hardware.

        ``guest`` gives memory for structures that a nested entry's guest owns, by guest physical address.

        Raises:
            OutOfTableMemory.  HitlessError: the vendor's structures cannot say this.
        """

    def change(self, base: int, entry: StructureEntry, load: Callable[[int], int]) -> Sequence[StructureRound]:
        """How one live entry comes to say something else, as an attach, a new root or a fence asks for.

        Args:
            base: the register.
            entry: what it shall say; with ``blocked``, how a device that must not reach memory is cut off.
            load: reads one word of memory.
        """


# -- images of real memory


def _alone(value: int, beside: Mapping[str, int]) -> int:
    """The base, where the register says all."""
    return value


class RootRegister(NamedTuple):
    """A register by which a reader of memory images finds a unit's structures.

    Args:
        title: the register's name in the specification.
        features: what reading takes for granted where nobody says otherwise: an image does not tell what the
            hardware has, so these are the values that refuse least.
        beside: further registers that it takes, by name, each with what it is; values come from people.
        base: from its value, and those of ``beside``, to the base that :meth:`Structures.start` takes.
        tells: registers that say what the hardware has, by name: from a value to features. People may give them.
    """

    title: str
    features: Mapping[str, Any] = {}
    beside: Mapping[str, str] = {}
    base: Callable[[int, Mapping[str, int]], int] = _alone
    tells: Mapping[str, Callable[[int], Mapping[str, Any]]] = {}


class OwnerRun(NamedTuple):
    """Memory ``[start, end)`` of one owner (0: the host)."""

    start: int
    end: int
    owner: int


class OwnerImage(NamedTuple):
    """How an owner table is read from an image (RMP, GPT).

    Args:
        title: the register that holds its address.
        read: the runs of owners, from the register's value, those of ``beside``, and ``view`` of the image's
            words; BusError where the table is not in the image.
        beside, features: as in :class:`RootRegister`.
    """

    title: str
    read: Callable[[int, Mapping[str, int], Callable[[int, int], U64Array]], Iterator[OwnerRun]]
    beside: Mapping[str, str] = {}
    features: Mapping[str, Any] = {}


class ImageStructures(Structures, Protocol):
    """Structures that can be read from an image, starting from a register: optional, beside the rest."""

    registers: Mapping[str, RootRegister]
    """By the name of what the register points to: ``device-table``; people write ``VENDOR/device-table``."""

    owner_tables: Mapping[str, OwnerImage]
    """By name: ``rmp``; people write ``VENDOR/rmp``. Empty: the vendor has none."""

    def devices(self, base: int, load: Callable[[int], int]) -> Iterator[range]:
        """The devices that the structures have room for, ascending; what holds nothing may be left out.

        ``load`` reads one word, and raises BusError where the image has no memory.
        """
