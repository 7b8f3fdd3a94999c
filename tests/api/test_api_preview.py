"""Previews: every shape by its parts, bad records with their reason, long ones shortened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penna.api.data import preview_data
from penna.errors import DataError


def test_every_shape_shows_its_parts(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    rows = [
        {"text": "plain"}, {"text": "good", "label": 1}, {"messages": turns}, {"prompt": "p", "completion": "c"},
        {"number": 3},
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = preview_data([str(file)])
    assert [(record.shape, record.parts) for record in found[:4]] == [
        ("text", (("text", "plain"),)),
        ("labeled", (("text", "good"), ("label", "1"))),
        ("messages", (("user", "Hi"), ("assistant", "Ho"))),
        ("completion", (("prompt", "p"), ("completion", "c"))),
    ]
    assert found[4].shape is None
    assert "'number'" in found[4].error
    assert [record.location for record in found] == [f"{file}:{line}" for line in range(1, 6)]


def test_a_preview_is_short_and_reads_only_the_start(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{number} {'가' * 500}\n" for number in range(100)), encoding="utf-8")
    found = preview_data([str(file)], {"data.document": "line"}, count=3)
    assert [record.parts[0][1][:2] for record in found] == ["0 ", "1 ", "2 "]
    assert {len(record.parts[0][1]) for record in found} == {401}


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0")
    with pytest.raises(DataError, match="binary"):
        preview_data([str(tmp_path / "a.txt")])
