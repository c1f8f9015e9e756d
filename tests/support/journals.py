"""Journals of scenarios: recorded in the simulator, without a file."""

import math
import random
from collections.abc import Iterable, Sequence

from gwproto import Configuration
from gwproto.journal import entries
from gwproto.journal.entries import seal, unseal
from gwproto.journal.recording import Note, Recorder
from gwproto.journal.replaying import Replay, Report
from gwproto.journal.scribe import Scribe
from gwproto.testing import ScriptedNetwork, World
from gwproto.testing.network import Cut, whole
from scenarios.model import EPOCH, SECRET, START, Scenario, configuration

SEED = 1


def recorded(
    scenario: Scenario,
    cut: Cut = whole,
    *,
    bodies: bool = False,
    with_configuration: Configuration | None = None,
) -> list[bytes]:
    """The lines of a scenario's journal."""
    chosen = with_configuration or configuration(scenario)
    notes: list[Note] = []
    gateway = Recorder(chosen, rng=random.Random(SEED), epoch=EPOCH, sink=notes.append)
    world = World(gateway, ScriptedNetwork(scenario.script), start=START, epoch=EPOCH, cut=cut)
    for arrival in scenario.arrivals:
        world.visit(arrival.visit, START + arrival.after)
    if scenario.drain_after < math.inf:
        world.at(START + scenario.drain_after, world.drain)
    if scenario.unready_after < math.inf:
        world.at(START + scenario.unready_after, lambda: gateway.drain(world.now))
    world.run()
    return written(chosen, notes, bodies=bodies)


def written(configuration: Configuration, notes: Iterable[Note], *, bodies: bool = False) -> list[bytes]:
    scribe = Scribe(bodies=bodies, secrets=(SECRET.encode(),))
    opening = scribe.opening(configuration, seed=SEED, epoch=EPOCH, at=EPOCH, version="1")
    return [opening, *map(scribe.line, notes), scribe.closing()]


def replayed(lines: Sequence[bytes]) -> Report:
    replay = Replay()
    for line in lines:
        replay.feed(line)
    replay.end()
    return replay.report


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def at_random(seed: int) -> Cut:
    def cut(data: bytes) -> list[bytes]:
        rng = random.Random(seed + len(data))
        pieces = []
        while data:
            size = rng.randint(1, 40)
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    return cut


def decoded(lines: list[bytes]) -> list[entries.Line]:
    check = entries.FIRST_CHECK
    read = []
    for line in lines:
        one, check = unseal(line, check)
        read.append(one)
    return read


def resealed(*lines: entries.Line) -> list[bytes]:
    """Lines as a journal's author would have sealed them."""
    check = entries.FIRST_CHECK
    out = []
    for line in lines:
        sealed, check = seal(line, check)
        out.append(sealed)
    return out
