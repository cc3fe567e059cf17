"""Rules of third parties: added through a hook, judged like core's."""

import importlib
from typing import ClassVar

import pytest

from hitless.check import check
from hitless.check.engine import Engine
from hitless.check.rules import Rule
from hitless.check.stage import Setting, Stage
from hitless.errors import PluginError
from hitless.guest_memfd.guest import GUEST
from hitless.plan import Wait
from hitless.plugin import PluginSource, VendorRegistry, hookimpl


class NoTwoWaits(Rule):
    """A house rule: one wait is enough for anybody."""

    id: ClassVar[str] = "acme.X1"
    sentence: ClassVar[str] = "a plan waits once"
    seen = 0

    def waited(self, engine: Engine, step: Wait) -> None:
        self.seen += 1
        if self.seen > 1:
            self.broken(engine, 0, 1, f"wait number {self.seen}")


class Acme:
    """An extension that brings the rule."""

    api = 1

    @hookimpl
    def rules(self, page_format, features):
        return [NoTwoWaits]


class Broken(Acme):
    """An extension whose hook fails."""

    @hookimpl
    def rules(self, page_format, features):
        raise ZeroDivisionError("no rules today")


def vendor_with(extension):
    """AMD with an extension."""
    amd = PluginSource("amd", "hitless", "0", "hitless_amd:plugin", importlib.import_module("hitless_amd").plugin)
    acme = PluginSource("acme", "acme", "1", "acme:plugin", extension)
    return VendorRegistry([amd], [acme]).resolve("amd", extensions=["acme"])


def one_page(vendor):
    """The report of one page's conversion."""
    with Stage.open(vendor, Setting("separate")) as stage:
        stage.share_all()
        (subject,) = stage.plans([(0x40005000, 0x40006000)], GUEST)
        return check(subject)


def test_a_rule_of_an_extension_is_judged_beside_those_of_core():
    """It breaks under its own id, once a check: each check has rules of its own."""
    vendor = vendor_with(Acme())
    for _ in range(2):
        report = one_page(vendor)
        assert report.rules == ("acme.X1",)
        assert report.violations[0].what == "wait number 2"


def test_a_hook_that_fails_is_named():
    """The error says whose hook it was, and why."""
    with pytest.raises(PluginError, match="hook rules failed") as raised:
        one_page(vendor_with(Broken()))
    assert raised.value.who == "amd" and "no rules today" in raised.value.why
