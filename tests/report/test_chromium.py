"""Reports in a real browser: a headless Chromium without network.

``HITLESS_SCREENSHOTS=docs/pictures`` keeps the screenshots that the README shows.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from html import unescape
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import COMMANDS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--no-first-run")
MEASURE = """
<pre id="measured"></pre><script>
addEventListener("load", () => setTimeout(() => {
const rect = e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
const all = s => Array.from(document.querySelectorAll(s));
document.getElementById("measured").textContent = JSON.stringify({
  figures: all("figure svg").map(rect), width: document.documentElement.scrollWidth, inner: window.innerWidth,
  target: document.querySelector(":target") && document.querySelector(":target").id,
  links: all("svg a").map(a => a.getAttribute("href")),
  swatches: Array.from(all("figure svg")[0].querySelectorAll("rect")).slice(0, 5).map(rect),
  resources: performance.getEntriesByType("resource").map(e => e.name),
});
}, 50));
</script>
"""


def chromium(*arguments: str, folder: Path) -> str:
    """Run it once; its standard output."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *OFFLINE]
    command += [f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For pages, pictures and the browser's profile."""
    return tmp_path_factory.mktemp("chromium")


@pytest.fixture(params=COMMANDS)
def page(request, folder, hitless):
    """The report of each command, as a file."""
    path = folder / f"{request.param}.html"
    if not path.exists():
        hitless(*COMMANDS[request.param], "--report", path)
    return path


def measured(page: Path, folder: Path, fragment: str = "", *flags: str) -> dict:
    """What the browser made of a page: sizes, the target of the fragment, everything that it loaded."""
    copy = folder / f"measured-{page.name}"
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    dom = chromium(
        "--window-size=1100,2400",
        "--virtual-time-budget=3000",
        "--dump-dom",
        *flags,
        f"file://{copy}{fragment}",
        folder=folder,
    )
    return json.loads(unescape(re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)[1]))


def pixels(path: Path) -> np.ndarray:
    """An 8-bit RGB or RGBA picture as an array; PNG filters undone by hand."""
    data = path.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind in (2, 6)) == (8, True)
    packed, at = b"", 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += 12 + size
    step = 3 if kind == 2 else 4
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width * step + 1)
    found = np.zeros((height, width * step), np.int64)
    before = np.zeros(width * step, np.int64)
    for y in range(height):
        how, line = rows[y, 0], rows[y, 1:].astype(np.int64)
        if how == 2:
            line = (line + before) & 255
        elif how:
            for x in range(width * step):
                left = line[x - step] if x >= step else 0
                corner = before[x - step] if x >= step else 0
                guess = {1: left, 3: (left + before[x]) // 2, 4: _paeth(left, before[x], corner)}[int(how)]
                line[x] = (line[x] + guess) & 255
        found[y] = before = line
    return found.reshape(height, width, step)[:, :, :3]


def _paeth(a: int, b: int, c: int) -> int:
    distances = [(abs(b - c), a), (abs(a - c), b), (abs(a + b - 2 * c), c)]
    return min(distances, key=lambda each: each[0])[1]


def test_the_browser_shows_every_figure_and_loads_nothing(page, folder):
    """Figures have a size and stay within the page; nothing else is fetched."""
    found = measured(page, folder)
    assert found["figures"]
    assert all(width > 100 and height > 20 for _, _, width, height in found["figures"])
    assert found["width"] <= found["inner"]
    assert [name for name in found["resources"] if not name.startswith("file://")] == []
    assert found["resources"] == []


def test_a_narrow_window_needs_no_scrolling_sideways_for_figures(page, folder):
    """On half a screen figures shrink instead of being cut."""
    found = measured(page, folder, "", "--window-size=640,2000")
    assert all(x + width <= found["inner"] for x, _, width, _ in found["figures"])


def test_a_cell_leads_to_its_hunk(folder, hitless):
    """The link of a framed cell makes that hunk's own map the target."""
    path = folder / "zoom.html"
    hitless(*COMMANDS["run"], "--report", path)
    links = measured(path, folder)["links"]
    assert links
    assert measured(path, folder, links[0])["target"] == links[0][1:]


def test_sizes_are_told_apart_without_colour(folder, hitless):
    """In grey the five classes of leaf sizes differ in brightness or in how much it varies: a pattern."""
    path = folder / "grey.html"
    hitless(*COMMANDS["inspect"], "--report", path)
    path.write_text(path.read_text().replace("<body>", '<body style="filter: grayscale(1)">'))
    swatches = measured(path, folder)["swatches"]
    assert len(swatches) == 5
    picture = folder / "grey.png"
    chromium("--window-size=1100,2400", f"--screenshot={picture}", f"file://{path}", folder=folder)
    grey = pixels(picture)
    assert (grey.max(axis=2) - grey.min(axis=2)).max() <= 2
    seen = []
    for x, y, width, height in swatches:
        part = grey[round(y) + 2 : round(y + height) - 2, round(x) + 2 : round(x + width) - 2, 0]
        seen.append((part.mean(), part.std()))
    for number, (mean, deviation) in enumerate(seen):
        for other_mean, other_deviation in seen[number + 1 :]:
            assert abs(mean - other_mean) > 8 or abs(deviation - other_deviation) > 4, seen


def test_it_prints(page, folder):
    """On paper: a PDF of at least a page."""
    paper = folder / "paper.pdf"
    chromium(f"--print-to-pdf={paper}", "--no-pdf-header-footer", f"file://{page}", folder=folder)
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 5_000


def test_screenshots(page, folder):
    """What the README shows."""
    kept = os.environ.get("HITLESS_SCREENSHOTS")
    picture = (Path(kept) if kept else folder) / f"{page.stem}.png"
    chromium("--window-size=1060,900", f"--screenshot={picture.resolve()}", f"file://{page}", folder=folder)
    shown = pixels(picture)
    assert shown.shape == (900, 1060, 3)
    assert shown.std() > 5
