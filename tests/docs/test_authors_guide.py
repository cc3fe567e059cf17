"""The author's guide against the code: every hook with its arguments, every rule, every public name."""

import inspect
import re
from pathlib import Path

import pytest

from hitless.conformance.rules import RULES
from hitless.conformance.words import SpecWords
from hitless.plugin import API
from hitless.plugin.specs import OPTIONAL, STRATEGIES, Specs
from public_names import lines

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "authors-guide.md").read_text(encoding="utf-8")
HOOKS = {name: value for name, value in vars(Specs).items() if not name.startswith("_")}


def section(name: str) -> str:
    """What stands under the heading of a hook."""
    found = re.search(rf"^### {re.escape(heading(name))}\n(.*?)(?=^##)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/authors-guide.md has no heading '### {heading(name)}'"
    return found[1]


def heading(name: str) -> str:
    """A hook with its arguments: ``split_rules(page_format, features)``."""
    arguments = [each for each in inspect.signature(HOOKS[name]).parameters if each != "self"]
    return f"{name}({', '.join(arguments)})"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_explained(name):
    """Its heading has the exact arguments; below it stands what it returns, and when it is called."""
    text = section(name)
    assert "*Returns*" in text
    assert "*Called*" in text


def test_no_hook_is_explained_that_does_not_exist():
    """Every heading with arguments is a hook's, in the order of the specs."""
    found = re.findall(r"^### (\w+\(.*\))$", GUIDE, re.MULTILINE)
    assert found == [heading(name) for name in HOOKS]


def test_required_and_optional_hooks_are_told_apart():
    """An optional hook says so; a required one does not."""
    required = {"features", "page_formats", *STRATEGIES}
    for name in HOOKS:
        assert ("Optional" in section(name)) == (name not in required), name
    assert set(OPTIONAL) <= HOOKS.keys()


def test_every_rule_is_listed():
    """The table of the kit's rules is the code's, row by row."""
    rows = re.findall(r"^\| `([A-Z]+[0-9]+)` \| (.*?) \|(.*)\|$", GUIDE, re.MULTILINE)
    assert [(rule, sentence) for rule, sentence, _ in rows] == [(each.id, each.sentence) for each in RULES.values()]
    assert [rule for rule, _, owed in rows if "owed" in owed] == [each.id for each in RULES.values() if each.owed]


def test_spec_words_are_explained():
    """Each kind of table is named."""
    for name in SpecWords.__attrs_attrs__:
        assert f"`[[{name.name}]]`" in GUIDE


def test_the_api_number_is_told():
    """As it is."""
    assert f"`api = {API}`" in GUIDE


def test_the_public_interface_is_the_one_checked_in():
    """Names and arguments; a change is made on purpose, with `python tests/public_names.py > docs/public-api.txt`."""
    assert list(lines()) == (ROOT / "docs" / "public-api.txt").read_text(encoding="utf-8").splitlines()
