"""``HITLESS_TRACE``: every hook call on standard error."""

import pytest

from hitless.plugin import VendorRegistry

WRAPPED = """
from hitless.plugin import hookimpl
class Plain:
    api = 1
    @hookimpl(wrapper=True)
    def split_rules(self):
        return (yield)
class Angry:
    api = 1
    @hookimpl(tryfirst=True)
    def hardware(self):
        raise RuntimeError("not today")
plain, angry = Plain(), Angry()
"""


@pytest.fixture
def registry(install) -> VendorRegistry:
    """The vendor amd with two extensions of somebody else's."""
    install("plain-ext", "plain_ext", WRAPPED, extensions={"plain": "plain_ext:plain", "angry": "plain_ext:angry"})
    return VendorRegistry.installed(["amd"], ["plain", "angry"])


def test_calls_are_shown_with_arguments_and_answers(registry, monkeypatch, capsys):
    """Who is asked, the wrapper first; then the answer; on standard error, a line each."""
    monkeypatch.setenv("HITLESS_TRACE", "1")
    registry.resolve("amd", extensions=["plain"])
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert all(line.startswith("hitless trace: ") for line in lines)
    assert any("split_rules(page_format=" in line and line.endswith("asks plain, amd") for line in lines)
    assert any("split_rules -> SplitRules(leaf_lg2s=(12, 21, 30)" in line for line in lines)
    assert max(map(len, lines)) < 1000


def test_an_exception_is_shown(registry, monkeypatch, capsys):
    """Before it becomes the error of the hook."""
    monkeypatch.setenv("HITLESS_TRACE", "1")
    with pytest.raises(RuntimeError):
        registry.manager("amd", ["angry"]).hook.hardware(page_format=None, features=None)
    assert "hardware raises RuntimeError: not today" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", "0", None])
def test_without_the_switch_nothing_is_printed(registry, monkeypatch, capsys, value):
    """Neither unset, nor empty, nor 0."""
    if value is None:
        monkeypatch.delenv("HITLESS_TRACE", raising=False)
    else:
        monkeypatch.setenv("HITLESS_TRACE", value)
    registry.resolve("amd")
    assert capsys.readouterr().err == ""
