"""Our dmsgcurl from the reference's file server: any size, ranges, and what it answers for a folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest

from tests.cli.curl_programs import curl
from tests.interop.conftest import OURS, THEIRS, Network
from tests.interop.programs import Reference

SIZES: Final = {"empty": 0, "one": 1, "small": 70_000, "large": 100_000_000}
BLOCK: Final = 1_000_000

pytestmark = pytest.mark.parametrize("network", [OURS, THEIRS], indirect=True, ids=str)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each of `SIZES`."""
    folder = tmp_path_factory.mktemp("files")
    block = random.Random(0).randbytes(BLOCK)
    for name, size in SIZES.items():
        with (folder / name).open("wb") as file:
            for start in range(0, size, BLOCK):
                file.write(block[: size - start])
    (folder / "folder").mkdir()
    return folder


async def test_files_of_any_size_arrive(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    pk = await reference.serve_files(network.discovery, files)
    retry = ("--retry", str(network.tries), "--retry-delay", "0.1")
    for name in SIZES:
        url = f"dmsg://{pk}:80/{name}"
        target = tmp_path / name
        done = await curl(*retry, "-o", str(target), url, discovery=network.discovery)
        assert done.code == 0, done.err
        assert target.read_bytes() == (files / name).read_bytes()
    done = await curl(*retry, f"dmsg://{pk}:80/large", discovery=network.discovery)
    assert (done.code, done.out == (files / "large").read_bytes()) == (0, True)


async def test_ranges_heads_and_failures_are_as_curl_has_them(
    network: Network, reference: Reference, files: Path
) -> None:
    pk = await reference.serve_files(network.discovery, files)
    retry = ("-sS", "--retry", str(network.tries), "--retry-delay", "0.1")

    async def ask(*words: str) -> tuple[int, bytes, str]:
        done = await curl(*retry, *words, discovery=network.discovery)
        return done.code, done.out, done.err

    small = (files / "small").read_bytes()
    assert await ask("-r", "100-199", f"{pk}/small") == (0, small[100:200], "")
    assert await ask("-r", "-100", f"{pk}/small") == (0, small[-100:], "")
    code, out, _ = await ask("-I", f"{pk}/small")
    assert (code, out.splitlines()[0]) == (0, b"HTTP/1.1 200 OK")
    assert b"content-length: 70000" in out.lower()
    code, out, err = await ask("-f", f"{pk}/nothing")
    assert (code, out) == (22, b"")
    assert "answered 404 Not Found" in err
    assert await ask("-L", f"{pk}/folder/../small") == (0, small, "")


async def test_parts_are_not_asked_for_where_nothing_names_the_version(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    pk = await reference.serve_files(network.discovery, files)
    target = tmp_path / "large"
    done = await curl(
        *("-Z", "--retry", str(network.tries), "-o", str(target), f"{pk}/large"),
        discovery=network.discovery,
    )
    assert done.code == 0, done.err
    assert target.read_bytes() == (files / "large").read_bytes()


async def test_a_folder_is_a_clear_error_and_no_file(
    network: Network, reference: Reference, files: Path, tmp_path: Path
) -> None:
    pk = await reference.serve_files(network.discovery, files)
    words = ("-o", str(tmp_path / "it"), f"{pk}/folder/")
    done = await curl(*words, discovery=network.discovery)
    if done.code != 18 and network.tries > 1:  # the server lost the session by a race of its own
        done = await curl(*words, discovery=network.discovery)
    assert done.code == 18
    assert "a length by which some servers mean a folder" in done.err
    assert list(tmp_path.glob("it*")) == []  # noqa: ASYNC240
