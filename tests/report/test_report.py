"""Reports: self-contained, well-formed, everything told by text, and text from outside shown as text."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import COMMANDS, SVG, drawings

from hitless.report.addresses import Area, leaf_class, maps
from hitless.report.chart import over_time
from hitless.report.page import Page, Section, table
from hitless.report.timeline import LANES, story_timeline


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where each command's report is kept once it is made."""
    return {}, tmp_path_factory.mktemp("reports")


@pytest.fixture(params=COMMANDS)
def report(request, hitless, made):
    """The page of each command."""
    pages, folder = made
    if request.param not in pages:
        path = folder / f"{request.param}.html"
        assert hitless(*COMMANDS[request.param], "--report", path).status in (0, 1)
        pages[request.param] = path.read_text(encoding="utf-8")
    return pages[request.param]


def test_a_page_needs_nothing_but_itself(report):
    """No script, no address of another file but of SVG's own namespace, no import."""
    assert "<script" not in report
    assert set(re.findall(r'(?:src|href)="([^"#][^"]*)"', report)) == set()
    assert set(re.findall(r"https?://[^\"']*", report)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in report
    assert "url(#" in report


def test_drawings_are_well_formed_and_have_titles(report):
    """Every figure can be read aloud; every pattern that is used is there; every link has its anchor."""
    found = drawings(report)
    assert found
    assert all(each.find(f"{SVG}title") is not None for each in found)
    assert set(re.findall(r"url\(#(\w+)\)", report)) <= set(re.findall(r'<pattern id="(\w+)"', report))
    assert set(re.findall(r'<a href="#([^"]+)"', report)) <= set(re.findall(r' id="([^"]+)"', report))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_single_figure(hitless, tmp_path, name):
    """A file .svg holds the first figure with its own patterns and style."""
    path = tmp_path / "figure.svg"
    hitless(*COMMANDS[name], "--report", path)
    root = ET.parse(path).getroot()  # noqa: S314 - we made it
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}defs") is not None


@pytest.mark.parametrize("target", ["report.txt", "missing/report.html", "."])
def test_targets_that_are_none(hitless, tmp_path, monkeypatch, target):
    """Known before the work begins."""
    monkeypatch.chdir(tmp_path)
    assert hitless(*COMMANDS["plan"], "--report", target).status == 2


def test_a_run_shows_each_domain(hitless, tmp_path):
    """Side by side first, then each with its figures over time and its map, whose owners are told."""
    path = tmp_path / "run.html"
    hitless(*COMMANDS["run"], "--report", path)
    page = path.read_text()
    for each in ("amd", "intel", "arm-bbml1", "arm-bbml2"):
        assert f">{each}</h2>" in page
        assert f"{each}: leaves over the run" in page
    assert "leaves of 4K, shared" in page
    assert re.search(r"leaves of 1G, private", page)


def test_the_map_draws_what_is_there():
    """Cells by the smallest leaf in them; a cell with smaller leaves than itself is drawn by itself, and linked."""
    areas = [Area(0, 1 << 30, 30, "P"), Area(1 << 30, 4096, 12, "S"), Area((1 << 30) + 4096, (1 << 21) - 4096, 12, "P")]
    whole, zoom = maps([*areas, Area(5 << 30, 1 << 30, 30, "P")], "guest", "m")
    tips = [each.text for each in ET.fromstring(whole.drawing.svg()).iter(f"{SVG}title")]  # noqa: S314
    assert any("leaves of 4K, private and shared" in str(tip) for tip in tips)
    assert any(str(tip).startswith("0x0 ") and "leaves of 1G, private" in str(tip) for tip in tips)
    assert any("not mapped" in str(tip) for tip in tips)
    assert 'href="#m-0"' in whole.drawing.svg()
    assert zoom.anchor == "m-0"
    assert "0x40000000" in zoom.caption
    assert [leaf_class(lg2) for lg2 in (12, 15, 16, 20, 21, 22, 29, 30, 39)] == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert maps([], "nothing", "m") == []


def test_a_timeline_has_every_line_of_its_story():
    """Requests stand in the lane of devices, stores in that of tables, and the break is marked."""
    lines = (
        "  first  0x1000 is mapped by nothing",
        "    dma  a device reads 0x1000",
        "         level 0 entry 0x1: leaf",
        "      2  store: cut",
        "  break  F1 is broken, at step 2",
    )
    svg = story_timeline(lines, "title").svg()
    for text in ("0x1000 is mapped by nothing", "a device reads", "store: cut", "F1 is broken"):
        assert text in svg
    assert all(lane in svg for lane in LANES)
    assert svg.count('class="bad"') == 1


def test_text_from_outside_is_text():
    """Markup in names of files, domains and findings does not become markup."""
    evil = "<script>alert(1)</script>\"'"
    page = Page(evil, evil, [Section(evil, [table([evil], [[evil]])])]).html()
    chart = over_time({evil: [(0, 0), (1, 1)]}, evil, evil).svg()
    assert "<script" not in page + chart
    ET.fromstring(chart)  # noqa: S314 - we made it
