"""The gateway of a running server."""

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gwproto import Gateway
from gwproto_ops.deployment import Deployment
from gwproto_ops.state import StateFile

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal


def start_gateway(
    deployment: Deployment,
    clock: Callable[[], float],
    *,
    rng: random.Random,
    state: StateFile | None,
    journal: "Journal | None",
) -> Gateway:
    """A gateway on the event loop's ``clock``, which goes on from ``state``.

    With a ``journal``, chance is the journal's: ``rng`` is not used.
    """
    epoch = time.time() - clock()
    if journal is not None:
        gateway: Gateway = journal.gateway(deployment, epoch=epoch)
    else:
        gateway = Gateway(deployment.configuration, rng=rng, epoch=epoch)
    if state is not None:
        state.restore(gateway, clock(), time.time())
    return gateway


def reconfigure_gateway(
    gateway: Gateway,
    before: Deployment,
    after: Deployment,
    now: float,
    *,
    state: StateFile | None,
    journal: "Journal | None",
) -> None:
    """Have ``gateway`` go on with another deployment. Credentials that are new, or whose secret is, begin afresh."""
    renewed = [name for name, field in after.credentials.items() if before.credentials.get(name) != field]
    if state is not None:
        state.reconfigure(after.credentials)
    if journal is not None:
        journal.learn(after)
    gateway.reconfigure(after.configuration, now, renewed=renewed)
