"""Options that several subcommands share, and the configuration that they make."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import click

from hitless.cli.output import json_option
from hitless.config import Backing, Config, check, default_config, load_checked, open_registry
from hitless.errors import BadInput
from hitless.plugin import VendorRegistry
from hitless.units import SPACE, parse_size

F = TypeVar("F", bound=Callable[..., Any])


class SizeType(click.ParamType[Any]):
    """A size such as 4K, 2M, 16G or 0x1000."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = value if isinstance(value, int) else parse_size(value)
        except (BadInput, ValueError):  # ValueError: more digits than Python reads
            self.fail(f"{value!r} is not a size; write 4096, 0x1000, 4K, 2M or 1G", param, ctx)
        if not 0 < size <= SPACE or size % 4096:
            self.fail(f"{value!r} is not a multiple of 4K above 0 and up to 16E", param, ctx)
        return size


def configured(command: F) -> F:
    """--config, --vendor, --memory, --backing, --allow-break, --json."""
    for option in (
        json_option,
        click.option("--allow-break", is_flag=True, help="Do what cannot be done hitlessly instead of refusing it."),
        click.option(
            "--backing",
            type=click.Choice(["in-place", "separate", "scattered"]),
            help="How guest memory is backed.  [default: in-place, or as configured]",
        ),
        click.option("--memory", type=SizeType(), help="Size of the guest, one slot from 0; not with --config."),
        click.option("--vendor", "vendors", multiple=True, metavar="NAME", help="Only this vendor; may be repeated."),
        click.option("--config", "config_file", metavar="FILE", help="A configuration (TOML)."),
    ):
        command = option(command)
    return command


@attrs.frozen
class Setup:
    """What the options ask for.

    Args:
        problems: plugins that do not load though nobody named them; the others go on without them.
    """

    config: Config
    registry: VendorRegistry
    problems: list[str]


def set_up(
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: Backing | None,
    allow_break: bool,
    default_memory: Callable[[], int],
) -> Setup:
    """The configuration that the options ask for, checked, and its plugins.

    ``default_memory`` is asked where there is neither a configuration nor ``--memory``.

    Raises:
        HitlessError: what is wrong, all of it.
    """
    problems: list[str] = []
    if config_file is not None:
        if memory is not None:
            raise click.UsageError("--memory and --config: the configuration says what the guest's memory is")
        config, registry = load_checked(config_file, vendors)
        if backing is not None:
            config = attrs.evolve(config, guest=attrs.evolve(config.guest, backing=backing))
    else:
        registry = open_registry(None, vendors or None)
        if not vendors:
            registry.set_aside_unusable()
        if registry.broken and not registry.vendors:
            raise registry.broken[0].error()
        config = default_config(
            registry, memory=memory or default_memory(), backing=backing or "in-place", vendors=vendors or None
        )
        problems = [str(each.error()) for each in registry.broken]
    if allow_break:
        config = attrs.evolve(config, domain=tuple(attrs.evolve(d, allow_break=True) for d in config.domain))
    check(config, registry)
    return Setup(config, registry, problems)


def given_features(
    registry: VendorRegistry, vendor: str, features: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Features as options say them, for a vendor; ``defaults`` stand in for what they do not say.

    Raises:
        BadInput: it has no such feature, the value is not legal, or hardware does not have the combination.
    """
    infos = {info.name: info for info in registry.features(vendor)}
    chosen: dict[str, Any] = {}
    for text in features:
        name, _, value = text.partition("=")
        if name not in infos:
            raise BadInput(f"there is no feature {name!r}", who=vendor, do=f"it has {', '.join(infos)}")
        legal = {str(each).lower(): each for each in infos[name].values}
        if legal and value.lower() not in legal:
            raise BadInput(f"{text!r} is not legal", who=vendor, do=f"{name} may be {', '.join(legal)}")
        chosen[name] = legal[value.lower()] if legal else _any(vendor, text, value, infos[name].default)
    if faults := registry.feature_faults(vendor, {**(defaults or {}), **chosen}):
        raise BadInput("; ".join(faults), who=vendor, do="give other values, or more of them")
    return chosen


def _any(vendor: str, text: str, value: str, default: object) -> object:
    """A value of a feature that takes any of its type; numbers as people write them."""
    try:
        return int(value, 0) if isinstance(default, int) else value
    except ValueError:
        raise BadInput(f"{text!r} is not legal", who=vendor, do="give a number, such as 0x10210 or 39") from None
