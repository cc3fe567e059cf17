"""``hitless vendors``: what is installed, and what answers for what."""

from typing import Any

import click

from hitless import __version__
from hitless.cli.output import console, json_option, table, write_json
from hitless.cli.text import plain
from hitless.plugin import Broken, PluginSource, VendorRegistry
from hitless.plugin.specs import Specs
from hitless.units import lg2_text


@click.command("vendors")
@json_option
def command(json_file: str | None) -> int:
    """List vendors, formats, features, extensions, and plugins that do not load."""
    registry = VendorRegistry.installed()
    broken = list(registry.broken)
    vendors = []
    for name, source in sorted(registry.vendors.items()):
        try:
            vendors.append(_vendor(registry, source))
        except Exception as error:  # noqa: BLE001 - a stranger's hook may raise anything; the others are still listed
            why = f"{getattr(error, 'what', type(error).__name__)}: {getattr(error, 'why', error)}"
            broken.append(Broken(name, source.distribution, source.version, source.entry, why))
    data = {
        "hitless": __version__,
        "schema": "vendors/1",
        "vendors": vendors,
        "extensions": [{**_source(each), "hooks": _hooks(each.plugin)} for each in registry.extensions.values()],
        "broken": [
            {key: getattr(each, key) for key in ("name", "distribution", "version", "entry", "cause")}
            for each in broken
        ],
    }
    if json_file is not None:
        write_json(json_file, data)
    if json_file != "-":
        _show(data)
    return 0


def _source(source: PluginSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "title": str(getattr(source.plugin, "title", "")),
        "distribution": source.distribution,
        "version": source.version,
        "entry": source.entry,
        "origin": source.origin,
    }


def _vendor(registry: VendorRegistry, source: PluginSource) -> dict[str, Any]:
    """All that a vendor says of itself, with the default format and features."""
    record = registry.resolve(source.name)
    records = [registry.resolve(source.name, name) for name in registry.format_names(source.name)]
    return {
        **_source(source),
        "formats": [
            {
                "name": each.page_format.name,
                "source": each.page_format.source,
                "levels": [str(level) for level in reversed(each.page_format.levels)],
                "leaves": [lg2_text(lg2) for lg2 in each.split_rules.leaf_lg2s],
            }
            for each in records
        ],
        "policies": list(record.ownership.policies),
        "default_policy": record.ownership.default_policy,
        "features": [
            {
                "name": info.name,
                "default": info.default,
                "values": list(info.values),
                "sentence": info.sentence,
                "source": info.source,
                "unconfirmed": info.unconfirmed,
                "formats": list(info.formats),
            }
            for info in registry.features(source.name)
        ],
        "strategies": dict(record.origins),
    }


def _hooks(plugin: object) -> list[str]:
    return [name for name in vars(Specs) if not name.startswith("_") and hasattr(plugin, name)]


def _show(data: dict[str, Any]) -> None:
    for vendor in data["vendors"]:
        _show_vendor(vendor)
    for each in data["extensions"]:
        click.echo(plain(f"extension {each['name']} from {each['origin']}: {', '.join(each['hooks'])}"))
    for each in data["broken"]:
        whose = f"{each['distribution']} {each['version']}".rstrip()
        click.echo(plain(f"broken: {each['name']} from {whose}, {each['entry']}: {each['cause']}"))


def _show_vendor(vendor: dict[str, Any]) -> None:
    click.echo(plain(f"{vendor['name']}: {vendor['title']}"))
    click.echo(plain(f"  from      {vendor['origin']}"))
    for fmt in vendor["formats"]:
        click.echo(plain(f"  format    {fmt['name']}: leaves {', '.join(fmt['leaves'])}; {fmt['source']}"))
    policies = [f"{each} (default)" if each == vendor["default_policy"] else each for each in vendor["policies"]]
    click.echo(plain(f"  policies  {', '.join(policies)}"))
    for hook, origin in vendor["strategies"].items():
        if origin != vendor["origin"]:
            click.echo(plain(f"  {hook} from {origin}"))
    rows = [
        [
            info["name"],
            _value(info["default"]),
            ", ".join(map(_value, info["values"])) or "any",
            info["sentence"] + (" (unconfirmed)" if info["unconfirmed"] else ""),
            info["source"],
        ]
        for info in vendor["features"]
    ]
    if rows:
        console().print(table(["feature", "default", "legal", "what it is", "source"], rows))
    click.echo()


def _value(value: object) -> str:
    """As it is written in a configuration."""
    return str(value).lower() if isinstance(value, bool) else str(value)
