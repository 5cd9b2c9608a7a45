"""Copying files and trees, both ways."""

from __future__ import annotations

import errno
import getpass
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsg_trio.apps.pty.copy import CopyError, CopyOptions, CopyRefusedError, get, put
from tests.apps.pty.copying import EVERYTHING, Copy, Notes, copy, facts, hidden

BOTH_WAYS = pytest.mark.parametrize("operation", [put, get], ids=["put", "get"])
LARGE = 4 * 1024 * 1024 + 12345

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)
files = st.tuples(st.binary(max_size=3000), st.integers(0o400, 0o777), st.integers(0, 2**60))
trees = st.recursive(
    files | st.binary(min_size=1, max_size=20).filter(lambda target: b"\0" not in target),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
Tree = dict[bytes, "Tree"] | tuple[bytes, int, int] | bytes


def grow(tree: Tree, path: bytes) -> None:
    match tree:
        case bytes():
            os.symlink(tree, path)
        case (content, mode, mtime):
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, mode)
            os.utime(path, ns=(mtime, mtime))
        case _:
            os.mkdir(path)
            for name, inner in tree.items():
                grow(inner, os.path.join(path, name))


@BOTH_WAYS
@settings(max_examples=25)
@given(tree=st.dictionaries(names, trees, max_size=4))
async def test_a_tree_arrives_as_it_was(
    operation: Copy, tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    grow(tree, os.fsencode(folder / "source"))
    outcome = await copy(operation, [folder / "source"], folder / "target")
    assert outcome.is_complete
    assert facts(folder / "target") == facts(folder / "source")


@BOTH_WAYS
@pytest.mark.parametrize("size", [0, 1, 4 * 1024 * 1024, LARGE])
async def test_a_file_arrives_as_it_was(operation: Copy, size: int, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(size))
    (tmp_path / "target").write_bytes(b"what was there")
    outcome = await copy(operation, [tmp_path / "source"], tmp_path / "target")
    assert (outcome.files, outcome.bytes, outcome.problems) == (1, size, 0)
    assert facts(tmp_path / "target") == facts(tmp_path / "source")
    assert hidden(tmp_path) == []


@BOTH_WAYS
async def test_several_sources_go_into_a_folder(operation: Copy, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    await copy(operation, [tmp_path / "a", tmp_path / "b"], tmp_path / "folder")
    assert [(tmp_path / "folder" / name).read_text() for name in ("a", "b")] == ["a", "b"]


@BOTH_WAYS
async def test_several_sources_need_a_folder_that_is_there(operation: Copy, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(CopyError, match="no such folder"):
        await copy(operation, [tmp_path / "a", tmp_path / "a"], tmp_path / "nowhere")


@BOTH_WAYS
async def test_a_folder_of_a_name_goes_into_a_folder_and_its_content_goes_right_there(
    operation: Copy, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").touch()
    (tmp_path / "target").mkdir()
    await copy(operation, [tmp_path / "source"], tmp_path / "target")
    assert (tmp_path / "target" / "source" / "file").exists()
    await copy(operation, [os.fsencode(tmp_path / "source") + b"/."], tmp_path / "target")
    assert (tmp_path / "target" / "file").exists()


@BOTH_WAYS
async def test_a_folder_is_copied_only_when_that_is_wanted(operation: Copy, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    notes = Notes()
    outcome = await copy(
        operation, [tmp_path / "source"], tmp_path / "target", options=CopyOptions(), progress=notes
    )
    assert not outcome.is_complete
    assert "only -r" in notes.problems[0][1]
    assert not (tmp_path / "target").exists()


@BOTH_WAYS
async def test_a_link_is_followed_if_it_is_named_and_kept_if_trees_are_copied(
    operation: Copy, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    await copy(operation, [tmp_path / "link"], tmp_path / "followed", options=CopyOptions())
    assert not (tmp_path / "followed").is_symlink()
    await copy(operation, [tmp_path / "link"], tmp_path / "kept")
    assert os.readlink(tmp_path / "kept") == "file"


@BOTH_WAYS
async def test_what_cannot_be_read_is_told_and_the_rest_goes_on(
    operation: Copy, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    (source / "file").write_text("content")
    notes = Notes()
    outcome = await copy(operation, [source], tmp_path / "target", progress=notes)
    assert outcome.problems == 1
    assert notes.problems == [(str(source / "pipe"), "neither a file nor a folder nor a link")]
    assert (tmp_path / "target" / "file").read_text() == "content"


@BOTH_WAYS
async def test_a_missing_source_is_told_with_its_path(operation: Copy, tmp_path: Path) -> None:
    notes = Notes()
    await copy(operation, [tmp_path / "missing"], tmp_path / "target", progress=notes)
    assert notes.problems == [(str(tmp_path / "missing"), "No such file or directory")]


@BOTH_WAYS
async def test_what_is_in_the_way_is_told_and_the_rest_goes_on(
    operation: Copy, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("file", "folder", "other"):
        (source / name).mkdir(parents=True)
        (source / name / "within").write_text("content")
    target.mkdir()
    (target / "file").write_text("a file")
    (target / "folder").symlink_to(tmp_path)
    notes = Notes()
    outcome = await copy(operation, [os.fsencode(source) + b"/."], target, progress=notes)
    assert outcome.problems == 2
    assert {Path(path).name for path, _ in notes.problems} == {"file", "folder"}
    assert (target / "other" / "within").read_text() == "content"
    assert (target / "file").read_text() == "a file"
    assert not (tmp_path / "within").exists()


@BOTH_WAYS
async def test_a_link_in_the_target_is_replaced_and_never_written_through(
    operation: Copy, tmp_path: Path
) -> None:
    (tmp_path / "source").write_text("new")
    (tmp_path / "precious").write_text("old")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "source").symlink_to(tmp_path / "precious")
    outcome = await copy(operation, [tmp_path / "source"], tmp_path / "target")
    assert outcome.is_complete
    assert (tmp_path / "precious").read_text() == "old"
    assert not (tmp_path / "target" / "source").is_symlink()
    assert (tmp_path / "target" / "source").read_text() == "new"


@BOTH_WAYS
async def test_nothing_is_overwritten_if_that_is_not_wanted(
    operation: Copy, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("there", "new"):
        (source / name).write_text("new")
    (target / "there").write_text("old")
    notes = Notes()
    options = CopyOptions(recursive=True, overwrite=False)
    await copy(operation, [os.fsencode(source) + b"/."], target, options=options, progress=notes)
    assert notes.problems == [(str(target / "there"), "it is there already")]
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "there": "old",
        "new": "new",
    }


@BOTH_WAYS
async def test_permissions_follow_the_umask_unless_they_are_preserved(
    operation: Copy, tmp_path: Path
) -> None:
    (tmp_path / "source").touch()
    (tmp_path / "source").chmod(0o4777)
    os.utime(tmp_path / "source", ns=(10**18, 10**18))
    mask = os.umask(0o027)
    try:
        await copy(operation, [tmp_path / "source"], tmp_path / "plain", options=CopyOptions())
        await copy(operation, [tmp_path / "source"], tmp_path / "same", options=EVERYTHING)
    finally:
        os.umask(mask)
    plain, same = (tmp_path / "plain").stat(), (tmp_path / "same").stat()
    assert stat.S_IMODE(plain.st_mode) == 0o750
    assert plain.st_mtime_ns != 10**18
    assert (stat.S_IMODE(same.st_mode), same.st_mtime_ns) == (0o777, 10**18)


@BOTH_WAYS
async def test_a_file_that_is_replaced_keeps_its_permissions(
    operation: Copy, tmp_path: Path
) -> None:
    (tmp_path / "source").touch(0o777)
    (tmp_path / "target").touch()
    (tmp_path / "target").chmod(0o640)
    await copy(operation, [tmp_path / "source"], tmp_path / "target", options=CopyOptions())
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o640


@BOTH_WAYS
async def test_more_small_files_than_settle_at_once(operation: Copy, tmp_path: Path) -> None:
    for number in range(200):
        folder = tmp_path / "source" / str(number % 9)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(os.urandom(number))
    await copy(operation, [tmp_path / "source"], tmp_path / "target")
    assert facts(tmp_path / "target") == facts(tmp_path / "source")


@BOTH_WAYS
async def test_a_full_disk_fails_the_file_and_the_target_stays(
    operation: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "large").write_bytes(os.urandom(LARGE))
    (source / "small").write_text("fits")
    (target / "large").write_text("old")
    write = os.writev

    def full(number: int, pieces: Sequence[bytes]) -> int:
        if sum(map(len, pieces)) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(number, pieces)

    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        await copy(operation, [os.fsencode(source) + b"/."], target, progress=notes)
    assert notes.problems == [(str(target / "large"), "No space left on device")]
    assert (target / "large").read_text() == "old"
    assert (target / "small").read_text() == "fits"


@BOTH_WAYS
async def test_a_disk_that_takes_less_than_it_was_given_is_asked_again(
    operation: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(LARGE))

    def slow(number: int, pieces: Sequence[bytes]) -> int:
        return os.write(number, b"".join(pieces)[:50_000])

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", slow)
        outcome = await copy(operation, [tmp_path / "source"], tmp_path / "target")
    assert outcome.is_complete
    assert facts(tmp_path / "target") == facts(tmp_path / "source")


@BOTH_WAYS
async def test_a_source_that_grows_is_told_and_not_copied(
    operation: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_text("content")
    (tmp_path / "target").write_text("old")
    read = os.pread

    def growing(number: int, count: int, at: int) -> bytes:
        with (tmp_path / "source").open("a") as file:
            file.write("more")
        return read(number, count, at)

    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", growing)
        await copy(operation, [tmp_path / "source"], tmp_path / "target", progress=notes)
    assert [reason for _, reason in notes.problems] == ["it changed while it was read"]
    assert (tmp_path / "target").read_text() == "old"
    assert hidden(tmp_path) == []


@BOTH_WAYS
async def test_a_source_that_shrinks_is_told_and_not_copied(
    operation: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(bytes(LARGE))
    read = os.preadv

    def shrinking(number: int, buffers: Sequence[memoryview], at: int) -> int:
        os.truncate(tmp_path / "source", LARGE // 2)
        return read(number, buffers, at)

    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", shrinking)
        await copy(operation, [tmp_path / "source"], tmp_path / "target", progress=notes)
    assert [reason for _, reason in notes.problems] == ["it changed while it was read"]
    assert not (tmp_path / "target").exists()
    assert hidden(tmp_path) == []


async def test_paths_on_the_host_begin_at_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (tmp_path / "source").write_text("content")
    for target in (b"", b"~", b"~/one", b"folder", b"folder/one"):
        await copy(put, [tmp_path / "source"], target, home=home)
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert found == {"source", "one", "folder/source", "folder/one"}
    await copy(get, [b"folder/one"], tmp_path / "back", home=home)
    assert (tmp_path / "back").read_text() == "content"


async def test_a_folder_that_is_not_there_is_a_refusal_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    with pytest.raises(CopyRefusedError, match="No such file or directory"):
        await copy(put, [tmp_path / "source"], b"no/where", home=tmp_path)


@pytest.mark.network
async def test_it_is_served_over_pipes(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(LARGE))
    command = [sys.executable, "-m", "dmsg_trio.apps.pty.copy", getpass.getuser()]
    async with trio.open_nursery() as nursery:
        start = trio.run_process
        process: trio.Process = await nursery.start(
            lambda task_status: start(
                command,
                stdin=-1,
                stdout=-1,
                env=os.environ | {"HOME": str(tmp_path)},
                task_status=task_status,
            )
        )
        assert process.stdin is not None
        assert process.stdout is not None
        pipes = trio.StapledStream(process.stdin, process.stdout)

        async def opener(_: str) -> trio.abc.HalfCloseableStream:
            return pipes

        outcome = await put(
            opener,
            [os.fsencode(tmp_path / "source")],
            b"target",
            options=EVERYTHING,
            progress=Notes(),
        )
    assert outcome.is_complete
    assert facts(tmp_path / "target") == facts(tmp_path / "source")
