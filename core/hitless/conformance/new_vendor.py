"""``hitless new-vendor``: writes a small vendor that works, to be changed file by file."""

import keyword
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from hitless.errors import BadInput

_STARTER = "acme"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def write_vendor(name: str, folder: Path, taken: frozenset[str] = frozenset()) -> list[Path]:
    """Write the starter under another name; what was written, in order.

    Args:
        name: of the vendor: small letters, digits, single underscores.
        folder: must not exist, or be empty.
        taken: names of installed vendors.

    Raises:
        BadInput: the name or the folder cannot be used; nothing is written then.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise BadInput(
            f"{name!r} cannot be a vendor's name",
            do="use small letters, digits and single underscores, such as acme_v2",
        )
    if name in taken:
        raise BadInput(
            f"a vendor {name!r} is installed already",
            why="of two distributions with one vendor name neither loads",
            do="choose another name",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not empty", do="name a folder that does not exist yet")
    starter = files("hitless.conformance").joinpath("starter")
    written = [
        *_written(starter.joinpath("package"), folder / f"hitless_{name}", name),
        *_written(starter.joinpath("tests"), folder / "tests", name),
    ]
    for source, target in (
        ("pyproject.toml.in", "pyproject.toml"),
        ("README.md.in", "README.md"),
        ("ci.yml.in", ".github/workflows/kit.yml"),
    ):
        written.append(_write(starter.joinpath(source), folder / target, name))
    return written


def _written(source: Traversable, folder: Path, name: str) -> list[Path]:
    found = sorted((each for each in source.iterdir() if each.name.endswith(".in")), key=lambda each: each.name)
    return [_write(each, folder / renamed(each.name.removesuffix(".in"), name), name) for each in found]


def _write(source: Traversable, target: Path, name: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")
    return target


def renamed(text: str, name: str) -> str:
    """The starter's text with the vendor's name in each of its forms."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    for old, new in (
        (f"hitless-{_STARTER}", f"hitless-{name.replace('_', '-')}"),
        (_STARTER, name),
        (_STARTER.capitalize(), camel),
        (_STARTER.upper(), name.upper().replace("_", "-")),
    ):
        text = text.replace(old, new)
    return text
