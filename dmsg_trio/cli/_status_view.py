"""How `dmsg status` looks to people: each key once and whole, so that it can be copied.

Elsewhere a key is its first digits, by which the command shows it as well. Of a network with many
servers each one gets two lines, and what is wrong with it; who is where is then told by the clients.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from ._health import ServerHealth
from ._numbers import age, count
from ._run import printable
from ._status_report import ClientStatus, Delegation, Report, ServerStatus

WIDTH: Final = 80  # columns
KEY_WIDTH: Final = 66
SHORT: Final = 10  # digits of a key that is shown whole elsewhere
MANY_SERVERS: Final = 8  # of more, clients and links are counted
MAX_SHOWN: Final = 20  # clients in a list, links of a server; --json has all
GLUE: Final = "\N{NO-BREAK SPACE}"  # keeps words on one line until the lines are made


def lines_of(report: Report, *, whole: Report | None = None) -> list[str]:
    """Show a report to people, which may be a part of the ``whole`` one."""
    return list(_View(report, whole or report).lines())


class _View:
    """One report, and what its lines have in common."""

    def __init__(self, report: Report, whole: Report) -> None:
        self._report = report
        self._whole = whole
        self._known = {server.pk for server in whole.servers} | set(whole.clients)
        self._health = {each.public_key: each for each in report.health if not each.error}
        self._in_full = len(report.servers) <= MANY_SERVERS

    def lines(self) -> Iterator[str]:
        report = self._report
        servers, clients = len(self._whole.servers), len(self._whole.clients)
        yield f"{report.discovery}: {count(servers, 'server')}, {count(clients, 'client')}"
        if report.servers:
            yield from self._heading("SERVER")
        for server in report.servers:
            yield from self._server(server)
        if report.clients:
            yield from self._clients()
        yield from self._strangers()
        yield from self._remarks()

    # ---- servers ----

    def _server(self, server: ServerStatus) -> Iterator[str]:
        yield self._row(server.pk, server.since, server.updated)
        health = self._health.get(server.pk)
        facts = [count(server.available_sessions, "free session")]
        if not self._in_full:
            if server.clients is not None:
                facts.append(count(len(server.clients), "client"))
            if health:
                facts.append(count(len(health.links), "link"))
                facts += ["draining"] * health.draining
        yield f"  {server.address}  {server.kind or server.protocol}  {', '.join(facts)}"
        if health:
            yield from self._health_of(health)
        if server.clients and self._in_full:
            yield from self._listed("clients", server.clients)

    def _health_of(self, health: ServerHealth) -> Iterator[str]:
        if self._in_full:
            yield from _paragraph("health", health.words())
            for link in health.links[:MAX_SHOWN]:
                yield from self._key_and_words("link", link.public_key, link.words())
            yield from _more(len(health.links), "link")
        for pk in health.servers_missing[: self._share]:
            yield from self._key_and_words("no link", pk, "")
        yield from _more(len(health.servers_missing), "missing link", shown=self._share)
        for key in health.contested_keys[: self._share]:
            often = count(key.replacements, "change")
            yield f"  twice    {printable(key.public_key)}"
            yield f"           two programs seem to have this key: {often} within 10 minutes"
        yield from _more(len(health.contested_keys), "such key", shown=self._share)

    @property
    def _share(self) -> int:
        return MAX_SHOWN if self._in_full else 2

    def _strangers(self) -> Iterator[str]:
        """What other endpoints told: servers that are elsewhere, and errors."""
        listed = {server.pk for server in self._report.servers}
        for pk, health in self._health.items():
            if pk not in listed:
                yield from ("", f"{printable(pk)}", "  a server that is not in the discovery")
                yield from self._health_of(health)
        for each in self._report.health:
            if each.error:
                yield from ("", f"health  {printable(each.url)}: {each.error}")

    # ---- clients ----

    def _clients(self) -> Iterator[str]:
        entries = {entry.pk: entry for entry in self._report.entries}
        yield from self._heading("CLIENT")
        for pk in self._report.clients[:MAX_SHOWN]:
            if entry := entries.get(pk):
                yield self._row(pk, entry.since, entry.updated)
                yield from self._client(entry)
            else:
                yield pk
        yield from _more(len(self._report.clients), "client")

    def _client(self, entry: ClientStatus) -> Iterator[str]:
        if what := ", ".join(filter(None, (entry.kind, entry.protocol))):
            yield f"  {what}"
        if entry.servers:
            yield from self._listed("at", entry.servers)
        else:
            yield "  at no server"

    # ---- parts ----

    def _heading(self, what: str) -> Iterator[str]:
        yield ""
        yield f"{what:<{KEY_WIDTH}}  {'SINCE' if self._report.tells_since else 'UPDATED'}"

    def _row(self, pk: str, since: datetime | None, updated: datetime) -> str:
        return f"{pk}  {self._age(since if self._report.tells_since else updated)}"

    def _age(self, moment: datetime | None) -> str:
        return age((self._report.now - moment).total_seconds()) if moment else "?"

    def _listed(self, label: str, others: Sequence[Delegation]) -> Iterator[str]:
        items = [self._delegation(each) for each in others[:MAX_SHOWN]]
        yield from _paragraph(label, ", ".join(items))
        yield from _more(len(others), "client" if label == "clients" else "server")

    def _delegation(self, other: Delegation) -> str:
        if not self._report.tells_since:
            return self._name(other.pk)
        gap = GLUE if other.pk in self._known else " "  # a whole key fills its line
        return f"{self._name(other.pk)}{gap}{self._age(other.since).replace(' ', GLUE)}"

    def _key_and_words(self, label: str, pk: str, words: str) -> Iterator[str]:
        yield from _paragraph(label, f"{self._name(pk)} {words}")

    def _name(self, pk: str) -> str:
        return f"{pk[:SHORT]}…" if pk in self._known else printable(pk)

    # ---- what is not shown ----

    def _remarks(self) -> Iterator[str]:
        report, remarks = self._report, list[str]()
        if not report.tells_since:
            remarks.append("UPDATED: last published; this discovery does not tell since when.")
        if (
            report.servers
            and report.clients
            and all(each.clients is None for each in report.servers)
        ):
            remarks.append("This discovery does not tell at which servers the clients are.")
        if not self._in_full:
            remarks.append("dmsg status KEY shows the clients and links of one server, --json all.")
        unasked = sum(server.pk not in self._health for server in report.servers)
        if unasked:
            whose = "of" if unasked == len(report.servers) else f"of {unasked} of"
            remarks.append(
                f"Links {whose} these servers are not shown: give their health endpoints with"
                " --health URL or in DMSG_HEALTH."
            )
        if remarks:
            yield ""
        for remark in remarks:
            yield from textwrap.wrap(remark, WIDTH, break_on_hyphens=False)


def _paragraph(label: str, text: str) -> Iterator[str]:
    head = f"  {label:<8} "
    for line in textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ):
        yield line.replace(GLUE, " ")


def _more(number: int, what: str, *, shown: int = MAX_SHOWN) -> Iterator[str]:
    if number > shown:
        yield f"           and {count(number - shown, f'more {what}')}, see --json"
