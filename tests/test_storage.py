"""Atomic writes, the messages about failed ones, and JSON."""

import errno
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from safetensors import SafetensorError

from penna.errors import DeviceError
from penna.storage import friendly_disk_errors, to_json, update_symlink, write_atomically, write_json


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_only_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
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


def test_json_files_are_indented_and_keep_every_script(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"글": [1]})
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == '{\n  "글": [\n    1\n  ]\n}\n'


def test_a_symlink_is_replaced_atomically_and_stays_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_every_kind_of_full_disk_gives_a_message_in_three_parts(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DeviceError) as raised, friendly_disk_errors(tmp_path / "not" / "there"):
        raise error
    assert raised.value.__cause__ is error
    assert "The disk is full" in raised.value.happened
    assert raised.value.expected
    assert "another disk" in raised.value.advice


def test_missing_permission_raises_a_device_error_and_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot be written"), friendly_disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ValueError, match="something else"), friendly_disk_errors(tmp_path):
        raise ValueError("something else")


def test_links_are_followed_and_pipes_are_not_replaced(tmp_path: Path) -> None:
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


def test_a_read_only_file_system_raises_a_device_error(tmp_path: Path) -> None:
    error = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x"))
    with pytest.raises(DeviceError, match="cannot be written: Read-only file system"), friendly_disk_errors(tmp_path):
        raise error


@dataclass(frozen=True)
class _Inner:
    values: tuple[float, ...]


@dataclass(frozen=True)
class _Outer:
    json_properties: ClassVar = ("total",)
    inner: _Inner
    path: Path
    secret: str = field(default="hidden", metadata={"json": False})

    @property
    def total(self) -> float:
        return sum(self.inner.values)


def test_to_json_writes_fields_and_named_properties_of_nested_dataclasses() -> None:
    outer = _Outer(_Inner((1.0, 2.5)), Path("a/b"))
    assert to_json({3: [outer]}) == {"3": [{"inner": {"values": [1.0, 2.5]}, "path": "a/b", "total": 3.5}]}


def test_to_json_merges_the_keys_of_inline_fields() -> None:
    @dataclass(frozen=True)
    class Outer:
        name: str
        inner: _Inner = field(metadata={"json": "inline"})

    assert to_json(Outer("a", _Inner((1.0,)))) == {"name": "a", "values": [1.0]}


def test_to_json_turns_numpy_values_into_numbers_and_infinities_into_none() -> None:
    assert to_json((np.float32(0.5), np.array([[1, 2]]), math.inf, math.nan)) == [0.5, [[1, 2]], None, None]


def test_to_json_rejects_values_without_a_json_form() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        to_json(object())
