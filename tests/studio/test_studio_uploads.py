"""Texts sent by a browser: whole and under a plain name, or refused in three parts with nothing left behind."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from penna.errors import DataError, DeviceError, PennaError
from penna.studio.uploads import PART, ROUTE, Uploads, add_route

KEY = "0123456789abcdef" * 2


def send(uploads: Uploads, name: str, content: bytes, *, key: str = KEY, part: int = PART) -> str | None:
    kept = None
    for begin in range(0, max(len(content), 1), part):
        kept = uploads.add_part(key, name, len(content), begin, content[begin : begin + part])
    return kept


def files_of(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def client(uploads: Uploads) -> TestClient:
    app = FastAPI()
    add_route(app, uploads)
    return TestClient(app)


def put(
    browser: TestClient, name: str, content: bytes, *, begin: int = 0, size: int | None = None
) -> dict[str, object]:
    asked = {"name": name, "size": str(len(content) if size is None else size), "begin": str(begin)}
    answer = browser.put(f"{ROUTE}/{KEY}", params=asked, content=content)
    assert answer.status_code == 200
    return answer.json()


def test_a_file_in_parts_is_the_file_byte_for_byte(tmp_path: Path) -> None:
    content = "한국어와 English.\n".encode() * 200
    uploads = Uploads(tmp_path / "uploads")
    assert send(uploads, "글.txt", content, part=7001) == "글.txt"
    assert (tmp_path / "uploads" / "글.txt").read_bytes() == content
    assert files_of(tmp_path / "uploads") == ["글.txt"]


def test_a_name_that_is_taken_is_numbered_and_the_old_file_stays(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    assert send(uploads, "a.txt.gz", gzip.compress(b"one")) == "a.txt.gz"
    assert send(uploads, "a.txt.gz", gzip.compress(b"two")) == "a-2.txt.gz"
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()) == b"one"


@pytest.mark.parametrize(
    "name",
    ["../a.txt", "/etc/passwd", "a/b.txt", "a\\b.txt", ".hidden", "-rf.txt", "", "a\0.txt", "a\n.txt", "$HOME.txt", "a*.txt",
     "a.", "x" * 200, "~root", "hf://owner/name"],
)  # fmt: skip
def test_a_name_that_is_not_plain_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be kept under the name"):
        send(Uploads(tmp_path / "uploads"), name, b"text")
    assert files_of(tmp_path) == []


@given(name=st.text(max_size=40))
def test_whatever_it_is_called_nothing_is_written_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    place = tmp_path_factory.mktemp("any")
    try:
        kept = send(Uploads(place / "uploads"), name, b"text")
    except PennaError:
        assert files_of(place) == []
    else:
        assert kept is not None
        assert files_of(place) == [f"uploads/{kept}"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("program.txt", b"\x7fELF\0\0" + b"a" * 9000, "is a binary file"),
        ("wide.txt", "text".encode("utf-16"), "UTF-16 byte-order mark"),
        ("packed.txt.gz", gzip.compress(b"\0\0text"), "is a binary file"),
        ("no.txt.gz", b"plain text, not packed", "is damaged, or no .gz file"),
        ("notes.docx", b"PK\3\4", "is a .docx file, which is not read"),
        ("pages.pdf", b"%PDF-1.7", "is a .pdf file, which is not read"),
        ("rows.parquet", b"text", "is no .parquet file"),
    ],
)
def test_what_is_no_text_is_refused_by_its_name_alone(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        send(Uploads(tmp_path / "uploads"), name, content)
    error = caught.value
    assert said in error.happened
    assert error.expected
    assert error.advice
    assert str(tmp_path) not in str(error)
    assert files_of(tmp_path) == []


def test_parquet_is_let_in(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["one", "two"]}), file)
    assert send(Uploads(tmp_path / "uploads"), "rows.parquet", file.read_bytes()) == "rows.parquet"


def test_a_binary_file_is_refused_at_its_first_part(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with pytest.raises(DataError, match="binary"):
        uploads.add_part(KEY, "a.txt", 400_000_000, 0, b"\0" * PART)
    assert files_of(tmp_path) == []


def test_a_file_over_the_limit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", limit=1000)
    with pytest.raises(DataError, match=r"big\.txt has .* MB; this studio takes files of at most"):
        uploads.add_part(KEY, "big.txt", 2 << 30, 0, b"text")
    assert not (tmp_path / "uploads").exists()
    assert send(uploads, "fits.txt", b"a" * 1000) == "fits.txt"


def test_a_file_that_is_longer_than_it_said_is_thrown_away(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    uploads.add_part(KEY, "a.txt", 10, 0, b"12345")
    with pytest.raises(DataError, match="did not come in one piece"):
        uploads.add_part(KEY, "a.txt", 10, 5, b"123456")
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("begin", [0, 3, 7])
def test_parts_that_miss_or_repeat_are_refused(tmp_path: Path, begin: int) -> None:
    uploads = Uploads(tmp_path)
    uploads.add_part(KEY, "a.txt", 10, 0, b"12345")
    if begin == 0:  # a file that begins anew is no fault
        assert uploads.add_part(KEY, "a.txt", 10, 0, b"12345") is None
        return
    with pytest.raises(DataError, match="did not come in one piece"):
        uploads.add_part(KEY, "a.txt", 10, begin, b"12345")


@pytest.mark.parametrize("key", ["..", "../..", "0" * 31, "g" * 32, ""])
def test_a_key_that_is_none_names_no_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="did not come in one piece"):
        Uploads(tmp_path / "uploads").add_part(key, "a.txt", 4, 0, b"text")
    assert files_of(tmp_path) == []


def test_a_full_disk_is_told_before_the_file_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(DeviceError, match="MB free"):
        send(Uploads(tmp_path), "a.txt", b"a" * 1000)


def test_all_files_together_have_a_limit_and_those_that_are_being_sent_count_as_whole(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, quota=100)
    assert send(uploads, "a.txt", b"a" * 40) == "a.txt"
    uploads.add_part("1" * 32, "b.txt", 50, 0, b"b")
    with pytest.raises(DeviceError, match=r"c\.txt has .* MB; the texts in .* have .* MB already") as refused:
        send(uploads, "c.txt", b"c" * 11)
    assert refused.value.advice
    assert send(uploads, "d.txt", b"d" * 10) == "d.txt"
    uploads.add_part("1" * 32, "b.txt", 50, 0, b"b")  # begun anew, it counts once
    assert uploads.add_part("1" * 32, "b.txt", 50, 1, b"b" * 49) == "b.txt"
    (tmp_path / "a.txt").unlink()
    assert send(uploads, "c.txt", b"c" * 40) == "c.txt"


def test_the_route_takes_parts_and_answers_refusals_in_three_parts(tmp_path: Path) -> None:
    browser = client(Uploads(tmp_path))
    assert put(browser, "a.txt", b"12345", size=9) == {"received": 5}
    assert put(browser, "a.txt", b"6789", begin=5, size=9) == {"kept": "a.txt"}
    assert (tmp_path / "a.txt").read_bytes() == b"123456789"
    problem = put(browser, "b.txt", b"\0\0\0")["problem"]
    assert isinstance(problem, list)
    assert [bool(part) for part in problem] == [True, True, True]
    assert problem[0] == "b.txt is a binary file (it holds NUL bytes)."


def test_the_route_holds_no_part_that_is_too_large(tmp_path: Path) -> None:
    assert "problem" in put(client(Uploads(tmp_path)), "a.txt", b"a" * (PART + 1))
    assert files_of(tmp_path) == []
