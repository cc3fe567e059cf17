"""Options of all commands that read memory images, and the address spaces that they ask for."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from attrs import frozen

from hitless.cli.options import given_features
from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.hardware.structures import RootRegister
from hitless.inspect.opening import Asked, register_of, start_of
from hitless.inspect.space import Image
from hitless.memory.images import Segment, open_image, parse_segment
from hitless.plugin import VendorRegistry
from hitless.units import SPACE

F = TypeVar("F", bound=Callable[..., Any])

_MONITOR = "qmp:"
"""Before the path of a monitor's socket, in place of an image."""
_BDF = re.compile(r"(?:[0-9a-fA-F]{1,4}:)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")


class Word(click.ParamType[Any]):
    """A 64-bit number."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = value if isinstance(value, int) else int(value, 0)
        except ValueError:
            self.fail(f"{value!r} is no number; write 0x1000 or 4096", param, ctx)
        if not 0 <= number < SPACE:
            self.fail(f"{value!r} is not in 64 bits", param, ctx)
        return number


class Device(click.ParamType[Any]):
    """A PCI function, or a number."""

    name = "BDF|ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if match := _BDF.fullmatch(value):
            bus, device, function = (int(each, 16) for each in match.groups())
            if device < 32:
                return bus << 8 | device << 3 | function
        try:
            number = int(value, 0)
        except ValueError:
            self.fail(f"{value!r} is neither bus:device.function nor a number", param, ctx)
        if not 0 <= number < 1 << 32:
            self.fail(f"{value!r} is not in 32 bits", param, ctx)
        return number


class Place(click.ParamType[Any]):
    """Where a raw image lies."""

    name = "START[+SIZE]@OFFSET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Segment:
        try:
            return value if isinstance(value, Segment) else parse_segment(value)
        except BadInput as error:
            self.fail(f"{error.what}; {error.do}", param, ctx)


class Start(click.ParamType[Any]):
    """The value of a register that leads to structures."""

    name = "STRUCTURE@VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        name, at, number = str(value).rpartition("@")
        if not at:
            self.fail(f"{value!r} has no @; write such as amd/device-table@0x1ff", param, ctx)
        return name, Word().convert(number, param, ctx)


@frozen
class Where:
    """What the options say of the tables that are looked for."""

    base: int | None
    segments: Sequence[Segment]
    format_name: str | None
    root: int | None
    start: tuple[str, int] | None
    device: int | None
    pasid: int | None
    settings: Sequence[str]

    @classmethod
    def nothing(cls) -> "Where":
        """None of the options."""
        return cls(None, (), None, None, None, None, None, ())


_RAW = (
    click.option("--base", type=Word(), metavar="ADDR", help="A raw image begins at this address.  [default: 0]"),
    click.option(
        "--segment",
        "segments",
        type=Place(),
        multiple=True,
        metavar="START[+SIZE]@OFFSET",
        help="A raw image holds this memory from this byte of the file on; may be repeated.",
    ),
)
_TABLES = (
    click.option("--format", "format_name", metavar="NAME", help="The tables are of this format; needs --root."),
    click.option("--root", type=Word(), metavar="ADDR", help="Address of the root table."),
    click.option(
        "--from",
        "start",
        type=Start(),
        metavar="STRUCTURE@VALUE",
        help="Start from a register as hardware holds it, such as intel/root-table@0x1000.",
    ),
    click.option("--device", type=Device(), metavar="BDF|ID", help="Only this device; with --from."),
    click.option("--pasid", type=click.IntRange(0, (1 << 20) - 1), help="Requests with this PASID; with --from."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A further register, or a feature of the hardware; may be repeated.",
    ),
)


def tables_of_image(command: F) -> F:
    """All of these options, as one argument ``where``."""

    def wrapped(*args: Any, **options: Any) -> Any:
        taken = [options.pop(each) for each in names]
        return command(*args, where=Where(*taken), **options)

    names = ("base", "segments", "format_name", "root", "start", "device", "pasid", "settings")
    wrapped.__doc__ = command.__doc__
    made: Any = wrapped
    for option in reversed((*_RAW, *_TABLES)):
        made = option(made)
    return made  # type: ignore[no-any-return]


def read_image(path: str, where: Where) -> Image:
    """The image, with a word on standard error if its file is shorter than it says; ``qmp:PATH``: a running QEMU.

    Raises:
        BadInput: it cannot be read.
    """
    if path.startswith(_MONITOR):
        from hitless.machine.qemu.monitored import open_monitor  # noqa: PLC0415 - only a running QEMU needs it

        if where.base is not None or where.segments:
            raise click.UsageError("--base and --segment are for raw images; QEMU says itself what lies where")
        memory = open_monitor(path.removeprefix(_MONITOR))
        click.get_current_context().call_on_close(memory.close)
        return memory
    image = open_image(path, where.base, where.segments)
    if image.missing:
        click.echo(f"the image is cut short: {image.missing:#x} bytes of its memory are not in the file", err=True)
    return image


def features_of(where: Where, vendor: str) -> Mapping[str, Any]:
    """The features that --set gives, in their own names or by registers that tell them."""
    registry = open_registry(None, [vendor])
    if where.start is None:
        return given_features(registry, vendor, where.settings)
    given = _Given.of(where.settings, register_of(registry, where.start[0])[1])
    return {**given.told, **given_features(registry, vendor, given.features, given.told)}


@frozen
class _Given:
    """What --set says beside a register: other registers, what registers tell of the hardware, and features."""

    beside: Mapping[str, int]
    told: Mapping[str, Any]
    features: Sequence[str]

    @classmethod
    def of(cls, settings: Sequence[str], register: RootRegister) -> "_Given":
        beside, told, features = dict[str, int](), dict[str, Any](), []
        for each in settings:
            key, _, text = each.partition("=")
            if key in register.beside:
                beside[key] = Word().convert(text, None, None)
            elif key in register.tells:
                told |= register.tells[key](Word().convert(text, None, None))
            else:
                features.append(each)
        return cls(beside, told, features)


def asked(where: Where, features: Mapping[str, Any] | None = None) -> Asked:
    """The tables that the options name, with the vendor's plugin; ``features`` go before those of a register.

    Raises:
        click.UsageError: they do not say which.  HitlessError: they cannot be.
    """
    if (where.start is None) == (where.format_name is None and where.root is None):
        raise click.UsageError("say which tables: --format NAME --root ADDR, or --from STRUCTURE@VALUE")
    if where.start is not None:
        return _from_register(where, *where.start, features or {})
    if where.format_name is None or where.root is None:
        raise click.UsageError("--format and --root go together")
    if where.device is not None or where.pasid is not None:
        raise click.UsageError("--device and --pasid go with --from")
    vendor = where.format_name.partition("/")[0]
    registry = open_registry(None, [vendor])
    known = registry.format_names(vendor)
    if where.format_name not in known:
        raise BadInput(f"there is no format {where.format_name!r}", who=vendor, do=f"choose one of {', '.join(known)}")
    chosen = given_features(registry, vendor, where.settings)
    return Asked(registry.resolve(vendor, where.format_name, chosen), where.root)


def _from_register(where: Where, name: str, value: int, implied: Mapping[str, Any]) -> Asked:
    vendor = name.partition("/")[0]
    registry: VendorRegistry = open_registry(None, [vendor])
    _, register = register_of(registry, name)
    given = _Given.of(where.settings, register)
    defaults = {**register.features, **implied, **given.told}
    features = {**defaults, **given_features(registry, vendor, given.features, defaults)}
    resolved = registry.resolve(vendor, "", features)
    base = start_of(register, vendor, name, value, given.beside)
    return Asked(resolved, None, base, name, where.device, where.pasid)
