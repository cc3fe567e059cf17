"""Reports: what each command found, as a page. They take plain data, and the rooms above give it."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from hitless import __version__
from hitless.plan import Plan
from hitless.report.addresses import Area, maps
from hitless.report.chart import bars, over_time
from hitless.report.page import Figure, Page, Section, paragraph, table, text
from hitless.report.timeline import plan_timeline, story_timeline

_LEAD = f"Made by hitless {__version__}. Sizes are told by pattern and by text; everything can be printed."


@frozen
class Sample:
    """One moment of a run: after so many conversions, what there is and what it cost so far."""

    conversions: int
    tables: int
    leaves: int
    commands: int
    waits: int


@frozen
class RunPicture:
    """What a report shows of one domain: samples in order, and the address space at the end."""

    samples: Sequence[Sample]
    areas: Sequence[Area]


def run_page(rows: Sequence[tuple[str, Mapping[str, Any], RunPicture | None]], log: str) -> Page:
    """A run: vendors side by side, then each domain over time and as a map. ``rows``: name, figures, picture."""
    page = Page(f"hitless run {log}", _LEAD)
    compared = Section("Side by side")
    keys = ("conversions", "cuts", "merges", "stores", "invalidations", "invalidated_pages", "waits", "tables_peak")
    shown = [key for key in keys if any(key in figures for _, figures, _ in rows)]
    rules = ("neighbour_faults", "neighbour_misrouted", "stale_after_refresh")
    columns = ["domain", *(key.replace("_", " ") for key in (*shown, *rules))]
    compared.parts.append(
        table(columns, [[name, *(figures.get(key, 0) for key in (*shown, *rules))] for name, figures, _ in rows])
    )
    for key in ("invalidations", "stores", "waits", "tables_peak"):
        drawn = bars([(name, float(figures.get(key, 0))) for name, figures, _ in rows], key.replace("_", " "))
        compared.parts.append(Figure(drawn, f"{key.replace('_', ' ')}, by domain"))
    page.sections.append(compared)
    for number, (name, _, picture) in enumerate(rows):
        if picture is not None:
            page.sections.append(_domain(name, picture, f"d{number}"))
    return page


def _domain(name: str, picture: RunPicture, prefix: str) -> Section:
    section = Section(name)
    for title, keys in (("tables and leaves", ("tables", "leaves")), ("commands and waits", ("commands", "waits"))):
        for key in keys if title.startswith("tables") else (keys,):
            names = (key,) if isinstance(key, str) else key
            series = {
                each: [(float(sample.conversions), float(getattr(sample, each))) for sample in picture.samples]
                for each in names
            }
            heading = " and ".join(names)
            section.parts.append(Figure(over_time(series, heading, "conversions"), f"{name}: {heading} over the run"))
    section.parts += maps(picture.areas, f"{name} at the end", prefix)
    return section


@frozen
class SpacePicture:
    """What a report shows of one address space: a heading, totals by name, areas, and how many it left out."""

    title: str
    totals: Mapping[str, object]
    areas: Sequence[Area]
    left_out: int = 0


def inspect_page(image: str, spaces: Sequence[SpacePicture], findings: Sequence[Mapping[str, str]]) -> Page:
    """The address spaces of an image as maps, and what is wrong with them."""
    page = Page(f"hitless inspect {image}", _LEAD)
    for number, space in enumerate(spaces):
        parts: list[Figure | str] = [table(["", ""], list(space.totals.items()))]
        parts += maps(space.areas, space.title, f"m{number}")
        if space.left_out:
            parts.append(paragraph(f"{space.left_out:,} more ranges are not drawn"))
        page.sections.append(Section(space.title, parts))
    if findings:
        rows = [[each["rule"], each["where"], each["entry"], each["why"], each["do"]] for each in findings]
        page.sections.append(Section("Findings", [table(["rule", "where", "entry", "why", "do"], rows)]))
    return page


@frozen
class PlanPicture:
    """What a report shows of one plan: heading, steps, the verdict in words, and the story of a violation."""

    title: str
    plan: Plan | None
    verdict: str
    story: str = ""


def plan_page(plans: Sequence[PlanPicture]) -> Page:
    """Plans as timelines."""
    page = Page("hitless plan", _LEAD)
    for each in plans:
        parts: list[Figure | str] = [paragraph(each.verdict)]
        if each.plan is not None:
            parts.append(
                Figure(plan_timeline(each.plan, each.title), "the bar in the lane of caches: the old entry may be used")
            )
        if each.story:
            parts.append(text(each.story))
        page.sections.append(Section(each.title, parts))
    return page


@frozen
class StoryPicture:
    """One violation: what was checked, the rule, the timeline's lines, and the whole story as text."""

    title: str
    rule: str
    lines: Sequence[str]
    story: str


def check_page(
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]], stories: Sequence[StoryPicture]
) -> Page:
    """Counterexamples as timelines, and the tables of what was checked."""
    page = Page("hitless check", _LEAD)
    for each in stories:
        drawn = Figure(story_timeline(each.lines, f"{each.rule}: {each.title}"), f"how {each.rule} breaks")
        page.sections.append(Section(f"{each.rule}: {each.title}", [drawn, text(each.story)]))
    for title, columns, rows in tables:
        page.sections.append(Section(title, [table(columns, rows)]))
    return page
