"""Scenarios in the simulator: the reference the runtimes are compared with."""

import math
import random

from gwproto import Gateway
from gwproto.testing import ScriptedNetwork, World
from gwproto.testing.network import Cut, whole
from scenarios.model import EPOCH, START, Report, Scenario, configuration, seen, sent


def run(scenario: Scenario, cut: Cut = whole) -> Report:
    """``cut`` splits what providers write into what the gateway reads."""
    gateway = Gateway(configuration(scenario), rng=random.Random(1), epoch=EPOCH)
    network = ScriptedNetwork(scenario.script)
    world = World(gateway, network, start=START, epoch=EPOCH, cut=cut)
    transcripts = [world.visit(arrival.visit, START + arrival.after) for arrival in scenario.arrivals]
    if scenario.drain_after < math.inf:
        world.at(START + scenario.drain_after, world.drain)
    if scenario.unready_after < math.inf:
        world.at(START + scenario.unready_after, lambda: gateway.drain(world.now))
    world.run()
    assert not world.running
    assert gateway.statistics(world.now).in_flight == 0
    return Report(
        seen=tuple(seen(t.status, t.headers, t.body, t.ending, t.outcome) for t in transcripts),
        sent=tuple(
            sent(request.origin.host, request.method, request.target, request.body)
            for request, connection in network.log
            if connection.lost is None and not connection.dial
        ),
    )
