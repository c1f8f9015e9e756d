"""A journal of a gateway whose configuration and keys change replays, and has nobody's secret."""

import random
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gwproto import Configuration, Exchange
from gwproto.config import AuthSettings, KeySettings, LimitSettings, OwnRates
from gwproto.events import ClientData, ClientEnd
from gwproto.gateway import Gateway
from gwproto.journal.recording import Note, Recorder
from gwproto.journal.scribe import Scribe
from gwproto.policy.values import ClientKey
from gwproto_ops.deployment import Deployment, client_key
from gwproto_ops.journal import opened as journal_at
from gwproto_ops.start import reconfigure_gateway, start_gateway
from support.conversation import EPOCH, START, answer, body, completion, configuration, feed, head, provider
from support.journals import SEED, replayed

SECRET = "sk-provider-canary-of-the-second-configuration"
CANARIES = (SECRET, "client-canary-1", "client-canary-2", "client-canary-3")


def bound(secret: str, label: str, **what: object) -> ClientKey:
    return replace(client_key(label, secret), **what)


def with_keys(*keys: ClientKey) -> Configuration:
    made = configuration(provider("a"), provider("b"), limits=LimitSettings(cost_per_day=5.0))
    entry = msgspec.convert({"sha256": "0" * 64, "expires": "2027-01-01T00:00:00+01:00"}, KeySettings)
    settings = replace(made.settings, auth=AuthSettings(keys=(entry,)))
    return replace(made, settings=settings, keys=keys)


def ask(gateway: Gateway, secret: str, now: float, **fields: object) -> Exchange:
    """A request as far as it comes without a provider."""
    exchange = gateway.begin(head(key=secret), now)
    exchange.start(now)
    if not exchange.finished:
        exchange.receive(ClientData(body(**fields)), now)
        exchange.receive(ClientEnd(), now)
    return exchange


def statuses(notes: list[Note]) -> list[int]:
    return [note.outcome.status for note in notes if note.outcome is not None]


def test_keys_of_one_label_replay_each_as_what_it_was() -> None:
    first = with_keys(
        bound("client-canary-1", "ci", expires=START + EPOCH + 2.0, limits=OwnRates(cost_per_day=1.0)),
        bound("client-canary-2", "ci", models=("b-model",), projects=("p",)),
    )
    second = with_keys(bound("client-canary-3", "ci", models=("a-model",)), bound("client-canary-2", "ci"))
    notes: list[Note] = []
    gateway = Recorder(first, rng=random.Random(SEED), epoch=EPOCH, sink=notes.append)
    begun = ask(gateway, "client-canary-2", START)
    for secret in ("client-canary-1", "client-canary-2", "client-canary-3"):
        for now in (START + 1.0, START + 3.0):  # one of them ends in between
            for model in ("a-model", "b-model"):
                exchange = ask(gateway, secret, now, model=model)
                feed(exchange, now, *answer(1, completion()))
    gateway.reconfigure(second, START + 4.0)
    feed(begun, START + 4.0, *answer(1, completion()))
    for secret in ("client-canary-1", "client-canary-2", "client-canary-3"):
        feed(ask(gateway, secret, START + 5.0, model="a-model"), START + 5.0, *answer(1, completion()))
    assert statuses(notes) == [200, 200, 401, 401, 403, 200, 403, 200, 401, 401, 401, 401, 200, 401, 200, 200]

    scribe = Scribe()
    opening = scribe.opening(first, seed=SEED, epoch=EPOCH, at=EPOCH, version="1")
    lines = [opening, *map(scribe.line, notes), scribe.closing()]
    assert replayed(lines).first is None
    text = b"".join(lines).decode()
    for canary in CANARIES:
        assert canary not in text


def test_a_secret_of_a_later_configuration_is_not_written(tmp_path: Path) -> None:
    """Though a provider quotes it to a client."""
    keys = (bound("client-canary-1", "ci"),)
    before = Deployment(with_keys(*keys), {"a": (b"authorization", b"Bearer first")})
    after = Deployment(with_keys(*keys), {"a": (b"authorization", b"Bearer " + SECRET.encode())})
    file = tmp_path / "journal"
    with journal_at(str(file)) as journal:
        gateway = start_gateway(before, lambda: START, rng=random.Random(1), state=None, journal=journal)
        reconfigure_gateway(gateway, before, after, START, state=None, journal=journal)
        exchange = ask(gateway, "client-canary-1", START, model="a-model")
        quoting = b'{"error": {"message": "Your key is %b.", "code": "odd"}}' % SECRET.encode()
        feed(exchange, START, *answer(1, quoting, status=400))
        again = start_gateway(after, lambda: START, rng=random.Random(1), state=None, journal=journal)
        feed(ask(again, "client-canary-1", START, model="a-model"), START, *answer(1, quoting, status=400))
    text = file.read_text()
    assert "Your key is" in text
    for canary in CANARIES:
        assert canary not in text
    assert replayed(text.encode().splitlines(keepends=True)).first is None
