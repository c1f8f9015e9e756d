"""Rules for the whole suite: skips are counted, and with ``CI=true`` they are failures.

They hold with pytest-xdist's workers as without: reports tell the process that sums up what it did not see itself.
"""

import os
import sys
from collections.abc import Generator
from typing import Any

import pytest
from coverage import Coverage, CoverageData
from hypothesis import settings

# Nothing of gwproto is imported here: a worker's coverage begins in pytest_configure.

# No deadline: a test that fails because a machine was busy says nothing. In CI the same examples every time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("deep", deadline=None, max_examples=10_000)

CI = os.environ.get("CI") == "true"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "default"))

_skipped: list[tuple[str, str]] = []
_goldens: dict[object, bool] = {}  # by module and name: has every test of it passed?
_rare: list[tuple[int, int]] = []  # states reached, of how many
_measuring: list[Coverage] = []  # in a worker


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker measures when ``coverage run`` started the process that starts it; what it starts itself does not."""
    node.workerinput["measured"] = Coverage.current() is not None


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config, "workerinput", {}).get("measured"):
        _measuring.append(Coverage(data_file=None))
        _measuring[0].start()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker measured is as if it had been measured here."""
    measured = getattr(node, "workeroutput", {}).get("measured")
    here = Coverage.current()
    if measured and here is not None:
        data = CoverageData(no_disk=True)
        data.loads(measured)
        here.get_data().update(data)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage looks away from what tries a thousand times what others try once, and from examples that are drawn: it
    would triple their time, and no branch is to be reached by chance alone."""
    if item.get_closest_marker("unmeasured") is None and item.get_closest_marker("hypothesis") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("golden")
        if marker is not None:
            name = marker.args[0] if marker.args else item.name.partition("[")[2].rstrip("]")
            item.user_properties.append(("golden", f"{item.nodeid.partition('::')[0]} {name}"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)
    properties: dict[str, Any] = dict(report.user_properties)
    if report.when == "call" and "rare states" in properties:
        _rare.append(properties["rare states"])
    golden = properties.get("golden")
    if golden is not None:
        _goldens[golden] = _goldens.get(golden, True) and report.passed


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _measuring:
        coverage = _measuring.pop()
        coverage.stop()
        session.config.workeroutput["measured"] = coverage.get_data().dumps()  # type: ignore[attr-defined]
    elif CI and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _goldens:
        from gwproto.wire.dialects import DIALECTS
        from gwproto_ops.deployment import known_providers

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
