"""The question which address one is seen at, between the reference's tool and our server."""

from __future__ import annotations

import pytest

from tests.interop.conftest import OUR_SERVER, OURS, Network
from tests.interop.programs import Reference


@pytest.mark.parametrize("network", [OURS, OUR_SERVER], indirect=True, ids=str)
async def test_their_tool_understands_the_answer_of_our_server(
    network: Network, reference: Reference
) -> None:
    """It takes public addresses only, so on loopback its complaint shows that it read one."""
    finished = await reference.run(
        "dmsgip",
        *("--dmsg-disc", network.discovery, "--loglvl", "debug"),
        *("--srv", str(network.server_pk)),
    )
    assert "received non-public IP address from dmsg server" in finished.log
    assert finished.seconds < 5
