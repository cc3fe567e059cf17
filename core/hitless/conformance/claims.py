"""What a vendor claims about its hardware: in words for the report, and where a claim hides a mistake."""

from collections.abc import Iterator, Sequence

import attrs

from hitless.conformance.words import SpecWords
from hitless.hardware.facts import Completes, Drops, DropsStructure, Effect, HardwareFacts, Illegal
from hitless.hardware.vendor import Vendor
from hitless.ownership import HOST, OwnerTable
from hitless.pagetable import READ, WRITE
from hitless.plan import Invalidate, Step, Wait
from hitless.refresh.commands import Target
from hitless.units import WORD_MAX


def semantics(vendor: Vendor, words: SpecWords | str) -> Iterator[str]:
    """What the checker believes: the facts about caches, and what each command of the spec words does."""
    facts = vendor.hardware
    for each in attrs.fields(HardwareFacts):
        value = getattr(facts, each.name)
        if each.name != "source" and value != each.default:
            yield f"hardware: {each.name} = {value} ({facts.source})"
    ownership = vendor.ownership
    yield (
        f"ownership: verdicts are {'cached' if ownership.cached else 'made for every access'}, "
        f"an invalidation is {'owed' if ownership.invalidate_after else 'not owed'} after an owner change"
    )
    if isinstance(words, str):
        return
    for name, example in {each.name: each for each in words.command}.items():
        if example.holds(vendor.page_format.name, vendor.features):
            effects = vendor.commands.decode(_padded(vendor, example.words))
            yield f"{name}: {'; '.join(map(effect_text, effects)) or 'does nothing'}"


def _padded(vendor: Vendor, words: Sequence[int]) -> tuple[int, ...]:
    """The words of a command in a queue whose entries may be longer."""
    return (*words, *(0,) * (vendor.commands.words - len(words)))


def effect_text(effect: Effect) -> str:
    """What a command does, in words."""
    match effect:
        case Drops():
            what = " and ".join([*(["leaves"] if effect.leaves else []), *(["pointers"] if effect.tables else [])])
            where = "everywhere"
            if (effect.first, effect.last) != (0, WORD_MAX):
                where = f"in [{effect.first:#x}, {effect.last:#x}]"
            whose = "of every tag" if effect.tag is None else f"of tag {effect.tag:#x}"
            if effect.device is not None:
                whose = f"of device {effect.device:#x}"
            return f"drops {what or 'nothing'} {where} {whose} ({effect.source})"
        case DropsStructure():
            names = ", ".join(sorted(effect.structures)) if effect.structures is not None else "all structures"
            return f"drops cached {names} ({effect.source})"
        case Completes():
            drained = [name for name, on in (("reads", effect.drains_reads), ("writes", effect.drains_writes)) if on]
            return f"completes, drains {' and '.join(drained) or 'nothing'} ({effect.source})"
        case Illegal():
            return f"is refused: {effect.why} ({effect.source})"
        case _:
            return f"does nothing that is modelled ({effect.source})"


def hiding(vendor: Vendor, steps: Sequence[Step] = ()) -> list[str]:
    """Claims that may hide a mistake from the checker: what is said to be cached nowhere, or dropped by anything."""
    return [*_caches_nothing(vendor), *_drops_everything(vendor), *_said_by(vendor, steps)]


def _caches_nothing(vendor: Vendor) -> Iterator[str]:
    fmt = vendor.page_format
    attributes = fmt.default_attrs(READ | WRITE)
    never = [size for size in fmt.leaf_sizes if not fmt.cacheable(int(fmt.leaf(size.lg2, 0, attributes)), size.level)]
    if never:
        yield f"cacheable() says that no cache ever holds a leaf of {len(never)} of {len(fmt.leaf_sizes)} sizes"
    table = OwnerTable()
    table.set(0, 1 << 30, HOST, 12)
    if vendor.ownership.cached and not vendor.ownership.verdict(table, 0, fmt.leaf_lg2s[0], trusted=False).ok:
        yield "verdict() refuses the host's own pages, so that no translation is ever cached"


def _drops_everything(vendor: Vendor) -> Iterator[str]:
    """Commands for one page that are said to reach every address, or every tag."""
    lo = vendor.page_format.leaf_lg2s[0]
    target = Target(1 << lo, (2 << lo) - 1, lo, 0, tables=False)
    for words in vendor.commands.invalidate(target, 1):
        for effect in vendor.commands.decode(words):
            if isinstance(effect, Drops) and effect.device is None:
                if effect.tag is None:
                    yield f"{vendor.commands.describe(words)} is said to drop every tag ({effect.source})"
                if (effect.first, effect.last) == (0, WORD_MAX):
                    yield f"{vendor.commands.describe(words)} is said to drop everything ({effect.source})"
                if effect.tables:
                    yield f"{vendor.commands.describe(words)} is said to drop pointers too ({effect.source})"


def _said_by(vendor: Vendor, steps: Sequence[Step]) -> Iterator[str]:
    """What the steps that are left over are said to do."""
    if any(isinstance(step, Wait) for step in steps):
        yield f"a wait {effect_text(vendor.commands.decode(vendor.commands.wait(0x1000, 1))[0])}"
    for words in dict.fromkeys(step.words for step in steps if isinstance(step, Invalidate)):
        for effect in vendor.commands.decode(words):
            yield f"{vendor.commands.describe(words)} {effect_text(effect)}"
