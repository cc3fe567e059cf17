"""The manager: finds plugins, keeps each vendor apart, and resolves its strategies.

Every vendor has a pluggy manager of its own that holds its plugin and the extensions that were
named for it, so that no plugin can answer for another, or break it.
"""

import importlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

import pluggy
from attrs import frozen

from hitless.errors import HitlessError, PluginError
from hitless.hardware.vendor import Vendor
from hitless.pagetable import PageFormat
from hitless.plugin.capabilities import Capability
from hitless.plugin.features import FeatureInfo, feature_infos, impossible, impossible_for
from hitless.plugin.specs import API, OPTIONAL, PROJECT, STRATEGIES, Specs
from hitless.plugin.tracing import trace_hooks

VENDORS = "hitless.vendors"
EXTENSIONS = "hitless.extensions"
_REQUIRED = ("features", "page_formats", *STRATEGIES)


@frozen
class PluginSource:
    """A plugin that loaded: an object, and who shipped it."""

    name: str
    distribution: str
    version: str
    entry: str
    plugin: object

    @property
    def origin(self) -> str:
        """Distribution, version and entry: ``hitless 0.1.0 (hitless_amd:plugin)``."""
        return f"{self.distribution} {self.version} ({self.entry})".replace("  ", " ")


@frozen
class Broken:
    """A plugin that did not load; the others go on."""

    name: str
    distribution: str
    version: str
    entry: str
    cause: str

    def error(self) -> PluginError:
        """The same as an error, for a user who named this plugin."""
        return PluginError(
            f"plugin {self.name!r} did not load",
            who=self.name,
            where=f"{self.distribution} {self.version}, entry {self.entry}",
            why=self.cause,
            do="mend or uninstall that distribution; `hitless vendors` lists all plugins and their state",
        )


class VendorRegistry:
    """All plugins that were asked for: vendors, extensions, and what is broken."""

    def __init__(
        self,
        vendors: Iterable[PluginSource],
        extensions: Iterable[PluginSource] = (),
        broken: Iterable[Broken] = (),
    ) -> None:
        self.broken = list(broken)
        self.vendors: dict[str, PluginSource] = {}
        self.extensions: dict[str, PluginSource] = {}
        self._managers: dict[tuple[str, ...], tuple[list[object], pluggy.PluginManager]] = {}
        for found, sources, required in (
            (self.vendors, vendors, _REQUIRED),
            (self.extensions, extensions, ()),
        ):
            for source in sources:
                fault = _fault(source.plugin, required)
                if fault:
                    self.broken.append(Broken(source.name, source.distribution, source.version, source.entry, fault))
                else:
                    found[source.name] = source

    @classmethod
    def installed(
        cls, vendors: Iterable[str] | None = None, extensions: Iterable[str] | None = None
    ) -> "VendorRegistry":
        """Plugins of installed distributions; only those named are imported (None: all)."""
        broken: list[Broken] = []
        loaded = {
            group: list(_load(group, None if only is None else set(only), broken))
            for group, only in ((VENDORS, vendors), (EXTENSIONS, extensions))
        }
        return cls(loaded[VENDORS], loaded[EXTENSIONS], broken)

    def add_object(self, name: str, entry: str, path: str | Path | None = None, *, extension: bool = False) -> None:
        """Load a plugin under development from ``module:object``, with an optional folder to import it from.

        Raises:
            PluginError: it cannot be imported, or breaks the contract.
        """
        if path is not None and str(path) not in sys.path:
            sys.path.insert(0, str(path))
        module, _, attribute = entry.partition(":")
        try:
            plugin: object = importlib.import_module(module)
            for part in filter(None, attribute.split(".")):
                plugin = getattr(plugin, part)
        except Exception as error:
            raise Broken(name, "under development", "", entry, _cause(error)).error() from error
        fault = _fault(plugin, () if extension else _REQUIRED)
        if fault:
            raise Broken(name, "under development", "", entry, fault).error()
        known = self.extensions if extension else self.vendors
        known[name] = PluginSource(name, "under development", "", entry, plugin)

    def vendor(self, name: str) -> PluginSource:
        """A vendor's plugin.

        Raises:
            PluginError: it is broken, or there is none of that name.
        """
        return self._named(name, self.vendors, "vendor")

    def _named(self, name: str, known: Mapping[str, PluginSource], what: str) -> PluginSource:
        if name in known:
            return known[name]
        for each in self.broken:
            if each.name == name:
                raise each.error()
        raise PluginError(
            f"no {what} {name!r} is installed",
            do=f"choose one of {', '.join(sorted(known)) or 'none: no plugin is installed'}",
        )

    def set_aside_unusable(self) -> None:
        """Move vendors whose strategies cannot be resolved to the broken ones: the others go on."""
        for name, source in list(self.vendors.items()):
            try:
                self.resolve(name)
            except PluginError as error:
                cause = f"{error.what}: {error.why or error.do}"
                self.broken.append(Broken(name, source.distribution, source.version, source.entry, cause))
                del self.vendors[name]

    # -- resolving

    def manager(self, vendor: str, extensions: Sequence[str] = ()) -> pluggy.PluginManager:
        """A pluggy manager with one vendor's plugin and the named extensions, and nobody else's.

        It is made once; and again where another plugin stands under one of the names by now.
        """
        named = [self.vendor(vendor), *(self._named(name, self.extensions, "extension") for name in extensions)]
        plugins = [each.plugin for each in named]
        known, manager = self._managers.get((vendor, *extensions), (None, None))
        if manager is None or known != plugins:
            manager = self._manager(vendor, extensions, plugins)
            self._managers[vendor, *extensions] = plugins, manager
        return manager

    def _manager(self, vendor: str, extensions: Sequence[str], plugins: Sequence[object]) -> pluggy.PluginManager:
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(Specs)
        trace_hooks(manager)
        manager.register(plugins[0], name=vendor)
        for name, plugin in zip(extensions, plugins[1:], strict=True):
            try:
                manager.register(plugin, name=name)
            except ValueError as error:
                raise PluginError(
                    f"extension {name!r} is named twice, or like the vendor",
                    who=vendor,
                    why=_cause(error),
                    do="give each extension once, under a name of its own",
                ) from error
        return manager

    def features(self, vendor: str, extensions: Sequence[str] = ()) -> list[FeatureInfo]:
        """The features that a vendor declares."""
        return list(feature_infos(_features_class(self.manager(vendor, extensions), vendor)))

    def format_names(self, vendor: str, extensions: Sequence[str] = ()) -> list[str]:
        """A vendor's page formats, the default one first."""
        manager = self.manager(vendor, extensions)
        return list(_formats(manager, vendor, _features_class(manager, vendor)()))

    def capabilities(self, vendor: str, features: Any, extensions: Sequence[str] = ()) -> list[Capability]:
        """What the vendor, as set up with an instance of its features class, declares not to have.

        Raises:
            PluginError: the hook failed.
        """
        return list(_joined(self.manager(vendor, extensions), vendor, "capabilities", {"features": features}))

    def spec_words(self, vendor: str) -> str | None:
        """The text of the vendor's spec words; None: it has none.

        Raises:
            PluginError: the hook failed.
        """
        manager = self.manager(vendor)
        return _ask(manager, vendor, "spec_words") if manager.hook.spec_words.get_hookimpls() else None

    def feature_faults(
        self, vendor: str, values: Mapping[str, Any], extensions: Sequence[str] = (), page_format: str = ""
    ) -> list[str]:
        """What is wrong with feature values, each as ``problem @ .key``.

        Where each value is legal, but hardware does not have the combination, the vendor's own sentence.
        """
        known = {info.name: info for info in self.features(vendor, extensions)}
        faults = []
        for key, value in values.items():
            info = known.get(key)
            if info is None:
                faults.append(f"{vendor} has no feature {key!r}, it has {', '.join(known) or 'none'} @ .{key}")
            elif type(value) is not type(info.default):
                faults.append(f"expected {type(info.default).__name__}, not {value!r} @ .{key}")
            elif info.values and value not in info.values:
                legal = ", ".join(repr(each) for each in info.values)
                faults.append(f"{value!r} is not legal, use {legal} @ .{key}")
        if not faults:
            cls = _features_class(self.manager(vendor, extensions), vendor)
            faults += filter(None, [_impossible(cls(**values), vendor, page_format)])
        return faults

    def resolve(
        self,
        vendor: str,
        page_format: str = "",
        features: Mapping[str, Any] | None = None,
        extensions: Sequence[str] = (),
        *,
        exact: PageFormat | None = None,
    ) -> Vendor:
        """All strategies of a vendor for one format (its default one if none is named).

        ``exact``: the format as tables in memory have it, which may have other levels than the features say.

        Raises:
            PluginError: a hook failed, a format or feature is unknown, or two extensions replace one strategy.
        """
        source = self.vendor(vendor)
        manager = self.manager(vendor, extensions)
        if faults := self.feature_faults(vendor, features or {}, extensions):
            raise PluginError("features are not usable", who=vendor, why="; ".join(faults))
        chosen = _features_class(manager, vendor)(**(features or {}))
        formats = _formats(manager, vendor, chosen)
        name = page_format or next(iter(formats))
        if name not in formats:
            raise PluginError(f"no page format {name!r}", who=vendor, do=f"choose one of {', '.join(formats)}")
        used = exact or formats[name]
        strategy = {"page_format": used, "features": chosen}
        asked: dict[str, dict[str, Any]] = {"features": {}, "page_formats": {"features": chosen}}
        answered = [hook for hook in OPTIONAL if getattr(manager.hook, hook).get_hookimpls()]
        hooks = (*STRATEGIES, *answered)
        asked |= dict.fromkeys(hooks, strategy)
        origins = {hook: self._origin(manager, hook, vendor, arguments) for hook, arguments in asked.items()}
        answers = {hook: _ask(manager, vendor, hook, **strategy) for hook in hooks}
        return Vendor(
            name=vendor,
            distribution=source.distribution,
            version=source.version,
            page_format=used,
            features=chosen,
            origins=origins,
            rules=partial(_joined, manager, vendor, "rules", strategy),
            mutants=partial(_joined, manager, vendor, "mutants", strategy),
            **answers,
        )

    def _origin(self, manager: pluggy.PluginManager, hook: str, vendor: str, arguments: Mapping[str, Any]) -> str:
        """Which distributions answer a hook: who replaces it, and who wraps it."""
        impls = list(reversed(getattr(manager.hook, hook).get_hookimpls()))
        replacing = [impl for impl in impls if not (impl.wrapper or impl.hookwrapper)]
        extending = [impl.plugin_name for impl in replacing if impl.plugin_name != vendor]
        if len(extending) > 1:
            raise PluginError(
                f"extensions {' and '.join(map(repr, extending))} both replace {hook}",
                who=vendor,
                do="name only one of them in `extensions`, or make one a wrapper",
            )
        names = [vendor]
        if extending and _answers_first(replacing, arguments, vendor, hook) != vendor:
            names = extending
        names += [impl.plugin_name for impl in impls if impl.wrapper or impl.hookwrapper]
        known = {**self.extensions, vendor: self.vendors[vendor]}
        return " wrapped by ".join(known[name].origin for name in names)


def _ask(manager: pluggy.PluginManager, vendor: str, hook: str, **arguments: Any) -> Any:
    """Call one hook; an exception in it, or no answer, becomes an error that names it."""
    try:
        answer = getattr(manager.hook, hook)(**arguments)
    except HitlessError:
        raise
    except Exception as error:
        raise PluginError(f"hook {hook} failed", who=vendor, why=_cause(error), do="mend the plugin") from error
    if answer is None:
        raise PluginError(f"hook {hook} gave no answer", who=vendor, do="implement it; see the hook specs")
    return answer


def _joined(manager: pluggy.PluginManager, vendor: str, hook: str, strategy: Mapping[str, Any]) -> list[Any]:
    """What a vendor and its extensions answer together: a hook that everybody adds to."""
    try:
        return [each for answer in reversed(getattr(manager.hook, hook)(**strategy)) for each in answer]
    except Exception as error:
        raise PluginError(f"hook {hook} failed", who=vendor, why=_cause(error), do="mend the plugin") from error


def _features_class(manager: pluggy.PluginManager, vendor: str) -> type:
    """The features class, of a kind that core can use."""
    cls = _ask(manager, vendor, "features")
    try:
        list(feature_infos(cls))
        cls()
    except Exception as error:
        raise PluginError(
            "the answer of hook features is not a features class",
            who=vendor,
            why=_cause(error),
            do="answer an attrs class whose fields were all made with hitless.plugin.feature",
        ) from error
    return cast(type, cls)


def _impossible(features: Any, vendor: str, page_format: str) -> str | None:
    """The vendor's sentence about a combination that no hardware has."""
    try:
        return impossible(features) or (impossible_for(features, page_format) if page_format else None)
    except Exception as error:
        raise PluginError("the features class cannot tell what is impossible", who=vendor, why=_cause(error)) from error


def _formats(manager: pluggy.PluginManager, vendor: str, features: Any) -> Mapping[str, PageFormat]:
    """The page formats, of a kind that core can use."""
    formats = _ask(manager, vendor, "page_formats", features=features)
    if not isinstance(formats, Mapping) or not formats:
        raise PluginError(
            f"the answer of hook page_formats must be a mapping with at least one format, not {formats!r}", who=vendor
        )
    return formats


def _answers_first(impls: Sequence[Any], arguments: Mapping[str, Any], vendor: str, hook: str) -> str:
    """The plugin whose answer counts: the first that is not None."""
    for impl in impls:
        try:
            if impl.function(*(arguments[name] for name in impl.argnames)) is not None:
                return str(impl.plugin_name)
        except Exception as error:
            raise PluginError(f"hook {hook} of {impl.plugin_name} failed", who=vendor, why=_cause(error)) from error
    return vendor


def _load(group: str, only: set[str] | None, broken: list[Broken]) -> Iterable[PluginSource]:
    """Import the named entry points of a group; two with one name are both left out."""
    by_name: dict[str, list[EntryPoint]] = defaultdict(list)
    for entry in entry_points(group=group):
        if only is None or entry.name in only:
            by_name[entry.name].append(entry)
    for name, entries in sorted(by_name.items()):
        distinct = {(_distribution(entry), entry.value): entry for entry in entries}
        if len(distinct) > 1:
            both = " and ".join(f"{dist[0]} {dist[1]}" for dist, _ in distinct)
            for (dist, version), value in distinct:
                broken.append(Broken(name, dist, version, value, f"the name {name!r} is taken twice: by {both}"))
            continue
        entry = entries[0]
        dist, version = _distribution(entry)
        try:
            yield PluginSource(name, dist, version, entry.value, entry.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's import may raise anything
            broken.append(Broken(name, dist, version, entry.value, _cause(error)))


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown distribution", "")


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _fault(plugin: object, required: Sequence[str]) -> str:
    """What is wrong with a plugin object, or an empty text."""
    try:
        api = getattr(plugin, "api", None)
    except Exception as error:  # noqa: BLE001 - a stranger's property may raise anything
        return f"its attribute api cannot be read: {_cause(error)}"
    if api != API:
        return f"the plugin object must have api = {API}, not {api!r}"
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    try:
        name = manager.register(plugin)
        manager.check_pending()
    except Exception as error:  # noqa: BLE001 - reported with the plugin's name
        known = ", ".join(attr for attr in vars(Specs) if not attr.startswith("_"))
        return f"{error}; hooks are {known}".replace("\n", " ")
    if name is None:
        return "pluggy refused to register it"
    callers = manager.get_hookcallers(manager.get_plugin(name)) or []
    missing = [hook for hook in required if hook not in {caller.name for caller in callers}]
    return f"hooks not implemented: {', '.join(missing)}" if missing else ""
