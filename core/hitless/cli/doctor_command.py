"""``hitless doctor``: what is installed or missing for each machine, and how to get it."""

import platform
from typing import Any

import click

from hitless import __version__
from hitless.cli.output import console, json_option, table, write_json
from hitless.errors import HitlessError
from hitless.hardware.vendor import Vendor
from hitless.machine.qemu.boards import BOARDS
from hitless.machine.qemu.errors import NoEmulator
from hitless.machine.qemu.machine import check_emulated, emulator_of
from hitless.machine.qemu.process import find_program, version_of
from hitless.plugin import VendorRegistry

_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm", "riscv64": "qemu-system-riscv"}
"""In the names of Debian and its kin; others have one package, qemu."""


@click.command("doctor")
@json_option
def command(json_file: str | None) -> int:
    """Tell what each machine needs, whether it is there, and how to get it. Status 0 whatever is missing."""
    data = {
        "hitless": __version__,
        "schema": "doctor/1",
        "python": platform.python_version(),
        "programs": [_program(board.system, board.program) for board in BOARDS.values()],
        "formats": list(_formats()),
    }
    if json_file is not None:
        write_json(json_file, data)
    if json_file != "-":
        _show(data)
    return 0


def _program(system: str, name: str) -> dict[str, Any]:
    """One QEMU program: where it is and which version, or how to get it."""
    found: dict[str, Any] = {"name": name, "path": None, "version": None, "problem": "", "do": ""}
    try:
        found["path"] = find_program(name)
        found["version"] = "{}.{}".format(*version_of(found["path"]))
    except HitlessError as error:
        found["problem"] = error.what
        package = _PACKAGES.get(system, "qemu")
        found["do"] = f"install the package {package}, from the backports where there are any (elsewhere: qemu)"
    return found


def _formats() -> list[dict[str, Any]]:
    """For every format whether each machine has it, and what QEMU cannot show of it."""
    registry, found = VendorRegistry.installed(), []
    registry.set_aside_unusable()
    for vendor in sorted(registry.vendors):
        for name in registry.format_names(vendor):
            record = registry.resolve(vendor, name)
            row: dict[str, Any] = {"vendor": vendor, "format": name, "memory": True, "qemu": False, "reason": ""}
            row |= {"blind": [], "deviations": []}
            try:
                row |= _emulated(registry, record)
            except NoEmulator as error:
                row["reason"] = f"{error.what} ({error.why})" if error.why else error.what
            found.append(row)
    return found


def _emulated(registry: VendorRegistry, record: Vendor) -> dict[str, Any]:
    """What QEMU shows of a format, with the features that it has.

    Raises:
        NoEmulator: it does not.
    """
    chosen = dict(emulator_of(record).features)
    record = registry.resolve(record.name, record.page_format.name, chosen)
    check_emulated(record)
    emulator = emulator_of(record)
    deviations = [{"id": each.id, "seen": each.seen} for each in emulator.deviations]
    return {"qemu": True, "blind": list(emulator.blind), "deviations": deviations}


def _show(data: dict[str, Any]) -> None:
    out = console()
    programs = [
        [each["name"], each["version"] or "missing", each["path"] or each["do"] or each["problem"]]
        for each in data["programs"]
    ]
    out.print(table(["program", "version", "where"], programs))
    out.print()
    formats = [
        [
            each["format"],
            "yes",
            "yes" if each["qemu"] else "no",
            each["reason"] or "blind to " + ", ".join(each["blind"]),
        ]
        for each in data["formats"]
    ]
    out.print(table(["format", "memory", "qemu", ""], formats))
