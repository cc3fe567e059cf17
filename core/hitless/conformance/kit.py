"""What one run of the kit is about: a vendor, its configurations, its spec words, what it declares not to have."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import define, field, frozen

from hitless.check.scenarios import Ground
from hitless.check.suite import feature_sets, ground_of
from hitless.conformance.words import SpecWords
from hitless.errors import HitlessError, PluginError
from hitless.explain.variants import feature_text
from hitless.hardware.vendor import Vendor
from hitless.plugin import Broken, Capability, VendorRegistry

T = TypeVar("T")


class UnknownVendor(HitlessError):
    """No vendor of that name is installed."""


@frozen
class Configuration:
    """One page format with one set of features, resolved.

    Args:
        name: format and what differs from the default features, as reports show it.
        features: all that differ.
        default: it is the format's first: as little as possible does.
    """

    name: str
    vendor: Vendor = field(repr=False)
    features: Mapping[str, Any] = field(factory=dict)
    default: bool = False


@define(eq=False, slots=False)
class Kit:
    """One run.

    Args:
        vendor: its name.
        suite: ``smoke`` or ``full``.
        formats: those that were asked for; empty: all.
        broken: why the plugin did not load; then there is nothing but that to test.
        machine: ``memory``, or ``qemu``: then emulated units are witnesses, too.
    """

    registry: VendorRegistry
    vendor: str
    suite: str = "full"
    formats: tuple[str, ...] = ()
    broken: Broken | None = None
    machine: str = "memory"
    memo: dict[object, Any] = field(factory=dict)

    @classmethod
    def open(cls, name: str, suite: str = "full", formats: Sequence[str] = (), folder: Path | None = None) -> "Kit":
        """The kit for an installed vendor, or for ``module:object``, with a folder to import it from.

        Raises:
            UnknownVendor: there is none of that name; says which there are.
        """
        if ":" in name:
            return cls._under_development(name, suite, tuple(formats), folder)
        registry = VendorRegistry.installed()
        broken = next((each for each in registry.broken if each.name == name), None)
        if broken is None and name not in registry.vendors:
            raise UnknownVendor(
                f"no vendor {name!r} is installed",
                why=f"installed are: {', '.join(sorted(registry.vendors)) or 'none'}",
                do="name one of them, or module:object of one under development",
            )
        return cls(registry, name, suite, tuple(formats), broken)

    @classmethod
    def _under_development(cls, entry: str, suite: str, formats: tuple[str, ...], folder: Path | None) -> "Kit":
        module = entry.partition(":")[0]
        name = module.rpartition(".")[2].removeprefix("hitless_") or module
        registry = VendorRegistry([])
        try:
            registry.add_object(name, entry, path=folder)
        except PluginError as error:
            if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == module.split(".")[0]:
                known = ", ".join(sorted(VendorRegistry.installed().vendors)) or "none"
                raise UnknownVendor(
                    f"there is no module {module!r}",
                    why=f"it was looked for in {folder or 'no folder'} and on sys.path; installed vendors: {known}",
                    do="run pytest where the module lies, or install it",
                ) from error
            return cls(registry, name, suite, formats, Broken(name, "under development", "", entry, error.why))
        plugin = registry.vendors[name].plugin
        kit = cls(registry, name, suite, formats)
        kit._take_name(plugin, entry)
        return kit

    def _take_name(self, plugin: object, entry: str) -> None:
        """A vendor under development is named after its formats: ``acme/table`` is acme's."""
        try:
            first = self.registry.format_names(self.vendor)[0]
        except (HitlessError, IndexError):
            return
        name = str(first).partition("/")[0]
        if name != self.vendor and name:
            self.registry.vendors[name] = attrs.evolve(self.registry.vendors.pop(self.vendor), name=name)
            self.vendor = name

    # -- what the vendor says of itself

    @property
    def distribution(self) -> tuple[str, str]:
        """Name and version of what shipped it."""
        if self.broken is not None:
            return self.broken.distribution, self.broken.version
        source = self.registry.vendors[self.vendor]
        return source.distribution, source.version

    @cached_property
    def faults(self) -> dict[str, str]:
        """What went wrong while the vendor was asked, by configuration; fills :attr:`configurations`."""
        found: dict[str, str] = {}
        self._configurations = list(self._resolved(found))
        return found

    @cached_property
    def configurations(self) -> list[Configuration]:
        """Those that could be resolved: each format with default features, then so many that each value occurs."""
        _ = self.faults
        return self._configurations

    _configurations: list[Configuration] = field(init=False, factory=list)

    @cached_property
    def words(self) -> SpecWords | str:
        """The spec words; a text: why there are none."""
        try:
            text = self.registry.spec_words(self.vendor)
            if not isinstance(text, str):
                told = "is not implemented" if text is None else f"must answer a text, not {text!r:.80}"
                return f"hook spec_words {told}: the kit needs words of the specification to hold the plugin against"
            return SpecWords.parse(text, self.vendor)
        except HitlessError as error:
            return str(error)

    @cached_property
    def capabilities(self) -> list[Capability]:
        """What it declares not to have, in any configuration."""
        if self.broken is not None:
            return []
        found: dict[str, Capability] = {}
        for configuration in self.configurations:
            for each in self.declared(configuration.vendor):
                found.setdefault(each.name, each)
        return list(found.values())

    def declared(self, vendor: Vendor) -> list[Capability]:
        """What it declares not to have in one configuration.

        Raises:
            PluginError: its hook failed, or answered something else.
        """

        def ask() -> list[Capability]:
            found = self.registry.capabilities(self.vendor, vendor.features)
            if strange := [each for each in found if not isinstance(each, Capability)]:
                raise PluginError("hook capabilities must answer Capability objects", why=f"not {strange[0]!r:.80}")
            return found

        return self.remembered(("declared", vendor.features), ask)

    def waiver(self, rule: str, vendor: Vendor) -> Capability | None:
        """The capability that waives a rule in one configuration."""
        for each in self.declared(vendor):
            if rule in each.rules and each.concerns(vendor.page_format.name):
                return each
        return None

    def remembered(self, key: object, make: Callable[[], T]) -> T:
        """What is expensive is made once a process."""
        if key not in self.memo:
            self.memo[key] = make()
        found: T = self.memo[key]
        return found

    def ground(self, configuration: Configuration) -> Ground:
        """What a scenario stands on."""
        vendor = configuration.vendor
        return self.remembered(
            ("ground", configuration.name),
            lambda: ground_of(self.registry, self.vendor, vendor.page_format.name, configuration.features),
        )

    # -- configurations

    def changed(self, configuration: Configuration, features: Mapping[str, Any]) -> Configuration | None:
        """A configuration with some features more; None: there is no such hardware."""
        wanted, name = {**configuration.features, **features}, configuration.vendor.page_format.name
        try:
            if self.registry.feature_faults(self.vendor, wanted, page_format=name):
                return None
            return next(self._configured(name, wanted, {}, default=False), None)
        except HitlessError:
            return None

    def _resolved(self, faults: dict[str, str]) -> Iterator[Configuration]:
        try:
            names = self.registry.format_names(self.vendor)
        except HitlessError as error:
            faults[self.vendor] = str(error)
            return
        for name in names:
            if self.formats and name not in self.formats:
                continue
            try:
                sets = feature_sets(self.registry, self.vendor, name)
            except HitlessError as error:
                faults[name] = str(error)
                continue
            for i, features in enumerate(sets[:1] if self.suite == "smoke" else covering(sets)):
                yield from self._configured(name, features, faults, default=i == 0)

    def _configured(
        self, page_format: str, features: dict[str, Any], faults: dict[str, str], *, default: bool
    ) -> Iterator[Configuration]:
        defaults = {info.name: info.default for info in self.registry.features(self.vendor)}
        differing = {name: value for name, value in features.items() if value != defaults[name]}
        title = " ".join([page_format, *(f"{name}={feature_text(value)}" for name, value in differing.items())])
        try:
            vendor = self.registry.resolve(self.vendor, page_format, differing)
        except HitlessError as error:
            faults[title] = str(error)
            return
        yield Configuration(title, self._sound(vendor, title, faults), differing, default)

    def _sound(self, vendor: Vendor, title: str, faults: dict[str, str]) -> Vendor:
        """The vendor without those of its optional hooks that do not answer: what is wrong with them is told once."""
        for hook in ("rules", "mutants"):
            try:
                getattr(vendor, hook)()
            except HitlessError as error:
                faults[f"{title}, hook {hook}"] = str(error)
                without = {"rules": vendor.rules, "mutants": vendor.mutants, hook: tuple}
                vendor = attrs.evolve(vendor, rules=without["rules"], mutants=without["mutants"])
        try:
            self.declared(vendor)
        except HitlessError as error:
            faults[f"{title}, hook capabilities"] = str(error)
            self.memo["declared", vendor.features] = []
        return vendor


def covering(sets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first configuration, then those that each have a value which has not occurred, most of them first."""
    chosen = list(sets[:1])
    missing = {pair for each in sets for pair in each.items()} - {pair for each in chosen for pair in each.items()}
    while missing:
        best = max(sets, key=lambda each: len(missing & set(each.items())))
        chosen.append(best)
        missing -= set(best.items())
    return chosen


def import_folders(folder: Path) -> None:
    """Make what is developed in a folder importable, as ``python -m`` does."""
    for each in (folder, folder / "src"):
        if each.is_dir() and str(each) not in sys.path:
            sys.path.insert(0, str(each))
