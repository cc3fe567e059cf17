"""Vendors that are broken on purpose: the starter of ``hitless new-vendor`` with one mistake each."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import attrs
import numpy as np
from attrs import frozen
from hitless_acme.commands import AcmeCommands
from hitless_acme.events import AcmeEvents
from hitless_acme.ownership import AcmeOwnership
from hitless_acme.page_format import LEAF, AcmeFormat
from hitless_acme.plugin import AcmePlugin
from hitless_acme.structures import AcmeStructures

from hitless.bits import Layout, bit, reserved
from hitless.conformance.cases import Case
from hitless.errors import Refused
from hitless.hardware.facts import Completes, Drops
from hitless.hardware.structures import Found
from hitless.ownership import Verdict
from hitless.pagetable import LeafSize, Position
from hitless.plugin import Capability, hookimpl
from hitless.refresh.recipes import Recipe, Round, Scope, SplitRules, new_word, one_store

HOOKS = {name: value for name, value in vars(AcmePlugin).items() if callable(value) and not name.startswith("_")}


def anything(case: Case) -> bool:
    """Every case of the rule."""
    return True


def named(*names: str) -> Callable[[Case], bool]:
    """Cases of these names."""
    return lambda case: case.name in names


@frozen
class BrokenVendor:
    """One mistake: the plugin, the rule that is meant for it, and words that the message has to have."""

    name: str
    plugin: Callable[[], object]
    rule: str
    words: tuple[str, ...]
    only: Callable[[Case], bool] = anything
    suite: str = "smoke"


def plugin_with(**hooks: Any) -> Callable[[], object]:
    """The starter's plugin with other hooks; each takes what the hook takes."""
    marked = {name: staticmethod(hookimpl(hook)) for name, hook in hooks.items()}
    return lambda: type("Broken", (AcmePlugin,), marked)()


def with_format(**members: Any) -> Callable[[], object]:
    """With a page format that has other members."""
    kind = type("BrokenFormat", (AcmeFormat,), members)
    return plugin_with(page_formats=lambda features: {"acme/table": kind()})


def with_commands(**members: Any) -> Callable[[], object]:
    """With commands that have other members."""
    return plugin_with(commands=type("BrokenCommands", (AcmeCommands,), members))


def with_events(**members: Any) -> Callable[[], object]:
    """With events that have other members."""
    return plugin_with(events=type("BrokenEvents", (AcmeEvents,), members))


def with_ownership(**members: Any) -> Callable[[], object]:
    """With an ownership that has other members."""
    return plugin_with(ownership=type("BrokenOwnership", (AcmeOwnership,), members))


def with_structures(**members: Any) -> Callable[[], object]:
    """With structures that have other members."""
    kind = type("BrokenStructures", (AcmeStructures,), members)
    return plugin_with(structures=lambda page_format: kind(page_format))


def with_recipes(**recipes: Any) -> Callable[[], object]:
    """With other recipes."""
    return plugin_with(recipes=lambda: attrs.evolve(AcmePlugin().recipes(), **recipes))


def with_hardware(**facts: Any) -> Callable[[], object]:
    """With other facts about the hardware."""
    return plugin_with(hardware=lambda features: attrs.evolve(AcmePlugin().hardware(features), **facts))


# -- what is said of commands


def _drops_everything(self: AcmeCommands, words: Any) -> Sequence[Any]:
    """Whatever the operands say."""
    return [
        attrs.evolve(each, tag=None, first=0, last=(1 << 64) - 1) if isinstance(each, Drops) else each
        for each in AcmeCommands.decode(self, words)
    ]


def _drains_nothing(self: AcmeCommands, words: Any) -> Sequence[Any]:
    return [
        attrs.evolve(each, drains_reads=False, drains_writes=False) if isinstance(each, Completes) else each
        for each in AcmeCommands.decode(self, words)
    ]


def _obeys_reserved_bits(self: AcmeCommands, words: Any) -> Sequence[Any]:
    return AcmeCommands.decode(self, (words[0] & ~(0x7FF << 48), words[1]))


def _half(self: AcmeCommands, target: Any, tag: int) -> Any:
    last = target.first + (target.last - target.first) // 2
    return AcmeCommands.invalidate(self, target._replace(last=last), tag)


def _twice(self: AcmeCommands, target: Any, tag: int) -> Any:
    size = 2 * (target.last - target.first + 1)
    first = target.first // size * size
    return AcmeCommands.invalidate(self, target._replace(first=first, last=first + size - 1), tag)


def _moody() -> Callable[..., Any]:
    """Answers something else every time."""
    numbers = count(1000)
    return lambda: SplitRules((12, 21, 30), "ACME", next(numbers))


# -- what is said of entries


def _array_loses_bits(self: AcmeFormat, word: Any, level: int) -> Any:
    found = AcmeFormat.leaf_oa(self, word, level)
    return found if isinstance(word, int) else found & np.uint64(0xFFFF_FFFF)


def _marked_run(self: AcmeFormat, size_lg2: int, oa: Any, attributes: int) -> Any:
    """A 64K run is marked by bit 7 of its entries, each with its own address."""
    if size_lg2 == 16:
        return AcmeFormat.leaf(self, 12, oa, attributes) | 1 << 7
    return AcmeFormat.leaf(self, size_lg2, oa, attributes)


_RUN_LEAF = Layout(
    "Acme leaf",
    "ACME",
    (*(each for each in LEAF.fields if each.name != "reserved 11:7"), bit("run", 7), reserved(11, 8)),
)
_RUN = {
    "layout": lambda self, kind, level: _RUN_LEAF if kind == "leaf" else AcmeFormat.layout(self, kind, level),
    "leaf_sizes": (LeafSize(12, 0), LeafSize(16, 0, 4), LeafSize(21, 1), LeafSize(30, 2)),
    "leaf": _marked_run,
    "leaf_lg2": lambda self, word, level: 16 if not level and word & 1 << 7 else AcmeFormat.leaf_lg2(self, word, level),
    "run_step": lambda self, size_lg2: 0x1000 if size_lg2 == 16 else 0,
}
"""Runs whose entries each tell their own address for the run's, in place of its start."""

_TRUNCATED = {
    "leaf_oa": lambda self, word, level: AcmeFormat.leaf_oa(self, word, level) ^ 1 << 30,
    "leaf": lambda self, size_lg2, oa, attributes: AcmeFormat.leaf(self, size_lg2, oa ^ 1 << 30, attributes),
}
"""Wrong in both directions, so that it agrees with itself."""

_REFUSES = Refused("acme.no-way", "no owner may change", who="acme")


def _refuses(*_: Any, **__: Any) -> Any:
    raise _REFUSES


def _raises(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nobody is at home")


_ALL = ("N1", "N2", "C1", "F1", "FMT1", "FMT2", "CMD1", "E1", "MUT1")

BROKEN: tuple[BrokenVendor, ...] = (
    # hooks
    BrokenVendor("a misspelt hook", plugin_with(split_rule=lambda: None), "HOOK1", ("split_rule", "split_rules")),
    BrokenVendor("another api", lambda: type("Old", (AcmePlugin,), {"api": 0})(), "HOOK1", ("api = 1", "0")),
    BrokenVendor(
        "a hook that is missing",
        lambda: type("Less", (), {"api": 1, **{k: v for k, v in HOOKS.items() if k != "events"}})(),
        "HOOK1",
        ("not implemented", "events"),
    ),
    BrokenVendor("an exception in a hook", plugin_with(events=_raises), "HOOK2", ("events", "nobody is at home")),
    BrokenVendor("a wrong return type", plugin_with(hardware=lambda: {}), "HOOK2", ("HardwareFacts", "dict")),
    BrokenVendor(
        "a size allowed that the format has not",
        plugin_with(split_rules=lambda: SplitRules((12, 34), "ACME")),
        "HOOK2",
        ("34", "cannot encode"),
    ),
    BrokenVendor("mutants that raise", plugin_with(mutants=_raises), "HOOK2", ("hook mutants", "nobody is at home")),
    BrokenVendor("rules that raise", plugin_with(rules=_raises), "HOOK2", ("hook rules", "nobody is at home")),
    BrokenVendor(
        "capabilities of another kind", plugin_with(capabilities=lambda: ["none"]), "HOOK2", ("Capability", "'none'")
    ),
    BrokenVendor("moods", plugin_with(split_rules=_moody()), "HOOK3", ("asked twice", "split rules")),
    BrokenVendor("no source", with_hardware(source=""), "HOOK4", ("hardware.source",)),
    BrokenVendor(
        "a capability that skips every rule",
        plugin_with(capabilities=lambda: [Capability("nothing", "clause", "it has nothing", _ALL)]),
        "HOOK5",
        ("'nothing'", "waives", "N1"),
    ),
    BrokenVendor(
        "a capability without a clause",
        plugin_with(capabilities=lambda: [Capability("no-events", "", "it has none", ("EVT1",))]),
        "HOOK5",
        ("no-events", "clause"),
    ),
    BrokenVendor(
        "a refusal that nothing declares",
        with_ownership(own=_refuses),
        "HOOK6",
        ("acme.no-way", "Capability"),
        named("one-page-in-2m"),
    ),
    # page format
    BrokenVendor(
        "a size claimed that cannot be encoded",
        with_format(leaf_sizes=(LeafSize(12, 0), LeafSize(22, 1))),
        "FMT1",
        ("2M", "4M"),
    ),
    BrokenVendor(
        "a wrong bit",
        with_format(default_attrs=lambda self, rights: 1 << 4 | AcmeFormat.default_attrs(self, rights)),
        "FMT2",
        ("bits 4 differ", "ACME 3 table 1"),
    ),
    BrokenVendor("wrong, and consistently so", with_format(**_TRUNCATED), "FMT2", ("bits 30 differ",)),
    BrokenVendor("no words of the specification", plugin_with(spec_words=lambda: None), "FMT2", ("spec_words",)),
    BrokenVendor(
        "a wrong pointer",
        with_format(table=lambda self, level, child_pa: AcmeFormat.table(self, level, child_pa) & ~8),
        "FMT3",
        ("bits 3 differ",),
    ),
    BrokenVendor(
        "an attribute lost",
        with_format(attrs=lambda self, word, level: AcmeFormat.attrs(self, word, level) & ~8),
        "FMT4",
        ("attrs()",),
    ),
    BrokenVendor("a wrong level", with_format(child_level=lambda self, word, level: 0), "FMT5", ("leads to level 0",)),
    BrokenVendor("ints and arrays differ", with_format(leaf_oa=_array_loses_bits), "FMT6", ("leaf_oa", "in an array")),
    BrokenVendor("nothing is empty", with_format(present=lambda self, word: True), "FMT7", ("the word 0",)),
    BrokenVendor(
        "reserved bits are taken", with_format(malformed=lambda self, word, level: False), "FMT8", ("reserved bit",)
    ),
    BrokenVendor("hardware changes rights", with_format(hardware_set=lambda self, level: 1 << 3), "FMT9", ("bit 3",)),
    BrokenVendor(
        "reading grants writing",
        with_format(default_attrs=lambda self, rights: AcmeFormat.default_attrs(self, 3)),
        "FMT10",
        ("reading alone",),
    ),
    BrokenVendor("a missing copy", with_format(**_RUN), "FMT11", ("entry 1 of a 64K run",)),
    BrokenVendor(
        "no bound of IOVAs",
        with_format(start=lambda self, root_pa, iova: Position("2", 2, root_pa, iova, 3)),
        "FMT12",
        ("wider than 39 bits",),
    ),
    BrokenVendor(
        "a size is rounded",
        with_format(leaf=lambda self, size_lg2, oa, attributes: AcmeFormat.leaf(self, 12, oa, attributes)),
        "BAD3",
        ("no leaf of", "makes one"),
    ),
    # commands
    BrokenVendor("half of the range", with_commands(invalidate=_half), "CMD3", ("leaves the cached leaf",)),
    BrokenVendor(
        "a command that drops everything",
        with_commands(decode=_drops_everything),
        "CMD4",
        ("differ in the tag", "said to do the same"),
    ),
    BrokenVendor(
        "a wait that writes elsewhere",
        with_commands(wait=lambda self, store_pa, value: AcmeCommands.wait(self, store_pa + 8, value)),
        "CMD5",
        ("0x1008",),
    ),
    BrokenVendor(
        "reserved bits of commands are obeyed",
        with_commands(decode=_obeys_reserved_bits),
        "CMD6",
        ("reserved bit", "is obeyed"),
    ),
    BrokenVendor(
        "too many words",
        with_commands(wait=lambda self, store_pa, value: (1 << 60 | store_pa, value, 0)),
        "CMD2",
        ("not 2 words",),
    ),
    BrokenVendor(
        "a command that is not encoded so",
        with_commands(invalidate_tag=lambda self, tag: [(2 << 60 | tag, 0)]),
        "CMD1",
        ("DROP", "must give"),
    ),
    # structures, events, owners
    BrokenVendor(
        "a root at the wrong address",
        with_structures(
            step=lambda self, fetch, words: AcmeStructures.step(self, fetch, (words[0] ^ 1 << 20, words[1]))
        ),
        "STR1",
        ("root2",),
    ),
    BrokenVendor(
        "strangers get through",
        with_structures(
            step=lambda self, fetch, words: (
                AcmeStructures.step(self, fetch, words) if words[0] & 1 else Found("bypass", None, None, 0)
            )
        ),
        "STR3",
        ("nobody named device",),
    ),
    BrokenVendor(
        "a live entry changes quietly",
        with_structures(
            change=lambda self, base, entry, load: [
                each._replace(commands=()) for each in AcmeStructures.change(self, base, entry, load)
            ]
        ),
        "STR4",
        ("sends no command",),
    ),
    BrokenVendor(
        "a record without the device",
        with_events(encode=lambda self, fault: AcmeEvents.encode(self, fault._replace(device=0))),
        "EVT1",
        ("does not tell the device",),
    ),
    BrokenVendor(
        "a record that cannot be read",
        with_events(decode=lambda self, words: {"event": {1: "x"}[words[0] & 1]}),
        "EVT2",
        ("raises KeyError",),
    ),
    BrokenVendor(
        "a guest's page for everybody",
        with_ownership(verdict=lambda self, table, pa, leaf_lg2, trusted: Verdict(True, 12)),
        "OWN1",
        ("guest's page", "check"),
    ),
    BrokenVendor(
        "a verdict larger than the leaf",
        with_ownership(
            verdict=lambda self, table, pa, leaf_lg2, trusted: AcmeOwnership.verdict(
                self, table, pa, leaf_lg2, trusted
            )._replace(size_lg2=21)
        ),
        "OWN2",
        ("more than the leaf",),
    ),
    BrokenVendor(
        "one page too few",
        with_ownership(
            own=lambda self, table, changes, trusted, allow_break: AcmeOwnership.own(
                self,
                table,
                [c._replace(end_pa=c.end_pa - 4096) for c in changes],
                trusted=trusted,
                allow_break=allow_break,
            )
        ),
        "OWN3",
        ("leaves the page",),
    ),
    # conversions
    BrokenVendor(
        "a cut that is not invalidated",
        with_recipes(cut=one_store(Scope.NONE, "x")),
        "F2",
        ("2M", "may stay cached"),
        named("one-page-in-2m"),
    ),
    BrokenVendor(
        "a merge that leaves pointers", with_recipes(merge=one_store(Scope.LEAF, "x")), "R1", ("freed",), named("merge")
    ),
    BrokenVendor(
        "a cut by break-before-make",
        with_recipes(cut=Recipe((Round(lambda old, new: 0, Scope.LEAF, "0"), Round(new_word, Scope.NONE, "new")), "x")),
        "N1",
        ("not-present",),
        named("one-page-in-2m"),
    ),
    BrokenVendor(
        "addresses that conflict", with_hardware(address_conflict=True), "K1", ("step",), named("one-page-in-2m")
    ),
    BrokenVendor(
        "a wait that drains nothing",
        with_commands(decode=_drains_nothing),
        "F1",
        ("in flight", "drains nothing"),
        named("one-page-in-2m"),
    ),
    BrokenVendor("twice the range", with_commands(invalidate=_twice), "CMD1", ("invalidate(", "must give")),
    BrokenVendor(
        "an illegal word on the way",
        with_recipes(
            replace=Recipe(
                (Round(lambda old, new: new | 1 << 60, Scope.LEAF, "new"), Round(new_word, Scope.LEAF, "new")), "x"
            )
        ),
        "W1",
        ("0x1",),
        named("one-page-in-2m"),
    ),
    BrokenVendor(
        "a cache that holds nothing",
        with_format(cacheable=lambda self, word, level: False),
        "MUT1",
        ("cacheable()", "generic.cut-and-replace"),
        named("generic.cut-and-replace"),
        "full",
    ),
)
