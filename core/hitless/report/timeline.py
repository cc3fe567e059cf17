"""A plan, or a counterexample, as a diagram: what happens, downwards, against tables, unit, caches and device."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hitless.plan import Barrier, Clean, Fill, Invalidate, Own, Plan, Release, Step, Store, Wait, format_step
from hitless.report.svg import Drawing
from hitless.units import lg2_text

LANES = ("software", "tables", "unit", "caches", "device")
_LANE, _LEFT, _TOP, _LINE = 66, 26, 40, 15
_TEXT, _WRAP = _LEFT + _LANE * len(LANES) + 12, 88
_PLACES: Mapping[type, tuple[int, str]] = {
    Fill: (1, "fill"),
    Barrier: (0, "barrier"),
    Clean: (0, "clean"),
    Invalidate: (2, "command"),
    Wait: (2, "wait"),
    Own: (0, "owner"),
    Release: (0, "free"),
}
_STORY = re.compile(r"\s*(\S+)\s{2,}(.*)|\s+(.*)")


class Event(NamedTuple):
    """One row: the lane in which it happens, a word for its mark, what it is, and whether it is the break."""

    lane: int
    mark: str
    text: str
    bad: bool = False


class Held(NamedTuple):
    """From one row to another the caches may hold what a store replaced."""

    first: int
    last: int


def draw_timeline(events: Sequence[Event], held: Sequence[Held], title: str) -> Drawing:
    """Rows of events with their marks in lanes; what may still be held is a bar in the lane of caches."""
    texts = [textwrap.wrap(each.text, _WRAP) or [""] for each in events]
    tops, y = [], float(_TOP)
    for lines in texts:
        tops.append(y)
        y += max(_LINE * len(lines), 18) + 6
    drawing = Drawing(_TEXT + 7 * _WRAP, y + 8, title)
    for number, name in enumerate(LANES):
        x = _LEFT + _LANE * number + _LANE / 2
        drawing.text(x, 16, name, "head", "middle")
        drawing.line(x, 24, x, y, "thin")
    for each in held:
        x = _LEFT + _LANE * LANES.index("caches") + _LANE / 2
        drawing.rect(x - 7, tops[each.first] + 4, 14, tops[each.last] - tops[each.first] + 8, "held", "may be cached")
    for number, (event, lines) in enumerate(zip(events, texts, strict=True)):
        top = tops[number]
        x = _LEFT + _LANE * event.lane + _LANE / 2
        drawing.text(_LEFT - 8, top + 13, str(number), "small", "end")
        drawing.rect(x - 29, top, 58, 18, "bad" if event.bad else "box s4", event.mark)
        drawing.text(x, top + 13, event.mark, "small on-bad" if event.bad else "small", "middle")
        for line, content in enumerate(lines):
            drawing.text(_TEXT, top + 13 + _LINE * line, content, "mono head" if event.bad else "mono")
    return drawing


# -- plans


def plan_timeline(plan: Plan, title: str) -> Drawing:
    """Every step of a plan, and from which store to which wait the old entry may still be used."""
    events, held, waiting = [], list[Held](), list[int]()
    for section, step in plan.steps():
        lane, mark = _place(step)
        events.append(Event(lane, mark, f"[{section}] {_short(step)}"))
        if (isinstance(step, Store) and step.expected) or (isinstance(step, Own) and step.drops == "none"):
            waiting.append(len(events) - 1)
        elif isinstance(step, Wait):
            held += [Held(each, len(events) - 1) for each in waiting]
            waiting.clear()
    return draw_timeline(events, held, title)


def _place(step: Step) -> tuple[int, str]:
    if isinstance(step, Store):
        return 1, step.what.partition("-")[0]
    return _PLACES.get(type(step), (0, "step"))


def _short(step: Step) -> str:
    """A step on one line: of a fill only where and how large."""
    if isinstance(step, Fill):
        return f"new table {step.pa:#x} of {lg2_text(step.size_lg2)}, which no walker reaches yet"
    return format_step(step).splitlines()[0]


# -- counterexamples


def story_timeline(lines: Sequence[str], title: str) -> Drawing:
    """The lines of a story: steps of software, requests of a device, reads of the walker, what a cache held."""
    events = []
    for line in lines:
        match = _STORY.fullmatch(line)
        label, text = ("", line.strip()) if match is None else (match[1] or "", match[2] or match[3] or "")
        events.append(Event(*_told(label, text), text, label == "break"))
    return draw_timeline(events, [], title)


def _told(label: str, text: str) -> tuple[int, str]:
    if label == "dma":
        return 4, "request"
    if label == "break":
        return 4, "broken"
    if label == "first":
        return 1, "at first"
    if "TLB" in text or "cache" in text:
        return 3, "cache"
    if label.isdigit():
        command = text.startswith(("invalidate", "wait", "to "))
        return (2, "command") if command else (1, "store") if "store" in text else (0, "step")
    return 2, "walker"
