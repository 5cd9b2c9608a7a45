"""The reference's dmsgcurl against our dmsghttp."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.cli.serving import dmsghttp
from tests.interop.conftest import OUR_SERVER, OURS, THEIRS, Network
from tests.interop.programs import Reference

SIZES: Final = {"empty": 0, "one.txt": 1, "text.html": 70_000, "large file": 100_000_000}
BLOCK: Final = 1_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each of `SIZES`."""
    folder = tmp_path_factory.mktemp("served")
    block = Random(0).randbytes(BLOCK)
    for name, size in SIZES.items():
        with (folder / name).open("wb") as file:
            for start in range(0, size, BLOCK):
                file.write(block[: size - start])
    return folder


@pytest.mark.parametrize("network", [OURS, OUR_SERVER, THEIRS], ids=str, indirect=True)
async def test_their_dmsgcurl_fetches_files_of_all_sizes(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    async with dmsghttp(files, discovery=network.discovery) as program:
        url = await program.url()
        for name in SIZES:
            target = tmp_path / name
            place = url + name.replace(" ", "%20")
            await reference.fetch(network.discovery, place, target, tries=network.tries)
            assert target.read_bytes() == (files / name).read_bytes()


@pytest.mark.parametrize("network", [OURS], ids=str, indirect=True)
async def test_their_dmsgcurl_gets_listings_and_refusals(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    async with dmsghttp(files, discovery=network.discovery) as program:
        url = await program.url()
        await reference.fetch(network.discovery, url, tmp_path / "listing")
        assert "large%20file" in (tmp_path / "listing").read_text()
        await reference.fetch(network.discovery, f"{url}nothing", tmp_path / "nothing")
        assert (tmp_path / "nothing").read_text() == "Not Found\n"
