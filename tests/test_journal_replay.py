"""What is recorded replays to the same, redacted or not; what was changed is found at its line."""

import hashlib
import json
import random
import zlib
from typing import Any

import msgspec
import pytest
from recorded import STREAMS, Golden, bytes_of

from gwproto import (
    ClientData,
    Configuration,
    Exchange,
    RequestHead,
    Settings,
    UpstreamData,
)
from gwproto.config import AuthSettings, KeySettings, ModelSettings, ProviderSettings, Quirks
from gwproto.gateway import Gateway
from gwproto.journal import entries
from gwproto.journal.configuring import compiled, credentials_of, restored
from gwproto.journal.configuring import recorded as as_json
from gwproto.journal.entries import LineError
from gwproto.journal.recording import Note, Recorder
from gwproto.journal.replaying import Replay
from gwproto.policy.values import ClientKey
from gwproto.routing.catalog import compile_catalog
from gwproto.testing import Data, End
from gwproto.testing.network import Cut, whole
from gwproto.wire.dialects import VOCABULARIES
from scenarios.model import EPOCH, KEY, SECRET, Arrival, Scenario, configuration, head
from scenarios.parts import (
    DONE,
    HELLO,
    RESET,
    STREAM,
    ask,
    fault,
    get,
    one_after_another,
    reply,
    row,
    stream,
    timeline,
)
from scenarios.table import TABLE
from support.journals import (
    SEED,
    at_random,
    byte_by_byte,
    decoded,
    recorded,
    replayed,
    resealed,
    written,
)

BY_NAME = {scenario.name: scenario for scenario in TABLE}
CUTS: dict[str, Cut] = {"whole": whole, "bytes": byte_by_byte, "random": at_random(1)}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize("scenario", TABLE, ids=lambda scenario: scenario.name)
def test_every_scenario_replays(scenario: Scenario) -> None:
    for name, cut in CUTS.items():
        if not (scenario.slow and name == "bytes"):
            lines = recorded(scenario, cut)
            report = replayed(lines)
            assert report.first is None
            assert report.entries == len(lines) - 2
            assert report.exchanges == len(scenario.arrivals)
    assert replayed(recorded(scenario, bodies=True)).first is None


@pytest.mark.parametrize(("format", "golden"), STREAMS.values(), ids=STREAMS)
def test_every_recorded_stream_replays(format: str, golden: Golden) -> None:
    quirks = Quirks(think_inline=golden.get("think_inline", "no"))
    answer = timeline(200, b"application/octet-stream", Data(bytes_of(format, golden)), End())
    for streamed in (True, False):
        scenario = row("golden", answer, asked=ask(stream=streamed, tools=TOOLS), format=format)
        settings = configuration(scenario).settings
        providers = tuple(msgspec.structs.replace(one, quirks=quirks) for one in settings.providers)
        quirky = configured(msgspec.structs.replace(settings, providers=providers))
        for cut in (byte_by_byte, at_random(2)):
            assert replayed(recorded(scenario, cut, with_configuration=quirky)).first is None


def configured(settings: Settings, *keys: ClientKey) -> Configuration:
    names = {provider.name: (provider.name,) for provider in settings.providers}
    mine = ClientKey("test", hashlib.sha256(KEY.encode()).digest())
    return Configuration(settings, compile_catalog(settings, names, VOCABULARIES), (mine, *keys))


@pytest.mark.parametrize("format", VOCABULARIES)
def test_requests_replay_in_every_format(format: str) -> None:
    arguments = json.dumps(
        {"city": 'Zürich "Hönggerberg"', "days": [1, 2.5e3], "deep": {"ok": True, "no": None}}
    )
    messages = [
        {"role": "system", "content": "Be brief; schäbig \u2028 \U0001f600."},
        {"role": "user", "name": "ann", "content": "What now?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}},
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a\\u00e9": "\\ud83d\\ude00"}'},
                },
                {"id": "call_3", "type": "function", "function": {"name": "f", "arguments": "no json"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": ' {"found": "nothing", "n": 17}'},
        {"role": "tool", "tool_call_id": "call_2", "content": "{not json after all"},
        {"role": "tool", "tool_call_id": "call_3", "content": '[1, "two"]'},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
    ]
    for ascii_only in (True, False):
        body = json.dumps(
            {
                "messages": messages,
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "description": "Finds out.",
                            "parameters": {
                                "type": "object",
                                "properties": {
                                    "city": {"type": "string", "enum": ["Zürich"], "default": "Bern"}
                                },
                                "$defs": {"x": {"type": ["string", "null"]}},
                            },
                        },
                    }
                ],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "stop": ["Stop!", "Halt"],
                "metadata": {"name": "somebody"},
                "user": "somebody",
                "stream": True,
            },
            ensure_ascii=ascii_only,
        ).encode()
        pieces = tuple((0.0, body[at : at + 37]) for at in range(0, len(body), 37))
        lines = recorded(row("asked", STREAM, asked=ask(pieces=pieces), format=format))
        assert replayed(lines).first is None
        text = b"".join(lines)
        for word in (
            "Hönggerberg",
            "brief",
            "What now",
            "nothing",
            "Finds",
            "Bern",
            "Halt",
            "somebody",
            "iVBOR",
        ):
            assert word.encode() not in text


@pytest.mark.parametrize("bodies", [False, True])
def test_equal_requests_share_in_a_replay_and_alike_ones_do_not(bodies: bool) -> None:
    def asked(text: str, **fields: Any) -> Arrival:
        messages = [{"role": "user", "content": text}]
        return Arrival(0.0, ask(stream=True, messages=messages, **fields))

    arrivals = [asked(text, temperature=0) for text in ("1 + 1", "2 + 2", "1 + 1", "2 + 2")]
    arrivals += [asked("1 + 1"), Arrival(0.0, ask(body=b"{}")), asked("1 + 1", temperature=0)]
    slow = stream(*HELLO, DONE, pace=1.0)
    settings = {"single_flight": {"enabled": True}}
    lines = recorded(row("shared", slow, arrivals=tuple(arrivals), settings=settings), bodies=bodies)
    assert replayed(lines).first is None
    read = [line for line in decoded(lines) if isinstance(line, entries.Entry)]
    assert sum("open upstream" in line.did for line in read) == 3
    apart = [line.event.apart for line in read if isinstance(line.event, entries.ClientEnd)]
    one, two = apart[0], apart[1]
    assert apart == [one, two, one, two, "", "", one]
    assert (one == two) is bodies


@pytest.mark.parametrize("name", ["of my own", "m\u00e9 too", "\\u0416\\tabs", 'quo\\"ted'])
def test_fields_of_any_name_are_dropped_in_a_replay_too(name: str) -> None:
    body = f'{{"messages": [{{"role": "user", "content": "Hi"}}], "{name}": 1}}'.encode()
    answer = stream(b'{"message":{"content":"Hi"},"done":true,"done_reason":"stop"}\n')
    lines = recorded(row("odd", answer, asked=ask(body=body), format="ollama"))
    assert replayed(lines).first is None


def test_a_changed_byte_is_found_at_its_line() -> None:
    lines = recorded(BY_NAME["error_after_the_role"])
    rng = random.Random(5)
    for number, line in enumerate(lines, 1):
        for at in rng.sample(range(len(line)), 12):
            changed = bytes([*line[:at], line[at] ^ 1 << rng.randrange(7), *line[at + 1 :]])
            replay = Replay()
            for one in lines[: number - 1]:
                replay.feed(one)
            with pytest.raises(LineError):
                replay.feed(changed)
            assert replay.line == number


def test_a_missing_and_a_doubled_line_are_found() -> None:
    lines = recorded(BY_NAME["error_after_the_role"])
    for at, damaged in ((4, lines[:3] + lines[4:]), (5, lines[:4] + lines[3:])):
        replay = Replay()
        for line in damaged[: at - 1]:
            replay.feed(line)
        with pytest.raises(LineError, match="or one before it is missing"):
            replay.feed(damaged[at - 1])


def feed(*lines: bytes) -> Replay:
    replay = Replay()
    for line in lines:
        replay.feed(line)
    return replay


def test_what_is_no_whole_journal_is_said() -> None:
    lines = recorded(BY_NAME["error_after_the_role"])
    with pytest.raises(LineError, match="the last line is missing"):
        feed(*lines[:-1]).end()
    with pytest.raises(LineError, match="cut off"):
        feed(*lines[:3], lines[3][:-20])
    with pytest.raises(LineError, match="no line of a journal"):
        feed(b"{}\n")
    with pytest.raises(LineError, match="does not begin with its first line"):
        feed(*resealed(entries.Closing("closed", 1)))
    with pytest.raises(LineError, match="ended before this line"):
        feed(*resealed(*decoded(lines), entries.Closing("closed", 1)))
    with pytest.raises(LineError, match="a hole from here on: no room"):
        feed(*resealed(*decoded(lines)[:3], entries.Closing("no room", 1)))


def test_a_first_line_that_cannot_be_used_is_said() -> None:
    opening, *_ = decoded(recorded(BY_NAME["error_after_the_role"]))
    assert isinstance(opening, entries.Opening)
    change = msgspec.structs.replace
    with pytest.raises(LineError, match="journals of version 2 cannot be read"):
        feed(*resealed(change(opening, journal=2)))
    with pytest.raises(LineError, match="does not match its digest"):
        feed(*resealed(change(opening, digest="0")))
    for wrong, problem in (("{}", "missing required field"), (broken(opening), "no model")):
        raw = msgspec.Raw(wrong.encode())
        digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
        with pytest.raises(LineError, match=problem):
            feed(*resealed(change(opening, digest=digest, configuration=raw)))
    body = b'{"t":"soon"'
    line = b'%b,"check":"%08x"}\n' % (body, zlib.crc32(body, zlib.crc32(entries.FIRST_CHECK)))
    with pytest.raises(LineError, match="cannot be read"):
        feed(line)


def broken(opening: entries.Opening) -> str:
    fields = json.loads(bytes(opening.configuration))
    fields["settings"]["aliases"] = {"a": ["nothing"]}
    return json.dumps(fields)


def test_a_machine_that_acts_differently_is_found_where_it_does() -> None:
    lines = recorded(row("two", RESET, STREAM, arrivals=one_after_another(ask(stream=True), get("/livez"))))
    read = decoded(lines)
    found = [line for line in read if isinstance(line, entries.Entry) and line.did]
    at = read.index(next(line for line in found if isinstance(line.event, entries.UpstreamLost)))
    lost = read[at]
    assert isinstance(lost, entries.Entry)
    assert lost.did == "open upstream"
    read[at] = msgspec.structs.replace(lost, event=entries.ClientGone())
    replay = feed(*resealed(*read))
    first = replay.report.first
    assert first is not None
    assert (first.line, first.exchange, first.event) == (at + 1, 1, "client gone")
    assert (first.expected, first.came) == ("open upstream", "close upstream")
    # What followed in this exchange came after its end, the other one is not affected.
    assert replay.report.diverged == 1
    assert replay.report.divergences > 1


def test_the_same_commands_with_other_content_are_told_apart() -> None:
    read = decoded(recorded(BY_NAME["error_after_the_role"]))
    at = next(i for i, one in enumerate(read) if isinstance(one, entries.Entry) and "send data" in one.did)
    entry = read[at]
    assert isinstance(entry, entries.Entry)
    read[at] = msgspec.structs.replace(entry, commands="0" * 24)
    first = feed(*resealed(*read)).report.first
    assert first is not None
    assert first.came == first.expected + ", but not the same"


def test_an_error_of_the_machines_own_is_part_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[Note] = []
    chosen = configuration(BY_NAME["error_after_the_role"])
    gateway = Recorder(chosen, rng=random.Random(SEED), epoch=EPOCH, sink=notes.append)
    visit = ask(stream=True)
    exchange = gateway.begin(visit.head, 1.0)
    exchange.wake = notes.clear
    assert exchange.wake == notes.clear
    exchange.start(1.0)
    with pytest.raises(Exception, match="called before"):
        exchange.start(1.5)
    exchange.abandon(2.0)
    assert exchange.finished
    assert exchange.abandon(3.0) == []
    for late in (ClientData(b"late"), UpstreamData(1, b"late")):
        with pytest.raises(Exception, match="after the end"):
            exchange.receive(late, 4.0)
    lines = written(chosen, notes)
    assert len(lines) == 8
    assert replayed(lines).first is None

    def begin(*_: object) -> Exchange:
        raise ZeroDivisionError

    monkeypatch.setattr(Gateway, "begin", begin)
    first = replayed(lines).first
    assert first is not None
    assert first.came == "ZeroDivisionError was raised"


def test_what_the_gateway_itself_is_told_is_recorded() -> None:
    scenario = BY_NAME["error_after_the_role"]
    one = configuration(scenario)
    other = configuration(msgspec.structs.replace(scenario, providers=3))
    notes: list[Note] = []
    gateway = Recorder(one, rng=random.Random(SEED), epoch=EPOCH, sink=notes.append)

    def answer(exchange: Exchange) -> None:
        exchange.start(5.0)

    answer(gateway.begin(get("/v1/models").head, 1.0))
    gateway.restore(gateway.snapshot(1.5), 1.5)
    gateway.reconfigure(other, 2.0, renewed=("alpha",))
    answer(gateway.begin(get("/v1/models").head, 3.0))
    gateway.drain(4.0)
    answer(gateway.begin(get("/readyz").head, 4.0))
    answer(gateway.begin(get("/").head, 4.0))
    answer(gateway.refuse(400, "bad_request", "Malformed.", 5.0))
    answer(gateway.refuse(400, "bad_request", "Malformed.", 5.0, head("GET", "/v1/models?key=abc")))
    answer(gateway.begin(RequestHead("GET", "no path", ()), 6.0))  # refused by the gateway itself
    lines = written(one, notes)
    report = replayed(lines)
    assert report.first is None
    assert report.exchanges == 7
    assert b"key=xxx" in b"".join(lines)
    with pytest.raises(LineError, match="does not match its digest"):
        feed(*resealed(*[_damaged(line) for line in decoded(lines)]))


def _damaged(line: entries.Line) -> entries.Line:
    if isinstance(line, entries.Entry) and isinstance(line.event, entries.Reconfigure):
        return msgspec.structs.replace(line, event=msgspec.structs.replace(line.event, digest="0"))
    return line


@pytest.mark.parametrize("bodies", [False, True])
def test_keys_are_never_written(bodies: bool) -> None:
    quoted = fault(
        f"Incorrect API key provided: {SECRET}. Nor is sk-proj-abcdefghijk one.", code="invalid_api_key"
    )
    plain = f"<html>No such key: {SECRET}</html>".encode()
    headers = ((b"x-api-key", KEY.encode()), (b"cookie", f"key={KEY}".encode()), (b"x-secret", KEY.encode()))
    for cut in CUTS.values():
        scenario = row(
            "quoted",
            reply(quoted, 401, x_error_message=SECRET, set_cookie=f"k={SECRET}"),
            reply(plain, 403),
            arrivals=one_after_another(ask(stream=True), ask(key=None, headers=headers), ask(key="wrong")),
        )
        lines = recorded(scenario, cut, bodies=bodies)
        assert replayed(lines).first is None
        text = b"".join(lines)
        for word in (KEY, SECRET, SECRET[-12:], "abcdefghijk"):
            assert word.encode() not in text
        begun = [one.event for one in decoded(lines) if isinstance(one, entries.Entry)]
        keys = [event.key for event in begun if isinstance(event, entries.Begin)]
        assert keys == ["test", "test", None]


def test_a_configuration_keeps_no_secret_and_compiles_to_the_same() -> None:
    provider = ProviderSettings(
        name="one",
        base_url="http://one.test/v1",
        proxy="http://user:canary@proxy.test:80",
        headers={"X-Team": "canary 1"},
        query={"key": "canary"},
        body={"tag": "canary", "n": 1},
        models=(ModelSettings(id="m", quirks=Quirks(drop=frozenset({"user"}))), ModelSettings(id="m2")),
    )
    open_to_all = ProviderSettings(name="two", base_url="http://two.test", models=(ModelSettings(id="m3"),))
    auth = AuthSettings(keys=(KeySettings(label="me", sha256="canary"),))
    settings = Settings(providers=(provider, open_to_all), auth=auth)
    catalog = compile_catalog(settings, {"one": ("one", "one#2")}, VOCABULARIES)
    secret = hashlib.sha256(b"canary").digest()
    raw = as_json(Configuration(settings, catalog, (ClientKey("me", secret),)))
    text = bytes(memoryview(raw)).decode()
    assert "canary" not in text
    assert secret.hex() not in text
    again = compiled(restored(raw))
    assert credentials_of(again.catalog) == {"one": ("one", "one#2")}
    assert [target.id for target in again.catalog.targets] == [target.id for target in catalog.targets]
    assert [target.model for target in again.catalog.targets] == [target.model for target in catalog.targets]
    assert again.settings.providers[0].body == {"tag": "xxxxxx", "n": 1}
    assert [key.label for key in again.keys] == ["me"]


def test_bytes_that_are_no_text_come_back_as_they_were() -> None:
    read = decoded(recorded(row("bytes", STREAM, asked=ask(body=b'{"model":"\xff\xfe"}')), bodies=True))
    data = [
        one.event
        for one in read
        if isinstance(one, entries.Entry) and isinstance(one.event, entries.ClientData)
    ]
    assert [event.value for event in data] == [b'{"model":"\xff\xfe"}']
    assert data[0].base64 is not None


def test_a_replay_can_be_repeated() -> None:
    lines = recorded(BY_NAME["error_after_the_role"], at_random(3))
    assert recorded(BY_NAME["error_after_the_role"], at_random(3)) == lines
    assert replayed(lines) == replayed(lines)


def test_redacted_and_kept_journals_tell_the_same_story() -> None:
    scenario = BY_NAME["error_after_the_role"]
    stories = []
    for bodies in (True, False):
        read = decoded(recorded(scenario, at_random(4), bodies=bodies))
        stories.append([(one.t, one.did) for one in read if isinstance(one, entries.Entry)])
    assert stories[0] == stories[1]


def test_lengths_are_kept() -> None:
    pair = []
    for bodies in (True, False):
        read = decoded(recorded(BY_NAME["error_after_the_role"], at_random(4), bodies=bodies))
        events = [one.event for one in read if isinstance(one, entries.Entry)]
        pair.append([len(event.value) for event in events if isinstance(event, entries.Bytes)])
    assert pair[0] == pair[1]
