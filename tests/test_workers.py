"""When workers are started again, what they tell each other, and what several of them add up to."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from io import StringIO
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from test_ops_metrics import OF_WORKERS

from gwproto import ConfigurationError
from gwproto_ops import access
from gwproto_ops.merging import encoded, page_of_all, past
from gwproto_ops.metrics import Metrics, Snapshot, Value, written
from gwproto_ops.workers import supervisor
from gwproto_ops.workers.link import Link
from gwproto_ops.workers.messages import (
    Ask,
    Failed,
    Gathered,
    Message,
    Order,
    Ready,
    Reloaded,
    Stop,
    Tell,
    Told,
    Unframer,
    framed,
)
from gwproto_ops.workers.restarts import HOPELESS, LONGEST_PAUSE, STABLE, Restarts
from gwproto_ops.workers.supervisor import Supervisor
from support.conversation import START, gateway
from support.outcomes import random_outcomes
from support.servers import PATIENCE

M = TypeVar("M")


def started(size: int = 2) -> Restarts:
    """All are ready."""
    restarts = Restarts(size, 0.0)
    for number in restarts.due(0.0):
        restarts.ready(number)
    return restarts


class TestRestarts:
    def test_all_are_started_at_once(self) -> None:
        restarts = Restarts(3, 0.0)
        assert restarts.next_at() == 0.0
        assert restarts.due(0.0) == [1, 2, 3]
        assert restarts.due(0.0) == []
        assert restarts.next_at() is None
        for number in (3, 1):
            restarts.ready(number)
            assert not restarts.complete
        restarts.ready(2)
        assert restarts.complete
        assert restarts.serving == [1, 2, 3]

    def test_the_first_end_costs_no_time(self) -> None:
        restarts = started()
        restarts.ended(2, 1.0)
        assert restarts.serving == [1]
        assert restarts.next_at() == 1.0
        assert restarts.due(1.0) == [2]
        assert restarts.restarts == 1

    def test_pauses_double_up_to_a_limit(self) -> None:
        restarts = started()
        now, pauses = 0.0, []
        for _ in range(8):
            restarts.ended(1, now)
            at = restarts.next_at()
            assert at is not None
            assert restarts.due(at - 0.001) == ([1] if at == now and at - 0.001 >= at else [])
            pauses.append(at - now)
            now = at
            assert restarts.due(now) == [1]
            restarts.ready(1)
            now += 1.0
        assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE, LONGEST_PAUSE]
        assert restarts.hopeless is None

    def test_who_lived_for_long_begins_afresh(self) -> None:
        restarts = started()
        for end in (1.0, 1.0 + STABLE):
            restarts.ended(1, end)
            assert restarts.next_at() == end
            assert restarts.due(end) == [1]
            restarts.ready(1)
        restarts.ended(1, 2.0 + STABLE)
        assert restarts.next_at() == 2.25 + STABLE

    def test_none_that_starts_is_hopeless(self) -> None:
        restarts = Restarts(2, 0.0)
        restarts.due(0.0)
        restarts.ready(1)
        for n in range(HOPELESS):
            assert restarts.hopeless is None
            restarts.ended(2, float(n))
            if n < HOPELESS - 1:
                assert restarts.due(n + 0.9) == [2]
        assert restarts.hopeless == 2

    def test_while_another_serves_there_is_hope(self) -> None:
        restarts = started()
        restarts.ended(2, 0.0)
        for n in range(1, 10):
            assert restarts.due(n * LONGEST_PAUSE) == [2]
            restarts.ended(2, n * LONGEST_PAUSE)
            assert restarts.hopeless is None
        restarts.ended(1, 100.0)
        assert restarts.hopeless == 2

    def test_one_that_came_up_counts_no_earlier_tries(self) -> None:
        restarts = Restarts(1, 0.0)
        for n in range(HOPELESS - 1):
            restarts.due(float(n))
            restarts.ended(1, float(n))
        restarts.due(10.0)
        restarts.ready(1)
        restarts.ended(1, 11.0)
        assert restarts.hopeless is None

    def test_a_stop(self) -> None:
        restarts = started()
        restarts.stop()
        assert not restarts.finished
        restarts.ended(1, 1.0)
        assert restarts.due(99.0) == []
        assert restarts.next_at() is None
        assert not restarts.finished
        restarts.ended(2, 2.0)
        assert restarts.finished
        assert restarts.restarts == 0


MESSAGES: list[Message] = [
    Order(
        1, "::1", 80, None, "env", {"server.port": 1, "server.runtime": "trio"}, True, "", ["http://x"], ""
    ),
    Ready(["http://x", "http://y"]),
    Failed("path: problem"),
    Reloaded(),
    Stop(),
    Ask(3, b"\0" * 300),
    Tell(),
    Told(b""),
    Gathered(3, [b"1", b"2"], b"3", 4, 5, 6),
]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_messages_may_be_split_anywhere(sizes: list[int]) -> None:
    data = b"".join(map(framed, MESSAGES))
    unframer = Unframer()
    found: list[Message] = []
    for size in sizes:
        found += unframer.feed(data[:size])
        data = data[size:]
    found += unframer.feed(data)
    assert found == MESSAGES


def snapshot(seed: int, *values: Value) -> Snapshot:
    """Of a gateway that has had twenty requests."""
    metrics = Metrics()
    metrics.count(random_outcomes(20, seed=seed))
    made = metrics.snapshot(gateway(), START, connections=seed, recorder=None, log_dropped=seed)
    return made._replace(values=[*made.values, *values])


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for one in family.samples:
            key = one.name, frozenset(one.labels.items())
            assert key not in found
            found[key] = one.value
    return found


NONE: frozenset[tuple[str, str]] = frozenset()


def test_the_page_of_all_is_the_sum() -> None:
    one, two = snapshot(1), snapshot(2)
    together = Metrics()
    together.count([*random_outcomes(20, seed=1), *random_outcomes(20, seed=2)])
    expected = samples(
        written(together.snapshot(gateway(), START, connections=3, recorder=None, log_dropped=3))
    )
    found = samples(page_of_all(encoded(one), Gathered(1, [encoded(two)], b"", 2, 0, 7)))
    assert found["gwproto_workers", NONE] == 2
    assert found["gwproto_workers_silent", NONE] == 0
    assert found["gwproto_worker_restarts_total", NONE] == 7
    for (name, labels), value in expected.items():
        if not name.startswith("process_"):
            assert found[name, labels] == pytest.approx(value), name
    assert {name for name, _ in found} == {name for name, _ in expected} | OF_WORKERS
    alone = samples(page_of_all(encoded(one), Gathered(1, [], b"", 1, 0, 0)))
    memory = ("process_resident_memory_bytes", NONE)
    assert found[memory] == pytest.approx(2 * alone[memory], rel=0.2)
    start = ("process_start_time_seconds", NONE)
    assert found[start] == alone[start]


def test_of_the_dead_only_counters_remain() -> None:
    dead = past([past([b"", encoded(snapshot(2))]), encoded(snapshot(3)), b""])
    found = samples(page_of_all(encoded(snapshot(1)), Gathered(1, [], dead, 1, 0, 2)))
    all = Metrics()
    for seed in (1, 2, 3):
        all.count(random_outcomes(20, seed=seed))
    expected = samples(written(all.snapshot(gateway(), START, connections=1, recorder=None, log_dropped=6)))
    for (name, labels), value in expected.items():
        if not name.startswith("process_"):
            assert found[name, labels] == pytest.approx(value), name
    alone = samples(page_of_all(encoded(snapshot(1)), Gathered(1, [], b"", 1, 0, 0)))
    memory = ("process_resident_memory_bytes", NONE)
    assert found[memory] == pytest.approx(alone[memory], rel=0.2)
    assert found["process_cpu_seconds_total", NONE] > 2.5 * alone["process_cpu_seconds_total", NONE]


def test_promtool_has_no_complaint() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (it comes with Prometheus)")
    others = Gathered(1, [encoded(snapshot(2))], past([encoded(snapshot(3))]), 2, 0, 1)
    page = page_of_all(encoded(snapshot(1)), others)
    checked = subprocess.run((promtool, "check", "metrics"), input=page, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_what_is_no_sum_is_that_of_the_worst() -> None:
    def values(reloads: int, loaded: float, draining: bool) -> Snapshot:
        metrics = Metrics()
        gauges = {
            "configuration_reloads": ("", reloads),
            "configuration_loaded_timestamp_seconds": ("", loaded),
        }
        made = metrics.snapshot(gateway(), START, connections=1, recorder=None, log_dropped=0, gauges=gauges)
        others = [one for one in made.values if one.name != "draining"]
        (of_draining,) = [one for one in made.values if one.name == "draining"]
        (target, *rest) = made.targets
        if draining:
            target = replace(target, status="cooldown", cooldown_left=9.0, headroom=0.5, in_flight=2)
        else:
            target = replace(target, in_flight=1)
        return made._replace(values=[*others, of_draining._replace(value=draining)], targets=[target, *rest])

    good, bad = values(3, 50.0, False), values(2, 40.0, True)
    for one, two in ((good, bad), (bad, good)):
        found = samples(page_of_all(encoded(one), Gathered(1, [encoded(two)], b"", 2, 1, 0)))
        assert found["gwproto_configuration_reloads", NONE] == 3
        assert found["gwproto_configuration_loaded_timestamp_seconds", NONE] == 40.0
        assert found["gwproto_draining", NONE] == 1
        assert found["gwproto_open_connections", NONE] == 2
        assert found["gwproto_workers_silent", NONE] == 1
        first = good.targets[0]
        where = frozenset(
            {"target": first.target, "provider": first.provider, "model": first.upstream}.items()
        )
        assert found["gwproto_target_available", where] == 0
        assert found["gwproto_target_cooldown_seconds", where] == 9.0
        assert found["gwproto_target_headroom_ratio", where] == 0.5
        assert found["gwproto_target_in_flight", where] == 3
        counted = [n for (name, _), n in found.items() if name == "gwproto_targets"]
        assert sum(counted) == len(good.targets)


class TestPieces:
    LINES = "\n".join(("a" * 10, "é" * 5, "b", "c" * 40, "d", ""))

    def test_lines_are_never_cut(self) -> None:
        found = list(access.pieces(self.LINES, 25))
        assert found == ["a" * 10 + "\n" + "é" * 5 + "\n" + "b\n", "c" * 40 + "\n", "d\n"]
        assert list(access.pieces(self.LINES, 0)) == [self.LINES]
        assert list(access.pieces("", 25)) == []

    def test_each_is_written_at_once(self) -> None:
        written = []

        class Stream(StringIO):
            def flush(self) -> None:
                if text := self.getvalue():
                    written.append(text)
                    self.seek(0)
                    self.truncate()

        outcomes = random_outcomes(30, seed=1)
        stream = Stream()
        with access.enabled(stream, piece=4096):
            for outcome in outcomes:
                access.log_outcome(outcome)
        stream.close()
        assert "".join(written) == "".join([f"{access.json_line(one)}\n" for one in outcomes])
        assert len(written) > 1
        assert all(len(text.encode()) <= 4096 or text.count("\n") == 1 for text in written)
        assert all(text.endswith("\n") for text in written)


class Fake:
    """A worker whose process does nothing: a test speaks for it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process = subprocess.Popen(["sleep", "60"], process_group=0)
        self.theirs, self.sock = socket.socketpair()
        self.sock.settimeout(PATIENCE)
        self.ready = False
        self._unframer = Unframer()

    def send(self, message: Message) -> None:
        self.ready = self.ready or isinstance(message, Ready)
        self.sock.sendall(framed(message))

    def receive(self, kind: type[M]) -> M:
        while True:
            for message in self._unframer.feed(self.sock.recv(65536)):
                assert isinstance(message, kind)
                return message

    def end(self) -> None:
        """Die."""
        self.process.kill()
        self.sock.close()

    def stop(self) -> None:
        """Do as one is told: by a message who serves, by a signal who starts."""
        if self.ready:
            self.receive(Stop)
            assert self.process.poll() is None
        else:
            assert self.process.wait(PATIENCE) == -signal.SIGTERM
        self.end()


class Crew:
    """Runs a supervisor over fakes in this thread while ``during`` goes on in another."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.workers: list[Fake] = []  # in the order of their starts
        self.announced: list[list[str]] = []
        self.news = threading.Condition()

    def start(self, number: int) -> tuple["subprocess.Popen[bytes]", socket.socket]:
        with self.news:
            worker = Fake(number)
            self.workers.append(worker)
            self.news.notify_all()
        return worker.process, worker.theirs

    def started(self, n: int) -> Fake:
        """The one that was started as the ``n``-th, once it is."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.workers) >= n, PATIENCE)
            return self.workers[n - 1]

    def announce(self, urls: list[str]) -> None:
        with self.news:
            self.announced.append(urls)
            self.news.notify_all()

    def stop(self, *left: Fake) -> None:
        """By a signal, which those that are left obey."""
        os.kill(os.getpid(), signal.SIGTERM)
        for worker in left:
            worker.stop()

    def run(self, during: Callable[["Crew"], None]) -> None:
        errors: list[BaseException] = []

        def visit() -> None:
            try:
                during(self)
            except BaseException as error:
                errors.append(error)
                for worker in self.workers:
                    worker.end()
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=visit, daemon=True)

        def summed(reports: list[bytes]) -> bytes:
            return b"+".join(filter(None, reports))

        made = Supervisor(self.size, self.start, on_listening=self.announce, summed=summed)
        thread.start()
        try:
            made.run()
        finally:
            thread.join(PATIENCE)
            for worker in self.workers:
                worker.end()
        if errors:
            raise errors[0]


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setattr(supervisor, "REPORT_LIMIT", PATIENCE)
    return Crew(2)


@pytest.mark.sockets
class TestSupervisor:
    def test_figures_are_collected(self, crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
        def during(crew: Crew) -> None:
            one, two = crew.started(1), crew.started(2)
            one.send(Ready(["http://x"]))
            one.send(Ask(1, b"1"))  # alone yet
            assert one.receive(Gathered) == Gathered(1, [], b"", workers=1, silent=0, restarts=0)
            two.send(Ready(["http://x"]))
            with crew.news:
                assert crew.news.wait_for(lambda: crew.announced, PATIENCE)
            one.send(Ask(2, b"1"))
            two.receive(Tell)
            two.send(Told(b"2"))
            assert one.receive(Gathered) == Gathered(2, [b"2"], b"", workers=2, silent=0, restarts=0)
            two.end()
            three = crew.started(3)
            assert three.number == 2
            one.send(Ask(3, b"11"))
            assert one.receive(Gathered) == Gathered(3, [], b"2", workers=1, silent=0, restarts=1)
            three.send(Ready(["http://x"]))
            three.send(Ask(9, b"3"))
            one.receive(Tell)
            one.end()  # instead of an answer: what it said last is not lost
            assert three.receive(Gathered) == Gathered(9, [], b"2+11", workers=1, silent=0, restarts=2)
            crew.stop(three, crew.started(4))

        crew.run(during)
        assert crew.announced == [["http://x"]]
        said = [record.getMessage() for record in caplog.records]
        assert [text.split(" ")[1] for text in said] == ["2", "1"]
        assert all("is replaced: it ended by SIG" in text for text in said)

    def test_who_is_silent_is_left_out(self, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "REPORT_LIMIT", 0.02)

        def during(crew: Crew) -> None:
            one, two = crew.started(1), crew.started(2)
            for worker in (one, two):
                worker.send(Ready([]))
            with crew.news:
                assert crew.news.wait_for(lambda: crew.announced, PATIENCE)
            two.send(Ask(1, b"2"))
            assert two.receive(Gathered).silent == 1
            one.receive(Tell)
            one.send(Ask(1, b"1"))
            assert one.receive(Gathered) == Gathered(1, [], b"2", workers=2, silent=1, restarts=0)
            one.send(Ask(2, b"1"))
            assert one.receive(Gathered).silent == 1
            two.receive(Tell)  # one only
            two.send(Told(b"22"))
            monkeypatch.setattr(supervisor, "REPORT_LIMIT", PATIENCE)
            one.send(Ask(3, b"1"))
            two.receive(Tell)
            two.send(Told(b"222"))
            assert one.receive(Gathered) == Gathered(3, [b"222"], b"", workers=2, silent=0, restarts=0)
            crew.stop(one, two)

        crew.run(during)

    def test_one_reads_the_configuration_after_the_other(self, crew: Crew) -> None:
        def during(crew: Crew) -> None:
            one, two = crew.started(1), crew.started(2)
            for worker in (one, two):
                worker.send(Ready([]))
            with crew.news:
                assert crew.news.wait_for(lambda: crew.announced, PATIENCE)
            os.kill(os.getpid(), signal.SIGHUP)
            assert one.process.wait(PATIENCE) == -signal.SIGHUP  # which sleep does not survive
            assert two.process.poll() is None
            one.send(Reloaded())
            assert two.process.wait(PATIENCE) == -signal.SIGHUP
            for worker in (one, two):
                worker.end()
            crew.stop(crew.started(3), crew.started(4))

        crew.run(during)

    def test_a_start_that_fails_for_a_reason(self, crew: Crew) -> None:
        def during(crew: Crew) -> None:
            one, two = crew.started(1), crew.started(2)
            two.send(Failed("a.b: is wrong"))
            two.end()
            one.stop()

        with pytest.raises(ConfigurationError, match=r"^worker 2: a\.b: is wrong$"):
            crew.run(during)
        assert len(crew.workers) == 2

    def test_starts_that_fail_again_and_again(self, crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
        def during(crew: Crew) -> None:
            one = crew.started(1)
            one.send(Ready([]))
            for n in range(2, 2 + HOPELESS):
                crew.started(n).end()
            one.stop()

        with pytest.raises(ConfigurationError, match=r"^worker 2: ended at its start again"):
            crew.run(during)
        assert crew.announced == []
        said = [record.getMessage() for record in caplog.records]
        assert said == ["worker 2 could not start: it ended by SIGKILL"] * HOPELESS

    def test_who_does_not_end_is_killed(self, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "END_LIMIT", 0.02)

        def during(crew: Crew) -> None:
            one = crew.started(1)
            one.send(Ready([]))
            one.sock.close()
            assert one.process.wait(PATIENCE) == -signal.SIGKILL
            crew.stop(crew.started(2), crew.started(3))

        crew.run(during)


class TestLink:
    def test_figures_of_all(self) -> None:
        theirs, ours = socket.socketpair()
        with theirs, ours:
            link = Link(ours)
            assert isinstance(MESSAGES[0], Order)
            theirs.sendall(framed(MESSAGES[0]))
            assert link.order() == MESSAGES[0]
            told = threading.Event()
            link.listen(told.set, lambda: True)
            theirs.sendall(framed(Tell()))
            assert told.wait(PATIENCE)
            answers: list[Gathered | None] = []
            thread = threading.Thread(target=lambda: answers.append(link.gather(b"own")))
            thread.start()
            (asked,) = Unframer().feed(theirs.recv(65536))
            assert asked == Ask(1, b"own")
            late, right = Gathered(0, [], b"", 1, 0, 0), Gathered(1, [b"x"], b"", 2, 0, 0)
            theirs.sendall(framed(late) + framed(right))
            thread.join(PATIENCE)
            assert answers == [right]
            theirs.close()
            link.send(Reloaded())  # to nobody

    @pytest.mark.parametrize("gone", [False, True])
    @pytest.mark.parametrize("drains", [False, True])
    def test_a_stop(self, gone: bool, drains: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that drains already gets no second signal, which would break off what runs."""
        monkeypatch.setattr("gwproto_ops.workers.link.HEARSAY", 0.0)
        signals: list[int] = []
        monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
        answers = [drains, True]
        before = set(threading.enumerate())
        theirs, ours = socket.socketpair()
        with theirs, ours:
            Link(ours).listen(lambda: None, lambda: answers.pop(0))
            (thread,) = set(threading.enumerate()) - before
            if not gone:
                theirs.sendall(framed(Stop()))
            theirs.close()
            thread.join(PATIENCE)
        assert signals == ([] if drains else [signal.SIGTERM])
        assert answers == ([True] if gone else [])

    def test_no_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gwproto_ops.workers.link.PATIENCE", 0.01)
        theirs, ours = socket.socketpair()
        with theirs, ours:
            assert Link(ours).gather(b"") is None

    def test_no_order(self) -> None:
        theirs, ours = socket.socketpair()
        theirs.close()
        with ours, pytest.raises(EOFError):
            Link(ours).order()
