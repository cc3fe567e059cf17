"""``hitless vendors``: what is installed, and what answers for what."""

from typing import Any

import click

from hitless import __version__
from hitless.cli.output import console, plain, table, write_json
from hitless.errors import PluginError
from hitless.plugin import Broken, VendorRegistry
from hitless.plugin.specs import Specs


@click.command("vendors")
@click.option("--json", "json_file", metavar="FILE|-", help="Write JSON; with - standard output holds nothing else.")
def command(json_file: str | None) -> int:
    """List vendors, formats, features, extensions, and plugins that do not load."""
    registry = VendorRegistry.installed()
    data = {
        "hitless": __version__,
        "schema": "vendors/1",
        "vendors": [_vendor(registry, name) for name in sorted(registry.vendors)],
        "extensions": [
            {"name": each.name, "origin": each.origin, "hooks": _hooks(each.plugin)}
            for each in registry.extensions.values()
        ],
        "broken": [
            {
                "name": b.name,
                "distribution": b.distribution,
                "version": b.version,
                "entry": b.entry,
                "cause": b.cause,
            }
            for b in registry.broken
        ],
    }
    if json_file is not None:
        write_json(json_file, data)
    if json_file != "-":
        _show(data)
    return 0


def _vendor(registry: VendorRegistry, name: str) -> dict[str, Any]:
    source = registry.vendors[name]
    try:
        record = registry.resolve(name)
    except PluginError as error:
        registry.broken.append(_broken(source, error))
        return {
            "name": name,
            "origin": source.origin,
            "title": "",
            "formats": [],
            "features": [],
            "strategies": {},
        }
    features = [
        {
            "name": info.name,
            "default": info.default,
            "values": list(info.values),
            "sentence": info.sentence,
            "source": info.source,
            "unconfirmed": info.unconfirmed,
        }
        for info in registry.features(name)
    ]
    return {
        "name": name,
        "title": str(getattr(source.plugin, "title", "")),
        "origin": source.origin,
        "formats": registry.format_names(name),
        "policies": list(record.ownership.policies),
        "features": features,
        "strategies": dict(record.origins),
    }


def _broken(source: Any, error: PluginError) -> Broken:
    return Broken(source.name, source.distribution, source.version, source.entry, f"{error.what}: {error.why}")


def _hooks(plugin: object) -> list[str]:
    return [name for name in vars(Specs) if not name.startswith("_") and hasattr(plugin, name)]


def _show(data: dict[str, Any]) -> None:
    out = console()
    for vendor in data["vendors"]:
        click.echo(plain(f"{vendor['name']}: {vendor['title']}"))
        click.echo(plain(f"  from      {vendor['origin']}"))
        click.echo(plain(f"  formats   {', '.join(vendor['formats'])}"))
        click.echo(plain(f"  policies  {', '.join(vendor.get('policies', []))}"))
        others = {hook: origin for hook, origin in vendor["strategies"].items() if origin != vendor["origin"]}
        for hook, origin in others.items():
            click.echo(plain(f"  {hook} from {origin}"))
        rows = [
            [
                f["name"],
                str(f["default"]),
                f["sentence"] + (" (unconfirmed)" if f["unconfirmed"] else ""),
                f["source"],
            ]
            for f in vendor["features"]
        ]
        if rows:
            out.print(table("", ["feature", "default", "what it is", "fact"], rows))
        click.echo()
    for each in data["extensions"]:
        click.echo(plain(f"extension {each['name']} from {each['origin']}: {', '.join(each['hooks'])}"))
    for each in data["broken"]:
        click.echo(plain(f"broken: {each['name']} from {each['distribution']} {each['version']}: {each['cause']}"))
