"""docs/configuration.md and the commented example are complete."""

import re
from pathlib import Path

import attrs
import pytest

from hitless.config import (
    AreaConfig,
    DeviceConfig,
    DomainConfig,
    GuestConfig,
    IoasConfig,
    PluginConfig,
    RangeConfig,
    SlotConfig,
    StageConfig,
    UnitConfig,
)

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "examples" / "commented.toml").read_text(encoding="utf-8")
TABLES = {
    "[guest]": GuestConfig,
    "[[guest.slot]]": SlotConfig,
    "[[guest.shared]]": RangeConfig,
    "[[domain]]": DomainConfig,
    "[domain.stage1]": StageConfig,
    "[[ioas]]": IoasConfig,
    "[[ioas.area]]": AreaConfig,
    "[[unit]]": UnitConfig,
    "[[unit.device]]": DeviceConfig,
    "[[vendor]]": PluginConfig,
}


def section(table: str) -> str:
    """The part of the page under a table's heading."""
    match = re.search(rf"^#+ `{re.escape(table)}`[^\n]*\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, f"no heading for {table}"
    return match[1]


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_documented(table):
    """Each key is a row of its table's section, and there is no row for a key that does not exist."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section(table), re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert documented == {each.name for each in attrs.fields(TABLES[table])}


@pytest.mark.parametrize("table", TABLES)
def test_defaults_are_documented(table):
    """A default that is a text, a bool or a size stands in the row of its key."""
    for each in attrs.fields(TABLES[table]):
        if isinstance(each.default, bool) or (isinstance(each.default, str) and each.default):
            shown = str(each.default).lower() if isinstance(each.default, bool) else f'"{each.default}"'
            row = re.search(rf"^\| [^|]*`{each.name}`[^|]*\|.*$", section(table), re.MULTILINE)
            assert row
            assert f"`{shown}`" in row[0].split("|")[3], each.name


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_in_the_commented_example(table):
    """Each table and each of its keys stands in the example, some in comments."""
    assert table in EXAMPLE
    missing = {
        each.name
        for each in attrs.fields(TABLES[table])
        if not re.search(rf"(^|[\s\[.#]){each.name}(\s*=|\]|\.)", EXAMPLE)
    }
    assert missing == set()
