"""Tables that a real Linux wrote: excerpts of images beside this file, and the whole way for one machine.

The oracle is QEMU's own walker: translations of its trace that nothing invalidated before the machine stopped.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from agree import Session, disagreements
from packages import Packages
from traces import Live, live

from hitless.memory.images import open_image

HERE = Path(__file__).parent
EXCERPTS = sorted((HERE / "excerpts").glob("*.json"))


def told(path: Path):
    """What stands beside an excerpt, its options, its memory, and what the trace says."""
    data = json.loads(path.read_text())
    traced = [Live(*(int(value, 0) for value in each)) for each in data["live"]]
    return data, Session(data["inspect"]), open_image(path.with_suffix(".lime.gz")), traced


def test_there_is_an_excerpt_of_every_vendor_and_mode():
    """With where it comes from: kernel, QEMU, command, registers."""
    assert {path.stem for path in EXCERPTS} >= {"amd", "arm", "intel-legacy", "intel-scalable", "intel-first-stage"}
    for path in EXCERPTS:
        data, _, _, traced = told(path)
        assert data["kernel"]
        assert data["qemu"]
        assert data["registers"]
        assert len(traced) > 100


@pytest.mark.parametrize("path", EXCERPTS, ids=lambda path: path.stem)
def test_tables_lead_where_the_trace_says(path):
    """Every live translation of the trace, from the register on."""
    _, session, memory, traced = told(path)
    assert disagreements(session, memory, traced) == []


@pytest.mark.parametrize("path", EXCERPTS, ids=lambda path: path.stem)
def test_the_trace_tells_when_tables_are_wrong(path):
    """With another page in the trace, or another device, there is a disagreement: the oracle is no rubber stamp."""
    _, session, memory, traced = told(path)
    moved = [each._replace(pa=each.pa + 0x100_0000) for each in traced]
    assert len(disagreements(session, memory, moved)) == len(moved)


@pytest.mark.parametrize("path", EXCERPTS, ids=lambda path: path.stem)
def test_inspect_decodes_them(path, hitless):
    """Every traced page lies in a range of its device's space; nothing is found wrong."""
    data, _, _, traced = told(path)
    found = hitless("inspect", path.with_suffix(".lime.gz"), *data["inspect"], "--json", "-")
    assert found.status == 0
    assert found.json["findings"] == []
    spaces = {int(device, 0): number for number, each in enumerate(found.json["spaces"]) for device in each["devices"]}
    assert len({device for each in found.json["spaces"] for device in each["devices"]}) == len(spaces)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for each in found.json["ranges"]:
        ranges.setdefault(each["space"], []).append((int(each["iova"], 0), int(each["size"], 0)))
    for device, iova, _ in traced:
        assert any(start <= iova < start + size for start, size in ranges[spaces[device]])


@pytest.mark.parametrize("name", ["amd-vfio", "intel-legacy-vfio"])
def test_large_leaves_that_linux_made(name, hitless):
    """VFIO mapped pages of 2M and 1G, low and high, with holes: 12M and 4M in 2M leaves, and one of 1G."""
    path = HERE / "excerpts" / f"{name}.lime.gz"
    options = json.loads(path.with_name(f"{name}.json").read_text())["inspect"]
    found = hitless("inspect", path, *options, "--device", "00:06.0", "--json", "-")
    leaves = found.json["leaves"]
    assert (leaves["2M"], leaves["1G"]) == (8, 1)
    (large,) = [each for each in found.json["ranges"] if each["leaf"] == "1G"]
    assert (large["iova"], large["size"]) == ("0x80000000", "0x40000000")
    assert any(int(each["iova"], 0) == 0x40_4000_1000 for each in found.json["ranges"])
    assert not any(int(each["iova"], 0) == 0x2040_0000 for each in found.json["ranges"])


@pytest.mark.slow
@pytest.mark.fresh
def test_the_whole_way(tmp_path):
    """The distribution's kernel boots in QEMU, its drivers map, it stops, and all that the trace says agrees."""
    if not all(map(shutil.which, ("qemu-system-x86_64", "apt-get", "dpkg-deb"))):
        pytest.skip("no QEMU for x86 is installed, or no apt-get")
    try:
        Packages("amd64", tmp_path / "packages").kernel("")
    except subprocess.CalledProcessError:
        pytest.skip("the distribution's packages cannot be fetched")
    script = HERE / "kernel_images" / "make.py"
    subprocess.run([sys.executable, script, "intel-legacy", "--into", tmp_path], check=True, timeout=1200)
    folder = tmp_path / "intel-legacy"
    session = Session(json.loads((folder / "image.json").read_text())["inspect"])
    memory = open_image(folder / "ram", session.where.base, session.where.segments)
    traced = live(folder / "trace.log")
    assert len(traced) > 100
    assert disagreements(session, memory, traced) == []
