"""What a command line of dmsgcurl asks for, without asking it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import httpx
import pytest

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.curl import (
    BytesBody,
    ExitCode,
    FileBody,
    FormBody,
    OnError,
    Report,
    Retries,
    Stall,
    StreamBody,
    TransferError,
    parse_url,
)
from dmsg_trio.cli._curl_bodies import URL_ENCODED
from dmsg_trio.cli._curl_more_options import FailingOptions
from dmsg_trio.cli._curl_options import AskingOptions, SavingOptions
from dmsg_trio.cli._curl_plan import Plan, Planned
from dmsg_trio.cli._curl_write_out import written_out
from dmsg_trio.cli._stdio import STDERR, STDOUT
from tests.cli.running import NOBODY

URL = f"dmsg://{NOBODY}/file"


def planned(
    *urls: str,
    saving: SavingOptions | None = None,
    asking: AskingOptions | None = None,
    failing: FailingOptions | None = None,
    given: tuple[str, ...] = (),
) -> list[Planned]:
    plan = Plan(
        saving or SavingOptions(), asking or AskingOptions(), failing or FailingOptions(), given
    )
    return plan.transfers(urls or (URL,))


def headers(options: AskingOptions, given: tuple[str, ...] = ()) -> dict[str, str]:
    [one] = planned(asking=options, given=given)
    return dict([*one.order.headers, *one.order.secret_headers])


# ---- where answers go ----


def test_outputs_belong_to_urls_in_their_order() -> None:
    saving = SavingOptions(output=["a", "-"], remote_name=1, output_dir=Path("there"))
    given = ("output", "remote_name", "output")
    first, second, third, fourth = planned(*[URL] * 4, saving=saving, given=given)
    assert first.file is not None
    assert first.file.path_for(first.order.url) == Path("there/a")
    assert second.file is not None
    assert second.file.path_for(second.order.url) == Path("there/file")
    assert (third.file, third.is_output_named) == (None, True)
    assert (fourth.file, fourth.is_output_named) == (None, False)


def test_a_file_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="-o: a file needs a name"):
        planned(saving=SavingOptions(output=[""]), given=("output",))


def test_a_pattern_is_many_transfers() -> None:
    saving = SavingOptions(output=["#1.txt", "c"])
    plans = planned(f"{NOBODY}/{{a,b}}", URL, saving=saving, given=("output", "output"))
    assert [each.order.url.path for each in plans] == ["/a", "/b", "/file"]
    assert [str(each.file.path) for each in plans if each.file] == ["a.txt", "b.txt", "c"]
    [one] = planned(f"{NOBODY}/{{a,b}}", asking=AskingOptions(globoff=True))
    assert one.order.url.path == "/{a,b}"


def test_all_can_be_named_as_in_their_urls() -> None:
    plans = planned(f"{NOBODY}/a", f"{NOBODY}/b?c", saving=SavingOptions(remote_name_all=True))
    assert [each.file and each.file.path_for(each.order.url).name for each in plans] == ["a", "b"]


def test_a_url_without_a_name_has_none() -> None:
    with pytest.raises(TransferError, match="use -o FILE"):
        planned(f"{NOBODY}/", saving=SavingOptions(remote_name=1), given=("remote_name",))


@pytest.mark.parametrize(
    ("text", "goes_on", "offset"), [("", False, 0), ("-", True, 0), ("700", False, 700)]
)
def test_where_a_file_goes_on(text: str, goes_on: bool, offset: int) -> None:
    saving = SavingOptions(continue_at=text, output=["a"])
    [one] = planned(saving=saving, given=("output",))
    assert one.file is not None
    assert (one.file.goes_on, one.file.from_byte) == (goes_on, offset)
    [stream] = planned(saving=SavingOptions(continue_at=text))
    assert stream.order.from_byte == offset


# ---- what is asked ----


def test_data_is_joined_in_the_order_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x\r\ny\n\0")
    asking = AskingOptions(
        data=["a=1", f"@{tmp_path}/file"],
        data_raw=["@b"],
        data_binary=[f"@{tmp_path}/file"],
        data_urlencode=["ä &", "n=ä", f"f@{tmp_path}/file", "=z="],
    )
    given = (
        "data", "data_raw", "data", "data_binary",
        "data_urlencode", "data_urlencode", "data_urlencode", "data_urlencode",
    )  # fmt: skip
    [one] = planned(asking=asking, given=given)
    data = b"a=1&@b&xy&x\r\ny\n\0&%C3%A4+%26&n=%C3%A4&f=x%0D%0Ay%0A%00&z%3D"
    assert one.order.body == BytesBody(data)
    assert one.order.method == "POST"
    assert dict(one.order.headers)["Content-Type"] == URL_ENCODED


def test_a_large_file_is_not_taken_into_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    asking = AskingOptions(data_binary=[f"@{tmp_path}/file"])
    [one] = planned(asking=asking, given=("data_binary",))
    assert one.order.body == FileBody(tmp_path / "file", 1)


def test_json_is_asked_for_and_sent() -> None:
    named = headers(AskingOptions(json=["{}"]), ("json",))
    assert (named["Content-Type"], named["Accept"]) == ("application/json", "application/json")


def test_data_may_go_into_the_url() -> None:
    [one] = planned(f"{NOBODY}/?a=b", asking=AskingOptions(data=["c=d"], get=True), given=("data",))
    assert (one.order.method, one.order.body) == ("GET", None)
    assert one.order.url.query == b"a=b&c=d"


def test_a_form_has_fields_files_and_their_types(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    asking = AskingOptions(
        form=["n=v", f"f=@{tmp_path}/a.png", f't=<{tmp_path}/a.png;type="text/x"'],
        form_string=["s=@;type=x"],
    )
    [one] = planned(asking=asking, given=("form", "form", "form", "form_string"))
    assert isinstance(one.order.body, FormBody)
    fields = one.order.body._fields
    assert [each.value for each in fields] == [
        b"v", tmp_path / "a.png", b"picture", b"@;type=x"
    ]  # fmt: skip
    assert (fields[1].filename, fields[1].content_type) == ("a.png", "image/png")
    assert fields[2].content_type == "text/x"


def test_an_upload_is_named_by_its_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    first, second = planned(
        f"{NOBODY}/folder/",
        f"{NOBODY}/name",
        asking=AskingOptions(upload_file=[f"{tmp_path}/file", "-"]),
    )
    assert (first.order.method, first.order.url.path) == ("PUT", "/folder/file")
    assert isinstance(second.order.body, StreamBody)
    assert second.order.url.path == "/name"


def test_headers_are_added_replaced_removed_and_emptied(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("X-More: 1\n\nX-Most: 2\n")
    lines = ["user-agent: me", "Accept:", "X-Empty;", f"@{tmp_path}/more"]
    named = headers(AskingOptions(header=lines, referer="there"))
    assert named == {
        "user-agent": "me", "X-Empty": "", "X-More": "1", "X-Most": "2", "Referer": "there",
    }  # fmt: skip


def test_who_logs_in_does_so_in_secret() -> None:
    [one] = planned(asking=AskingOptions(user="me:word", header=["Cookie: a=b"]))
    assert one.order.secret_headers == (("Authorization", "Basic bWU6d29yZA=="), ("Cookie", "a=b"))
    assert "word" not in str(one.order.headers)


@pytest.mark.parametrize("line", ["no header", "a b: c", "X: a\r\nY: b", ": x"])
def test_what_is_no_header_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        planned(asking=AskingOptions(header=[line]))


# ---- when something goes wrong ----


def test_limits_are_read() -> None:
    failing = FailingOptions(
        fail=True, limit_rate="1.5M", speed_limit=10, max_time=7, retry=3, retry_delay=2
    )
    [one] = planned(failing=failing, saving=SavingOptions(max_filesize="2k", parallel=True))
    order = one.order
    assert order.on_error is OnError.FAIL
    assert (order.rate, order.max_size, order.stall) == (1_572_864, 2048, Stall(10, 30))
    assert (order.max_time, order.retries, order.streams) == (7, Retries(3, 2), 4)


def test_a_time_of_0_is_no_limit() -> None:
    [one] = planned(failing=FailingOptions(max_time=0, connect_timeout=0))
    assert (one.order.max_time, one.order.connect_timeout) == (None, None)


@pytest.mark.parametrize(("tries", "times"), [(1, 0), (5, 4), (0, math.inf)])
def test_tries_are_counted_as_the_reference_means_to(tries: int, times: float) -> None:
    [one] = planned(failing=FailingOptions(tries=tries))
    assert one.order.retries.times == times


# ---- what is printed in the end ----


def report() -> Report:
    url = parse_url(URL)
    response = httpx.Response(404, headers={"X-A": "b", "Content-Type": "t/x"})
    error = TransferError(ExitCode.HTTP_ERROR, "why")
    return Report(url, url, response=response, downloaded=10, ended=2.0, tries=3, error=error)


def test_variables_and_escapes_are_replaced() -> None:
    text = r"%{http_code} %{size_download}%% %{exitcode}\t%header{x-a} %{nonsense} \q%{stderr}%{num_retries}\n"
    shown = list(written_out(text, report(), 0))
    assert "".join(each for fd, each in shown if fd == STDOUT) == ("404 10% 22\tb  \\q")
    assert "".join(each for fd, each in shown if fd == STDERR) == (
        "dmsgcurl: -w: there is no variable nonsense\n2\n"
    )


def test_all_variables_are_there_as_json() -> None:
    values = json.loads("".join(text for _, text in written_out("%{json}", report(), 7)))
    assert values["http_code"] == 404
    assert values["speed_download"] == 5
    assert values["urlnum"] == 7
    assert values["errormsg"] == "why"
    assert values["remote_ip"] == NOBODY


def test_what_stands_behind_onerror_is_for_errors() -> None:
    good = report()
    good.error = None
    assert "".join(text for _, text in written_out("a%{onerror}b", good, 0)) == "a"
    assert "".join(text for _, text in written_out("a%{onerror}b", report(), 0)) == "ab"
