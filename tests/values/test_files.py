"""Files that say how a program runs: what is taken for one, and who may touch it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import (
    MAX_SETTINGS,
    NotAFileError,
    fault_of_readers,
    fault_of_writers,
    opened,
    read_settings_file,
)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFileError), opened(tmp_path / "pipe"):
        raise AssertionError("opened")


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        read_settings_file(tmp_path, pipe_option="--stdin")


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"#" * MAX_SETTINGS)
    path.chmod(0o640)
    data, mode = read_settings_file(path, pipe_option="--stdin")
    assert len(data) == MAX_SETTINGS
    assert mode & 0o777 == 0o640
    path.write_bytes(b"#" * (MAX_SETTINGS + 1))
    with pytest.raises(ConfigError, match=f"file is larger than {MAX_SETTINGS} bytes"):
        read_settings_file(path, pipe_option="--stdin")


@pytest.mark.parametrize("refused", [0o100660, 0o100602])
def test_whoever_can_write_is_told_with_the_remedy(refused: int) -> None:
    fault = fault_of_writers(Path("a b"), refused)
    assert fault.endswith("mend it: chmod go-w 'a b'")
    assert fault_of_writers(Path("a b"), refused & ~0o022) == ""


@pytest.mark.parametrize("refused", [0o100640, 0o100604, 0o100601])
def test_whoever_can_read_is_told_with_the_remedy(refused: int) -> None:
    fault = fault_of_readers(Path("a b"), refused)
    assert fault.endswith("mend it: chmod 600 'a b'")
    assert fault_of_readers(Path("a b"), 0o100600) == ""
