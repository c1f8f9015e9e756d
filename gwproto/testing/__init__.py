"""The testing kit: simulated providers, and a simulator on a virtual clock.

Part of the product, as pure as the core, and imported by nothing that serves requests.
"""

from gwproto.testing.providers import Knobs, SimulatedProvider
from gwproto.testing.steps import Data, End, Head, Reset, Stall, Step

__all__ = ["Data", "End", "Head", "Knobs", "Reset", "SimulatedProvider", "Stall", "Step"]
