"""The testing kit: simulated providers, and a simulator on a virtual clock.

Part of the product, as pure as the core, and imported by nothing that serves requests.
"""

from gwproto.testing.network import Connection, Network, ScriptedNetwork, SimulatedNetwork, Weather
from gwproto.testing.providers import Knobs, SimulatedProvider
from gwproto.testing.simulator import Transcript, Visit, World
from gwproto.testing.steps import Close, Data, End, Head, Reset, Stall, Step

__all__ = [
    "Close",
    "Connection",
    "Data",
    "End",
    "Head",
    "Knobs",
    "Network",
    "Reset",
    "ScriptedNetwork",
    "SimulatedNetwork",
    "SimulatedProvider",
    "Stall",
    "Step",
    "Transcript",
    "Visit",
    "Weather",
    "World",
]
