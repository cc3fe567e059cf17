"""Domains under live devices: a root table that grows, devices that are cut off, taken back and moved, as plans.

What these plans store to are the structures that a unit reads before it walks. While one is under way nothing
converts.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs

from hitless.errors import HitlessError
from hitless.hardware.live import Later, Round, joined_rounds
from hitless.hardware.structures import Found, StageRoot, StructureEntry
from hitless.hardware.translator import Attachment
from hitless.hardware.unit import Unit, entry_of
from hitless.iommufd.attach import found_for
from hitless.pagetable import PageFormat
from hitless.plan import Plan, Step, StoreStructure
from hitless.refresh.grow import Root
from hitless.units import SPACE

if TYPE_CHECKING:
    from hitless.iommufd.domain import Domain

R = TypeVar("R", Found, StructureEntry)


def lead_to(domain: "Domain", page_format: PageFormat, root_pa: int, load: Callable[[int], int]) -> list[Step]:
    """The steps by which all devices of a domain come to walk from a larger root."""
    changes: list[list[Round]] = []
    later = Later(load)
    for unit, attachment in attached(domain):
        entry = with_root(entry_of(attachment), Root(page_format, root_pa))
        changes.append(unit.plan_change(entry, "grow", later.load))
        later.after(step for each in changes[-1] for step in each.stores)
    return joined_rounds(changes)


def adopt(domain: "Domain", grown: Root) -> None:
    """The units walk from a larger root now: later plans begin there."""
    planner = domain.planner
    planner.root_pa = grown.root_pa
    planner.assembler = planner.under(grown.page_format)
    domain.vendor = attrs.evolve(domain.vendor, page_format=grown.page_format)
    for _, attachment in attached(domain):
        attachment.found = with_root(attachment.found, grown)


def with_root(said: R, root: Root) -> R:
    """What structures say, with another root of the format's own stage."""
    if root.page_format.stage == "1":
        return said._replace(stage1=_moved(said.stage1, root))
    return said._replace(stage2=_moved(said.stage2, root))


def _moved(stage: StageRoot | None, root: Root) -> StageRoot | None:
    return stage and stage._replace(page_format=root.page_format, root_pa=root.root_pa)


def move(
    source: "Domain | None", target: "Domain | None", device: int, pasid: int | None = None, *, fence: bool = False
) -> Plan:
    """A device leaves one domain, comes to another, or both, under DMA; carried out when this returns.

    Args:
        source: the domain that it is attached to; None: it is held off.
        target: the domain that it comes to, which is attached to the device's unit; None: it is held off.
        device: its id.
        pasid: of the requests that move; None: those without.
        fence: it leaves because it must not reach memory any more (rule H1).

    Raises:
        HitlessError: it is not attached so, or the structures cannot say it.  UnitTimeout: its unit does not answer.
    """
    here = _either(target, source)
    with here.guest.quiet(0, SPACE):
        plan, unit, attachment = plan_move(source, target, device, pasid, fence=fence)
        here.executor.run(step for _, step in plan.steps())
        attachment.blocked = target is None
        if target is not None:
            attachment.found = _found(target, unit)
            attachment.owners, attachment.trusted = target.owners, target.settings.trusted
            attachment.ownership, attachment.in_use = target.vendor.ownership, target.tables.in_use
        for domain, there in ((source, False), (target, True)):
            if domain is not None:
                domain.attachments = [each for each in domain.attachments if each is not attachment]
                domain.attachments += [attachment] if there else []
                _tell_ports(domain)
    return plan


def plan_move(
    source: "Domain | None", target: "Domain | None", device: int, pasid: int | None = None, *, fence: bool = False
) -> tuple[Plan, Unit, Attachment]:
    """The plan of :func:`move`, with what it moves; nothing is changed."""
    here = _either(source, target)
    unit, attachment = _known(here, device, pasid)
    if (source is not None) != any(attachment is each for each in here.attachments) and source is not target:
        where = "is not attached to this domain" if source is not None else "is attached to this domain already"
        raise HitlessError(f"device {device:#x} {where}", who=here.name, do="name the domain that it is attached to")
    if target is None:
        what, entry = "block" if fence else "detach", entry_of(attachment)._replace(blocked=True)
    else:
        what = "attach" if source is None else "replace"
        found = _found(target, unit)
        entry = StructureEntry(device, pasid, found.stage1, found.stage2, found.tag, attachment.ats)
    rounds = unit.plan_change(entry, what)
    if what == "replace" and sum(isinstance(step, StoreStructure) for each in rounds for step in each.stores) > 1:
        rounds = _by_way_of_nowhere(unit, attachment, entry)
    return Plan(here.name, isolate=[*joined_rounds([rounds])]), unit, attachment


def _by_way_of_nowhere(unit: Unit, attachment: Attachment, entry: StructureEntry) -> list[Round]:
    """Several stores would say something in between that is neither domain's: the device is held off meanwhile."""
    later = Later(unit.memory.load)
    rounds = unit.plan_change(entry_of(attachment)._replace(blocked=True), "detach")
    later.after(step for each in rounds for step in each.stores)
    return [*rounds, *unit.plan_change(entry, "attach", later.load)]


def _either(one: "Domain | None", other: "Domain | None") -> "Domain":
    if (found := one or other) is None:
        raise HitlessError("a device moves from nowhere to nowhere", do="name the domain that it leaves, or comes to")
    return found


def _known(domain: "Domain", device: int, pasid: int | None) -> tuple[Unit, Attachment]:
    """A device that was set up behind one of the domain's units."""
    for unit in domain.units:
        if (attachment := unit.attachments.get((device, pasid))) is not None:
            return unit, attachment
    raise HitlessError(
        f"device {device:#x} is not behind a unit of this domain",
        who=domain.name,
        do="attach it when its structures are set up",
    )


def _found(domain: "Domain", unit: Unit) -> Found:
    """What a unit's structures say of the domain's devices."""
    for port in domain.planner.assembler.units:
        if port.name == unit.name:
            return found_for(domain.vendor, domain.planner.root_pa, port.tag, domain.stage1)
    raise HitlessError(f"the domain is not attached to {unit.name}", who=domain.name, do="attach it to this unit first")


def _tell_ports(domain: "Domain") -> None:
    """Later plans know the devices that may hold translations of their own."""
    planner, here = domain.planner, attached(domain)
    ports = tuple(
        attrs.evolve(
            port,
            devices=tuple(
                each.device
                for unit, each in here
                if each.ats and unit.name == port.name and own_tag(domain, each) == port.tag
            ),
        )
        for port in planner.assembler.units
    )
    planner.assembler = attrs.evolve(planner.assembler, units=ports)


def own_tag(domain: "Domain", attachment: Attachment) -> int:
    """What a device's entries of the domain's own stage are filed under."""
    found = attachment.found
    root = found.stage1 if domain.vendor.page_format.stage == "1" else found.stage2
    return found.tag if root is None else root.tag


def attached(domain: "Domain") -> list[tuple[Unit, Attachment]]:
    """The domain's devices, each with its unit."""
    return [
        (unit, attachment)
        for unit in dict.fromkeys(domain.units)
        for attachment in unit.attachments.values()
        if any(attachment is each for each in domain.attachments)
    ]
