"""The plugin stands on public names of hitless alone."""

import ast
from pathlib import Path

SOURCES = sorted((Path(__file__).parents[1] / "hitless_riscv").glob("*.py"))
PUBLIC = {
    "hitless.bits",
    "hitless.check.mutants",
    "hitless.check.subject",
    "hitless.errors",
    "hitless.hardware.emulator",
    "hitless.hardware.facts",
    "hitless.hardware.structures",
    "hitless.hardware.vendor",
    "hitless.ownership",
    "hitless.pagetable",
    "hitless.plan",
    "hitless.plugin",
    "hitless.refresh.commands",
    "hitless.refresh.recipes",
    "hitless.units",
}
"""What README.md says that a plugin imports."""


def test_imports():
    """Only these modules, and no name that begins with an underscore; no other vendor."""
    assert len(SOURCES) > 10
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("hitless.") for name in node.names), path.name
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0].startswith("hitless"):
                assert node.module in PUBLIC or node.module.startswith("hitless_riscv"), f"{path.name}: {node.module}"
                assert not any(name.name.startswith("_") for name in node.names), path.name


def test_the_page_says_so():
    """README.md names each module."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in PUBLIC)
