"""Checks an image against its trace, and cuts out the pages that hold structures and tables.

    python tests/inspect/kernel_images/excerpt.py /tmp/images/amd --into tests/inspect/excerpts

The excerpt is a LiME image in gzip, NAME.lime.gz, and NAME.json: where it comes from, the options for ``hitless
inspect``, and translations of QEMU's trace that were live when the machine stopped.
"""

import argparse
import gzip
import json
import random
import sys
from pathlib import Path

from agree import Session, disagreements
from traces import live, mapped

from hitless.memory.images import open_image
from hitless.memory.images.lime import lime_header

_PAGE = 4096
_KEPT = 600


class Touched:
    """Memory that remembers which pages were read."""

    def __init__(self, memory) -> None:
        self.memory, self.pages = memory, set()

    def _touch(self, pa: int, size: int) -> None:
        self.pages.update(range(pa // _PAGE, (pa + size - 1) // _PAGE + 1))

    def load(self, pa: int) -> int:
        self._touch(pa, 8)
        return self.memory.load(pa)

    def view(self, pa: int, count: int):
        self._touch(pa, 8 * count)
        return self.memory.view(pa, count)


def write_lime(path: Path, memory, pages: set[int]) -> int:
    """Write pages, neighbours as one range; returns how many the image holds."""
    held = sorted(page for page in pages if memory.contains(page * _PAGE, _PAGE))
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        at = 0
        while at < len(held):
            end = at
            while end + 1 < len(held) and held[end + 1] == held[end] + 1:
                end += 1
            file.write(lime_header(held[at] * _PAGE, (end - at + 1) * _PAGE))
            for page in held[at : end + 1]:
                file.write(memory.view(page * _PAGE, _PAGE // 8).tobytes())
            at = end + 1
    return len(held)


def excerpt(folder: Path, into: Path) -> bool:
    """Check and cut one image; False if the trace says otherwise than the tables."""
    told = json.loads((folder / "image.json").read_text())
    commands = [tuple(int(word, 0) for word in each) for each in told["commands"]]
    traced = live(folder / "trace.log", commands)
    by_hand = mapped(folder / "console.log")
    print(f"{told['machine']}: {len(by_hand)} pages mapped through VFIO")
    session = Session(told["inspect"])
    memory = Touched(open_image(folder / "ram", session.where.base, session.where.segments))
    wrong = disagreements(session, memory, traced | by_hand)
    devices = {each.device for each in traced}
    print(f"{told['machine']}: {len(traced):,} live translations of {len(devices)} devices, {len(wrong)} disagree")
    for each in wrong[:10]:
        print(f"  {each}")
    session.read_all(memory)
    kept = sorted(random.Random(0).sample(sorted(traced), min(_KEPT, len(traced)))) + sorted(by_hand)
    into.mkdir(parents=True, exist_ok=True)
    pages = write_lime(into / f"{told['machine']}.lime.gz", memory.memory, memory.pages)
    options = _without_segments(told["inspect"])
    data = {
        **{key: told[key] for key in ("machine", "kernel", "qemu", "registers")},
        "command": [each.replace(f"{folder.parent}/", "") for each in told["command"]],
        "pages": pages,
        "inspect": options,
        "live": [[f"{value:#x}" for value in each] for each in kept],
    }
    (into / f"{told['machine']}.json").write_text(json.dumps(data, indent=1) + "\n")
    return not wrong and bool(traced)


def _without_segments(options: list[str]) -> list[str]:
    at = options.index("--from")
    return options[at:]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders that make.py made")
    parser.add_argument("--into", type=Path, required=True)
    told = parser.parse_args()
    agreed = [excerpt(folder, told.into) for folder in told.folders]
    return int(not all(agreed))


if __name__ == "__main__":
    sys.exit(main())
