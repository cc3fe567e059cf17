"""Options that several subcommands share, and the configuration that they make."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import click

from hitless.config import Config, check, default_config, load, open_registry
from hitless.errors import BadInput
from hitless.plugin import VendorRegistry
from hitless.units import parse_size

F = TypeVar("F", bound=Callable[..., Any])


class SizeType(click.ParamType[Any]):
    """A size such as 4K, 2M, 16G or 0x1000."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = value if isinstance(value, int) else parse_size(value)
        except BadInput as error:
            self.fail(error.what, param, ctx)
        if size <= 0 or size % 4096:
            self.fail(f"{value!r} is not a positive multiple of 4K", param, ctx)
        return size


def configured(command: F) -> F:
    """--config, --vendor, --memory, --backing, --allow-break, --json."""
    for option in (
        click.option(
            "--json",
            "json_file",
            metavar="FILE|-",
            help="Write JSON; with - standard output holds nothing else.",
        ),
        click.option("--allow-break", is_flag=True, help="Do what cannot be done hitlessly instead of refusing it."),
        click.option(
            "--backing",
            type=click.Choice(["in-place", "separate", "scattered"]),
            help="How guest memory is backed.",
        ),
        click.option("--memory", type=SizeType(), help="Size of the guest, one slot from 0."),
        click.option("--vendor", "vendors", multiple=True, metavar="NAME", help="Only this vendor; may be repeated."),
        click.option("--config", "config_file", metavar="FILE", help="A configuration (TOML)."),
    ):
        command = option(command)
    return command


def make_config(
    config_file: str | None,
    vendors: Sequence[str],
    memory: int | None,
    backing: str | None,
    allow_break: bool,
    default_memory: Callable[[], int],
) -> tuple[Config, VendorRegistry]:
    """The configuration that the options ask for, checked, and its plugins.

    Raises:
        HitlessError: every fault in it.
    """
    if config_file is None:
        registry = open_registry(None, vendors or None)
        if not vendors and registry.broken and not registry.vendors:
            raise registry.broken[0].error()
        config = default_config(
            registry,
            memory=memory or default_memory(),
            backing=backing or "in-place",
            vendors=vendors or None,
        )
        for each in () if vendors else registry.broken:
            click.echo(f"skipped: {each.error()}", err=True)
    else:
        if memory is not None:
            raise click.UsageError("--memory and --config: the configuration says what the guest's memory is")
        config = load(config_file)
        config = _select(config, vendors, backing)
        registry = open_registry(config)
    if allow_break:
        config = attrs.evolve(config, domain=tuple(attrs.evolve(d, allow_break=True) for d in config.domain))
    check(config, registry)
    return config, registry


def _select(config: Config, vendors: Sequence[str], backing: str | None) -> Config:
    if backing is not None:
        config = attrs.evolve(config, guest=attrs.evolve(config.guest, backing=backing))  # type: ignore[arg-type]
    if not vendors:
        return config
    known = {domain.vendor for domain in config.domain}
    for name in vendors:
        if name not in known:
            raise BadInput(
                f"the configuration has no domain of vendor {name!r}", do=f"it has {', '.join(sorted(known))}"
            )
    kept = tuple(domain for domain in config.domain if domain.vendor in vendors)
    units = {name for domain in kept for name in domain.units}
    return attrs.evolve(config, domain=kept, unit=tuple(unit for unit in config.unit if unit.name in units))
