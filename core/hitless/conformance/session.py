"""The kit as pytest sees it: what each test is run for, what is skipped or known to fail, and the report."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from hitless.conformance.cases import CASES, Case
from hitless.conformance.gaps import Gap, read_gaps
from hitless.conformance.kit import Kit, UnknownVendor, import_folders
from hitless.conformance.report import Report, Row, own_rules
from hitless.conformance.rules import OWED, RULES
from hitless.conformance.terminal import show
from hitless.errors import HitlessError


@define(eq=False)
class KitSession:
    """One run of pytest with ``--iommu``."""

    kit: Kit
    report: Report
    gaps: tuple[Gap, ...]
    files: tuple[Path, ...]
    whole: bool
    """All of the kit was asked for."""

    @classmethod
    def of(cls, config: pytest.Config) -> "KitSession":
        """What the options ask for.

        Raises:
            pytest.UsageError: no such vendor or format, a gap that names no rule, a report of an unknown kind.
        """
        folder = config.invocation_params.dir
        if ":" in config.getoption("--iommu"):
            import_folders(folder)
        formats = [each.strip() for each in (config.getoption("--iommu-formats") or "").split(",") if each.strip()]
        files = tuple(folder / name for name in config.getoption("--iommu-report") or ())
        if unknown := [str(each) for each in files if each.suffix not in (".json", ".html")]:
            raise pytest.UsageError(f"--iommu-report: {unknown[0]} is neither .json nor .html")
        try:
            kit = Kit.open(config.getoption("--iommu"), config.getoption("--iommu-suite"), formats, folder)
            kit.machine = config.getoption("--iommu-machine")
            cls._check_formats(kit, formats)
            gaps = read_gaps(folder, own_rules(kit))
        except HitlessError as error:
            raise pytest.UsageError(f"--iommu {config.getoption('--iommu')}: {error}") from error
        return cls(kit, Report(kit, gaps), gaps, files, _all_asked_for(config))

    @staticmethod
    def _check_formats(kit: Kit, formats: list[str]) -> None:
        if kit.broken is not None or not formats or kit.faults:
            return
        known = kit.registry.format_names(kit.vendor)
        if wrong := [each for each in formats if each not in known]:
            raise UnknownVendor(f"{kit.vendor} has no page format {wrong[0]!r}", do=f"choose from {', '.join(known)}")

    # -- collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test of the kit once for each of its cases."""
        mark = metafunc.definition.get_closest_marker("iommu")
        if mark is None:
            return
        rule, each = mark.args[0], mark.kwargs["each"]
        cases = list(CASES[each](self.kit, rule)) if self.kit.broken is None or rule == "HOOK1" else []
        metafunc.parametrize("at", cases, ids=[case.id for case in cases])

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out tests without a case, and skip what a capability waives."""
        items[:] = [item for item in items if item.get_closest_marker("iommu") is None or case_of(item) is not None]
        for item in items:
            case = case_of(item)
            if case is None or case.configuration is None or case.rule in OWED:
                continue
            waiver = self.kit.waiver(case.rule, case.vendor)
            if waiver is not None:
                item.add_marker(pytest.mark.skip(reason=f"{waiver.name}: {waiver.why} ({waiver.clause})"))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Remember that the user chose."""
        self.whole = False

    # -- running

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what is known to fail into an expected failure, and put the row into the report of the test."""
        report = yield
        case = case_of(item)
        if case is None or (report.when != "call" and report.outcome == "passed"):
            return report
        reason = "" if report.outcome == "passed" else _reason(report, call)
        outcome: str = report.outcome
        if report.outcome == "failed":
            gap = next((each for each in self.gaps if each.covers(case.rule, case.title)), None)
            if gap is not None:
                report.outcome, report.wasxfail = "skipped", gap.reason
                outcome, reason = "xfailed", f"{gap.reason}: {reason}"
        report.iommu = [case.rule, case.title, case.name, outcome, reason]  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect rows, where xdist brings them together too."""
        if row := getattr(report, "iommu", None):
            self.report.rows.append(Row(*row))

    # -- the end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge what no single test can, and write the report."""
        if hasattr(session.config, "workerinput") or session.config.option.collectonly or not self.report.rows:
            return
        if self.whole and not session.shouldstop and not session.shouldfail:
            self.report.conclude()
        if self.report.failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for path in self.files:
            self.report.write(path)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print header and matrix."""
        if self.report.rows:
            show(self.report, terminalreporter)
            for path in self.files:
                terminalreporter.write_line(f"report written to {path}")

    def pytest_report_header(self) -> list[str]:
        """Name the vendor and how much of it is tested."""
        kit = self.kit
        distribution = " ".join(filter(None, kit.distribution))
        lines = [f"iommu: {kit.vendor} from {distribution}, suite {kit.suite}"]
        if kit.broken is None:
            lines.append(f"iommu configurations: {len(kit.configurations)}")
        return lines


def _all_asked_for(config: pytest.Config) -> bool:
    """Whether the arguments name the whole kit, and leave nothing of it out."""
    option = config.option
    chosen = option.keyword or option.markexpr or option.deselect or getattr(option, "lf", False)
    return not chosen and any(each in ("hitless.conformance", str(Path(__file__).parent)) for each in config.args)


def case_of(item: pytest.Item) -> Case | None:
    """The case that a test of the kit is run for."""
    callspec = getattr(item, "callspec", None)
    found: Any = callspec.params.get("at") if callspec is not None else None
    return found if isinstance(found, Case) else None


def _reason(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """The sentence of a failure or skip."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if call.excinfo is None:
        return str(report.longrepr)
    value = call.excinfo.value
    text = getattr(value, "msg", None) or str(value)
    return text if isinstance(value, pytest.fail.Exception) else f"{call.excinfo.typename}: {text}"


__all__ = ["RULES", "KitSession", "case_of"]
