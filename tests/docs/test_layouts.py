"""docs/layouts is what the plugins declare, today."""

from pathlib import Path

import pytest

from hitless.config import open_registry
from hitless.explain.tables import index_page, layouts_page
from installed import OWN as VENDORS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "layouts"
AGAIN = "write it anew: python -m hitless.explain.tables docs/layouts amd arm_smmu intel"


@pytest.fixture(scope="module")
def registry():
    """The vendors of this distribution."""
    return open_registry(None, VENDORS)


def sections(page: str) -> dict[str, list[str]]:
    """The table rows below each heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| "):
            found.setdefault(heading, []).append(line)
    return found


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_page_is_what_the_plugin_declares(vendor, registry):
    """A layout that changed has to be written into the page."""
    assert (PAGES / f"{vendor}.md").read_text(encoding="utf-8") == layouts_page(registry, vendor), AGAIN


def test_the_index_leads_to_every_vendor(registry):
    """The same for the index, and no page is left of a vendor that is gone."""
    assert (PAGES / "README.md").read_text(encoding="utf-8") == index_page(registry), AGAIN
    assert {path.stem for path in PAGES.iterdir()} == {"README", *registry.vendors}


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_declared_layout_has_its_table(vendor, registry):
    """Structures, commands and events by name, each with every one of its fields; the entries of each level."""
    page = sections((PAGES / f"{vendor}.md").read_text(encoding="utf-8"))
    found = registry.resolve(vendor)
    wanted = [(f"{vendor}/{name}", each) for name, each in found.structures.layouts.items()]
    wanted += [*found.commands.layouts.items(), *found.events.layouts.items()]
    for name, layout in wanted:
        (rows,) = [rows for heading, rows in page.items() if name in heading.split(", ")]
        assert [row.split(" | ")[0] for row in rows[2 : 2 + len(layout.fields)]] == [
            f"| {field.bits}" for field in layout.fields
        ]
    for name in registry.format_names(vendor):
        fmt = registry.resolve(vendor, name).page_format
        for kind, said in (("leaf", "leaf"), ("table", "pointer")):
            headings = [heading for heading in page if heading.startswith(f"{name} {said}, ")]
            levels = [level for heading in headings for level in heading.split(", ")[1:]]
            legal = [each.spec_name for each in fmt.levels if fmt.layout(kind, each.number)]
            assert sorted(levels) == sorted(legal)


@pytest.mark.parametrize(
    ("vendor", "heading", "row"),
    [
        ("amd", "amd/dte", "| 11:9 | Mode | levels of the v1 table; 0x0 no translation, 0x7 reserved | value |"),
        ("amd", "amd/dte", "| 6:2 | reserved | must be 0x0 | reserved |"),
        ("amd", "INVALIDATE_IOMMU_PAGES", "| 63:60 | opcode | must be 0x3 | value |"),
        ("amd", "amd/v1 leaf, AMD level 4, AMD level 3, AMD level 2, AMD level 1", "| 6 | D | dirty | hardware |"),
        ("intel", "intel/pasid", "| 179:140 | FSPTPTR | first-stage root; address in units of 4K | value |"),
        ("intel", "fault recording register", "| 79:64 | SID |  | value |"),
        ("arm_smmu", "arm_smmu/cd", "| 63:48 | ASID |  | value |"),
        ("arm_smmu", "SYNC", "| 119:66 | MSIAddress[55:2] | address in units of 4 bytes | value |"),
    ],
)
def test_rows(vendor, heading, row):
    """Bits, name, meaning with the values' names and what must be there, role: written by hand."""
    assert row in sections((PAGES / f"{vendor}.md").read_text(encoding="utf-8"))[heading]


@pytest.mark.parametrize(
    ("vendor", "with_", "row"),
    [
        ("amd", "`c_bit = 47`", "| 47 | C | memory is encrypted | value |"),
        ("intel", "`ssads = true`", "| 9 | SSADE | A and D are set in second-stage entries | value |"),
        ("arm_smmu", "`ds = true`", "| 9:8 | OA[51:50] | address in units of 1P | value |"),
    ],
)
def test_what_other_features_change(vendor, with_, row):
    """A feature that changes bits is told with the fields that it brings."""
    rows = sections((PAGES / f"{vendor}.md").read_text(encoding="utf-8"))["With other features"]
    assert [each for each in rows if each.startswith(f"| {with_}") and each.endswith(row)]


@pytest.mark.parametrize(
    ("vendor", "said"),
    [
        ("amd", "- INSERT_GUEST_EVENT: a unit without virtual IOMMUs refuses it"),
        ("intel", "- page group response: hardware takes it, and it concerns nothing that is modelled"),
        ("arm_smmu", "- PREFETCH_*: taken for an unknown opcode"),
    ],
)
def test_what_is_not_modelled_is_listed(vendor, said):
    """By name, behind the tables of its kind."""
    assert said in (PAGES / f"{vendor}.md").read_text(encoding="utf-8").splitlines()
