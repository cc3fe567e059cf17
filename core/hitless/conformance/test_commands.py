"""Commands: the specification's words, what they reach, and what they must not reach."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.bits import MASK64, Layout
from hitless.conformance.cases import Case
from hitless.conformance.claims import effect_text
from hitless.conformance.failing import asked, fail, hexed, lines_of, require
from hitless.conformance.kit import Kit
from hitless.conformance.samples import leaf_target
from hitless.conformance.words import CommandWord, SpecWords
from hitless.hardware.facts import Completes, Drops, DropsStructure, Effect, Illegal, Match, NoEffect
from hitless.pagetable import PageFormat
from hitless.refresh.commands import Target, Words
from hitless.units import WORD_MAX, lg2_text, parse_size

TAG, OTHER, DEVICE = 5, 6, 0x108
CALLS = ("invalidate", "invalidate_tag", "invalidate_device", "wait")
_EFFECTS = {kind.__name__: kind for kind in (Drops, DropsStructure, Completes, Illegal, NoEffect)}
QUICK = settings(deadline=None, derandomize=True, database=None, max_examples=150)


# -- the specification's words


@pytest.mark.iommu("CMD1", each="format")
def test_every_command_has_a_word(kit: Kit, at: Case) -> None:
    """Each command that the vendor lays out, and each that plans send, stands in the spec words."""
    if isinstance(kit.words, str):
        fail(f"{at.title}: {kit.words}")
    here = [each for each in kit.words.command if each.holds(at.format.name, at.vendor.features)]
    anywhere = {each.name for each in kit.words.command}
    laid_out = set(getattr(at.vendor.commands, "layouts", ()))
    do = "add a [[command]] with name, words and source to the spec words"
    if missing := sorted(laid_out - anywhere):
        fail(f"{at.title}: no words of the specification for {', '.join(missing)}", do=do)
    if missing := [call for call in CALLS if not any(call in each.call for each in here)]:
        fail(f"{at.title}: no words of the specification for what {', '.join(missing)} encode", do=f"{do}, and call")


@pytest.mark.iommu("CMD1", each="command word")
def test_spec_words_of_commands(kit: Kit, at: Case) -> None:
    """The encoder gives the words, and the decoder says of them what the specification does."""
    word: CommandWord = at.value
    words = word.words + (0,) * (at.vendor.commands.words - len(word.words))  # queue entries may be longer
    for name, arguments in word.call.items():
        require(name in CALLS, f"{at.title}: {word.name} calls {name!r}, which is none of {', '.join(CALLS)}")
        made = [tuple(each) for each in _called(at, name, arguments)]
        require(
            words in made,
            f"{at.title}: {name}({_told(arguments)}) must give {word.name} {hexed(words)}, not"
            f" {hexed(made)} ({word.source})",
            do=f"look at {lines_of(at.vendor.commands, name)}, unless the example itself is wrong",
        )
    effects = asked(f"{at.title}: decode({hexed(word.words)})", lambda: list(at.vendor.commands.decode(words)))
    layout = getattr(at.vendor.commands, "layout", None)
    if layout is not None and word.name in getattr(at.vendor.commands, "layouts", ()):
        found = layout(words)
        require(
            found is not None and found.name == word.name,
            f"{at.title}: {hexed(word.words)} is {word.name}, its layout is that of {getattr(found, 'name', None)}",
        )
    for number, wanted in enumerate(word.effects):
        _check_effect(at, word, effects, number, wanted)


def _called(at: Case, name: str, arguments: Mapping[str, Any]) -> Sequence[Words]:
    """What the encoder gives for an example's call."""
    commands, given = at.vendor.commands, dict(arguments)
    if name in ("invalidate", "invalidate_device"):
        level = given.pop("level", None)
        given["target"] = Target(
            given.pop("first"),
            given.pop("last"),
            parse_size(given.pop("leaf", "4K")).bit_length() - 1,
            None if level is None else at.format.spec_level(level).number,
            given.pop("tables", False),
        )
    answer = asked(f"{at.title}: {name}({_told(arguments)})", lambda: getattr(commands, name)(**given))
    return [answer] if name == "wait" else list(answer)


def _told(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={hexed(value)}" for name, value in arguments.items())


def _check_effect(
    at: Case, word: CommandWord, effects: Sequence[Effect], number: int, wanted: Mapping[str, Any]
) -> None:
    kind = _EFFECTS.get(str(wanted.get("kind")))
    require(
        kind, f"{at.title}: {word.name}: an effect's kind is one of {', '.join(_EFFECTS)}, not {wanted.get('kind')}"
    )
    told = "; ".join(map(effect_text, effects)) or "nothing"
    if len(effects) <= number or type(effects[number]) is not kind:
        fail(
            f"{at.title}: {word.name} {hexed(word.words)} is a {wanted['kind']} ({word.source}), decode() says: {told}"
        )
    for name, value in wanted.items():
        got = getattr(effects[number], name) if name != "kind" else value
        got = sorted(got) if isinstance(got, frozenset) else got
        expected = sorted(value) if isinstance(value, list) else value
        require(
            got == expected,
            f"{at.title}: {word.name} {hexed(word.words)}: {name} is {hexed(expected)} ({word.source}),"
            f" decode() says {hexed(got)}: {told}",
            do=f"look at {lines_of(at.vendor.commands, 'decode')}, unless the example itself is wrong",
        )


# -- what is encoded


def _targets(fmt: PageFormat) -> Iterator[Target]:
    """One leaf of each size, as leaf and as pointer; several pages that are no block."""
    for size in fmt.leaf_sizes:
        if size.lg2 < fmt.iova_bits - 1:
            yield leaf_target(fmt, size, 1)
            if size.level:
                yield leaf_target(fmt, size, 1, tables=True)
    lo = fmt.leaf_lg2s[0]
    yield Target(5 << lo, (12 << lo) - 1, lo, 0, tables=False)


def _encoded(at: Case) -> Iterator[tuple[str, Words]]:
    """Every command that a plan may send, with what asked for it."""
    commands = at.vendor.commands
    for target in _targets(at.format):
        for words in asked(f"{at.title}: invalidate({target})", lambda: commands.invalidate(target, TAG)):
            yield f"invalidate({target})", words
        for words in asked(f"{at.title}: invalidate_device()", lambda: commands.invalidate_device(target, DEVICE)):
            yield f"invalidate_device({target})", words
    for words in asked(f"{at.title}: invalidate_tag()", lambda: commands.invalidate_tag(TAG)):
        yield "invalidate_tag()", words
    yield "wait()", asked(f"{at.title}: wait()", lambda: commands.wait(0x1000, 7))


@pytest.mark.iommu("CMD2", each="configuration")
def test_what_is_encoded_is_legal(kit: Kit, at: Case) -> None:
    """Each command has the declared number of 64-bit words, is not refused, and can be told in one line."""
    commands = at.vendor.commands
    for what, words in _encoded(at):
        right = len(words) == commands.words and all(type(word) is int and 0 <= word <= MASK64 for word in words)
        require(right, f"{at.title}: {what} gives {hexed(words)}, not {commands.words} words of 64 bits")
        for effect in asked(f"{at.title}: decode()", lambda: list(commands.decode(words))):
            if isinstance(effect, Illegal):
                fail(f"{at.title}: {what} gives {hexed(words)}, which is illegal: {effect.why} ({effect.source})")
        text = asked(f"{at.title}: describe()", lambda: commands.describe(words))
        require(isinstance(text, str) and text and "\n" not in text, f"{at.title}: describe() gives {text!r:.80}")


def drops_of(at: Case, commands: Sequence[Words], *, device: int | None) -> list[Drops]:
    """What some commands drop from the unit, or from a device."""
    effects = [effect for words in commands for effect in at.vendor.commands.decode(words)]
    return [effect for effect in effects if isinstance(effect, Drops) and effect.device == device]


def _reaches(drops: Sequence[Drops], target: Target, stage: str) -> str:
    """What of a target stays; empty: nothing does."""
    mine = [each for each in drops if each.leaves and stage in each.stages]
    mine = [each for each in mine if each.leaf_levels is None or target.level in each.leaf_levels]
    for first in range(target.first, target.last + 1, 1 << target.leaf_lg2):
        last = min(first + (1 << target.leaf_lg2) - 1, target.last)
        if not _dropped(mine, first, last, [each.leaf_match for each in mine]):
            return f"the cached leaf at {first:#x}"
    pointers = [each for each in drops if each.tables and stage in each.stages]
    if target.tables and not _dropped(pointers, target.first, target.last, [each.table_match for each in pointers]):
        return "cached pointers"
    return ""


def _dropped(drops: Sequence[Drops], first: int, last: int, matches: Sequence[Match]) -> bool:
    """Whether an entry that translates a range goes, however it was cached."""
    at = first
    for each, match in sorted(zip(drops, matches, strict=True), key=lambda pair: pair[0].first):
        inside = each.first <= first and last <= each.last
        overlaps = each.first <= last and first <= each.last
        if inside or (match is Match.LEAF_OVERLAPS and overlaps):
            return True
        if match is not Match.PIECE_INSIDE and each.first <= at <= each.last:
            at = each.last + 1
    return at > last


@pytest.mark.iommu("CMD3", each="configuration")
def test_an_invalidation_reaches_its_target(kit: Kit, at: Case) -> None:
    """What is said to be dropped covers all of what was asked for: leaves, pointers, of that tag, of that device."""
    commands, stage = at.vendor.commands, at.format.stage
    for target in _targets(at.format):
        drops = drops_of(at, commands.invalidate(target, TAG), device=None)
        left = _reaches([each for each in drops if each.of_tag(TAG)], target, stage)
        what = f"invalidate({_in_words(target)}, tag {TAG})"
        require(not left, f"{at.title}: {what} leaves {left}: {_said(drops)}")
        drops = drops_of(at, commands.invalidate_device(target, DEVICE), device=DEVICE)
        left = _reaches(drops, target._replace(tables=False), stage)
        require(not left, f"{at.title}: invalidate_device({_in_words(target)}) leaves {left}: {_said(drops)}")
    bits = at.format.iova_bits
    everything = Target(0, (1 << bits) - 1, bits, None, tables=True)
    drops = drops_of(at, commands.invalidate_tag(TAG), device=None)
    left = _reaches([each for each in drops if each.of_tag(TAG)], everything, stage)
    require(not left, f"{at.title}: invalidate_tag({TAG}) leaves {left}: {_said(drops)}")


def _in_words(target: Target) -> str:
    kind = "pointers and leaves" if target.tables else f"{lg2_text(target.leaf_lg2)} leaves"
    return f"{kind} in [{target.first:#x}, {target.last:#x}]"


def _said(drops: Sequence[Drops]) -> str:
    return "; ".join(map(effect_text, drops)) or "it drops nothing"


@pytest.mark.iommu("CMD4", each="configuration")
def test_operands_count(kit: Kit, at: Case) -> None:
    """Commands whose words differ in tag, address or device are not said to do the same."""
    commands, size = at.vendor.commands, at.format.leaf_sizes[0]
    one, other = leaf_target(at.format, size, 1), leaf_target(at.format, size, 2)
    tables = leaf_target(at.format, size, 1, tables=True)
    pairs: list[tuple[str, Sequence[Words], Sequence[Words]]] = [
        ("tag", commands.invalidate(one, TAG), commands.invalidate(one, OTHER)),
        ("address", commands.invalidate(one, TAG), commands.invalidate(other, TAG)),
        ("pointers", commands.invalidate(one, TAG), commands.invalidate(tables, TAG)),
        ("tag", commands.invalidate_tag(TAG), commands.invalidate_tag(OTHER)),
        ("device", commands.invalidate_device(one, DEVICE), commands.invalidate_device(one, DEVICE + 1)),
        ("address", commands.invalidate_device(one, DEVICE), commands.invalidate_device(other, DEVICE)),
    ]
    for operand, a, b in pairs:
        if list(a) == list(b):
            continue
        effects = [[list(commands.decode(words)) for words in each] for each in (a, b)]
        if effects[0] == effects[1]:
            told = "; ".join(effect_text(effect) for each in effects[0] for effect in each)
            both = f"{hexed(list(a))} and {hexed(list(b))}"
            fail(
                f"{at.title}: {both} differ in the {operand}, and are said to do the same:"
                f" {commands.describe(a[0])} {told}",
                why="a claim that a command drops more than its operands say hides a missing invalidation",
                do="declare in decode() what the operands select",
            )
    _no_wider_than_a_tag(at, commands.invalidate(one, TAG))


def _no_wider_than_a_tag(at: Case, commands: Sequence[Words]) -> None:
    """A command for one page of one tag spares other tags, if a command for a whole tag does."""
    drops = drops_of(at, commands, device=None)
    whole = drops_of(at, at.vendor.commands.invalidate_tag(TAG), device=None)
    if not any(each.of_tag(OTHER) for each in whole):
        wide = [each for each in drops if each.of_tag(OTHER)]
        require(not wide, f"{at.title}: a command for one page of tag {TAG} is said to drop other tags: {_said(wide)}")


@pytest.mark.iommu("CMD5", each="configuration")
def test_a_wait_completes(kit: Kit, at: Case) -> None:
    """A wait writes the value that was asked for, where it was asked for, and does nothing else."""
    commands = at.vendor.commands
    for pa in (0x1000, 0x12_3456_7000):
        for value in (1, 0xFFFF_FFFE):
            words = commands.wait(pa, value)
            effects = list(commands.decode(words))
            told = "; ".join(map(effect_text, effects)) or "nothing"
            done = [each for each in effects if isinstance(each, Completes)]
            require(len(done) == 1, f"{at.title}: wait() gives {hexed(words)}, of which decode() says: {told}")
            right = (done[0].store_pa, done[0].value & (1 << done[0].bits) - 1) == (pa, value & (1 << done[0].bits) - 1)
            require(
                right and done[0].bits >= 32,
                f"{at.title}: wait({pa:#x}, {value:#x}) writes {done[0].value:#x} ({done[0].bits} bits) to"
                f" {done[0].store_pa:#x}",
            )


@pytest.mark.iommu("CMD6", each="configuration")
def test_illegal_commands_are_refused(kit: Kit, at: Case) -> None:
    """Each reserved bit of a command makes it illegal; whatever the queue holds, the decoder answers."""
    commands = at.vendor.commands
    words = [each for _, each in _encoded(at)]
    if isinstance(kit.words, SpecWords):
        here = [each for each in kit.words.command if each.holds(at.format.name, at.vendor.features)]
        words += [each.words for each in here if len(each.words) == commands.words]
    layout_of = getattr(commands, "layout", None)
    for each in dict.fromkeys(map(tuple, words)):
        layout: Layout | None = layout_of(each) if layout_of is not None else None
        for bit in range(64 * len(each)):
            if layout is not None and layout.reserved >> bit & 1:
                bad = tuple(word ^ (1 << bit % 64 if bit // 64 == i else 0) for i, word in enumerate(each))
                refused = any(isinstance(effect, Illegal) for effect in commands.decode(bad))
                require(refused, f"{at.title}: {hexed(bad)} sets reserved bit {bit} of {layout.name}, and is obeyed")

    @QUICK
    @given(st.lists(st.integers(0, WORD_MAX), min_size=commands.words, max_size=commands.words).map(tuple))
    def decode(garbage: Words) -> None:
        effects = asked(f"{at.title}: decode({hexed(garbage)})", lambda: list(commands.decode(garbage)))
        strange = [effect for effect in effects if type(effect) not in _EFFECTS.values()]
        require(not strange, f"{at.title}: decode({hexed(garbage)}) gives {strange[:1]!r:.80}")
        asked(f"{at.title}: describe({hexed(garbage)})", lambda: commands.describe(garbage))

    decode()
