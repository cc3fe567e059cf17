"""The reports of all commands, made once, and what is in them."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXCERPT = ROOT / "tests" / "inspect" / "excerpts" / "amd.lime.gz"
COMMANDS = {
    "run": ("run", ROOT / "examples" / "short.log", "--config", ROOT / "examples" / "short.toml", "--quiet"),
    "plan": ("plan", "--convert", "0x40000000+4K:shared", "--vendor", "amd", "--vendor", "intel", "--check"),
    "check": ("check", "--vendor", "amd", "--format", "amd/v1", "--mutant", "generic.no-wait", "--quiet"),
    "inspect": ("inspect", EXCERPT, "--from", "amd/device-table@0x1000001", "--quiet"),
}
SVG = "{http://www.w3.org/2000/svg}"


def drawings(html: str) -> list[ET.Element]:
    """Every drawing of a page that is shown, parsed: so each is well-formed."""
    found = [ET.fromstring(each) for each in re.findall(r"<svg xmlns.*?</svg>", html, re.DOTALL)]  # noqa: S314
    return [each for each in found if each.get("role") == "img"]
