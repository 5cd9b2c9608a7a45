"""What a server counts, for Prometheus. Client keys are never labels, and reasons are few.

Where a number means what one of the reference's means, it stands under that name too, so that the
dashboards of either show both.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dmsg_trio._errors import HandshakeFault
from dmsg_trio._net.session import Session
from dmsg_trio._net.splice import Splice

from ._peers import Peers
from ._routes import Routes


class Rejection(StrEnum):
    """Why a connection was sent away without a handshake, or after one: a label in the metrics."""

    DRAINING = "draining"
    TOO_MANY_SESSIONS = "too_many_sessions"
    TOO_MANY_HANDSHAKES = "too_many_handshakes"
    REPLACEMENTS = "replacements"


class Refusal(StrEnum):
    """Why a stream was not relayed: a label in the metrics."""

    NO_ROUTE = "no_route"
    DESTINATION_FULL = "destination_full"
    BAD_REQUEST = "bad_request"
    BAD_RESPONSE = "bad_response"
    REFUSED = "refused_by_destination"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    NOT_A_PEER = "not_a_peer"
    CAPACITY = "relay_capacity"
    OPEN_RATE = "open_rate"
    TOO_MANY_LINKS = "too_many_links"
    RESET = "reset"
    SILENT = "silent"


HANDSHAKE_FAILURES: Final = (*HandshakeFault, *Rejection)  # the labels of handshakes_failed


class ServerMetrics(Collector):
    """Counts events as they come, and looks at the rest when it is asked."""

    def __init__(self, routes: Routes, *, wall_clock: Callable[[], int] = time.time_ns) -> None:
        self.registry = CollectorRegistry()
        self.started_at = wall_clock()  # nanoseconds since 1970
        self._wall_clock = wall_clock
        self._routes = routes
        self._sessions: set[Session] = set()
        self._splices: set[Splice] = set()
        self.peers: Peers | None = None  # of a server that has links
        self._sessions_accepted = 0
        self._streams_relayed = 0
        self._refusals: Counter[str] = Counter()
        self._handshake_failures: Counter[str] = Counter(dict.fromkeys(HANDSHAKE_FAILURES, 0))
        # Of what is over; what lives is added when asked.
        self._relayed = 0
        self._received = 0
        self._sent = 0
        self._refused_by_mux = 0
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    # ---- events ----

    @contextmanager
    def session(self, session: Session) -> Iterator[None]:
        """Count a session, and what goes over it while it lives and after."""
        self._sessions_accepted += 1
        self._sessions.add(session)
        try:
            yield
        finally:
            self._sessions.discard(session)
            self._received += session.connection.received
            self._sent += session.connection.outbox.sent
            self._refused_by_mux += session.connection.yamux.refused

    def refused(self, reason: str) -> None:
        """Count a stream that was not relayed."""
        self._refusals[reason] += 1

    def handshake_failed(self, reason: HandshakeFault | Rejection) -> None:
        """Count a connection that led to no session."""
        self._handshake_failures[reason] += 1

    @contextmanager
    def relaying(self, splice: Splice) -> Iterator[None]:
        """Count a joined stream, and its bytes while it lives and after."""
        self._streams_relayed += 1
        self._splices.add(splice)
        try:
            yield
        finally:
            self._splices.discard(splice)
            self._relayed += splice.relayed

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
        yield from self._process()
        yield from self._of_sessions()
        yield from self._of_streams()
        yield from self._of_bytes()
        yield from self._of_links()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    # ---- its parts ----

    def _process(self) -> Iterator[Metric]:
        up = self._wall_clock() - self.started_at
        yield _gauge("start_time_seconds", "When it started, since 1970", self.started_at / 1e9)
        yield _gauge("uptime_seconds", "Since the start", up / 1e9)

    def _of_sessions(self) -> Iterator[Metric]:
        now = len(self._routes)
        yield _gauge("sessions", "Sessions now", now)
        yield _gauge("clients_count", "As dmsg_server_sessions", now)
        yield _gauge("vm_active_sessions_count", "As dmsg_server_sessions", now)
        accepted = self._sessions_accepted
        yield _counter("sessions_accepted", "Sessions since the start", accepted)
        yield _counter("vm_session_success", "As dmsg_server_sessions_accepted", accepted)
        replacements = self._routes.replacements
        yield _counter("replacements", "Sessions that newer ones replaced", replacements.total)
        contested = len(replacements.contested())
        yield _gauge("contested_keys", "Keys that two programs seem to have", contested)
        failures = self._handshake_failures
        yield _by_reason("handshakes_failed", "Connections that led to no session", failures)
        yield _counter("vm_session_fail", "Sum of dmsg_server_handshakes_failed", failures.total())

    def _of_streams(self) -> Iterator[Metric]:
        now, relayed = self.streams_now, self._streams_relayed
        yield _gauge("streams", "Relayed streams now", now)
        yield _gauge("vm_active_streams_count", "As dmsg_server_streams", now)
        yield _counter("streams_relayed", "Streams joined since the start", relayed)
        yield _counter("vm_stream_success", "As dmsg_server_streams_relayed", relayed)
        yield _by_reason("streams_refused", "Streams not relayed", self._refusals)
        by_mux = self._refused_by_mux
        by_mux += sum(session.connection.yamux.refused for session in self._sessions)
        yield _counter(
            "streams_refused_unread", "Streams reset unread: too many, or draining", by_mux
        )
        yield _counter(
            "vm_stream_fail", "Sum of the streams refused", self._refusals.total() + by_mux
        )

    def _of_links(self) -> Iterator[Metric]:
        """Servers are public, so their keys may be labels."""
        if self.peers is None:
            return
        links, wanted = list(self.peers), self.peers.wanted
        yield _gauge("peer_links", "Links to other servers now", len(links))
        yield _gauge("peer_servers", "Other servers that are known", wanted)
        yield _gauge("mesh_completeness", "Links per known server", len(links) / max(1, wanted))
        reconnects = CounterMetricFamily(
            "dmsg_server_peer_reconnects", "Links that came back", labels=["server"]
        )
        for link in links:
            reconnects.add_metric([str(link.pk)], self.peers.links.reconnects(link.pk))
        yield reconnects
        connections = {str(link.pk): link.session.connection for link in links}
        yield _by_peer(
            "peer_round_trip_seconds",
            "Latest round trip of the link",
            {pk: each.round_trip or 0.0 for pk, each in connections.items()},
        )
        yield _by_peer(
            "peer_streams",
            "Streams on the link now",
            {pk: each.stream_count for pk, each in connections.items()},
        )
        yield _by_peer(
            "peer_received_bytes",
            "Bytes that came over the link since it began",
            {pk: each.received for pk, each in connections.items()},
        )
        yield _by_peer(
            "peer_sent_bytes",
            "Bytes that went over the link since it began",
            {pk: each.outbox.sent for pk, each in connections.items()},
        )
        states = {str(pk): 0.0 for pk in self.peers.missing}
        states |= {str(link.pk): float(link.is_open) for link in links}
        yield _by_peer("peer_up", "Whether there is a link that takes streams", states)

    def _of_bytes(self) -> Iterator[Metric]:
        connections = [session.connection for session in self._sessions]
        received = self._received + sum(each.received for each in connections)
        sent = self._sent + sum(each.outbox.sent for each in connections)
        waiting = [each.outbox.size for each in connections]
        yield _counter("relayed_bytes", "Bytes relayed, both directions", self.relayed_bytes)
        yield _counter("received_bytes", "Bytes of sessions, all that came in", received)
        yield _counter("sent_bytes", "Bytes of sessions, all that went out", sent)
        yield _gauge("queued_bytes", "Bytes not sent yet", sum(waiting))
        yield _queue_histogram(waiting)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dmsg_server_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"dmsg_server_{name}", text, value)


def _by_reason(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"dmsg_server_{name}", text, labels=["reason"])
    for reason, count in counts.items():
        family.add_metric([reason], count)
    return family


def _by_peer(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"dmsg_server_{name}", text, labels=["server"])
    for pk, value in values.items():
        family.add_metric([pk], value)
    return family


def _queue_histogram(waiting: list[int]) -> HistogramMetricFamily:
    bounds = [0, 2**16, 2**20, 2**24]
    buckets = [(str(bound), sum(size <= bound for size in waiting)) for bound in bounds]
    histogram = HistogramMetricFamily(
        "dmsg_server_session_queue_bytes", "Bytes not sent yet, by session"
    )
    histogram.add_metric([], [*buckets, ("+Inf", len(waiting))], sum(waiting))
    return histogram
