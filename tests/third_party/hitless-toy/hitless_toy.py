"""The toy IOMMU: two levels, 32 bits of IOVA, tables of 8 KiB; and an extension of amd. Nobody built TOY-1 to 8."""

from collections.abc import Generator, Sequence

from attrs import evolve, make_class

from hitless.bits import BoolArray, Field, Layout, W, bit, join, keep, masked, reserved, test
from hitless.hardware.facts import Completes, Drops, Effect, FaultRecord, HardwareFacts, Illegal
from hitless.ownership import HOST, Choreography, OwnerChange, Ownership, OwnerTable, Policy, Verdict
from hitless.pagetable import READ, WRITE, Level, PageFormat
from hitless.plan import Own
from hitless.plugin import API, feature, hookimpl
from hitless.refresh.commands import Target, Words
from hitless.refresh.recipes import Recipes, Scope, SplitRules, break_before_make, one_store

V, L, R, WR = bit("V", 0, "valid"), bit("L", 1, "leaf"), bit("R", 2, "read"), bit("W", 3, "write")
ADDRESS = Field("address", 51, 12)
ENTRY = Layout("toy entry", "TOY-1", (V, L, R, WR, reserved(11, 4), ADDRESS, reserved(63, 52)))
PAGES = (Field("first", 19, 0, "page"), Field("last", 39, 20, "page"), Field("of", 55, 40, "tag or device"))
FLAGS = (bit("T", 56, "pointers too"), bit("D", 57, "of a device"), reserved(59, 58), reserved(127, 64))
DROP = Layout("DROP", "TOY-2", (*PAGES, *FLAGS, Field("opcode", 63, 60, fixed=1)), 128)
WAIT = Layout("WAIT", "TOY-3", (Field("pa", 59, 0), Field("opcode", 63, 60, fixed=2), Field("value", 127, 64)), 128)
LAYOUTS = {1: DROP, 2: WAIT}
KINDS = ("not-present", "reserved", "range", "permission", "access", "owner", "conflict", "blocked")
LEAF, PTR, NEW = (one_store(scope, "TOY-7") for scope in (Scope.LEAF, Scope.TABLE, Scope.NONE))
RECIPES = Recipes(cut=LEAF, merge=PTR, replace=break_before_make(Scope.LEAF, "TOY-8"), wipe=LEAF, map=NEW, prune=PTR)
ToyFeatures = make_class("ToyFeatures", {"large": feature(True, "leaves of 4M may be used", "TOY-4")}, frozen=True)


class Flat(PageFormat):
    """A root of 1024 leaves of 4M or pointers, and tables of 1024 leaves of 4K."""

    name, source = "toy/flat", "TOY-1"
    levels, oa_bits = (Level(0, 12, 10, 0, "toy pages"), Level(1, 22, 10, 1, "toy root")), 52

    def layout(self, kind: str, level: int) -> Layout | None:
        return ENTRY if kind == "leaf" or level == 1 else None

    def present(self, word: W) -> bool | BoolArray:
        return test(word, V)

    def is_leaf(self, word: W, level: int) -> bool | BoolArray:
        return test(word, L)

    def leaf_oa(self, word: W, level: int = 0) -> W:
        return masked(word, ADDRESS)

    table_pa = leaf_oa

    def attrs(self, word: W, level: int) -> W:
        return keep(word, R.mask | WR.mask)

    def leaf(self, size_lg2: int, oa: W, attrs: int) -> W:
        return join(masked(oa, ADDRESS), attrs | V.mask | L.mask)

    def table(self, level: int, child_pa: W) -> W:
        return join(child_pa, V.mask | R.mask | WR.mask)

    def default_attrs(self, rights: int) -> int:
        return (R.mask if rights & READ else 0) | (WR.mask if rights & WRITE else 0)

    def rights(self, word: int, level: int) -> int:
        return (READ if word & R.mask else 0) | (WRITE if word & WR.mask else 0)


class ToyCommands:
    """DROP says what goes, WAIT when it is gone; each has two words."""

    words, atc_after_wait, nested_after_wait = 2, False, False

    def invalidate(self, target: Target, tag: int) -> Sequence[Words]:
        return [DROP.encode(first=target.first >> 12, last=target.last >> 12, of=tag, T=target.tables)]

    def invalidate_tag(self, tag: int) -> Sequence[Words]:
        return [DROP.encode(first=0, last=0xFFFFF, of=tag, T=1)]

    def invalidate_device(self, target: Target, device: int) -> Sequence[Words]:
        return [DROP.encode(first=target.first >> 12, last=target.last >> 12, of=device, D=1)]

    def wait(self, store_pa: int, value: int) -> Words:
        return WAIT.encode(pa=store_pa, value=value)

    def decode(self, words: Words) -> Sequence[Effect]:
        layout = LAYOUTS.get(words[0] >> 60, DROP)
        if any(layout.faults(words)):
            return [Illegal("TOY-2", "no such opcode, or a reserved bit is set")]
        f = layout.decode(words)
        if layout is WAIT:
            return [Completes("TOY-3", f["pa"], f["value"], 64)]
        tag, device = (None, f["of"]) if f["D"] else (f["of"], None)
        return [Drops("TOY-2", True, bool(f["T"]), tag, f["first"] << 12, f["last"] << 12 | 0xFFF, device=device)]

    def describe(self, words: Words) -> str:
        return " ".join(f"{k}={v:#x}" for k, v in LAYOUTS.get(words[0] >> 60, DROP).decode(words).items() if v)


class ToyEvents:
    """Device, direction and kind; then the address."""

    words = 2

    def encode(self, fault: FaultRecord) -> Words | None:
        return (fault.device | fault.write << 16 | KINDS.index(fault.kind) << 32, fault.iova)

    def decode(self, words: Words) -> dict[str, int | str]:
        return {"event": KINDS[words[0] >> 32], "device": words[0] & 0xFFFF, "iova": words[1]}


class ToyOwnership(Ownership):
    """A table of owners, asked when a translation is cached."""

    policies, default_policy = {"check": Policy("check", maps_private=True)}, "check"
    cached, invalidate_after = True, True

    def verdict(self, table: OwnerTable, pa: int, leaf_lg2: int, trusted: bool) -> Verdict:
        return Verdict(True, 12) if table.owner(pa) == HOST else Verdict(False, 12, "owner", "the guest's (TOY-5)")

    def own(self, table: OwnerTable, changes: Sequence[OwnerChange], **_: bool) -> Choreography:
        return Choreography(own=[Own("TOY.SET", start, end, owner, 12) for start, end, owner, _ in changes])

    def initial(self, table: OwnerTable, start_pa: int, end_pa: int, owner: int, hunk_lg2: int) -> None:
        table.set(start_pa, end_pa, owner, 12)


class ToyPlugin:
    """All strategies of the toy."""

    api, title = API, "The toy IOMMU"
    features = hookimpl(lambda self: ToyFeatures)
    page_formats = hookimpl(lambda self, features: {Flat.name: Flat()})
    split_rules = hookimpl(lambda self, features: SplitRules((12, 22) if features.large else (12,), "TOY-4"))
    recipes = hookimpl(lambda self: RECIPES)
    commands = hookimpl(lambda self: ToyCommands())
    events = hookimpl(lambda self: ToyEvents())
    hardware = hookimpl(lambda self: HardwareFacts("TOY-6", atc_in_order=True))
    ownership = hookimpl(lambda self: ToyOwnership())


class NoHugeLeaves:
    """An extension of amd: what it would lay out, but no leaf above 2M."""

    api = API

    @hookimpl(wrapper=True)
    def split_rules(self) -> Generator[None, SplitRules, SplitRules]:
        rules = yield
        return evolve(rules, leaf_lg2s=tuple(lg2 for lg2 in rules.leaf_lg2s if lg2 <= 21))


plugin, no_huge_leaves = ToyPlugin(), NoHugeLeaves()
