"""The text form of a plan: one line a step, printed and parsed.

::

    plan amd0
    [prepare]
    fill 0x100003000 4K
      run 0x100003000 512 0x7000000040000001 +0x200000
      word 0x100003028 0x6000000100004201
    [isolate]
    barrier
    store cut L2 iova 0x40000000 @0x100001008 0x7000000040000001 -> 0x6000000100003401 hardware 0x60
    structure grow iommu0 device 0x8 dte @0x100002100 0x6000000100001603 0x1 -> 0x6000000100004803 0x1
    invalidate iommu0 tag 1 [0x40000000, 0x7fffffff] 0x3000000100000000 0x5ffff001
    wait iommu0
    [own]
    own RMPUPDATE [0x40000000, 0x40001000) owner 0 size 4K drops none
    call PSMASH_IO [0x40200000, 0x40400000) held
      does store cut L1 iova 0x200000 @0x100002008 0x7000000040200001 -> 0x6000000100004201 hardware 0x60
      does own PSMASH [0x40200000, 0x40400000) owner 1 size 4K drops none
    [refresh]
    release 0x100005000:4K
      fold 0x100005000 512 0x60 -> @0x100001008

A fold of several into several says how many entries get the bits, and how often side by side:
``fold 0x100005000 8 0x60 -> @0x100006000 8 x1``; bits that hardware clears follow as ``clears 0x80``. A
store that spreads what it folds over a run ends in ``spread 0x100005000:8``. Without ``held``, requests go on
while a call is answered. A structure of one PASID names it behind the device: ``device 0x8 pasid 0x5``; one without a
name has ``-`` in its place.

Text after `` # `` is a comment.
"""

import re
from collections.abc import Iterable

from hitless.errors import BadInput
from hitless.plan.bulk import singles
from hitless.plan.plan import SECTIONS, Plan, Section
from hitless.plan.steps import (
    Barrier,
    Call,
    Clean,
    Fill,
    FillRun,
    Fold,
    Invalidate,
    Own,
    Release,
    Step,
    Store,
    StoreStructure,
    Wait,
)
from hitless.units import lg2_text, parse_size


def _lg2(text: str) -> int:
    return parse_size(text).bit_length() - 1


def _pairs(pairs: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{a:#x}:{b}" for a, b in pairs)


def _fold(fold: Fold) -> str:
    many = "" if (fold.targets, fold.times) == (1, 1) else f" {fold.targets} x{fold.times}"
    clears = f" clears {fold.clears:#x}" if fold.clears else ""
    return f"  fold {fold.table_pa:#x} {fold.entries} {fold.hardware:#x} -> @{fold.entry_pa:#x}{many}{clears}"


def _structure(step: StoreStructure) -> str:
    pasid = "" if step.pasid is None else f" pasid {step.pasid:#x}"
    before, after = (" ".join(f"{word:#x}" for word in words) for words in (step.expected, step.new))
    whose = f"{step.unit} device {step.device:#x}{pasid} {step.structure or '-'}"
    return f"structure {step.what} {whose} @{step.pa:#x} {before} -> {after}"


def format_step(step: Step) -> str:
    """One step in the text form (a Fill is several lines)."""
    match step:
        case Fill(pa, size_lg2, runs, overrides):
            lines = [f"fill {pa:#x} {lg2_text(size_lg2)}"]
            lines += [f"  run {r.pa:#x} {r.entries} {r.first:#x} +{r.increment:#x}" for r in runs]
            lines += [f"  word {at:#x} {word:#x}" for at, word in overrides]
            return "\n".join(lines)
        case Clean(pa, size):
            return f"clean {pa:#x} {size}"
        case Barrier():
            return "barrier"
        case Store():
            fold = f" fold {_pairs(step.fold)}" if step.fold else ""
            fold += f" spread {_pairs(step.spread)}" if step.spread else ""
            return (
                f"store {step.what} L{step.level} iova {step.iova:#x} @{step.pa:#x} "
                f"{step.expected:#x} -> {step.new:#x} hardware {step.hardware:#x}{fold}"
            )
        case StoreStructure():
            return _structure(step)
        case Invalidate(unit, tag, words, first, last):
            return f"invalidate {unit} tag {tag} [{first:#x}, {last:#x}] " + " ".join(f"{w:#x}" for w in words)
        case Wait(unit):
            return f"wait {unit}"
        case Own():
            return (
                f"own {step.op} [{step.start_pa:#x}, {step.end_pa:#x}) owner {step.owner} "
                f"size {lg2_text(step.size_lg2)} drops {step.drops}"
            )
        case Call(op, start_pa, end_pa, effects, held):
            lines = [f"call {op} [{start_pa:#x}, {end_pa:#x}){' held' if held else ''}"]
            return "\n".join([*lines, *(f"  does {format_step(effect)}" for effect in effects)])
        case Release(tables, fold):
            lines = ["release " + " ".join(f"{pa:#x}:{lg2_text(size)}" for pa, size in tables)]
            return "\n".join([*lines, *map(_fold, fold)])


def format_plan(plan: Plan) -> str:
    """The whole plan; empty sections are left out."""
    lines = [f"plan {plan.notifier}"]
    for name in SECTIONS:
        steps = plan.section(name)
        if steps:
            lines.append(f"[{name}]")
            lines += [format_step(step) for step in singles(steps)]
    return "\n".join(lines) + "\n"


_N = r"(0x[0-9a-fA-F]+|[0-9]+)"
_STORE = re.compile(
    rf"store (\S+) L([0-9]+) iova {_N} @{_N} {_N} -> {_N} hardware {_N}(?: fold ((?: ?0x\S+)+))?(?: spread (.+))?",
)
_STRUCTURE = re.compile(
    rf"structure (\S+) (\S+) device {_N}(?: pasid {_N})? (\S+) @{_N}((?: {_N}){{1,2}}) ->((?: {_N}){{1,2}})"
)
_INVALIDATE = re.compile(rf"invalidate (\S+) tag {_N} \[{_N}, {_N}\] (.+)")
_FOLD = re.compile(rf"fold {_N} {_N} {_N} -> @{_N}(?: {_N} x{_N})?(?: clears {_N})?")
_CALL = re.compile(rf"call (\S+(?: \S+)*?) \[{_N}, {_N}\)( held)?")
_OWN = re.compile(rf"own (\S+(?: \S+)*?) \[{_N}, {_N}\) owner {_N} size (\S+) drops (\S+)")


def _parse_store(line: str) -> Store | None:
    if (m := _STORE.fullmatch(line)) is None:
        return None
    iova, pa, expected, new, hardware = (int(m[i], 0) for i in range(3, 8))
    fold, spread = (
        [(int(a, 0), int(b)) for a, _, b in (pair.partition(":") for pair in (m[i] or "").split())] for i in (8, 9)
    )
    return Store(pa, expected, new, hardware, m[1], int(m[2]), iova, fold, spread)


def _parse_structure(line: str) -> StoreStructure | None:
    if (m := _STRUCTURE.fullmatch(line)) is None:
        return None
    before, after = (tuple(int(word, 0) for word in m[i].split()) for i in (7, 9))
    pasid = None if m[4] is None else int(m[4], 0)
    name = "" if m[5] == "-" else m[5]
    return StoreStructure(m[2], int(m[3], 0), pasid, name, m[1], int(m[6], 0), before, after)


def _parse_step(line: str) -> Step | None:
    words = line.split()
    match words:
        case ["fill", pa, size]:
            return Fill(int(pa, 0), _lg2(size))
        case ["clean", pa, size]:
            return Clean(int(pa, 0), int(size, 0))
        case ["barrier"]:
            return Barrier()
        case ["wait", unit]:
            return Wait(unit)
        case ["release", *tables]:
            return Release([(int(a, 0), _lg2(b)) for a, _, b in (each.partition(":") for each in tables)])
        case ["store", *_]:
            return _parse_store(line)
        case ["structure", *_]:
            return _parse_structure(line)
        case ["invalidate", *_] if (m := _INVALIDATE.fullmatch(line)) is not None:
            encoded = tuple(int(word, 0) for word in m[5].split())
            return Invalidate(m[1], int(m[2], 0), encoded, int(m[3], 0), int(m[4], 0))
        case ["own", *_] if (m := _OWN.fullmatch(line)) is not None:
            return Own(m[1], int(m[2], 0), int(m[3], 0), int(m[4], 0), _lg2(m[5]), m[6])
        case ["call", *_] if (m := _CALL.fullmatch(line)) is not None:
            return Call(m[1], int(m[2], 0), int(m[3], 0), held=m[4] is not None)
    return None


def _continue(step: Step | None, line: str) -> bool:
    """Take an indented line into the step before it; whether it belonged there."""
    match step, line.split():
        case Call(), ["does", *_]:
            effect = _parse_step(line.removeprefix("does "))
            if not isinstance(effect, Store | Clean | Barrier | Own | Invalidate | Wait):
                return False
            step.effects.append(effect)
        case Fill(), ["run", pa, count, first, increment]:
            step.runs.append(FillRun(int(pa, 0), int(count), int(first, 0), int(increment, 0)))
        case Fill(), ["word", pa, word]:
            step.overrides.append((int(pa, 0), int(word, 0)))
        case Release(), ["fold", *_] if (m := _FOLD.fullmatch(line)) is not None:
            table, entries, hardware, entry, targets, times, clears = (int(each, 0) for each in m.groups("0"))
            step.fold.append(Fold(entry, table, entries, hardware, targets or 1, times or 1, clears))
        case _:
            return False
    return True


def parse_plan(text: str) -> Plan:
    """The plan of a text form; the exact inverse of :func:`format_plan`.

    Raises:
        BadInput: a line is not understood; names the line.
    """
    plan = Plan("")
    section: Section | None = None
    last: Step | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split(" # ")[0].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("plan ") and section is None:
            plan.notifier = line[5:].strip()
            continue
        header = next((name for name in SECTIONS if line == f"[{name}]"), None)
        if header is not None:
            section = header
            continue
        try:
            if _continue(last, line):
                continue
            last = _parse_step(line)
        except ValueError:
            last = None
        if last is None or section is None:
            raise BadInput(
                f"{line[:200]!r} is not a step of a plan" if section else f"{line[:200]!r} stands before any section",
                where=f"line {number}",
                do="sections are [prepare] [isolate] [own] [refresh]; steps are written as `hitless plan` prints them",
            )
        plan.section(section).append(last)
    return plan
