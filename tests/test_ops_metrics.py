"""``/metrics``: what is counted, what is a label, and that Prometheus reads it without a complaint."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import Struct, structs
from prometheus_client.parser import text_string_to_metric_families

from gwproto import AttemptRecord, Ending, Gateway, Outcome, Usage
from gwproto.config import ModelSettings
from gwproto.failures import FailureClass
from gwproto_ops.metrics import DURATION, FIRST_CONTENT, Metrics, written
from gwproto_ops.reloading import Reloads
from gwproto_ops.telemetry import gauges_of
from support.conversation import (
    START,
    answer,
    begin,
    body,
    completion,
    feed,
    gateway,
    head,
    provider,
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

CHAT = "/v1/chat/completions"
WEIRD = 'a "quoted"\\back\\slash\nnew line, {brace}=ünï😀'
ODD = WEIRD.replace("\n", " ")  # what a catalog allows of it
SERVED = Outcome(
    request_id="1" * 32,
    at=1_800_000_000.0,
    ending=Ending.COMPLETED,
    status=200,
    method="POST",
    endpoint=CHAT,
    duration=1.5,
    key="me",
    project_id="canary-project",
    model_asked="canary-model",
    provider="b",
    model="m",
    attempts=(
        AttemptRecord("a", "n", "a", 0.0, 0.5, status=500, failure="server", code="canary-code"),
        AttemptRecord("b", "m", "b", 0.5, 1.0, first_content_after=0.25, status=200),
    ),
    first_content_after=0.75,
    usage=Usage(100, 20, 120, 30, 5),
    cost=0.25,
)


class Queue(Struct):
    """What the queue of records says of itself."""

    waiting: int = 0
    written: int = 0
    dropped: int = 0
    failed: str = ""


def page(
    metrics: Metrics,
    made: Gateway | None = None,
    *,
    now: float = START,
    connections: int = 0,
    recorder: Queue | None = None,
    log_dropped: int = 0,
    gauges: Mapping[str, tuple[str, float]] | None = None,
) -> bytes:
    return written(
        metrics.snapshot(
            made or gateway(),
            now,
            connections=connections,
            recorder=recorder,
            log_dropped=log_dropped,
            gauges=gauges or {},
        )
    )


def samples(text: bytes) -> Samples:
    """By name and labels; a sample that is there twice is an error."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for one in family.samples:
            key = one.name, frozenset(one.labels.items())
            assert key not in found
            found[key] = one.value
    return found


def counted(*outcomes: Outcome) -> Samples:
    metrics = Metrics()
    metrics.count(outcomes)
    return samples(page(metrics))


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"gwproto_{name}", frozenset(labels.items())]


def labelled(found: Samples, name: str) -> set[frozenset[tuple[str, str]]]:
    return {labels for one, labels in found if one == f"gwproto_{name}"}


def test_a_request_is_counted_in_every_respect() -> None:
    found = counted(SERVED, SERVED)
    assert value(found, "requests_total", endpoint=CHAT, status="200", ending="completed") == 2
    assert value(found, "attempts_total", provider="a", model="n", result="server") == 2
    assert value(found, "attempts_total", provider="b", model="m", result="ok") == 2
    tokens = {
        kind: value(found, "tokens_total", provider="b", model="m", kind=kind)
        for kind in ("prompt", "completion", "cached", "reasoning")
    }
    assert tokens == {"prompt": 200, "completion": 40, "cached": 60, "reasoning": 10}
    assert value(found, "cost_dollars_total", provider="b", model="m") == 0.5
    assert value(found, "request_duration_seconds_count", provider="b") == 2
    assert value(found, "request_duration_seconds_sum", provider="b") == 3.0
    assert value(found, "first_content_seconds_sum", provider="b") == 1.5


@pytest.mark.parametrize(
    ("seconds", "first"),
    [(0.0, "0.05"), (0.05, "0.05"), (0.050001, "0.1"), (120.0, "120.0"), (120.1, "+Inf"), (1e9, "+Inf")],
)
def test_an_observation_is_in_every_bucket_from_its_own_on(seconds: float, first: str) -> None:
    found = counted(structs.replace(SERVED, first_content_after=seconds))
    bounds = [*map(str, FIRST_CONTENT), "+Inf"]
    buckets = [value(found, "first_content_seconds_bucket", provider="b", le=bound) for bound in bounds]
    at = bounds.index(first)
    assert buckets == [0.0] * at + [1.0] * (len(bounds) - at)


def test_what_became_of_attempts() -> None:
    lost = AttemptRecord("b", "m", "b", 0.5, 1.0, lost=True, hedge=True)
    won = AttemptRecord("b", "m", "b", 0.5, 1.0, hedge=True)
    other = AttemptRecord("a", "n", "a", 0.0, 1.0)
    found = counted(
        structs.replace(SERVED, attempts=(lost, other)),
        structs.replace(SERVED, attempts=(won,)),
        structs.replace(SERVED, attempts=(other,), ending=Ending.CLIENT_CLOSED, status=499),
    )
    assert value(found, "attempts_total", provider="b", model="m", result="lost") == 1
    assert value(found, "attempts_total", provider="a", model="n", result="ok") == 1
    assert value(found, "attempts_total", provider="a", model="n", result="dropped") == 1
    assert (value(found, "hedges_total", result="lost"), value(found, "hedges_total", result="ok")) == (1, 1)


def test_what_is_not_known_is_not_counted() -> None:
    plain = Outcome("1" * 32, 0.0, Ending.REFUSED, 404, "GET", "", 0.0015)
    bare = structs.replace(SERVED, usage=Usage(1, 2, 3), cost=None, first_content_after=None)
    found = counted(plain, bare)
    assert value(found, "requests_total", endpoint="", status="404", ending="refused") == 1
    assert value(found, "tokens_total", provider="b", model="m", kind="cached") == 0
    assert labelled(found, "cost_dollars_total") == labelled(found, "first_content_seconds_count") == set()
    assert labelled(found, "request_duration_seconds_count") == {frozenset({("provider", "b")})}


def test_shared_answers_and_rejected_keys() -> None:
    shared = structs.replace(SERVED, shared=True, attempts=(), usage=None, cost=None)
    bad = Outcome("1" * 32, 0.0, Ending.REFUSED, 401, "POST", CHAT, 0.001, rejected="unknown", client="::1")
    found = counted(shared, bad, bad)
    assert value(found, "shared_answers_total") == 1
    assert value(found, "rejected_keys_total", reason="unknown") == 2


def test_how_the_process_and_its_targets_are() -> None:
    two = provider("a", models=(ModelSettings(id="x"), ModelSettings(id="y", upstream="Y")))
    made = gateway(two, provider("b"))
    exchange, _ = begin(made, body(), headers={"x-gateway-force-provider": "b"})
    queue = Queue(waiting=3, written=10, dropped=2, failed="disk full")
    text = page(
        Metrics(),
        made,
        connections=7,
        recorder=queue,
        log_dropped=4,
        gauges={"config_age_seconds": ("Since the configuration was read.", 12.5)},
    )
    found = samples(text)
    names = {
        "requests_in_flight": 1,
        "draining": 0,
        "open_connections": 7,
        "access_log_lines_dropped_total": 4,
        "record_queue_length": 3,
        "records_written_total": 10,
        "records_dropped_total": 2,
        "store_failing": 1,
        "config_age_seconds": 12.5,
    }
    assert {name: value(found, name) for name in names} == names
    assert value(found, "targets", provider="a", status="available") == 2
    assert value(found, "target_in_flight", target="b/b-model", provider="b", model="b-model") == 1
    assert value(found, "target_available", target="a/Y", provider="a", model="Y") == 1

    feed(exchange, START, *answer(1, b"{}", status=429, headers=((b"retry-after", b"30"),)))
    made.drain(START)
    found = samples(page(Metrics(), made, now=START + 10.0, recorder=Queue()))
    where = {"target": "b/b-model", "provider": "b", "model": "b-model"}
    assert value(found, "target_available", **where) == 0
    assert value(found, "target_cooldown_seconds", **where) == pytest.approx(20.0, abs=2.0)
    assert value(found, "targets", provider="b", status="cooldown") == 1
    assert (value(found, "draining"), value(found, "store_failing")) == (1, 0)


def test_a_process_without_traffic_has_a_page() -> None:
    found = samples(page(Metrics()))
    assert value(found, "shared_answers_total") == 0
    assert labelled(found, "requests_total") == set()
    assert len(labelled(found, "build_info")) == 1
    if Path("/proc/self/stat").exists():
        assert ("process_cpu_seconds_total", frozenset()) in found
    assert {name for name, _ in found if not name.startswith(("gwproto_", "process_"))} == set()


def test_nothing_that_clients_choose_is_a_label() -> None:
    made = gateway()
    outcomes = []
    for number in range(30):
        canary = f"canary-{number}"
        headers = {"x-gateway-project-id": canary, "user-agent": canary, "x-gateway-affinity": canary}
        for target in (f"/{canary}", f"/v1/models/{canary}", f"/console/{canary}", f"/livez?{canary}"):
            exchange = made.begin(head("GET", target, headers=headers), START)
            exchange.start(START)
            outcomes.append(exchange.outcome)
        exchange = made.begin(head(canary.upper(), CHAT, key=canary), START)
        exchange.start(START)
        outcomes.append(exchange.outcome)
        exchange, commands = begin(made, body(model=canary, project_id=canary, user=canary), headers=headers)
        outcomes.append(exchange.outcome)
        exchange, commands = begin(made, body(project_id=canary), headers=headers)
        assert commands
        feed(exchange, START, *answer(1, completion(model=canary)))
        outcomes.append(exchange.outcome)
    metrics = Metrics()
    metrics.count([one for one in outcomes if one is not None])
    text = page(metrics, made)
    assert b"anary" not in text
    assert len(labelled(samples(text), "requests_total")) < 10


def everything() -> bytes:
    """A page with data of every kind, under names as bad as they come."""
    weird = provider("weird", models=(ModelSettings(id="x", upstream=ODD),))
    metrics = Metrics()
    attempts = [
        AttemptRecord(WEIRD, WEIRD, "k", 0.0, 1.0, failure=one.value, hedge=True) for one in FailureClass
    ]
    attempts += [AttemptRecord(WEIRD, WEIRD, "k", 0.0, 1.0, lost=lost) for lost in (False, True)]
    metrics.count(
        [
            structs.replace(
                SERVED,
                ending=ending,
                status=status,
                provider=WEIRD,
                model=WEIRD,
                attempts=tuple(attempts),
                duration=duration,
                shared=True,
                rejected="unknown",
            )
            for ending in Ending
            for status in (200, 499, 502)
            for duration in (0.0, *DURATION, 1e6)
        ]
    )
    gauges = gauges_of(Reloads(1, 2, "", 1_800_000_000.0))
    return page(metrics, gateway(weird), recorder=Queue(1, 2, 3, "full"), log_dropped=1, gauges=gauges)


def test_names_survive_whatever_is_in_them() -> None:
    found = samples(everything())
    assert value(found, "attempts_total", provider=WEIRD, model=WEIRD, result="ok") > 0
    where = {"target": f"weird/{ODD}", "provider": "weird", "model": ODD}
    assert value(found, "target_available", **where) == 1
    assert value(found, "request_duration_seconds_count", provider=WEIRD) == 6 * 3 * (len(DURATION) + 2)


@pytest.mark.parametrize("full", [False, True], ids=["fresh", "full"])
def test_promtool_has_no_complaint(full: bool) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (it comes with Prometheus)")
    text = everything() if full else page(Metrics())
    checked = subprocess.run((promtool, "check", "metrics"), input=text, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


#: What a page has beside all others where several workers serve (``test_workers``).
OF_WORKERS = {"gwproto_workers", "gwproto_workers_silent", "gwproto_worker_restarts_total"}


def test_every_metric_is_documented() -> None:
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(everything().decode())
    }
    documented = (Path(__file__).parent.parent / "docs" / "observability.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(gwproto_[a-z_]+)", documented))
    assert names == {name for name in families if name.startswith("gwproto_")} | OF_WORKERS


def test_one_thread_counts_while_others_read() -> None:
    metrics = Metrics()
    made = gateway()
    batches = [
        [structs.replace(SERVED, provider=f"p{batch}", model=f"m{number}") for number in range(20)]
        for batch in range(50)
    ]

    def write() -> None:
        for batch in batches:
            metrics.count(batch)

    writer = threading.Thread(target=write)
    writer.start()
    pages: list[bytes] = []
    while writer.is_alive() or not pages:
        pages.append(page(metrics, made))
    writer.join()
    for text in (*pages, page(metrics, made)):
        found = samples(text)
        for labels in labelled(found, "request_duration_seconds_count"):
            last = labels | {("le", "+Inf")}
            assert (
                found["gwproto_request_duration_seconds_bucket", last]
                == found["gwproto_request_duration_seconds_count", labels]
            )
    assert total(samples(page(metrics, made)), "requests_total") == 50 * 20


def total(found: Samples, name: str) -> float:
    return sum(found[f"gwproto_{name}", labels] for labels in labelled(found, name))


def loaded(code: str) -> set[str]:
    """The packages that ``code`` loads in a fresh interpreter."""
    probe = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run((sys.executable, "-c", probe), capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_library_is_loaded_by_the_first_scrape() -> None:
    count = "from gwproto_ops.metrics import Metrics; Metrics().count([])"
    assert "prometheus_client" not in loaded(count)
    assert "prometheus_client" in loaded("import gwproto_ops.exposition")
