"""Verifies recordings: replays every case in every format that answers it, and compares every word."""

import random
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from hitless.errors import HitlessError
from hitless.pagetable import PageFormat
from hitless.plugin import VendorRegistry
from hitless.vectors.compare import (
    Difference,
    Place,
    Recorded,
    compare,
    difference,
    ignored,
    layout_of,
    recorded_words,
    stored_words,
)
from hitless.vectors.recording import Case, Recording
from hitless.vectors.replay import Replay, replayed

_LISTED = 12
_QUIRK = "quirk_"


@define
class Compared:
    """A recorded word beside ours, kept so that a change of it can be tried."""

    file: str
    case: str
    after_op: int
    fmt: PageFormat
    place: Place
    recorded: Recorded
    ours: int


@define
class FileResult:
    """What became of one recording.

    Args:
        cases: all of its cases: passed, failed and skipped.
        entries: recorded words that were compared.
        differences: each with its case and format; one that a section of the specification justifies says so
            and fails nothing.
        compared: the words, if they were asked for.
    """

    file: str
    fmt: str
    cases: int
    passed: int = 0
    failed: int = 0
    skipped: list[dict[str, str]] = field(factory=list)
    entries: int = 0
    differences: list[dict[str, Any]] = field(factory=list)
    compared: list[Compared] = field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """The row of the report."""
        names = ("file", "fmt", "cases", "passed", "failed", "skipped", "entries", "differences")
        return {name: getattr(self, name) for name in names}


def formats_of(registry: VendorRegistry) -> list[type[PageFormat]]:
    """The classes of all page formats that vendors bring, each once."""
    found: dict[type[PageFormat], None] = {}
    for vendor in sorted(registry.vendors):
        for name in registry.format_names(vendor):
            found.setdefault(type(registry.resolve(vendor, name).page_format))
    return list(found)


def verify(
    recording: Recording, formats: Sequence[type[PageFormat]], *, some: bool = False, keep: bool = False
) -> FileResult:
    """Replay and compare all cases of a recording.

    Args:
        recording: what to replay.
        formats: those that may answer.
        some: not every vendor is loaded: a configuration that no format answers is no failure.
        keep: keep the compared words, for :func:`flip`.
    """
    result = FileResult(recording.file, recording.fmt, len(recording.cases))
    answering = [cls for cls in formats if recording.fmt in cls.recorded_as]
    for case in recording.cases:
        if not answering:
            why = f"no format of the loaded vendors answers recordings of {recording.fmt}"
            result.skipped.append({"case": case.name, "reason": why})
        elif case.name.startswith(_QUIRK):
            why = "it shows behaviour that nobody should copy"
            result.skipped.append({"case": case.name, "reason": why})
        else:
            _verify_case(result, case, answering, some=some, keep=keep)
    return result


def _verify_case(
    result: FileResult, case: Case, answering: Sequence[type[PageFormat]], *, some: bool, keep: bool
) -> None:
    """Replay one case in each format that answers its configuration."""
    config = {**case.config, "fmt": result.fmt}
    found: list[dict[str, Any]] = []
    made = []
    for cls in answering:
        try:
            made += [fmt for fmt in [cls.from_recording(config)] if fmt is not None]
        except Exception as error:  # noqa: BLE001 - a stranger's format may raise anything
            what = f"the configuration is refused: {type(error).__name__}: {error}"
            found.append({"case": case.name, "format": cls.name, "what": what})
    if not made and not found and some:
        result.skipped.append(
            {"case": case.name, "reason": "no format of the loaded vendors answers its configuration"}
        )
        return
    if not made:
        found.append({"case": case.name, "what": f"no format answers the configuration {config}"})
    for number, fmt in enumerate(made):
        one = _Run(result, case, fmt, count=number == 0, keep=keep)
        one.run(config)
        found += one.found
    bad = [each for each in found if not each.get("justified")]
    result.passed += not bad
    result.failed += bool(bad)
    result.differences += [*found[:_LISTED], *_more(case, found)]


def _more(case: Case, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"case": case.name, "what": f"and {len(found) - _LISTED} more"}] if len(found) > _LISTED else []


@define
class _Run:
    """One case in one format."""

    result: FileResult
    case: Case
    fmt: PageFormat
    count: bool
    keep: bool
    found: list[dict[str, Any]] = field(factory=list)

    def run(self, config: dict[str, Any]) -> None:
        """Replay, and compare each dump after its operation."""
        dumps = {dump.after_op: dump for dump in self.case.dumps}
        try:
            for index, replay, problem in replayed(self.fmt, self.case, config):
                if problem:
                    self._note(index, problem)
                for note in replay.notes:
                    self._note(index, note, justified="the recorded driver's, not the format's")
                replay.notes.clear()
                if index in dumps:
                    self._compare(index, replay)
        except HitlessError as error:
            self._note(-1, f"the replay ends: {error.what}")

    def _note(self, index: int, what: str, justified: str = "") -> None:
        self.found.append(
            {"case": self.case.name, "format": self.fmt.name, "after_op": index, "what": what, "justified": justified}
        )

    def _compare(self, index: int, replay: Replay) -> None:
        fmt = replay.fmt
        for dump in (each for each in self.case.dumps if each.after_op == index):
            if fmt.top.number != dump.top_level:
                self._note(index, f"the root is of level {fmt.top.number}, not {dump.top_level}")
                continue
            if any(run.l > fmt.top.number for run in dump.runs):
                self._note(index, f"it holds tables above level {fmt.top.number}")
                continue
            recorded = recorded_words(fmt, dump)
            ours = stored_words(replay.arena, fmt, replay.root_pa)
            self.result.entries += len(recorded) if self.count else 0
            for each in compare(fmt, recorded, ours):
                self.found.append(_row(self.case.name, index, fmt, each, replay.config))
            if self.keep and self.count:
                self.result.compared += (
                    Compared(self.result.file, self.case.name, index, fmt, place, word, ours.get(place, 0))
                    for place, word in recorded.items()
                )


def _row(case: str, index: int, fmt: PageFormat, found: Difference, config: dict[str, Any]) -> dict[str, Any]:
    """A difference for the report, with the names of the fields that differ."""
    level, iova = found.place
    layout = layout_of(fmt, level, found.ours) or layout_of(fmt, level, found.recorded)
    bits = found.recorded ^ found.ours
    return {
        "case": case,
        "format": fmt.name,
        "after_op": index,
        "level": str(fmt.levels[level]),
        "iova": f"{iova:#x}",
        "recorded": f"{found.recorded:#x}",
        "ours": f"{found.ours:#x}",
        "fields": [each.name for each in layout.fields if each.mask & bits] if layout else [],
        "justified": fmt.justifies(found.recorded, found.ours, level, config) or "",
    }


@define
class Flips:
    """One-bit changes of recorded words.

    Args:
        changed: how many were made.
        reported: those that the comparison told.
        ignored: those in bits that the format declares ignored, which it must not tell.
        missed: what it should have told and did not, or the other way round.
    """

    changed: int = 0
    reported: int = 0
    ignored: int = 0
    missed: list[dict[str, Any]] = field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {name: getattr(self, name) for name in ("changed", "reported", "ignored", "missed")}


def flip(results: Sequence[FileResult], count: int, seed: int = 0) -> Flips:
    """Change one bit of a recorded word, ``count`` times over, and see that the comparison tells it."""
    words = [each for result in results for each in result.compared]
    rng = random.Random(seed)
    found = Flips()
    for _ in range(count if words else 0):
        each, bit = rng.choice(words), rng.randrange(64)
        changed = each.recorded._replace(word=each.recorded.word ^ 1 << bit)
        told = difference(each.fmt, each.place, changed, each.ours) is not None
        free = bool(ignored(each.fmt, each.place[0], each.recorded.word) >> bit & 1)
        found.changed += 1
        found.reported += told
        found.ignored += free
        if told == free:
            found.missed.append(_flipped(each, bit))
    return found


def _flipped(each: Compared, bit: int) -> dict[str, Any]:
    where = {"file": each.file, "case": each.case, "after_op": each.after_op, "bit": bit}
    return {**where, "level": each.place[0], "iova": f"{each.place[1]:#x}", "recorded": f"{each.recorded.word:#x}"}
