"""One base error, for a person at two in the morning: which vendor, what, where, which rule, what to do."""

from collections.abc import Callable, Sequence


class HitlessError(Exception):
    """Base of all errors that hitless raises on purpose.

    Args:
        what: one sentence, without the vendor's name.
        who: vendor, format or room that it happened in.
        where: address, level, entry in hex, file and line.
        rule: the rule's id and sentence, or a fact id.
        why: what made it so.
        do: what the reader can do about it.
        again: the one command that repeats it.
    """

    exit_status = 2

    def __init__(
        self,
        what: str,
        *,
        who: str = "",
        where: str = "",
        rule: str = "",
        why: str = "",
        do: str = "",
        again: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.who = who
        self.where = where
        self.rule = rule
        self.why = why
        self.do = do
        self.again = again

    def __reduce__(self) -> tuple[Callable[..., "HitlessError"], tuple[object, ...]]:
        """Errors cross processes whole, whatever their constructors take."""
        return _restored, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        lines = [f"{self.who}: {self.what}" if self.who else self.what]
        named = (
            ("  at   ", self.where),
            ("  rule ", self.rule),
            ("  why  ", self.why),
            ("  do   ", self.do),
            ("  again: ", self.again),
        )
        lines += [label + text for label, text in named if text]
        return "\n".join(lines)


def _restored(cls: type[HitlessError], args: tuple[object, ...], fields: dict[str, object]) -> HitlessError:
    """The error that was pickled."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class BadInput(HitlessError):
    """A log, word, range, file or option cannot be used."""


class ConfigurationError(HitlessError):
    """A configuration has faults; all of them are listed, each as ``problem @ path``."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(
            f"{source}: {count} fault{'s' if count != 1 else ''} in the configuration",
            do="mend every line above; `hitless vendors` lists vendors, formats and features",
        )

    def __str__(self) -> str:
        return "\n".join([self.what + ":", *(f"  {fault}" for fault in self.faults), f"  do   {self.do}"])


class PluginError(HitlessError):
    """A vendor plugin could not be loaded or broke its contract."""


class BusError(HitlessError):
    """An access outside physical memory."""

    def __init__(self, pa: int, why: str) -> None:
        super().__init__(f"bus error at {pa:#x}", where=f"physical address {pa:#x}", why=why)
        self.pa = pa


class OutOfTableMemory(HitlessError):
    """No memory for a page table; the conversion that asked is cancelled."""


class Pinned(HitlessError):
    """A page is held (by the host or by the guest); carries the first failing offset."""

    def __init__(self, offset: int, who: str = "") -> None:
        super().__init__(f"page at offset {offset:#x} is pinned", who=who, do="drop the reference and convert again")
        self.offset = offset


class Refused(HitlessError):
    """A conversion that this hardware cannot do hitlessly; names the reason and the ways out.

    ``reason`` is a short stable word for counting, such as ``arm_smmu.bbml0-cut``.
    """

    def __init__(
        self,
        reason: str,
        what: str,
        *,
        who: str = "",
        where: str = "",
        rule: str = "",
        why: str = "",
        do: str = "",
    ) -> None:
        super().__init__(what, who=who, where=where, rule=rule, why=why, do=do)
        self.reason = reason


class OwnerChangeRefused(HitlessError):
    """The owner change refused, or stopped half way; ``done`` holds the ranges (GPA) that did change."""

    def __init__(self, what: str, done: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(what, do="refresh was called all the same; every mapping follows the present owners")
        self.done = tuple(done)


class Raced(HitlessError):
    """Memory held something that neither the plan nor hardware could have put there."""

    exit_status = 3


class UnitTimeout(HitlessError):
    """A unit did not complete a wait within its bound."""

    def __init__(self, unit: str, polls: int) -> None:
        super().__init__(
            f"no completion after {polls} polls",
            who=unit,
            rule="H1: what does not answer is fenced",
            do="its devices are blocked; the old memory is not freed",
        )
        self.unit = unit


class CallFailed(HitlessError):
    """Firmware, a TDX module or an RMM did not do all of a request.

    Args:
        op: the request.
        done: how many of its effects it did, in order.
        refused: what it said; empty: it was busy, or did not answer, within the bound.
    """

    def __init__(self, op: str, done: int, refused: str, *, where: str = "") -> None:
        gone = "its devices are blocked; the old memory is not freed"
        super().__init__(
            f"{op} was refused: {refused}" if refused else f"{op} was not done within its bound",
            where=where,
            rule="H1: what does not answer is fenced",
            do="nothing has changed" if refused and not done else gone,
        )
        self.op = op
        self.done = done
        self.refused = refused

    @property
    def harmless(self) -> bool:
        """Whether it is certain that nothing has changed."""
        return bool(self.refused) and not self.done
