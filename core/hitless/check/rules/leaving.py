"""F1 for devices that leave: once the plan is done, nothing of the address space is theirs any more."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import define, field

from hitless.check.engine import Engine
from hitless.check.roots import Requester
from hitless.check.rules.base import Rule
from hitless.check.rules.outcomes import NothingStale
from hitless.hardware.facts import Drops, DropsStructure, Effect
from hitless.plan import Invalidate, Wait
from hitless.units import SPACE, WORD_MAX


@define(eq=False)
class DevicesLeave(Rule):
    """F1: of a device that leaves, structures, ATC and requests in flight are looked at with each wait.

    Args:
        _gone: who finds no way into the address space any more.
        _forgotten, _drained: whose ATC is empty, and who has no request in flight.
    """

    id: ClassVar[str] = "F1"
    sentence: ClassVar[str] = NothingStale.sentence
    do: ClassVar[str] = "invalidate its structures, then all that it holds itself, and wait"
    _pending: dict[str, list[Effect]] = field(factory=dict)
    _gone: set[Requester] = field(factory=set)
    _forgotten: set[Requester] = field(factory=set)
    _drained: set[Requester] = field(factory=set)

    def submitted(self, engine: Engine, step: Invalidate, effects: Sequence[Effect]) -> None:
        self._pending.setdefault(step.unit, []).extend(effects)

    def waited(self, engine: Engine, step: Wait) -> None:
        commands = self._pending.pop(step.unit, [])
        for each in engine.rooting.leaving:
            unit = engine.places.units[each.unit]
            if unit.name != step.unit:
                continue
            if engine.rooting.leads_here(each):
                for known in (self._gone, self._forgotten, self._drained):
                    known.discard(each)
                continue
            if each.device not in unit.devices or self._forgets(engine, each, commands):
                self._forgotten.add(each)
            if each in self._forgotten and _drains(engine, each, commands):
                self._drained.add(each)
            self._gone.add(each)

    def _forgets(self, engine: Engine, requester: Requester, commands: Sequence[Effect]) -> bool:
        """Whether a command takes all of a device's ATC, after it could get nothing from its unit any more."""
        behind = requester in self._gone
        for effect in commands:
            if isinstance(effect, DropsStructure) and engine.subject.vendor.hardware.atc_in_order:
                behind = behind or effect.device is None or not (effect.device ^ requester.device) & effect.device_mask
            elif isinstance(effect, Drops) and effect.device == requester.device and behind:
                whole = (effect.first, effect.last) == (0, WORD_MAX) and effect.leaves
                if whole and (effect.every_pasid or effect.pasid == requester.pasid):
                    return True
        return False

    def ended(self, engine: Engine) -> None:
        for each in engine.rooting.leaving:
            if engine.rooting.leads_here(each):
                what = "its structures may still lead to it"
            elif each not in self._forgotten:
                what = "its ATC may still hold translations of it"
            elif each not in self._drained:
                what = "requests that have used its translations may be in flight"
            else:
                continue
            who = f"device {each.device:#x}" + ("" if each.pasid is None else f", PASID {each.pasid:#x},")
            self.broken(engine, 0, SPACE, f"{who} has left this address space, and {what}", where="cache")


def _drains(engine: Engine, requester: Requester, commands: Sequence[Effect]) -> bool:
    """Whether a wait behind commands ends requests that used what the device could reach."""
    completes = engine.completes(engine.places.units[requester.unit].name)
    if completes is not None and completes.drains_reads and completes.drains_writes:
        return True
    tag = engine.places.units[requester.unit].tag
    return any(
        isinstance(each, Drops)
        and each.device is None
        and each.of_tag(tag)
        and each.drains_reads
        and each.drains_writes
        for each in commands
    )
