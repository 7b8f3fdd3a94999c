"""The metrics log survives a kill within a row, and drops the rows that will be written again."""

import json
from pathlib import Path

import pytest

from penna.errors import RunError
from penna.runs.metrics import append_row, drop_rows_after, read_rows

ROWS = [{"step": step, "text": f"깃펜 {step}\n\u2028"} for step in range(4)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for row in ROWS:
        append_row(tmp_path / "log.jsonl", row)
    return tmp_path / "log.jsonl"


def test_rows_are_read_back_unchanged(log: Path) -> None:
    assert read_rows(log) == ROWS


def test_missing_log_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == []
    drop_rows_after(tmp_path / "none.jsonl", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_log_cut_at_any_byte_keeps_its_complete_rows_and_can_be_continued(log: Path) -> None:
    content = log.read_bytes()
    first_three = len("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS[:3]).encode())
    for length in range(first_three, len(content)):  # also within a character of three bytes
        log.write_bytes(content[:length])
        whole = ROWS if length == len(content) - 1 else ROWS[:3]  # all but the line end
        assert read_rows(log) == whole
        drop_rows_after(log, 99)
        append_row(log, {"step": 9})
        assert read_rows(log) == [*whole, {"step": 9}]


@pytest.mark.parametrize("step", [-1, 0, 2, 3, 9])
def test_rows_after_a_step_are_dropped(log: Path, step: int) -> None:
    drop_rows_after(log, step)
    assert read_rows(log) == [row for row in ROWS if int(row["step"]) <= step]


def test_damage_within_the_log_is_reported_with_its_line(log: Path) -> None:
    lines = log.read_text(encoding="utf-8").split("\n")
    lines[1] = lines[1][:5]
    log.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RunError, match=r"log\.jsonl:2 is not JSON"):
        read_rows(log)
