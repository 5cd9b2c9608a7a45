"""dmsg trace: the way to a client, and what is missing where there is none."""

import json

import pytest

from tests.cli.running import NOBODY, dmsg, network

pytestmark = pytest.mark.network


async def test_each_step_is_told_with_its_time() -> None:
    async with network("--servers", "1") as up:
        done = await dmsg("trace", up.ready.client, discovery=up.ready.discovery)
    assert (done.code, done.err) == (0, "")
    assert done.lines[-1] == "reached"
    assert any(line.startswith("entry ") and line.endswith(": at 1 server") for line in done.lines)
    (attempt,) = [line for line in done.lines if line.startswith("attempt ")]
    assert "1. a server of its" in attempt
    assert attempt.endswith(" ms")


async def test_a_refusal_proves_a_way() -> None:
    async with network() as up:
        done = await dmsg("trace", f"{up.ready.client}:99", discovery=up.ready.discovery)
    assert done.code == 0
    (attempt,) = [line for line in done.lines if line.startswith("attempt ")]
    assert ": the client answered, " in attempt
    assert "nobody listens on this port" in done.out.decode()


async def test_json_is_one_object() -> None:
    async with network() as up:
        done = await dmsg("trace", "--json", up.ready.client, discovery=up.ready.discovery)
    report = json.loads(done.out)
    assert report["reached"] is True
    (attempt,) = [step for step in report["steps"] if step["what"] == "attempt"]
    assert attempt["tier"] == 1
    assert attempt["seconds"] > 0


async def test_an_unknown_key_is_said_to_be_unknown() -> None:
    async with network() as up:
        done = await dmsg("trace", NOBODY, discovery=up.ready.discovery)
    assert done.code == 1
    assert "no client of this key" in done.out.decode()
