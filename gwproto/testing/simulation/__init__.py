"""The simulator as a product: scenarios on a virtual clock, policies side by side, figures and a plot.

The machines are those of production; providers are scripted, and cheap enough for millions of requests.
"""

from gwproto.testing.simulation.measures import Course, Figures, Percentiles, Recovery
from gwproto.testing.simulation.plot import plot
from gwproto.testing.simulation.report import COLUMNS, Phase, Result, compare, rows, share_rows, to_json
from gwproto.testing.simulation.run import Run, simulate
from gwproto.testing.simulation.scenario import (
    GATEWAY,
    ROUND_ROBIN,
    Policy,
    Scenario,
    read_policy,
    read_scenario,
)

__all__ = [
    "COLUMNS",
    "GATEWAY",
    "ROUND_ROBIN",
    "Course",
    "Figures",
    "Percentiles",
    "Phase",
    "Policy",
    "Recovery",
    "Result",
    "Run",
    "Scenario",
    "compare",
    "plot",
    "read_policy",
    "read_scenario",
    "rows",
    "share_rows",
    "simulate",
    "to_json",
]
