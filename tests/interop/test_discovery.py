"""The reference's discovery under our clients and servers, and ours under the reference's."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.entries import ClientInfo, Entry
from dmsg_trio.client import open_client
from dmsg_trio.discovery import HttpDiscovery
from tests.interop.conftest import OUR_DISCOVERY, OUR_SERVER, THEIRS, Network, open_our_server
from tests.interop.programs import Reference

theirs = pytest.mark.parametrize("network", [OUR_SERVER, THEIRS], indirect=True, ids=str)
ours = pytest.mark.parametrize("network", [OUR_DISCOVERY], indirect=True, ids=str)


async def is_known(network: Network, pk: PublicKey) -> bool:
    async with HttpDiscovery(network.discovery) as discovery:
        try:
            await discovery.entry(pk)
        except UnreachableError:
            return False
        return True


# ---- their discovery ----


@theirs
async def test_a_client_of_ours_is_registered_as_long_as_it_lives(network: Network) -> None:
    async with HttpDiscovery(network.discovery) as discovery:
        async with open_client(discovery=network.discovery) as client:
            entry = await discovery.entry(client.pk)
            assert entry.is_verified
            assert entry.delegated_servers == (network.server_pk,)
        assert not await is_known(network, client.pk)


@theirs
async def test_a_client_of_ours_comes_back_after_a_crash_that_left_its_entry(
    network: Network,
) -> None:
    sk = SecretKey.generate()
    left = Entry(pk=sk.pk, timestamp=time.time_ns(), sequence=7, client=ClientInfo(()))
    async with HttpDiscovery(network.discovery) as discovery:
        await discovery.publish(left.signed(sk))
        async with open_client(sk, discovery=network.discovery):
            entry = await discovery.entry(sk.pk)
            assert entry.sequence == 8
            assert entry.delegated_servers == (network.server_pk,)
        assert not await is_known(network, sk.pk)


@pytest.mark.parametrize("network", [OUR_SERVER], indirect=True, ids=str)
async def test_a_server_of_ours_is_offered_until_it_leaves(network: Network) -> None:
    async with HttpDiscovery(network.discovery) as discovery:
        async with open_our_server(network.discovery) as another:
            offered = {entry.pk for entry in await discovery.available_servers()}
            assert offered == {network.server_pk, another.pk}
        assert [entry.pk for entry in await discovery.all_servers()] == [network.server_pk]


# ---- our discovery ----


@ours
async def test_their_server_and_tools_live_with_our_discovery_without_an_error(
    network: Network,
    reference: Reference,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("hello")
    assert network.server_program is not None
    with caplog.at_level(logging.DEBUG, logger="dmsg_trio"):
        pk = await reference.serve_files(network.discovery, tmp_path)
        assert await is_known(network, pk)
        url = f"dmsg://{pk}:80/file"
        await reference.fetch(network.discovery, url, tmp_path / "copy", tries=network.tries)
        await network.server_program.aclose()
        assert not await is_known(network, network.server_pk)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "ERROR" not in network.server_program.log.text
    assert (tmp_path / "copy").read_text() == "hello"


@ours
async def test_their_tool_takes_its_entry_back_from_our_discovery(
    network: Network, reference: Reference
) -> None:
    """It looks around, registers, fails to reach anybody, and leaves."""
    finished = await reference.run(
        "dmsgip", *("--dmsg-disc", network.discovery, "--loglvl", "debug")
    )
    assert "Entry Deleted successfully" in finished.log
    async with HttpDiscovery(network.discovery) as discovery:
        assert [entry.pk for entry in await discovery.all_servers()] == [network.server_pk]
