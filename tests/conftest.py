"""Rules for the whole suite: skips are counted, and with ``CI=true`` they are failures."""

import os

import pytest
from hypothesis import settings

from gwproto.wire.dialects import DIALECTS
from gwproto_ops.deployment import known_providers
from support.rare import PROPERTY

# No deadline: a test that fails because a machine was busy says nothing. In CI the same examples every time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("deep", deadline=None, max_examples=10_000)

CI = os.environ.get("CI") == "true"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "default"))

_skipped: list[tuple[str, str]] = []
_rare: list[tuple[int, int]] = []  # states reached, of how many
_golden_of: dict[str, tuple[str, str]] = {}  # by test: the golden's module and name
_goldens: dict[tuple[str, str], bool] = {}  # has every test of it passed?


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("golden")
        if marker is not None:
            name = marker.args[0] if marker.args else item.name.partition("[")[2].rstrip("]")
            _golden_of[item.nodeid] = item.nodeid.partition("::")[0], name


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)
    for name, value in report.user_properties:
        if name == PROPERTY and isinstance(value, tuple | list):
            _rare.append((value[0], value[1]))
    golden = _golden_of.get(report.nodeid)
    if golden is not None:
        _goldens[golden] = _goldens.get(golden, True) and report.passed


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if CI and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _goldens:
        models = {target.id for entry in known_providers().values() for target in entry.models}
        passed = sum(_goldens.values())
        terminalreporter.write_line(
            f"goldens: {passed} of {len(_goldens)} passed; formats: {len(DIALECTS)}; models known: {len(models)}"
        )
    if _rare:
        reached, known = map(sum, zip(*_rare, strict=True))
        terminalreporter.write_line(f"rare states: {reached} of {known} reached")
    for name, reason in _skipped:
        terminalreporter.write_line(f"skipped: {name}: {reason}")
    if CI and _skipped:
        terminalreporter.write_line(f"{len(_skipped)} skipped, which CI=true forbids", red=True)
