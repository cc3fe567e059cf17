"""Attaching devices: what the structures shall say of them, and what plans have to tell each unit."""

from collections.abc import Sequence
from typing import TypeAlias

from hitless.errors import HitlessError
from hitless.hardware.structures import Found, StageRoot
from hitless.hardware.translator import Attachment
from hitless.hardware.unit import Unit
from hitless.hardware.vendor import Vendor
from hitless.iommufd.nested import GuestStage
from hitless.refresh.assemble import UnitPort

Behind: TypeAlias = tuple[Unit, int, list[tuple[int, bool]]]
"""A unit, its tag for the domain, and the devices behind it: (id, ATS on)."""


def check_nesting(vendor: Vendor) -> None:
    """Raise HitlessError if the vendor's table cannot stand under a guest's stage 1."""
    if vendor.structures is None or vendor.page_format.stage != "2":
        raise HitlessError(
            f"{vendor.page_format.name} cannot be a nest parent",
            who=vendor.name,
            why="its plugin declares no structures" if vendor.structures is None else "it is no stage 2",
            do="attach the devices without a stage 1 of the guest's",
        )


def found_for(vendor: Vendor, root_pa: int, tag: int, stage1: GuestStage | None) -> Found:
    """What a unit's structures lead to for devices of a domain."""
    root = StageRoot(vendor.page_format, root_pa, tag)
    if stage1 is None or vendor.structures is None:
        if vendor.page_format.stage == "1":
            return Found("translate", root, None, tag)
        return Found("translate", None, root, tag)
    upper = vendor.structures.stage1_tag(tag, stage1.space)
    return Found("translate", StageRoot(stage1.page_format, stage1.root_gpa, upper), root, upper)


def attach_all(behind: Sequence[tuple[Unit, list[Attachment]]], stage1: GuestStage | None) -> None:
    """Put all devices behind their units, or none."""
    done = []
    try:
        for unit, attachments in behind:
            unit.attach(attachments, stage1.pages if stage1 else None)
            done.append((unit, attachments))
    except HitlessError:
        detach_all(done)
        raise


def detach_all(behind: Sequence[tuple[Unit, list[Attachment]]]) -> None:
    """Take devices away from their units, last first."""
    for unit, attachments in reversed(behind):
        unit.detach(attachments)


def ports_for(vendor: Vendor, attach: Sequence[Behind], *, nested: bool, pasid: int | None) -> tuple[UnitPort, ...]:
    """The units as plans see them."""
    return tuple(
        UnitPort(unit.name, tag, vendor.commands, tuple(device for device, ats in devices if ats), nested, pasid)
        for unit, tag, devices in attach
    )
