"""Files are written whole or not at all, and the system's errors are told in Penna's words."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from penna.errors import DeviceError
from penna.storage import friendly_disk_errors, update_symlink, write_atomically, write_json


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "file.json"
    write_json(file, {"is": "there"})
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DeviceError):
        write_atomically(file, "new")
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_json_is_written_as_people_read_it(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"글": [1]})
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == '{\n  "글": [\n    1\n  ]\n}\n'


def test_link_is_moved_in_one_step_and_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    link = tmp_path / "last"
    update_symlink(link, "one")
    assert os.readlink(link) == "one"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            update_symlink(link, "other")
    assert os.readlink(link) == "one"
    update_symlink(link, "other")
    assert os.readlink(link) == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "one", "other"]


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
], ids=str)  # fmt: skip
def test_every_way_of_having_no_space_is_told_in_three_parts(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DeviceError) as raised, friendly_disk_errors(tmp_path / "not" / "there"):
        raise error
    assert raised.value.__cause__ is error
    assert "No space was left while writing" in raised.value.happened
    assert raised.value.expected
    assert "another disk" in raised.value.todo


def test_forbidden_folder_is_told_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="may not be written"), friendly_disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ValueError, match="something else"), friendly_disk_errors(tmp_path):
        raise ValueError("something else")


def test_a_link_is_followed_and_a_device_or_pipe_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    (tmp_path / "real.txt").write_text("old", encoding="utf-8")
    write_atomically(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text(encoding="utf-8") == "new"
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "through")
    assert os.read(reading, 99) == b"through"
    os.close(reading)
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_system_that_is_read_only_is_told(tmp_path: Path) -> None:
    error = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x"))
    with pytest.raises(DeviceError, match="may not be written: Read-only file system"), friendly_disk_errors(tmp_path):
        raise error
