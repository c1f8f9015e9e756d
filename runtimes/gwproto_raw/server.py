"""The part of a raw server that is the same on any loop: what is served, to whom, and how that ends."""

import errno
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from gwproto import Outcome
from gwproto_io.codec import Codec
from gwproto_ops.deployment import Deployment
from gwproto_ops.start import reconfigure_gateway, start_gateway
from gwproto_ops.state import StateFile
from gwproto_ops.telemetry import Telemetry
from gwproto_raw.connection import Connection
from gwproto_raw.loops import Loop
from gwproto_raw.upstream import Pool

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal

BACKLOG = 2048
#: Out of file descriptors or memory: what is there already goes on, new connections wait in the backlog.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
ACCEPT_PAUSE = 0.1  # seconds for which they do
GRACE = 5.0  # seconds past drain_timeout, for what the core ended to leave the buffers


class Server:
    """Serves a deployment's connections on one ``loop``."""

    def __init__(
        self,
        deployment: Deployment,
        loop: Loop,
        pool: Pool,
        *,
        telemetry: Telemetry | None,
        record: Callable[[Outcome], None] | None,
        rng: random.Random | None,
        state: StateFile | None,
        journal: "Journal | None",
        codec: Codec,
    ) -> None:
        self.codec = codec
        self.loop = loop
        self.clock = loop.clock
        rng = random.Random() if rng is None else rng
        self.gateway = start_gateway(deployment, self.clock, rng=rng, state=state, journal=journal)
        self._deployment = deployment
        self._state = state
        self._journal = journal
        self.pool = pool
        self.telemetry = telemetry = Telemetry() if telemetry is None else telemetry
        self.record = telemetry.record if record is None else record
        self.draining = False
        self.connections: set[Connection] = set()
        telemetry.attach(self.gateway, self.clock, lambda: len(self.connections))

    def closed(self, connection: Connection) -> None:
        """A connection has come to its end."""
        self.connections.discard(connection)

    @property
    def deployment(self) -> Deployment:
        """What is served."""
        return self._deployment

    def reconfigure(self, deployment: Deployment) -> None:
        """Serve this from now on. Requests in flight keep what they began with. To be called where the loop runs."""
        before, now = self._deployment, self.clock()
        reconfigure_gateway(self.gateway, before, deployment, now, state=self._state, journal=self._journal)
        self.pool.reconfigure(deployment.credentials, deployment.destinations)
        self._deployment = deployment

    def unready(self) -> None:
        """Say by ``/readyz`` that this process is about to stop. Everything else goes on as before."""
        self.gateway.drain(self.clock())

    def stop(self) -> None:
        """Break off whatever is still running."""
        for connection in list(self.connections):
            connection.stop()

    def drain(self) -> None:
        """Close what is idle, and have every running request finish within ``drain_timeout``."""
        self.unready()
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
