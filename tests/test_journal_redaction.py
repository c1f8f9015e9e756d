"""Redaction: as long as what it replaces, wherever that is cut; done twice it is as if done once; JSON stays JSON."""

import itertools
import json
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gwproto.journal.bodies import Answer, Frames, Lines, Page, request_body, said
from gwproto.journal.characters import Fold, fold_digit, folded
from gwproto.journal.digests import redacted_target
from gwproto.journal.redaction import MAX_DEPTH, Json
from gwproto.journal.rules import ANSWER, REQUEST
from gwproto.journal.secrets import Mask
from gwproto.sse.eventstream import EventStreamDecoder, encode_message
from support.journals import byte_by_byte

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS, max_size=30) | st.sampled_from(
    [
        "<think>so</think>",
        "data:image/png;base64,iVBO",
        "https://a.b/cat.png?x",
        '{"a": "b", "c": [1, "d"]}',
        "sk-abcdefghi",
    ]
)
KEYS = st.sampled_from(
    [
        "role",
        "content",
        "text",
        "url",
        "arguments",
        "model",
        "error",
        "message",
        "input",
        "bytes",
        "parameters",
        "type",
    ]
) | st.text(CHARACTERS, max_size=5)
VALUES = st.recursive(
    TEXTS | st.booleans() | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(),
    VALUES,
    st.booleans(),
    st.sampled_from([None, 1]),
)
STREAMS = st.lists(DOCUMENTS, max_size=4).map(lambda all: b"".join(b"data: %b\n\n" % one for one in all))
CUTS = st.lists(st.integers(0, 400), max_size=6)


def keep(data: bytes) -> bytes:
    return data


REDACTIONS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "request": lambda: request_body(keep),
    "answer": lambda: Answer(Mask((b"canary-secret",), looks=True)),
    "lines": lambda: Lines(ANSWER, keep),
    "frames": lambda: Frames(ANSWER, keep),
    "page": Page,
    "characters": Fold,
}


@pytest.mark.parametrize("name", REDACTIONS)
@given(data=st.binary(max_size=60) | DOCUMENTS | STREAMS | TEXTS.map(str.encode), cuts=CUTS)
def test_length_cuts_and_doing_it_twice(name: str, data: bytes, cuts: list[int]) -> None:
    new = REDACTIONS[name]
    if name == "answer" and b"sk-" in data:
        return  # what looks like a key is only told by several of its letters
    whole = new()(data)
    assert len(whole) == len(data)
    redact = new()
    pieces = [redact(piece) for piece in byte_by_byte(data)]
    assert b"".join(pieces) == whole
    redact = new()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        assert len(redact(data[start:end])) == end - start
    assert new()(whole) == whole


@given(DOCUMENTS)
@example(document='{"\u00c0": null, "\u00c1": null}'.encode())
def test_json_stays_json_of_the_same_shape(document: bytes) -> None:
    for redact in (Json(REQUEST), Json(ANSWER)):
        assert shape(pairs(redact(document))) == shape(pairs(document))


def pairs(document: bytes) -> object:
    """What a document says, keys that are there twice too: two may be the same once they are redacted."""
    return json.loads(document, object_pairs_hook=lambda pairs: [value for _, value in pairs])


def shape(value: object) -> object:
    if isinstance(value, list):
        return [shape(one) for one in value]
    return len(value.encode()) if isinstance(value, str) else type(value)


@given(DOCUMENTS | STREAMS)
def test_what_is_said_is_told_the_same_after_redaction(data: bytes) -> None:
    assert said(keep)(Answer(keep)(data)) == said(keep)(data)


@given(st.text(CHARACTERS))
def test_spaces_and_classes_stay(text: str) -> None:
    replaced = folded(text.encode()).decode()
    assert [one.isspace() for one in replaced] == [one.isspace() for one in text]
    assert replaced.split() == [folded(word.encode()).decode() for word in text.split()]


def test_what_is_no_utf8_stays_none() -> None:
    for data in (b"\xe0\x80a", b"\xed\xa0\x80", b"\xe4\xc3\xa9", b"\xf1\x80z\x80", b"\xf5\xff\xc0"):
        assert folded(data).decode(errors="replace").count("\ufffd") == data.decode(errors="replace").count(
            "\ufffd"
        )


@pytest.mark.parametrize("start", range(0, 0x10000, 0x1000))
def test_an_escaped_character_becomes_what_it_becomes_unescaped(start: int) -> None:
    for code in range(start, start + 0x1000, 7 if start else 1):
        if 0xD800 <= code < 0xE000:
            continue
        assert folded(escaped(code).encode()) == folded(chr(code).encode())
        if code >= 0x80:
            assert escaped(code).encode() == folded(chr(code).encode())


def escaped(code: int) -> str:
    before = after = ""
    for digit in f"{code:04X}":
        after += fold_digit(before, digit)
        before += digit
    return chr(int(after, 16))


def test_pairs_of_surrogates_stay_pairs() -> None:
    assert json.loads(request_body(keep)(rb'["\ud83e\udd84 \uD801\uDC00"]')) == ["\U0001f600 \U0001f600"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"auto","content":"Hi, Bob 7."}', '{"model":"auto","content":"xx, xxx 1."}'),
        (
            '{"role":"user","text":"Ünïcode 日本 😀"}',
            '{"role":"user","text":"éxéxxxx 中中 😀"}',
        ),
        ('{"a":[true,false,null,-1.5e3,"x"]}', '{"a":[true,false,null,-1.5e3,"x"]}'),
        ('{"type":"function","input":{"type":"secret"}}', '{"type":"function","input":{"type":"xxxxxx"}}'),
        (
            '{"parameters":{"type":"object","default":{"type":"no"},"title":"T"}}',
            '{"parameters":{"type":"object","default":{"type":"xx"},"title":"x"}}',
        ),
        ('{"arguments":"{\\"a b\\": \\"c\\"}"}', '{"arguments":"{\\"a x\\": \\"x\\"}"}'),
        ('{"arguments":" [1, true, what]"}', '{"arguments":" [1, true, xxxx]"}'),
        (
            '{"arguments":"{\\"a\\": \\"\\\\u00fc\\\\n\\\\z\\"}"}',
            '{"arguments":"{\\"a\\": \\"\\\\u00e9\\\\n\\\\x\\"}"}',
        ),
        ('{"arguments":"{}]} \\"\\\\u00zz\\""}', '{"arguments":"{}]} \\"\\\\u00xx\\""}'),
        ('{"text":"\\u003cthink>so\\u003c/think>"}', '{"text":"\\u003cthink>xx\\u003c/think>"}'),
        ('{"text":"<\\/think><thinner>"}', '{"text":"<\\/think><thinxxx>"}'),
        ('{"url":"data:image/png;base64,AAA"}', '{"url":"data:image/png;base64,xxx"}'),
        ('{"url":"ftp://some.where/a.png.z"}', '{"url":"xxx://xxxx.wxxxx/x.png.x"}'),
        ('{"content":"\\n{"}', '{"content":"\\n{"}'),
        ('{"content":"\\q\\u00zz"}', '{"content":"\\x\\u00xx"}'),
        ('{"wrong": nope, "x": tru, "y": "z"', '{"wrong": nxxx, "x": tru, "y": "x"'),
        ('{"wo\\u0072d":"v","a long key of words":"v"}', '{"wo\\u0072d":"x","a xxxx xxx xx xxxxx":"x"}'),
        ('{"content":"  "}', '{"content":"  "}'),
        (f"[{'7' * 200}, 1x]", f"[{'7' * 200}, 1x]"),
        ("}],:", "}],:"),
    ],
)
def test_requests(before: str, after: str) -> None:
    assert request_body(keep)(before.encode()).decode() == after
    redact = request_body(keep)
    assert b"".join(map(redact, byte_by_byte(before.encode()))).decode() == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"error":{"message":"No.","code":"x9"}}', '{"error":{"message":"No.","code":"x9"}}'),
        ('{"error":"No key sk-abcdefghi."}', '{"error":"No key sk-xxxxxxxxx."}'),
        ('{"message":"No."}', '{"message":"No."}'),
        ('{"message":{"content":"Yes."}}', '{"message":{"content":"xxx."}}'),
        ('{"detail":[{"msg":"No."}]}', '{"detail":[{"msg":"No."}]}'),
        ('{"a":{"message":"Yes."}}', '{"a":{"message":"xxx."}}'),
        (
            '{"logprobs":{"content":[{"token":"a","bytes":[97, 12]}]}}',
            '{"logprobs":{"content":[{"token":"x","bytes":[11, 11]}]}}',
        ),
        ("\ufeff <html><SCRIPT>a</script> Gateway 502", "\ufeff <html><SCRIPT>x</script> xxxxxxx 111"),
        (
            'event: error\r\ndata: {"error":\r\ndata: "No."}\r\n\r\ndata: {"text":"a"}\n\n',
            'event: error\r\ndata: {"error":\r\ndata: "No."}\r\n\r\ndata: {"text":"x"}\n\n',
        ),
        (
            'data: [DONE]\n\n: a comment\nid: abc\n\n{"error":\n "No."}\n\ndat: x',
            'data: [DONE]\n\n: x xxxxxxx\nid: xxx\n\n{"error":\n "No."}\n\ndat: x',
        ),
        ('"a text"', '"x xxxx"'),
    ],
)
def test_answers(before: str, after: str) -> None:
    for pieces in ([before.encode()], byte_by_byte(before.encode())):
        redact = Answer(Mask(looks=len(pieces) == 1))
        if "sk-" not in before or len(pieces) == 1:
            assert b"".join(map(redact, pieces)).decode() == after


def test_a_tag_goes_on_in_the_next_event() -> None:
    events = b'data: {"delta":{"content":"<th"}}\n\ndata: {"delta":{"content":"ink>no"}}\n\n'
    assert Answer(keep)(events) == events.replace(b"no", b"xx")


def test_what_is_said_keeps_little() -> None:
    before = b'{"model":"m","content":"a1 <think>","id":"i1","logprobs":[{"bytes":[104, 7]}],"n":12}'
    assert (
        said(keep)(before)
        == b'{"model":"m","content":"xx <xxxxx>","id":"xx","logprobs":[{"bytes":[1, 1]}],"n":12}'
    )
    redact = said(keep)
    assert b"".join(map(redact, byte_by_byte(before))) == said(keep)(before)


def test_frames_stay_frames() -> None:
    good = encode_message("event", "delta", b'{"delta":{"text":"Hello"}}')
    error = encode_message("exception", "throttlingException", b'{"message":"Slow down."}')
    for pieces in ([good + error], byte_by_byte(good + error)):
        redact = Answer(keep)
        frames = EventStreamDecoder().receive(b"".join(map(redact, pieces)))
        assert [json.loads(frame.data) for frame in frames] == [
            {"e": "delta", "p": {"delta": {"text": "xxxxx"}}},
            {"x": "throttlingException", "p": {"message": "Slow down."}},
        ]


def test_a_damaged_frame_stays_damaged() -> None:
    good = encode_message("event", "delta", b'{"text":"Hello"}')
    for damaged in (good[:-1] + bytes([good[-1] ^ 1]), good[:9] + b"\0" + good[10:] + b"Hello"):
        (frame,) = EventStreamDecoder().receive(Answer(keep)(damaged))
        assert frame == EventStreamDecoder().receive(damaged)[0]
        assert b"Hello" not in Answer(keep)(damaged)
    lengths = b"\0\0\0\x01\0\0\0\0"
    assert Answer(keep)(lengths + zlib.crc32(lengths).to_bytes(4) + b"Hello")[-5:] == b"xxxxx"


@pytest.mark.parametrize("secret", [b"canary-secret", b"sk-canary-secret"])
def test_secrets_are_masked_wherever_they_are_cut(secret: bytes) -> None:
    said_ = b"Your key " + secret + b" and " + secret + b" again, can you?"
    for size in range(1, len(said_)):
        mask = Mask((secret,))
        pieces = [said_[at : at + size] for at in range(0, len(said_), size)]
        masked = b"".join(map(mask, pieces))
        assert len(masked) == len(said_)
        assert secret[6:] not in masked
        assert masked.startswith(b"Your key ")


def test_short_secrets_are_none_and_prefixes_stay() -> None:
    assert Mask((b"abc",))(b"abc") == b"abc"
    assert (
        Mask(looks=True)(b"bearer abcdef ?key=1234&x AIzaabcdefghij")
        == b"bearer xxxxxx ?key=1111&x AIzaxxxxxxxxxx"
    )


def test_what_looks_like_a_key_is_masked_wherever_it_is_cut() -> None:
    told = b"No key sk-proj-abcdefghijklm is known."
    for at in range(1, len(told)):
        mask = Mask(looks=True)
        assert b"ghijklm" not in mask(told[:at]) + mask(told[at:])


def test_depth_is_bounded() -> None:
    deep = b'{"role":' * (MAX_DEPTH + 50)
    redact = Json(REQUEST)
    assert redact(deep + b'"hidden"').endswith(b'{"xxxx":"xxxxxx"')
    after = redact(b"}" * (MAX_DEPTH + 50) + b'{"role":"user","a":"b"}')
    assert after.endswith(b'{"role":"user","a":"x"}')


def test_queries_keep_what_is_asked_for() -> None:
    assert (
        redacted_target("/v1/analytics?days=7&project_id=me&key=abc1")
        == "/v1/analytics?days=7&project_id=me&key=xxx1"
    )
