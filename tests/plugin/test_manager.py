"""The manager: what loads, what does not and why, and that no plugin can answer for another."""

from types import SimpleNamespace

import pytest
from attrs import evolve

import hitless_amd
import hitless_arm_smmu
from hitless.errors import PluginError
from hitless.guest_memfd.conversion import ConversionRecord
from hitless.plugin import PluginSource, VendorRegistry, hookimpl
from hitless.refresh.recipes import SplitRules
from hitless_amd.plugin import AmdPlugin

HOOKS = ("features", "page_formats", "split_rules", "recipes", "commands", "events", "hardware", "ownership")
SMALL = SplitRules((12,), "EXT-1")


class Entry:
    """An entry point of a distribution, as far as the manager looks at one."""

    def __init__(self, name, plugin, dist="stranger", version="9.1", value="stranger_mod:plugin"):
        self.name, self.value = name, value
        self.dist = SimpleNamespace(name=dist, version=version)
        self.loads = 0
        self._plugin = plugin

    def load(self):
        self.loads += 1
        if isinstance(self._plugin, BaseException):
            raise self._plugin
        return self._plugin


@pytest.fixture
def environment(monkeypatch):
    """Make the entry points of two groups; nothing else is installed."""

    def install(*vendors, extensions=()):
        groups = {"hitless.vendors": list(vendors), "hitless.extensions": list(extensions)}
        monkeypatch.setattr("hitless.plugin.manager.entry_points", lambda *, group: groups[group])
        return VendorRegistry.installed()

    return install


def good(name="amd"):
    """The entry of a vendor that works."""
    return Entry(name, hitless_amd.plugin, "hitless", "0.1.0", "hitless_amd:plugin")


def registry(vendor=None, **extensions):
    """The amd vendor, or another under the name amd, with extensions by name."""
    return VendorRegistry(
        [PluginSource("amd", "hitless", "0.1.0", "hitless_amd:plugin", vendor or hitless_amd.plugin)],
        [PluginSource(name, f"dist-{name}", "1", f"{name}:ext", plugin) for name, plugin in extensions.items()],
    )


# -- plugins to break things with


class Misspelt(AmdPlugin):
    """Has one hook that there is not."""

    @hookimpl
    def split_rulez(self, page_format, features):
        return SMALL


class WrongArgument(AmdPlugin):
    """Has a hook with an argument that there is not."""

    @hookimpl
    def split_rules(self, page_fromat, features):
        return SMALL


class Incomplete:
    """Answers two of the hooks that a vendor has to answer."""

    api = 1

    @hookimpl
    def features(self):
        return hitless_amd.plugin.features()

    @hookimpl
    def commands(self, page_format, features):
        return hitless_amd.plugin.commands(page_format, features)


class WrongApi(AmdPlugin):
    """Written for a contract to come."""

    api = 2


class NoApi:
    """Not a plugin at all."""


class Raises(AmdPlugin):
    """One hook raises."""

    @hookimpl
    def recipes(self, page_format, features):
        raise ZeroDivisionError("a recipe divided by zero")


class NoAnswer(AmdPlugin):
    """One hook has no answer."""

    @hookimpl
    def events(self, page_format, features):
        return None


class Replacing:
    """An extension that answers first."""

    api = 1

    @hookimpl(tryfirst=True)
    def split_rules(self, page_format, features):
        return SMALL


class Wrapping:
    """Takes the smallest leaf that the wrapped answer allows."""

    api = 1

    @hookimpl(wrapper=True)
    def split_rules(self, page_format, features):
        rules = yield
        return evolve(rules, leaf_lg2s=rules.leaf_lg2s[:1])


class Shrinking:
    """Takes the largest leaf away."""

    api = 1

    @hookimpl(wrapper=True)
    def split_rules(self, page_format, features):
        rules = yield
        return evolve(rules, leaf_lg2s=rules.leaf_lg2s[:-1])


class Observer:
    """An extension that only listens."""

    api = 1

    def __init__(self):
        self.seen = []

    @hookimpl
    def conversion_done(self, record):
        self.seen.append(record)


class Greedy(AmdPlugin):
    """Wants to be asked first, for everybody, and answers nonsense."""

    @hookimpl(tryfirst=True)
    def split_rules(self, page_format, features):
        return SMALL

    @hookimpl(tryfirst=True)
    def hardware(self, page_format, features):
        raise RuntimeError("nobody may ask me")


# -- loading


def test_a_vendor_that_fails_to_import_leaves_the_others(environment):
    """The broken one is named with distribution, version, entry and cause; the good one works."""
    found = environment(good(), Entry("moon", ImportError("no module named luna"), "moon-dist", "3.2", "moon:plugin"))
    assert set(found.vendors) == {"amd"}
    (broken,) = found.broken
    assert (broken.name, broken.distribution, broken.version, broken.entry) == (
        "moon",
        "moon-dist",
        "3.2",
        "moon:plugin",
    )
    assert broken.cause == "ImportError: no module named luna"
    assert found.resolve("amd").page_format.name == "amd/v1"


@pytest.mark.parametrize("error", [SyntaxError("bad"), AttributeError("plugin"), ZeroDivisionError("at import")])
def test_whatever_an_import_raises_is_reported(environment, error):
    """Not only ImportError: a stranger's module may do anything."""
    found = environment(good(), Entry("moon", error))
    assert set(found.vendors) == {"amd"}
    assert found.broken[0].cause == f"{type(error).__name__}: {error.args[0]}"


def test_naming_a_broken_vendor_says_why(environment):
    """A user who asks for it gets one error: who, where, why, and what to do."""
    found = environment(good(), Entry("moon", ImportError("no luna"), "moon-dist", "3.2", "moon:plugin"))
    with pytest.raises(PluginError) as raised:
        found.resolve("moon")
    error = raised.value
    assert error.who == "moon"
    assert error.where == "moon-dist 3.2, entry moon:plugin"
    assert error.why == "ImportError: no luna"
    assert "moon-dist" in str(error)
    assert error.do


def test_a_misspelt_hook_is_named_with_the_legal_ones(environment):
    """The fault names the hook that there is not, and all that there are; others go on."""
    found = environment(good(), Entry("moon", Misspelt(), "moon-dist", "3.2", "moon:plugin"))
    assert set(found.vendors) == {"amd"}
    (broken,) = found.broken
    assert (broken.distribution, broken.version, broken.entry) == ("moon-dist", "3.2", "moon:plugin")
    assert "split_rulez" in broken.cause
    for hook in (*HOOKS, "conversion_done"):
        assert f" {hook}" in broken.cause
    assert "\n" not in broken.cause


def test_a_hook_with_a_misspelt_argument_does_not_load(environment):
    """A signature that core does not call is a fault at loading, not at the first conversion."""
    found = environment(good(), Entry("moon", WrongArgument()))
    assert set(found.vendors) == {"amd"}
    assert "page_fromat" in found.broken[0].cause


def test_missing_hooks_are_all_named(environment):
    """A vendor has to answer every hook but the observer's."""
    (broken,) = environment(Entry("moon", Incomplete())).broken
    missing = broken.cause.removeprefix("hooks not implemented: ").split(", ")
    assert missing == [hook for hook in HOOKS if hook not in ("features", "commands")]


def test_an_extension_may_have_one_hook(environment):
    """What a vendor has to have, an extension need not."""
    found = environment(good(), extensions=[Entry("small", Replacing())])
    assert set(found.extensions) == {"small"}
    assert not found.broken


@pytest.mark.parametrize(("plugin", "shown"), [(WrongApi(), "not 2"), (NoApi(), "not None"), (None, "not None")])
def test_another_api_does_not_load(environment, plugin, shown):
    """The number of the contract is checked before anything is asked."""
    found = environment(good(), Entry("moon", plugin), extensions=[Entry("ext", plugin)])
    assert set(found.vendors) == {"amd"}
    assert not found.extensions
    for broken in found.broken:
        assert "api = 1" in broken.cause
        assert shown in broken.cause
    assert {broken.name for broken in found.broken} == {"moon", "ext"}


def test_two_distributions_with_one_vendor_name(environment):
    """Neither loads, not even its module; both are named, in each report; the others go on."""
    one = Entry("moon", hitless_amd.plugin, "first-dist", "1.0", "first:plugin")
    two = Entry("moon", hitless_amd.plugin, "second-dist", "2.0", "second:plugin")
    found = environment(one, good(), two)
    assert set(found.vendors) == {"amd"}
    assert (one.loads, two.loads) == (0, 0)
    assert {(b.distribution, b.version, b.entry) for b in found.broken} == {
        ("first-dist", "1.0", "first:plugin"),
        ("second-dist", "2.0", "second:plugin"),
    }
    for broken in found.broken:
        assert "first-dist 1.0" in broken.cause
        assert "second-dist 2.0" in broken.cause
    with pytest.raises(PluginError, match="moon") as raised:
        found.vendor("moon")
    assert "first-dist 1.0 and second-dist 2.0" in raised.value.why


def test_one_distribution_that_is_seen_twice_is_one(environment):
    """Two folders of the search path may hold the same metadata: no conflict."""
    found = environment(good(), good())
    assert set(found.vendors) == {"amd"}
    assert not found.broken


def test_only_what_is_named_is_imported(environment):
    """A configuration that names one vendor runs no other's code."""
    one, other = good(), Entry("moon", hitless_amd.plugin)
    environment(one, other, extensions=[Entry("ext", Replacing())])
    before = other.loads
    found = VendorRegistry.installed(["amd"], [])
    assert set(found.vendors) == {"amd"}
    assert not found.extensions
    assert other.loads == before


def test_an_unknown_vendor_is_told_what_is_installed(environment):
    """The way out stands in the error."""
    found = environment(good(), Entry("moon", AmdPlugin()))
    with pytest.raises(PluginError, match="no vendor 'mars' is installed") as raised:
        found.vendor("mars")
    assert "amd, moon" in raised.value.do


def test_no_vendor_at_all_is_said(environment):
    """With nothing installed there is nothing to choose from."""
    with pytest.raises(PluginError) as raised:
        environment().vendor("amd")
    assert "no plugin is installed" in raised.value.do


def test_an_unknown_extension_is_an_error():
    """One that is named and not there, and which there are."""
    with pytest.raises(PluginError, match="no extension 'big'") as raised:
        registry(small=Replacing()).resolve("amd", extensions=["big"])
    assert "small" in raised.value.do


# -- answers


def test_a_hook_that_raises_is_named_with_its_cause():
    """The error names vendor, hook, exception and text, and keeps the cause."""
    with pytest.raises(PluginError, match="hook recipes failed") as raised:
        registry(Raises()).resolve("amd")
    assert raised.value.who == "amd"
    assert raised.value.why == "ZeroDivisionError: a recipe divided by zero"
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_hook_without_an_answer_is_named():
    """None is no strategy."""
    with pytest.raises(PluginError, match="hook events gave no answer"):
        registry(NoAnswer()).resolve("amd")


def test_a_broken_strategy_of_one_vendor_leaves_the_others(environment):
    """A vendor whose hook raises does not touch the one beside it."""
    found = environment(good(), Entry("moon", Raises()))
    with pytest.raises(PluginError):
        found.resolve("moon")
    assert found.resolve("amd").recipes == registry().resolve("amd").recipes


def test_no_plugin_answers_for_another_vendor(environment):
    """A plugin that wants to be first everywhere is asked for its own vendor alone."""
    found = environment(Entry("greedy", Greedy()), good(), Entry("arm_smmu", hitless_arm_smmu.plugin))
    assert not found.broken
    amd, arm = found.resolve("amd"), found.resolve("arm_smmu")
    assert amd.split_rules == registry().resolve("amd").split_rules
    assert amd.split_rules != SMALL
    assert arm.page_format.name.startswith("arm_smmu/")
    assert all("stranger_mod" not in origin for origin in amd.origins.values())
    with pytest.raises(PluginError, match="hook hardware failed"):
        found.resolve("greedy")


def test_extensions_work_where_they_are_named():
    """One that is installed and not named changes nothing."""
    found = registry(small=Replacing())
    assert found.resolve("amd").split_rules.leaf_lg2s == (12, 21, 30)
    assert found.resolve("amd", extensions=["small"]).split_rules == SMALL
    assert found.resolve("amd").split_rules.leaf_lg2s == (12, 21, 30)


def test_the_origin_of_a_replaced_strategy_is_the_extension():
    """The record says who answered: the extension for its strategy, the vendor for all others."""
    origins = registry(small=Replacing()).resolve("amd", extensions=["small"]).origins
    own = "hitless 0.1.0 (hitless_amd:plugin)"
    assert origins["split_rules"] == "dist-small 1 (small:ext)"
    assert {name: origin for name, origin in origins.items() if name != "split_rules"} == dict.fromkeys(
        (
            "features",
            "page_formats",
            "recipes",
            "commands",
            "events",
            "hardware",
            "ownership",
            "structures",
            "emulator",
        ),
        own,
    )


def test_the_origin_of_a_wrapped_strategy_names_both():
    """Who answered, and who changed the answer."""
    vendor = registry(wrap=Wrapping()).resolve("amd", extensions=["wrap"])
    assert vendor.split_rules.leaf_lg2s == (12,)
    assert vendor.origins["split_rules"] == "hitless 0.1.0 (hitless_amd:plugin) wrapped by dist-wrap 1 (wrap:ext)"


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_two_extensions_may_not_replace_one_strategy(order):
    """A fault that names both and the strategy, in whatever order they are named."""
    with pytest.raises(PluginError, match="both replace split_rules") as raised:
        registry(one=Replacing(), two=Replacing()).resolve("amd", extensions=order)
    assert "'one'" in raised.value.what
    assert "'two'" in raised.value.what
    assert "extensions" in raised.value.do


def test_a_replacement_can_be_wrapped():
    """A wrapper beside a replacement is no conflict; the record names both."""
    vendor = registry(small=Replacing(), wrap=Wrapping()).resolve("amd", extensions=["small", "wrap"])
    assert vendor.split_rules == SMALL
    assert vendor.origins["split_rules"] == "dist-small 1 (small:ext) wrapped by dist-wrap 1 (wrap:ext)"


def test_wrappers_add_up():
    """Each wraps what the others left."""
    vendor = registry(a=Shrinking(), b=Shrinking()).resolve("amd", extensions=["a", "b"])
    assert vendor.split_rules.leaf_lg2s == (12,)
    assert vendor.origins["split_rules"].count(" wrapped by ") == 2


def test_an_extension_that_raises_is_an_error():
    """A wrapper's exception is reported like a vendor's."""

    class Broken:
        api = 1

        @hookimpl(wrapper=True)
        def split_rules(self, page_format, features):
            yield
            raise KeyError("leaf")

    with pytest.raises(PluginError, match="hook split_rules failed") as raised:
        registry(bad=Broken()).resolve("amd", extensions=["bad"])
    assert "KeyError" in raised.value.why


def test_observers_are_told_once():
    """Every observer that is named hears of a conversion, the vendor's hooks are not asked."""
    one, two = Observer(), Observer()
    found = registry(one=one, two=two)
    record = ConversionRecord(((0x1000, 0x2000),), 0, ("amd",), "complete")
    found.manager("amd", ["one"]).hook.conversion_done(record=record)
    assert (one.seen, two.seen) == ([record], [])


def test_an_unknown_format_names_the_known_ones():
    """And the first format is the default."""
    assert registry().format_names("amd")[0] == registry().resolve("amd").page_format.name == "amd/v1"
    with pytest.raises(PluginError, match="no page format 'amd/v9'") as raised:
        registry().resolve("amd", "amd/v9")
    assert "amd/v1" in raised.value.do
