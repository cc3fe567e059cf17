"""Makes a failing case small, and tells it in a few lines."""

from collections.abc import Callable, Iterator

from attrs import evolve, fields

from check.mini import Case, Facts
from check.plans import as_memory_stands
from hitless.plan import Fill, Invalidate, Own, Release, Store


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A case that still fails and of which nothing can be left out."""
    smaller: Case | None = case
    while smaller is not None:
        case = smaller
        smaller = next((each for each in _smaller(case) if fails(each)), None)
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """The case with one thing less."""
    yield from _less_to_do(case)
    yield from _less_around(case)
    for pa in case.words:
        fewer = evolve(case, words={at: word for at, word in case.words.items() if at != pa})
        yield evolve(fewer, steps=list(as_memory_stands(fewer)))


def _less_to_do(case: Case) -> Iterator[Case]:
    """With a step less, or with less in it."""
    for index in reversed(range(len(case.steps))):
        fewer = evolve(case, steps=case.steps[:index] + case.steps[index + 1 :])
        yield evolve(fewer, steps=list(as_memory_stands(fewer)))
    for index, (section, step) in enumerate(case.steps):
        if isinstance(step, Fill):
            for at in range(len(step.overrides)):
                less = evolve(step, overrides=step.overrides[:at] + step.overrides[at + 1 :])
                yield evolve(case, steps=[*case.steps[:index], (section, less), *case.steps[index + 1 :]])


def _less_around(case: Case) -> Iterator[Case]:
    """With fewer units, devices and owners, and plainer hardware."""
    for index, unit in enumerate(case.units):
        if len(case.units) > 1:
            yield evolve(case, units=case.units[:index] + case.units[index + 1 :])
        if unit[2]:
            yield evolve(case, units=(*case.units[:index], (*unit[:2], unit[2][1:]), *case.units[index + 1 :]))
    for page in case.owners:
        yield evolve(case, owners={pa: held for pa, held in case.owners.items() if pa != page})
    if case.trusted:
        yield evolve(case, trusted=False)
    plain = Facts(case.facts.bits)
    for each in fields(Facts):
        if getattr(case.facts, each.name) != getattr(plain, each.name):
            yield evolve(case, facts=evolve(case.facts, **{each.name: getattr(plain, each.name)}))


def tell(case: Case) -> str:
    """A case in a few lines."""
    plain = Facts()
    facts = {each.name: getattr(case.facts, each.name) for each in fields(Facts)}
    lines = ["facts: " + ", ".join(f"{name}={value}" for name, value in facts.items() if value != getattr(plain, name))]
    lines.append(f"units: {case.units}" + (" trusted" if case.trusted else ""))
    if case.owners:
        lines.append("owners: " + ", ".join(f"{pa:#x}: {held}" for pa, held in case.owners.items()))
    lines += [f"  {pa:#x}: {entry(word)}" for pa, word in sorted(case.words.items())]
    return "\n".join([f"bits: {case.facts.bits} root {case.root:#x}", *lines, *map(_step, case.steps)])


def entry(word: int) -> str:
    """An entry in words."""
    letters = "".join(letter for at, letter in enumerate("VLRWUMN7") if word >> at & 1)
    return f"{word & ~0xFF:#x} {letters}"


def _step(numbered: tuple[str, object]) -> str:
    step = numbered[1]
    match step:
        case Store():
            return f"store {step.pa:#x}: {entry(step.expected)} -> {entry(step.new)}"
        case Fill():
            runs = [f"{run.entries} from {run.pa:#x}: {entry(run.first)} + {run.increment:#x}" for run in step.runs]
            return f"fill {step.pa:#x} " + ", ".join(runs + [f"{pa:#x}: {entry(word)}" for pa, word in step.overrides])
        case Invalidate():
            names = {4: "leaves", 5: "pointers", 6: "any-tag", 7: "device", 8: "DR", 9: "DW", 14: "domain"}
            names |= {10 + level: f"level-{level}" for level in range(4)}
            bits = " ".join(name for at, name in names.items() if step.words[0] >> at & 1)
            first, last = step.words[1] & 0xFFFFFFFF, step.words[1] >> 32
            return f"invalidate {step.unit} of {step.words[0] >> 16:#x} pages {first}-{last} {bits}"
        case Own():
            size = f"{step.start_pa:#x}-{step.end_pa:#x} owner {step.owner} entries {step.size_lg2}"
            return f"own {size} drops {step.drops}"
        case Release():
            return "release " + ", ".join(f"{pa:#x}" for pa, _ in step.tables)
    return str(step)
