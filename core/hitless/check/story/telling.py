"""Tells a violation as a timeline that a person follows at two in the morning.

The lines are those of a replay that ends in the violation, without the steps that have nothing to do with it.
"""

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from hitless.check.replay import Line, Replay
from hitless.check.replay.scene import Scene
from hitless.check.report import Violation
from hitless.check.rules import all_rules
from hitless.check.story.program import program
from hitless.check.story.witness import Script, find_script
from hitless.check.subject import Subject
from hitless.explain import explain_entry
from hitless.pagetable import Leaf, WalkFault, walk
from hitless.plan import Barrier, Call, Fill, Invalidate, Own, Release, Step, Store, StoreStructure, Wait, effects_of

_MOST_ALIKE = 2
_MOST_OWNS = 4


@frozen
class Story:
    """One violation, told: plain texts, which cross processes.

    Args:
        who: vendor and format, and what was checked.
        what: what is wrong, one sentence.
        at: the entry behind it, and where it was held.
        lines: the timeline.
        rule: id and sentence.
        why: what made it so, with the declared facts.
        do: what mends the plan.
        again: the one command that repeats it.
        program: the program that replays it; empty: no request of a device shows it.
    """

    who: str
    what: str
    at: str
    lines: tuple[str, ...]
    rule: str
    why: str
    do: str
    again: str = ""
    program: str = ""

    def __str__(self) -> str:
        head = [f"{self.who}: {self.what}", *([f"  at   {self.at}"] if self.at else [])]
        tail = (("  rule ", self.rule), ("  why  ", self.why), ("  do   ", self.do), ("  again: ", self.again))
        return "\n".join([*head, *self.lines, *(label + text for label, text in tail if text)])


def tell(subject: Subject, violation: Violation, *, title: str = "", again: str = "", vendor: str = "") -> Story:
    """The story of a violation.

    Args:
        subject: what was checked.
        violation: what :func:`hitless.check.check` found in it.
        title: what was checked, in a few words: scenario, mutant.
        again: the command that repeats it.
        vendor: for the program, the expression that makes the vendor; see :func:`hitless.check.story.program.program`.
    """
    script = find_script(subject, violation)
    iova = violation.start if script is None else script.iova
    acting = script or Script(Scene.of(subject, [iova]), (), len(subject.steps), lambda _replay: [], iova)
    with Replay.of(acting.scene, subject.steps) as replay:
        acting.perform(replay)
        steps = sorted(_told(subject, violation, acting, replay))
        lines = [_at_first(subject, iova), *_timeline(replay.lines, steps, violation, len(subject.steps))]
        why = violation.why or _why(violation, acting, replay)
        at = _held(violation, acting, replay)
    who = ", ".join(filter(None, (subject.vendor.page_format.name, title)))
    rule = next((f"{each.id}: {each.sentence}" for each in all_rules(subject) if each.id == violation.rule), "")
    text = ""
    if script is not None:
        head, origin = f"{violation.rule}: {violation.what}", f"Found by: {again}" if again else f"Found in: {who}"
        text = program(script, subject.steps, steps, head=head, origin=origin, vendor=vendor)
    return Story(
        who, violation.what, at, tuple(map(str, lines)), rule or violation.rule, why, violation.do, again, text
    )


def tell_plainly(violation: Violation, *, who: str, again: str = "") -> Story:
    """The story of a violation that was found by running something, not in a plan."""
    what, step = violation.what, f"  {'break':>5}  {violation.rule} is broken"
    return Story(who, what, violation.held, (step,), violation.rule, violation.why, violation.do, again)


# -- lines


def _at_first(subject: Subject, iova: int) -> Line:
    """What maps an IOVA before the plan."""
    fmt = subject.vendor.page_format
    found = walk(subject.memory.load, fmt, subject.begin(iova))
    entry = explain_entry(fmt, found.word, found.level) if isinstance(found, Leaf | WalkFault) else "nothing"
    return Line(None, "first", f"{iova:#x} is mapped by {fmt.levels[found.level]}: {entry}")


def _timeline(lines: Iterable[Line], told: Sequence[int], violation: Violation, count: int) -> Iterator[Line]:
    """The lines of told steps and of requests, and the break."""
    for line in lines:
        if line.step is None or line.step in told:
            yield line
    when = "after refresh has returned" if violation.step >= count else f"at step {violation.step}"
    yield Line(None, "break", f"{violation.rule} is broken, {when}")


def _told(subject: Subject, violation: Violation, script: Script, replay: Replay) -> set[int]:
    """The numbers of the steps that matter for what happened."""
    steps = [step for _, step in subject.steps]
    levels = subject.vendor.page_format.levels
    told = {violation.step, violation.born} & set(range(len(steps)))
    owns = 0
    numbered = ((number, each) for number, step in enumerate(steps[: script.until]) for each in effects_of([step]))
    for number, step in numbered:
        if isinstance(step, Store):
            lo = levels[step.level].lo
            if step.iova <= script.iova < step.iova + (1 << lo):
                told.add(number)
        elif isinstance(step, StoreStructure):
            told.add(number)
        elif isinstance(step, Own) and owns < _MOST_OWNS and _concerns(step, subject, script.iova):
            owns += 1
            told.add(number)
    if violation.rule == "H1":
        commands = [number for number, step in enumerate(steps[: script.until]) if isinstance(step, Invalidate)]
        told |= set(commands[-_MOST_ALIKE:])
    told |= _writers(steps[: script.until], replay)
    told |= _commands(steps[: script.until], replay, min((look.before for look in script.looks), default=script.until))
    return told | _barriers(steps[: script.until], told, script)


def _concerns(own: Own, subject: Subject, iova: int) -> bool:
    """Whether an owner change is one of the pages that an IOVA leads to, before or after."""
    return any(
        own.start_pa <= pa < own.end_pa
        for run in subject.truth.inside(iova, iova + 1)
        for pa in (run.old_pa, run.new_pa)
    )


def _writers(steps: Sequence[Step], replay: Replay) -> set[int]:
    """Who wrote the entries that mattered in the last walk: the leaf, and those whose older word was read."""
    matter = [read.pa for number, read in enumerate(replay.reads) if read.older or number == len(replay.reads) - 1]
    found = set()
    for pa in matter:
        found |= set(list(_writes(steps, pa))[-1:])
    return found


def _writes(steps: Sequence[Step], pa: int) -> Iterator[int]:
    """The numbers of the steps that write to an address."""
    for number, each in enumerate(steps):
        for step in effects_of([each]):
            match step:
                case Store() if step.pa == pa:
                    yield number
                case Fill() if step.pa <= pa < step.pa + (1 << step.size_lg2):
                    yield number


def _commands(steps: Sequence[Step], replay: Replay, since: int) -> set[int]:
    """Commands and waits that something was held through: all that touch it, and a few that do not reach it."""
    noted: dict[int, list[str]] = {}
    for line in replay.lines:
        if line.step is not None and not line.label:
            noted.setdefault(line.step, []).append(line.text)
    found, alike = set(), 0
    for number, step in enumerate(steps):
        notes = noted.get(number, [])
        if number < since or not notes:
            continue
        if isinstance(step, Invalidate) and all("does not reach" in note for note in notes):
            alike += 1
            if alike > _MOST_ALIKE:
                continue
        if isinstance(step, Invalidate | Wait | Own | Call | Release | Store | StoreStructure):
            found.add(number)
    return found


def _barriers(steps: Sequence[Step], told: set[int], script: Script) -> set[int]:
    """Barriers that settle a told store only after something else was told, or asked."""
    moments = {look.before for look in script.looks}
    found, open_since = set(), -1
    for number, step in enumerate(steps):
        if isinstance(step, Store) and number in told and open_since < 0:
            open_since = number
        elif isinstance(step, Barrier) and open_since >= 0:
            between = range(open_since + 1, number)
            if any(each in told and not isinstance(steps[each], Store) for each in between) or moments & set(
                range(open_since + 1, number + 1)
            ):
                found.add(number)
            open_since = -1
    return found


# -- what made it so


def _held(violation: Violation, script: Script, replay: Replay) -> str:
    """The entry behind it, and where it was held."""
    if not violation.held:
        return ""
    where = violation.where
    if where != "memory" and script.looks:
        ask = script.looks[0].ask
        unit = ask.unit or next(iter(replay.ports))
        tag = ask.tag if ask.tag is not None else replay.ports[unit].places[0].tag
        device = f" and the ATC of device {ask.device:#x}" if ask.device is not None else ""
        where = f"the TLB of {unit}, tag {tag:#x}{device}"
        where = f"flight behind {unit}, tag {tag:#x}" if violation.where == "flight" else where
    return f"{violation.held}, in {where}" if where else violation.held


def _why(violation: Violation, script: Script, replay: Replay) -> str:
    """The reason that says most."""
    spared = [each for port in replay.ports.values() for each in port.spared]
    best = max(spared, key=lambda each: each.weight, default=None)
    if best is not None and best.weight > 1:
        return f"{best.why} ({best.source})"
    if any(look.older for look in script.looks):
        return "the command was submitted before the store had settled: a walk could still read the older word"
    if unsettled := next((read.older for read in replay.reads if read.older), ""):
        return unsettled
    if violation.where in ("cache", "flight"):
        if best is not None:
            return f"{best.why} ({best.source})"
        pending = any(port.pending for port in replay.ports.values())
        return "no wait has completed behind a command that takes it" if pending else "no command takes it"
    return _who_wrote(script, replay)


def _who_wrote(script: Script, replay: Replay) -> str:
    """Where the entry comes from at which the last walk ended."""
    if not replay.reads:
        return ""
    writers = list(_writes([step for _, step in replay.steps], replay.reads[-1].pa))
    before = [number for number in writers if number < script.until]
    if before:
        return f"step {before[-1]} put this entry there"
    return f"only step {writers[0]} stores to this entry" if writers else "it is so since before the plan"


__all__ = ["Story", "tell", "tell_plainly"]
