"""What a command line of dmsgcurl asks for: an order for each URL, and where its answer goes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Final

import httpx

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.curl import (
    Cookies,
    OnError,
    Order,
    Retries,
    Stall,
    ToFile,
    name_in_url,
)

from ._curl_bodies import JSON, STANDARD, Sending, sending, upload
from ._curl_globs import Globbed, expanded
from ._curl_help import in_order
from ._curl_more_options import FailingOptions, RememberingOptions
from ._curl_options import AskingOptions, SavingOptions
from ._curl_remembering import conditions, cookie_line, login
from ._curl_words import basic, filename, header_of, lines_of, size_of, url_of, with_query

REMOTE: Final = "\0"  # stands for the name in the URL: no file can be called so
STREAMS: Final = 4  # over which -Z fetches a large file
SPEED_TIME: Final = 30  # seconds
SECRET: Final = ("authorization", "cookie")
AGENT: Final = "dmsgcurl"

_SPAN = re.compile(r"\d*-\d*(,\s*\d*-\d*)*")


@dataclass(frozen=True, slots=True)
class Planned:
    """One transfer to come; without a file its answer goes to standard output."""

    order: Order
    file: ToFile | None
    is_output_named: bool  # -o - means it, also for a terminal
    dump_header: str = ""
    write_out: str = ""
    etag_save: str = ""
    fails_early: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a command line asks for; what is wrong with it is said before anything is done."""

    saving: SavingOptions
    asking: AskingOptions
    failing: FailingOptions
    given: Sequence[str]
    remembering: RememberingOptions = field(default_factory=RememberingOptions)
    cookies: Cookies | None = None
    write_out: str = ""

    def transfers(self, urls: Sequence[str]) -> list[Planned]:
        """Make the orders."""
        outputs = self._outputs()
        uploads = self.asking.upload_file or []
        if len(outputs) > len(urls) or len(uploads) > len(urls):
            raise ConfigError("there are more files named than URLs")
        self._check_range()
        sent = sending(self.asking, self.given)
        template = self._template(sent)
        rest = REMOTE if self.saving.remote_name_all else ""
        return [
            self._planned(template, with_query(url_of(each.text), sent.query), name, path.text)
            for text, output, paths in zip_longest(urls, outputs, uploads, fillvalue="")
            for path in self._expanded(paths)
            for each in self._expanded(text)
            for name in [each.named(output or rest)]
        ]

    def _expanded(self, url: str) -> list[Globbed]:
        return [Globbed(url)] if self.asking.globoff else expanded(url)

    def _planned(self, template: Order, url: httpx.URL, output: str, path: str) -> Planned:
        order = replace(template, url=url)
        if path:
            if url.path.endswith("/") and path not in (STANDARD, "."):
                order = replace(order, url=url.copy_with(path=url.path + Path(path).name))
            order = replace(order, body=upload(path), method=self.asking.request or "PUT")
        is_stream = output in ("", STANDARD)
        if is_stream:
            order = replace(order, from_byte=self._offset)
        if user := login(self.remembering, url) if not self._has_login else "":
            secrets = (*order.secret_headers, ("Authorization", basic(user)))
            order = replace(order, secret_headers=secrets)
        return Planned(
            order,
            None if is_stream else self._file(url, output),
            bool(output),
            self.saving.dump_header,
            self.write_out,
            self.remembering.etag_save,
            self.failing.fail_early,
        )

    @property
    def _has_login(self) -> bool:
        return bool(self.asking.user or self.asking.oauth2_bearer)

    # ---- where answers go ----

    def _outputs(self) -> list[str]:
        kinds: dict[str, Sequence[object]] = {
            "output": [filename(each) for each in self.saving.output or []],
            "remote_name": [REMOTE] * self.saving.remote_name,
        }
        return [str(name) for _, name in in_order(self.given, kinds)]

    def _file(self, url: httpx.URL, output: str) -> ToFile:
        saving = self.saving
        asks_header = output == REMOTE and saving.remote_header_name
        if output == REMOTE and not asks_header:
            name_in_url(url)  # fails before anything is asked
        return ToFile(
            path=None if output == REMOTE else Path(output),
            folder=saving.output_dir,
            asks_header=asks_header,
            create_folders=saving.create_dirs,
            goes_on=saving.continue_at == STANDARD,
            from_byte=self._offset,
            keeps_time=saving.remote_time,
        )

    @property
    def _offset(self) -> int:
        text = self.saving.continue_at
        if text in ("", STANDARD):
            return 0
        if not (text.isascii() and text.isdigit()):
            raise ConfigError(f"-C: a number of bytes or -, not {text!r}")
        return int(text)

    def _check_range(self) -> None:
        saving = self.saving
        if saving.span and not _SPAN.fullmatch(saving.span):
            raise ConfigError(
                f"-r: a range is 0-499, 500- or -500, not {saving.span!r}"
                " (the reference's -r is --replace here, and not needed)"
            )
        if saving.continue_at and saving.span:
            raise ConfigError("-C and -r exclude each other")
        if saving.continue_at and saving.remote_header_name:
            raise ConfigError("-C and -J exclude each other: the name is not known before")

    # ---- what is asked ----

    def _template(self, sent: Sending) -> Order:
        saving, asking, failing = self.saving, self.asking, self.failing
        method = "HEAD" if asking.head else "POST" if sent.body else "GET"
        headers = self._headers(sent.content_type)
        streams = saving.parallel_ranges or (STREAMS if saving.parallel else 1)
        return Order(
            url=httpx.URL(),
            method=asking.request or method,
            keeps_method=bool(asking.request),
            headers=tuple(each for each in headers if each[0].lower() not in SECRET),
            secret_headers=tuple(each for each in headers if each[0].lower() in SECRET),
            trusts_redirects=asking.location_trusted,
            cookies=self.cookies,
            body=sent.body,
            redirects=asking.max_redirs if asking.location or asking.location_trusted else None,
            span=saving.span,
            decodes=saving.compressed,
            shows_heads=saving.include or asking.head,
            skips_body=asking.head,
            on_error=self._on_error(),
            max_size=size_of(saving.max_filesize, "--max-filesize"),
            connect_timeout=failing.connect_timeout or None,
            max_time=failing.max_time or None,
            retries=self._retries(),
            rate=size_of(failing.limit_rate, "--limit-rate"),
            stall=self._stall(),
            streams=1 if saving.include else streams,
        )

    def _on_error(self) -> OnError:
        if self.failing.fail and self.failing.fail_with_body:
            raise ConfigError("either --fail or --fail-with-body")
        if self.failing.fail_with_body:
            return OnError.FAIL_WITH_BODY
        return OnError.FAIL if self.failing.fail else OnError.TAKE

    def _retries(self) -> Retries:
        failing = self.failing
        times: float = failing.retry or 0
        if failing.tries is not None:
            if failing.retry is not None:
                raise ConfigError("either --retry or --try")
            times = failing.tries - 1 if failing.tries else math.inf
        return Retries(
            times, failing.retry_delay, failing.retry_max_time, whatever=failing.retry_all_errors
        )

    def _stall(self) -> Stall | None:
        rate, seconds = self.failing.speed_limit, self.failing.speed_time
        return Stall(rate or 1, seconds or SPEED_TIME) if rate or seconds else None

    def _headers(self, content_type: str) -> list[tuple[str, str]]:
        """Give the headers of each request: ours, as far as the user does not change them."""
        asking = self.asking
        agent = AGENT if asking.user_agent is None else asking.user_agent
        ours = {
            "User-Agent": agent,
            "Accept": JSON if content_type == JSON else "*/*",
            "Accept-Encoding": "gzip, deflate" if self.saving.compressed else "",
            "Referer": asking.referer,
            "Content-Type": content_type,
            "Authorization": self._authorization,
            "Cookie": cookie_line(self.remembering),
            **dict(conditions(self.remembering)),
        }
        theirs = [header_of(line) for each in asking.header or () for line in lines_of(each)]
        named = {name.lower() for name, _ in theirs}
        headers = [
            (name, value) for name, value in ours.items() if value and name.lower() not in named
        ]
        return [*headers, *((name, value) for name, value in theirs if value is not None)]

    @property
    def _authorization(self) -> str:
        if self.asking.oauth2_bearer:
            return f"Bearer {self.asking.oauth2_bearer}"
        return basic(self.asking.user) if self.asking.user else ""
