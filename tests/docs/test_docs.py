"""Every fenced block of README.md and docs/ is executed, parsed or checked.

| fence | what happens |
|---|---|
| python | executed; the blocks of one file share one namespace, in order |
| console | each line after ``$ `` is run in a copy of the repository, and its output compared line by line |
| toml | parsed; if the first line is ``# config`` it is loaded as a configuration too |
| sh | parsed by the shell; ``make`` lines name targets of the Makefile |
| json | parsed |
| mermaid | a sequence diagram: each line is one that Mermaid draws, between participants that were named |
| text, diff | shown only |

Anything else is a failure. In expected output a line ``...`` stands for any lines, and ``[..]`` for any
characters of one line. ``console status=2`` says that the last command of the block ends with that status.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli
from attrs import frozen
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SHOWN_ONLY = {"text", "diff"}
LANGUAGES = {"python", "console", "toml", "sh", "json", "mermaid"} | SHOWN_ONLY
TIMEOUT_SECONDS = 300


@frozen
class Block:
    """One fenced block: where it stands, its info string in words, and its text."""

    file: Path
    line: int
    info: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.info[0] if self.info else ""

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """README.md first, then docs/ in the order of their paths."""
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]


def blocks_of(path: Path, text: str) -> Iterator[Block]:
    """The code blocks of a document; indented ones come out with no language."""
    for token in MarkdownIt().parse(text):
        if token.type in {"fence", "code_block"} and token.map:
            yield Block(path, token.map[0] + 1, tuple(token.info.split()), token.content)


BLOCKS = [block for path in documents() for block in blocks_of(path, path.read_text(encoding="utf-8"))]


def each(*languages: str) -> pytest.MarkDecorator:
    """Parametrize a test over the blocks of these languages."""
    chosen = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", chosen or [None], ids=lambda block: str(block or "none"))


def each_file(language: str) -> pytest.MarkDecorator:
    """Parametrize a test over the files that have blocks of this language."""
    files = list(dict.fromkeys(block.file for block in BLOCKS if block.language == language))
    return pytest.mark.parametrize(
        "path", files or [None], ids=lambda path: str(path.relative_to(ROOT)) if path else "none"
    )


# -- console ---------------------------------------------------------------------------------------


def line_matches(expected: str, got: str) -> bool:
    """Whether one line of output is the expected one; ``[..]`` stands for any characters."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("[..]"))
    return re.fullmatch(pattern, got.rstrip()) is not None


def lines_match(expected: list[str], got: list[str]) -> bool:
    """Whether output is the expected one; a line ``...`` stands for any number of lines."""
    reachable = {0}
    for line in expected:
        if line.strip() == "...":
            reachable = set(range(min(reachable), len(got) + 1)) if reachable else set()
        else:
            reachable = {at + 1 for at in reachable if at < len(got) and line_matches(line, got[at])}
    return len(got) in reachable


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the output expected below it."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            command, output = found[-1]
            found[-1] = (f"{command}\n{line}", output)
            continued = line.endswith("\\")
        elif line.startswith("$ "):
            found.append((line[2:], []))
            continued = line.endswith("\\")
        else:
            assert found, f"output {line!r} stands before the first command"
            found[-1][1].append(line)
    return found


def run_command(command: str, cwd: Path) -> tuple[int, list[str]]:
    """Run one line as a reader would: this environment's programs, 120 columns, no colour, no input."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    plain = {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(  # noqa: S602 - the documentation shows shell commands
        command,
        shell=True,
        cwd=cwd,
        env={**os.environ, "PATH": path, **plain},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout.rstrip().splitlines()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that reads like the repository's root, and takes what commands write."""
    for entry in ROOT.iterdir():
        if entry.name != ".git":
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def run_block(block: Block, cwd: Path) -> None:
    """Run a console block's commands and compare."""
    commands = commands_of(block.text)
    options = {name: value for name, _, value in (word.partition("=") for word in block.info[1:])}
    last_status = int(options.pop("status", 0))
    assert not options, f"{block}: unknown words after `console`: {sorted(options)}"
    assert commands, f"{block}: no line begins with '$ '"
    for number, (command, expected) in enumerate(commands):
        status, got = run_command(command, cwd)
        shown = f"{block}: $ {command}\n" + "\n".join(got)
        while expected and not expected[-1].strip():
            expected.pop()
        assert lines_match(expected, got), f"{shown}\n-- expected --\n" + "\n".join(expected)
        wanted = last_status if number == len(commands) - 1 else 0
        assert status == wanted, f"{shown}\n-- ended with {status}, expected {wanted} --"


@pytest.mark.slow
@each_file("console")
def test_console_blocks(path, clone):
    """What a console block shows is what the commands print, and they end with the status that it says."""
    for block in BLOCKS:
        if block.file == path and block.language == "console":
            run_block(block, clone)


# -- the other languages ---------------------------------------------------------------------------


def test_every_block_has_a_known_language():
    """A block that no test looks at would rot: only listed languages are allowed, and no indented blocks."""
    unknown = [f"{block}: {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES]
    assert not unknown, "\n".join(unknown)


@each_file("python")
def test_python_blocks(path, clone, monkeypatch):
    """The Python blocks of one file run in order, in one namespace, with the repository's root as folder."""
    monkeypatch.chdir(clone)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for block in BLOCKS:
        if block.file == path and block.language == "python":
            source = "\n" * block.line + block.text  # so that a traceback names the document's own line
            exec(compile(source, str(block.file), "exec"), namespace)  # noqa: S102 - that is what the test is for


@each("toml")
def test_toml_blocks(block):
    """A toml block parses; one that begins with ``# config`` is a configuration without faults."""
    if block is None:
        return
    tomli.loads(block.text)
    if block.text.startswith("# config"):
        from hitless.config import load_text  # noqa: PLC0415 - most of this file needs no hitless

        load_text(block.text)


@each("json")
def test_json_blocks(block):
    """A json block parses."""
    if block is not None:
        json.loads(block.text)


_ARROW = re.compile(r"(\w+)(?:->>|-->>)(\w+): \S.*")


@each("mermaid")
def test_mermaid_blocks(block):
    """A diagram's arrows and notes name participants that it declares, and there is nothing else in it."""
    if block is None:
        return
    first, *lines = block.text.splitlines()
    assert first == "sequenceDiagram"
    known = {match[1] for line in lines if (match := re.fullmatch(r"participant (\w+) as \S.*", line.strip()))}
    for line in map(str.strip, lines):
        arrow = _ARROW.fullmatch(line)
        if arrow:
            assert {arrow[1], arrow[2]} <= known, line
        else:
            assert line.startswith("participant ") or re.fullmatch(r"Note over H: \S.*", line), line


@each("sh")
def test_sh_blocks(block):
    """A sh block is shell, and every ``make`` line in it names targets that exist."""
    if block is None:
        return
    subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            named = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert named <= targets, f"{block}: {line!r} names no target: {sorted(named - targets)}"


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    """A link to a file of the repository names one that exists."""
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    missing = [target for target in targets if "://" not in target and not (path.parent / target).resolve().exists()]
    assert not missing, missing


# -- the comparison itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("a b", "a b", True),
        ("a b", "a c", False),
        ("a", "a b", False),
        ("a b", "a", False),
        ("a ... z", "a 1 z", True),
        ("a ...", "a", True),
        ("... z", "1 2 z", True),
        ("... z", "1 2 y", False),
        ("a ... b ... c", "a b x c", True),
        ("a ... b ... c", "a c b", False),
        ("t=[..]s", "t=1.25s", True),
        ("t=[..]s", "t=1.25m", False),
        ("a.c", "abc", False),
        ("", "a", False),
    ],
)
def test_output_comparison(expected, got, same):
    """Lines (here words) must agree one by one; only ``...`` and ``[..]`` stand for anything."""
    assert lines_match(expected.split(), got.split()) is same


def test_commands_and_outputs_are_told_apart():
    """A block is commands with the lines below them; a backslash continues a command."""
    text = "$ one \\\n  --more\nout\n\n$ two\n"
    assert commands_of(text) == [("one \\\n  --more", ["out", ""]), ("two", [])]


@pytest.mark.parametrize(
    ("text", "info"),
    [
        ("$ echo one\ntwo\n", ("console",)),
        ("$ false\n", ("console",)),
        ("$ true\n", ("console", "status=2")),
        ("echo\n", ("console",)),
    ],
    ids=["other output", "failed", "did not fail", "no command"],
)
def test_a_wrong_console_block_fails(text, info, tmp_path):
    """Other output, another status, or no command at all is a failure."""
    with pytest.raises(AssertionError):
        run_block(Block(ROOT / "README.md", 1, info, text), tmp_path)


def test_a_right_console_block_passes(tmp_path):
    """The status after the word ``status=`` is that of the last command; commands share one folder."""
    text = "$ echo one > file\n$ cat file; exit 2\none\n"
    run_block(Block(ROOT / "README.md", 1, ("console", "status=2"), text), tmp_path)


def test_indented_blocks_are_found():
    """Code that is indented instead of fenced is a block without a language, so it is refused."""
    found = list(blocks_of(ROOT / "README.md", "text\n\n    code\n\n```json\n{}\n```\n"))
    assert [block.language for block in found] == ["", "json"]
