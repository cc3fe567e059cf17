"""Plugins that load and then break the contract: each is one clear error, and never another's trouble."""

from types import SimpleNamespace

import pytest
from attrs import frozen

import hitless_amd
from hitless.errors import PluginError
from hitless.plugin import PluginSource, VendorRegistry, hookimpl
from hitless.refresh.recipes import SplitRules
from hitless_amd.plugin import AmdPlugin

OWN = "hitless 0.1.0 (hitless_amd:plugin)"


def vendor(plugin, **extensions):
    """A registry with one vendor, amd, and extensions by name."""
    return VendorRegistry(
        [PluginSource("amd", "hitless", "0.1.0", "hitless_amd:plugin", plugin)],
        [PluginSource(name, f"dist-{name}", "1", f"{name}:ext", each) for name, each in extensions.items()],
    )


@frozen
class Unmarked:
    """A features class whose field was not made with ``feature``."""

    mode: int = 4


@frozen
class NoDefault:
    """A features class that cannot be made without an argument."""

    mode: int


def features_are(answer):
    """A vendor with another answer to ``features``."""

    class Plugin(AmdPlugin):
        @hookimpl
        def features(self):
            return answer

    return Plugin()


def formats_are(answer):
    """A vendor with another answer to ``page_formats``."""

    class Plugin(AmdPlugin):
        @hookimpl
        def page_formats(self, features):
            return answer

    return Plugin()


def extension(answer, **options):
    """An extension that answers ``split_rules``."""

    class Plugin:
        api = 1

        @hookimpl(**options)
        def split_rules(self):
            return answer

    return Plugin()


@pytest.mark.parametrize(
    ("hook", "plugin"),
    [
        pytest.param("features", features_are(Unmarked), id="no feature()"),
        pytest.param("features", features_are(NoDefault), id="no default"),
        pytest.param("features", features_are(5), id="no class"),
        pytest.param("page_formats", formats_are({}), id="no format"),
        pytest.param("page_formats", formats_are(["amd/v1"]), id="no mapping"),
    ],
)
def test_an_answer_of_another_kind_is_an_error_that_names_the_hook(hook, plugin):
    """What a hook answers is checked where it is answered: a PluginError with vendor and hook, no traceback."""
    with pytest.raises(PluginError, match=hook) as raised:
        vendor(plugin).resolve("amd")
    assert raised.value.who == "amd"


@pytest.mark.parametrize("names", [("small", "small"), ("amd",)], ids=["twice", "named like the vendor"])
def test_an_extension_under_a_name_that_is_taken_is_an_error(names):
    """Named twice, or named like the vendor: a PluginError that names it."""
    with pytest.raises(PluginError, match=names[0]):
        vendor(hitless_amd.plugin, **{names[0]: extension(None)}).resolve("amd", extensions=names)


def test_a_plugin_whose_api_raises_does_not_load():
    """Reported with its cause, and the others go on."""

    class Plugin(AmdPlugin):
        @property
        def api(self):
            raise RuntimeError("no api today")

    (broken,) = vendor(Plugin()).broken
    assert "no api today" in broken.cause


def test_a_module_that_exits_does_not_end_hitless(monkeypatch):
    """``sys.exit`` in a stranger's module is a broken plugin, named like any other."""

    def leave():
        raise SystemExit("bye")

    entry = SimpleNamespace(
        name="moon", value="moon:plugin", dist=SimpleNamespace(name="moon-dist", version="3"), load=leave
    )
    monkeypatch.setattr(
        "hitless.plugin.manager.entry_points", lambda *, group: [entry] if group == "hitless.vendors" else []
    )
    (broken,) = VendorRegistry.installed().broken
    assert broken.cause == "SystemExit: bye"


def test_two_extensions_may_not_replace_the_features():
    """Never a matter of load order: this hook like all others."""

    class Features:
        api = 1

        @hookimpl(tryfirst=True)
        def features(self):
            return hitless_amd.plugin.features()

    with pytest.raises(PluginError, match="both replace features"):
        vendor(hitless_amd.plugin, one=Features(), two=Features()).resolve("amd", extensions=["one", "two"])


@pytest.mark.parametrize(
    "plugin",
    [
        pytest.param(extension(SplitRules((12,), "EXT-1"), trylast=True), id="asked last"),
        pytest.param(extension(None, tryfirst=True), id="without an answer"),
    ],
)
def test_the_origin_is_who_answered(plugin):
    """An extension that was not asked, or had no answer, is not named as the origin of the vendor's own."""
    resolved = vendor(hitless_amd.plugin, quiet=plugin).resolve("amd", extensions=["quiet"])
    assert resolved.split_rules == vendor(hitless_amd.plugin).resolve("amd").split_rules
    assert resolved.origins["split_rules"] == OWN


def test_a_vendor_that_cannot_be_resolved_is_set_aside():
    """Where nobody named it, it is listed with its cause, and the others go on."""
    registry = VendorRegistry(
        [
            PluginSource("bad", "bad-dist", "1", "bad:plugin", formats_are({})),
            PluginSource("amd", "hitless", "0.1.0", "hitless_amd:plugin", hitless_amd.plugin),
        ]
    )
    registry.set_aside_unusable()
    assert list(registry.vendors) == ["amd"]
    assert [each.name for each in registry.broken] == ["bad"]
