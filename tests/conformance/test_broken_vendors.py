"""Vendors that are broken on purpose: each is caught under the rule meant for it, by words that say why."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

from hitless.conformance.kit import Kit
from hitless.plugin import PluginSource, VendorRegistry
from hitless.testing import run_rule

sys.path.insert(0, str(Path(__file__).parent))


def names() -> list[str]:
    """The names of all of them; the module itself can be imported only when the starter is there."""
    tree = ast.parse(Path(__file__).with_name("broken.py").read_text(encoding="utf-8"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BrokenVendor"
    ]
    return [call.args[0].value for call in calls]


def kit_of(plugin: object, suite: str = "smoke") -> Kit:
    """The kit for a plugin object."""
    registry = VendorRegistry([PluginSource("acme", "test", "0", "test:plugin", plugin)])
    return Kit(registry, "acme", suite, broken=registry.broken[0] if registry.broken else None)


@pytest.fixture(scope="module")
def broken(acme):
    """All of them, by name."""
    return {each.name: each for each in importlib.import_module("broken").BROKEN}


def test_there_are_enough(broken):
    """More than twenty, each with a name of its own, under rules of every family."""
    assert len(broken) >= 20
    families = {each.rule.rstrip("0123456789") for each in broken.values()}
    assert families >= {"HOOK", "FMT", "STR", "CMD", "EVT", "OWN", "BAD", "MUT", "N", "F", "R", "W", "K"}


@pytest.mark.parametrize("name", names())
def test_a_broken_vendor_is_caught(broken, name):
    """The rule fails for the broken vendor, with the words that name the defect; it passes for the sound one."""
    each = broken[name]
    run_rule(kit_of(each.plugin(), each.suite), each.rule, only=each.only).assert_fails(*each.words)
    sound = importlib.import_module("hitless_acme").plugin
    assert not run_rule(kit_of(sound, each.suite), each.rule, only=each.only).failures
