"""What a server counts, for Prometheus. Client keys are never labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import trio
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dmsg_trio._net.splice import Splice

from ._routes import Routes


class ServerMetrics(Collector):
    """Counts events as they come, and looks at the rest when it is asked."""

    def __init__(self, routes: Routes) -> None:
        self.registry = CollectorRegistry()
        self._routes = routes
        self._splices: set[Splice] = set()
        self._idle = trio.lowlevel.ParkingLot()
        self._relayed = 0  # bytes of splices that are finished
        self._sessions = Counter(
            "dmsg_server_sessions_accepted", "Sessions since the start", registry=self.registry
        )
        self._streams = Counter(
            "dmsg_server_streams_relayed", "Streams joined since the start", registry=self.registry
        )
        self._refusals = Counter(
            "dmsg_server_streams_refused", "Streams not relayed", ["reason"], registry=self.registry
        )
        self._handshake_failures = Counter(
            "dmsg_server_handshakes_failed",
            "Connections that led to no session",
            ["reason"],
            registry=self.registry,
        )
        self.registry.register(self)

    # ---- events ----

    def session_accepted(self) -> None:
        """Count a session."""
        self._sessions.inc()

    def refused(self, reason: str) -> None:
        """Count a stream that was not relayed."""
        self._refusals.labels(reason).inc()

    def handshake_failed(self, reason: str) -> None:
        """Count a connection that led to no session."""
        self._handshake_failures.labels(reason).inc()

    @contextmanager
    def relaying(self, splice: Splice) -> Iterator[None]:
        """Count a joined stream, and its bytes while it lives and after."""
        self._streams.inc()
        self._splices.add(splice)
        try:
            yield
        finally:
            self._splices.discard(splice)
            self._relayed += splice.relayed
            if not self._splices:
                self._idle.unpark_all()

    async def no_streams(self) -> None:
        """Wait until no stream is relayed."""
        while self._splices:
            await self._idle.park()

    # ---- state, looked at when asked ----

    @property
    def streams_now(self) -> int:
        """Streams that are joined now."""
        return len(self._splices)

    @property
    def relayed_bytes(self) -> int:
        """Bytes relayed since the start, both directions."""
        return self._relayed + sum(splice.relayed for splice in self._splices)

    def collect(self) -> Iterable[Metric]:
        """Describe the server as it is now."""
        connections = [session.connection for session in self._routes]
        yield GaugeMetricFamily("dmsg_server_sessions", "Sessions now", len(connections))
        yield GaugeMetricFamily("dmsg_server_streams", "Relayed streams now", self.streams_now)
        yield CounterMetricFamily(
            "dmsg_server_relayed_bytes", "Bytes relayed, both directions", self.relayed_bytes
        )
        waiting = [connection.outbox.size for connection in connections]
        yield GaugeMetricFamily("dmsg_server_queued_bytes", "Bytes not sent yet", sum(waiting))
        yield _queue_histogram(waiting)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


def _queue_histogram(waiting: list[int]) -> HistogramMetricFamily:
    bounds = [0, 2**16, 2**20, 2**24]
    buckets = [(str(bound), sum(size <= bound for size in waiting)) for bound in bounds]
    histogram = HistogramMetricFamily(
        "dmsg_server_session_queue_bytes", "Bytes not sent yet, by session"
    )
    histogram.add_metric([], [*buckets, ("+Inf", len(waiting))], sum(waiting))
    return histogram
