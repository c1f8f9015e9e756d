"""Client keys: who is let in, and with what words the others are sent away."""

import hashlib

import pytest

from gwproto.failures import ConfigurationError
from gwproto.policy.auth import Authenticator, parse_hashes
from gwproto.policy.values import Accepted, ClientKey, Denied
from gwproto.values import Headers


def key(secret: bytes, label: str) -> ClientKey:
    return ClientKey(label, hashlib.sha256(secret).digest())


WALL = 1.7e9
GATE = Authenticator([key(b"gw-one", "one"), key(b"gw-two", "two")])
UNKNOWN = Denied(401, "Incorrect API key provided.", "invalid_api_key", "unknown")
MISSING = Denied(401, "Incorrect API key provided.", "invalid_api_key", "missing")
AMBIGUOUS = Denied(400, "More than one API key was sent.", "invalid_request", "ambiguous")


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        (((b"authorization", b"Bearer gw-one"),), Accepted("one")),
        (((b"authorization", b"Bearer gw-two"),), Accepted("two")),
        (((b"authorization", b"bEARER  gw-two "),), Accepted("two")),
        (((b"x-api-key", b"gw-two"),), Accepted("two")),
        (((b"x-api-key", b"wrong"), (b"authorization", b"Bearer gw-one")), Accepted("one")),
        (((b"x-api-key", b"gw-one"), (b"authorization", b"Bearer wrong")), UNKNOWN),
        (((b"authorization", b"Basic abc"), (b"x-api-key", b"gw-one")), Accepted("one")),
        (((b"authorization", b"Basic gw-one"),), MISSING),
        (((b"authorization", b"gw-one"),), MISSING),
        (((b"authorization", b"Bearer"),), MISSING),
        (((b"authorization", b"Bearer "),), UNKNOWN),
        (((b"authorization", b"Bearer gw-on"),), UNKNOWN),
        (((b"authorization", b"Bearer gw-one\xff"),), UNKNOWN),
        (((b"x-api-key", b""),), UNKNOWN),
        ((), MISSING),
        (((b"authorization", b"Bearer gw-one"),) * 2, AMBIGUOUS),
        (((b"x-api-key", b"gw-one"),) * 2, AMBIGUOUS),
    ],
)
def test_verdicts(headers: Headers, verdict: Accepted | Denied) -> None:
    assert GATE.check(headers, WALL) == verdict


def test_without_keys_nobody_is_let_in() -> None:
    assert Authenticator([]).check(((b"authorization", b"Bearer "),), WALL) == UNKNOWN


def test_every_digest_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(presented: bytes, known: bytes) -> bool:
        compared.append(known)
        return presented == known

    monkeypatch.setattr("gwproto.policy.auth.hmac.compare_digest", compare)
    assert GATE.check(((b"x-api-key", b"gw-one"),), WALL) == Accepted("one")
    assert len(compared) == 2


def test_hashes_are_read_with_and_without_labels() -> None:
    one, two, three = (hashlib.sha256(secret).hexdigest() for secret in (b"1", b"2", b"3"))
    text = f"ci:{one}, {two.upper()},\n\nteam:a : {three}\n"
    assert parse_hashes(text) == (key(b"1", "ci"), key(b"2", ""), key(b"3", "team:a"))
    assert parse_hashes(" \n,") == ()


def test_bad_hashes_are_named_by_number_and_never_shown() -> None:
    good = hashlib.sha256(b"1").hexdigest()
    with pytest.raises(ConfigurationError) as caught:
        parse_hashes(f"{good},gw-pasted-by-mistake,{good[:-1]},x:{good}0")
    message = "does not end in a SHA-256 in hex"
    assert caught.value.problems == tuple(
        ("GATEWAY_API_KEY_HASHES", f"entry {number} {message}") for number in (2, 3, 4)
    )
    assert "pasted" not in str(caught.value)
